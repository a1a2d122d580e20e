/* History for people: `waypost trace`, and the events of `waypost queue why`. */
#ifndef QMGR_TRACE_H
#define QMGR_TRACE_H

#include "admin/admin.h"
#include "queue/history.h"

struct question;

const char *origin_name(int64_t origin);
/* A row: when, what, whose; false: stop. */
bool trace_put_event(struct question *k, const struct history_event *e, bool with_id);
admin_fn trace_command;

#endif
