/* Why an operation failed, for people: one line. Functions that can fail return 0 or -1 and fill one of these. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/util.h"

struct err {
    char text[512];
};

/* Fills `e` (which may be NULL) and returns -1, so that `return err_set(e, …);` reads well. */
int err_set(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The same, with ": " and the text of errno behind. */
int err_errno(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
