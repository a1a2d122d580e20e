/* Destinations between the scheduler and the disk: their states are kept over restarts, what waits for them there comes
 * back in portions. */
#ifndef QMGR_DESTS_H
#define QMGR_DESTS_H

#include "qmgr/qmgr.h"

/* A destination's name for people and rows: a domain, "host:port" that was named for it (route.h), or "account:7". */
#define DEST_TEXT_MAX 300
struct span dest_text(enum sched_class class, struct span name, char text[DEST_TEXT_MAX]);
struct dest_name {
    enum sched_class class;
    struct span name;
    uint32_t account;
};
bool dest_parse(struct span text, struct dest_name *out); /* out->name may point into *out or text */

int dests_load(struct qmgr *q, struct err *err);
void dests_init(struct qmgr *q);
void dests_free(struct qmgr *q);
/* At the end of the pump. wake: when the scheduler wants to be looked at again, 0: no time. */
void dests_work(struct qmgr *q, int64_t wake);
/* A row that waits for it has been written. */
void dests_parked(struct qmgr *q, struct span destination);
/* An attempt has ended with a result. */
void dests_attempted(const struct job *j, enum sched_result result);

/* ---- dest_command.c ---- */
admin_fn dest_on_list, dest_on_show, dest_on_suspend, dest_on_resume, dest_on_probe;
/* A DEST argument, its *n bytes canonical in text; false: the call is answered. */
bool dest_take(struct admin_call *c, struct span arg, struct dest_name *name, char text[DEST_TEXT_MAX], size_t *n);
void dest_probe_attempted(struct qmgr *q, enum sched_class class, struct span name, enum sched_result result,
                          struct span said);
void dest_probe_free(struct qmgr *q);
/* Writes the states that have changed; `call` is ended when that of `mine` is on disk. */
void dests_save(struct qmgr *q, const struct sched_dest *mine, struct admin_call *call);
/* Fetches up to max of what waits for it. */
typedef void dest_fetched_fn(struct qmgr *q, struct span destination, unsigned count);
void dests_fetch(struct qmgr *q, const struct sched_dest *d, unsigned max, dest_fetched_fn *fn);

#define DEST_COMMANDS                                                                  \
    {"dest list", "[--state STATE]", 0, 2, dest_on_list},                              \
        {"dest show", "DEST", 1, 1, dest_on_show},                                     \
        {"dest suspend", "DEST [REASON]", 1, ADMIN_ARGS_MAX, dest_on_suspend},         \
        {"dest resume", "DEST", 1, 1, dest_on_resume},                                 \
        {"dest probe", "DEST", 1, 1, dest_on_probe},                                   \
        {"queue suspend", "DEST [REASON]", 1, ADMIN_ARGS_MAX, dest_on_suspend},        \
        {"queue resume", "DEST", 1, 1, dest_on_resume},

#endif
