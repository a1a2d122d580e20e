/* How far a long command is, in one line on stderr that is redrawn; only where stderr is a terminal. */
#ifndef WAYPOST_PROGRESS_H
#define WAYPOST_PROGRESS_H

#include "ipc/msg.h"

void progress_show(const struct msg_adm_progress *p);
void progress_clear(void); /* something else is about to be written, or all is over */
/* The line itself: "120,000 of 1,000,000 messages (12%)". */
void progress_text(const struct msg_adm_progress *p, struct buf *out);

#endif
