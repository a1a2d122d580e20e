/* Long questions of operators: each has a thread of its own, which reads with connections of its own and streams its
 * rows through a bounded buffer to the loop, which gives them to the operator as fast as he reads. Those threads run when
 * nobody else wants a processor (SCHED_IDLE), so that mail never waits for a question. What takes longer than its time, or
 * is not wanted any more, is told to stop. */
#ifndef QMGR_QUESTION_H
#define QMGR_QUESTION_H

#include "qmgr/qmgr.h"

#define QUESTIONS_MAX 6 /* at a time */

struct question;
struct question_work {
    void (*run)(struct question *k, void *ctx); /* on its thread; it says question_end() */
    void (*free)(void *ctx);                    /* on its thread, at the end; on the loop when there is none */
    void *ctx;                                  /* no state of the loop in it */
    int64_t time;                               /* ms that it may take */
    int64_t history_ms;                         /* so long it waits for history to be written; 0: not at all */
    unsigned most;                              /* of this kind (the same `run`) at a time; 0: as many as there may be */
};
/* Answers the call; the work is freed in any case. */
void question_ask(struct qmgr *q, struct admin_call *call, const struct question_work *w);
/* The same for work on the queue that takes locks of the loop's: it runs as mail does. */
void question_work_on(struct qmgr *q, struct admin_call *call, const struct question_work *w);
void questions_free(struct qmgr *q); /* after the operators' connections are closed */

/* ---- on its thread ---- */
const char *question_dir(const struct question *k); /* the queue's */
enum question_cell { CELL_TEXT, CELL_NUMBER, CELL_FLAG, CELL_TIME, CELL_BYTES };
void question_text(struct question *k, const char *name, struct span value);
void question_number(struct question *k, enum question_cell kind, const char *name, int64_t value);
/* False: stop. Waits while the operator reads slowly. */
bool question_row(struct question *k);
/* How far it is, shown where somebody looks (admin_progress()); unit: a literal. */
void question_progress(struct question *k, uint64_t done, uint64_t total, const char *unit);
/* Has the loop call fn, soon; not again before it was called. */
typedef void question_fn(struct qmgr *q, void *ctx);
void question_call(struct question *k, question_fn *fn, void *ctx);
bool question_over(void *question); /* its time has passed, or nobody wants it any more */
bool question_late(const struct question *k); /* its time has passed */
uint64_t question_rows(const struct question *k);
void question_end(struct question *k, enum admin_status status, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
