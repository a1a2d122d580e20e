/* Passwords that operators give: from the terminal without echo, from standard input, or made here. */
#ifndef WAYPOST_SECRET_H
#define WAYPOST_SECRET_H

#include "base/buf.h"
#include "base/err.h"

enum secret_from { SECRET_TTY, SECRET_STDIN, SECRET_GENERATE };
/* Appends it. -1: there is none. */
int secret_get(enum secret_from from, struct buf *out, struct err *err);

#endif
