/* `waypost queue export` and `import`: the queue in a file, on the thread of a question. */
#ifndef QMGR_CARRY_H
#define QMGR_CARRY_H

#include <sys/types.h>

#include "admin/admin.h"
#include "qmgr/question.h"

/* [--move] [WHICH...], FILE; with the descriptor of the file */
void export_command(void *qmgr, struct admin_call *c, const struct span *args, size_t n);
/* FILE; with the descriptor of the file */
void copy_command(void *qmgr, struct admin_call *c, const struct span *args, size_t n);
void import_command(void *qmgr, struct admin_call *c, const struct span *args, size_t n);

/* ---- carry.c: the operator's file, or pipe: what takes long ends with its question ---- */

int carry_write(struct question *k, int fd, struct span bytes, struct err *err);
/* At most n bytes. 0: the end, -1: an error, or nobody wants it any more. */
ssize_t carry_read(struct question *k, int fd, char *to, size_t n, struct err *err);

/* ---- moving.c: export --move: rows are held, and removed, by the loop, which a thread asks to ---- */

/* Holds these, or removes what is held; returns when that is on disk, as far as it could be. What is in memory is held when
 * its attempt ends. False: nobody wants it any more. failed: changes that could not be recorded. */
bool moving_hold(struct question *k, const struct queue_item *items, size_t n, int64_t by, unsigned *failed);
bool moving_remove(struct question *k, const struct queue_item *items, size_t n, int64_t by, unsigned *failed);
/* Those that are still in memory are not to be held when their attempts end. */
bool moving_let_go(struct question *k, const struct queue_item *items, size_t n);

#endif
