/* Users' terminals: see terminals.c. */
#ifndef AUTHD_TERMINALS_H
#define AUTHD_TERMINALS_H

#include "authd/authd.h"

admin_fn terminal_command; /* ACCOUNT [PASSWORD] */
bool terminal_is_open(uint32_t account);
void answer_terminal_show(struct authd *a, struct chan *from, const struct msg *m);
void terminals_close(void);

#endif
