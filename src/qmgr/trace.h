/* History for people: `waypost trace`, and the events of `waypost queue why`. */
#ifndef QMGR_TRACE_H
#define QMGR_TRACE_H

#include "qmgr/qmgr.h"

admin_fn trace_command;
admin_fn sql_command; /* sql_command.c */
/* Answers the call with what history has of that message, the oldest first. queued: rows about it are written already. */
void trace_why(struct qmgr *q, struct admin_call *call, uint64_t message, bool queued);

#endif
