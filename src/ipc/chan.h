/* A channel: our end of the SOCK_SEQPACKET pair that the supervisor (or the zygote) made between us and one peer.
 *
 * The object outlives its pair. When the peer dies the channel is *down*: requests sent but not answered end as CHAN_GONE, new ones wait
 * for the fresh pair (chan_connect) within their deadline. Frames leave at the end of the loop's turn, many in one call.
 * Bounded: at most CHAN_OPEN_MAX requests open and CHAN_QUEUE_BYTES waiting; at the limit chan_full() says so, and whoever produces
 * requests stops reading its own input until on_room.
 *
 * A frame that breaks the rules is logged, and the channel goes down: on_down tells the owner. */
#ifndef IPC_CHAN_H
#define IPC_CHAN_H

#include "ipc/msg.h"
#include "loop/loop.h"

#define CHAN_OPEN_MAX 8192
#define CHAN_QUEUE_BYTES (16u << 20)

struct chan;

/* CHAN_LOST: one of the two programs has no descriptor left: it could not take the one of the request, or of its answer. */
enum chan_why { CHAN_ANSWERED, CHAN_LATE, CHAN_GONE, CHAN_LOST };
/* The end of a request. m is NULL unless why is CHAN_ANSWERED; its spans, and fd (-1: none, else the callee's), are as in on_msg. */
typedef void chan_answer_fn(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd);

struct chan_ops {
    /* A statement, or a request (m->id != 0: answer it with chan_answer). Spans of m die at return. fd is the callee's when not -1. */
    void (*on_msg)(void *ctx, struct chan *c, const struct msg *m, int fd);
    void (*on_down)(void *ctx, struct chan *c); /* may be NULL; never called by chan_free */
    void (*on_up)(void *ctx, struct chan *c);   /* may be NULL; a fresh pair is in place */
    void (*on_room)(void *ctx, struct chan *c); /* may be NULL; chan_full() was true and is no longer */
    /* May be NULL. A statement came, but not its descriptor: we are out of them. NULL: the channel goes down. (A request that this
     * happens to is not heard of: its asker learns it, as CHAN_LOST.) */
    void (*on_lost)(void *ctx, struct chan *c, const struct msg *m);
};

/* fd -1: down until chan_connect. self/peer: the roles at each end; instance: which one of the peer role. */
struct chan *chan_new(struct loop *l, int fd, enum role peer, uint32_t instance, const struct chan_ops *ops, void *ctx);
void chan_connect(struct chan *c, int fd); /* the fresh end; the epoch goes up; open requests end as GONE first */
void chan_missed(struct chan *c);          /* a fresh end was sent to us and lost on the way: the epoch goes up, on_down is called */
void chan_free(struct chan **c);           /* open requests end as GONE */

enum role chan_peer(const struct chan *c);
uint32_t chan_instance(const struct chan *c);
bool chan_is_up(const struct chan *c);
uint32_t chan_epoch(const struct chan *c);
bool chan_full(const struct chan *c);
size_t chan_open(const struct chan *c); /* requests waiting for an answer */

/* A statement. fd (-1: none) is duplicated, the caller keeps its own. While the channel is down it is dropped.
 * -1 only for a message over its limits (logged). */
int chan_say(struct chan *c, const struct msg *m, int fd);
/* A request; its deadline is the message's own. Returns its id (never 0); fn is called exactly once, never from inside this call.
 * 0: over its limits (logged), fn is not called. */
uint64_t chan_ask(struct chan *c, const struct msg *m, int fd, chan_answer_fn *fn, void *ctx);
/* Several answers to one request (expand_item…) arrive through `on_part` until `last` returns true for one; that one goes to fn. */
uint64_t chan_ask_many(struct chan *c, const struct msg *m, int fd, chan_answer_fn *fn, chan_answer_fn *on_part, enum msg_type last, void *ctx);
/* The asker lost interest: fn will not be called. Fine for an id that is no longer open. */
void chan_forget(struct chan *c, uint64_t id);
/* Answers request `id` of this channel. Dropped when the pair has changed since: pass the epoch seen when the request came. */
int chan_answer(struct chan *c, uint32_t epoch, uint64_t id, const struct msg *m, int fd);
/* Sends what waits now (a program about to exit or block). */
void chan_flush(struct chan *c);

/* A socket pair with the buffers that a channel wants; close-on-exec. */
int chan_pair(int fds[2], struct err *err);
/* Blocking send and receive of one frame, for programs before their loop runs and for the waypost command. The frame lives in `in`. */
int chan_send_now(int fd, const struct msg *m, int pass_fd, struct err *err);
int chan_recv_now(int fd, enum role sender, struct buf *in, struct msg *m, int *got_fd, struct err *err); /* 1 a message, 0 end, -1 error */

#endif
