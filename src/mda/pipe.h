/* A plain byte stream over a connected socket in the loop: what a front hands over after login. Bounded both ways; no
 * TLS here, the front has that. The last callback is never after pipe_free(). */
#ifndef MDA_PIPE_H
#define MDA_PIPE_H

#include "base/span.h"
#include "loop/loop.h"

struct pipe;

struct pipe_ops {
    /* Everything that waits. Returns how much was used; the rest comes again with more behind. Called again at once as
     * long as it uses something and is not paused. May write, pause, resume or free the pipe. */
    size_t (*on_data)(void *ctx, struct span in);
    void (*on_drained)(void *ctx); /* output fell below the low mark after pipe_write() had returned false */
    void (*on_end)(
        void *ctx); /* the peer is gone, or the time is up, or what pipe_finish() had to send is sent: free it */
};

#define PIPE_IN_MAX 65536 /* held at most; full and nothing used: on_end */
#define PIPE_OUT_HIGH (256 << 10)

/* Takes the descriptor over. early: bytes that the front had already read, given to on_data first (in the next turn).
 */
struct pipe *pipe_new(struct loop *l, int fd, struct span early, const struct pipe_ops *ops, void *ctx);
void pipe_free(struct pipe **p); /* closes it; unsent output is lost; allowed inside its callbacks */
/* Queues the bytes; they leave at the end of this turn in one write. False: above PIPE_OUT_HIGH, stop producing until
 * on_drained. */
bool pipe_write(struct pipe *p, struct span bytes);
size_t pipe_pending(const struct pipe *p);
bool pipe_more(const struct pipe *p); /* bytes wait that on_data has not seen: it will be called */
void pipe_pause(struct pipe *p);  /* no on_data until pipe_resume() */
void pipe_resume(struct pipe *p); /* on_data follows in this turn when something waits */
void pipe_finish(struct pipe *p); /* sends what waits, then on_end; input is ignored */
void pipe_timeout(struct pipe *p, int64_t ms,
                  void (*late)(void *ctx)); /* no input for so long: late(ctx); 0: never. Restarted by input */

#endif
