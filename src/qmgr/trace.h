/* History for people: `waypost trace`, and the events of `waypost queue why`. */
#ifndef QMGR_TRACE_H
#define QMGR_TRACE_H

#include "qmgr/qmgr.h"

admin_fn trace_command;
admin_fn sql_command; /* sql_command.c */
/* "2h" (ago), "3d", "2026-11-24", "2026-11-24T10:30" (UTC); ms since 1970. False: it is none. */
bool trace_time(struct span s, int64_t now, int64_t *at);
/* Answers the call with what history has of that message, the oldest first. queued: rows about it are written already. */
void trace_why(struct qmgr *q, struct admin_call *call, uint64_t message, bool queued);

#endif
