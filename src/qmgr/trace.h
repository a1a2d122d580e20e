/* Long questions of operators (question.h): what happened (`trace`, the events of `queue why`), SQL, statistics,
 * contents. */
#ifndef QMGR_TRACE_H
#define QMGR_TRACE_H

#include "qmgr/qmgr.h"

admin_fn trace_command;
admin_fn sql_command;   /* sql_command.c */
admin_fn stats_command; /* stats.c */
admin_fn top_sample;    /* top.c */
admin_fn verify_command; /* verify.c */
admin_fn show_content;   /* show.c */
/* Rows of what happens, a rate in each: texts of how many a minute. */
struct rate_texts {
    char text[RATE_COUNT][3][24]; /* over 1, 5 and 60 minutes */
    uint64_t totals[RATE_COUNT];
};
void stats_rates(struct qmgr *q, struct rate_texts *out);
/* "2h" (ago), "3d", "2026-11-24", "2026-11-24T10:30" (UTC); ms since 1970. False: it is none. */
bool trace_time(struct span s, int64_t now, int64_t *at);
/* Answers the call with what history has of that message, the oldest first. queued: rows about it are written already. */
void trace_why(struct qmgr *q, struct admin_call *call, uint64_t message, bool queued);

#endif
