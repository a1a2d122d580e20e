/* The server side of an operator's connection: `waypost` sends arguments and a command, the program answers rows of
 * named cells and one end with the exit code. Trusts the caller as far as the supervisor did (root, the owner, the
 * group waypost), and no longer than his limits: at most ADMIN_ARGS_MAX arguments, ADMIN_CALLS_MAX connections,
 * ADMIN_HIGH bytes waiting to be read by him. */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "base/span.h"
#include "base/util.h"
#include "loop/loop.h"

#define ADMIN_ARGS_MAX 64
#define ADMIN_CALLS_MAX 64
#define ADMIN_HIGH (256u << 10)

enum admin_status { ADMIN_DONE, ADMIN_FAILED, ADMIN_USAGE, ADMIN_NO_SUCH, ADMIN_LATER };

struct admin;
struct admin_call;

/* args live until admin_end(). The call stays valid until admin_end() was called for it, also when the operator has
 * gone meanwhile: it may be ended later, from another callback. */
typedef void admin_fn(void *ctx, struct admin_call *call, const struct span *args, size_t nargs);

struct admin_command {
    const char *name; /* "queue show" */
    const char *usage; /* its arguments, for people: "ADDRESS [--purge]" */
    unsigned min_args, max_args; /* checked before fn is called */
    admin_fn *fn;
};

/* The table is kept, not copied. */
struct admin *admin_new(struct loop *l, const struct admin_command *commands, size_t count, void *ctx);
void admin_free(
    struct admin **a); /* connections end without an answer; calls that were not ended must not be touched any more */
/* Serves that connection (service_def.on_admin); it is ours from here on. */
void admin_accept(struct admin *a, int fd, uint32_t uid);
size_t admin_open(const struct admin *a);

/* Cells of a row, then the row. Names are the keys of --json: "next-attempt". Text is cut at 32 KiB; it may hold
 * any bytes: who shows it makes them harmless. */
void admin_text(struct admin_call *c, const char *name, struct span value);
void admin_number(struct admin_call *c, const char *name, uint64_t value);
void admin_flag(struct admin_call *c, const char *name, bool value);
void admin_time(struct admin_call *c, const char *name, int64_t wall_ms); /* 0: none */
void admin_bytes(struct admin_call *c, const char *name, uint64_t value);
void admin_row(struct admin_call *c);
/* False when the operator reads slower than we write (or has gone): a long listing stops here and goes on in
 * admin_later()'s fn. */
bool admin_room(const struct admin_call *c);
/* Calls fn when there is room again. It writes the next page, and calls admin_later() again or admin_end(). `drop`
 * (may be NULL) is called once with ctx instead of fn when the operator has gone; the call has ended then. */
typedef void admin_more_fn(void *ctx, struct admin_call *c);
void admin_later(struct admin_call *c, admin_more_fn *fn, void (*drop)(void *ctx), void *ctx);
/* How far it is, for people who wait: `done` of `total` (0: unknown), in the unit that text names. Left out while the
 * operator reads slowly. */
void admin_progress(struct admin_call *c, uint64_t done, uint64_t total, const char *text);
/* The descriptor that came with the command, the caller's from here on; -1: none. Whatever it is (a file, a pipe), reading
 * and writing may block: never on the loop. */
int admin_take_fd(struct admin_call *c);
/* Ends the call; c is gone after it. message may be empty; for a failure it says what and how to mend. */
void admin_end(struct admin_call *c, enum admin_status status, const char *fmt, ...) PRINTF_LIKE(3, 4);

uint32_t admin_uid(const struct admin_call *c);
const char *admin_command_name(const struct admin_call *c);
bool admin_gone(const struct admin_call *c);
/* Calls fn, which does not end the call itself, once when the operator has gone while nothing of admin_later() waits. */
void admin_on_gone(struct admin_call *c, void (*fn)(void *ctx), void *ctx);

#endif
