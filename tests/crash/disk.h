/* A disk whose power can go. While it watches a folder it writes down every change that this process makes there: the
 * functions of the C library that change files are its own, for SQLite's library too. Afterwards disk_restore() makes
 * what the disk may hold if the power went at any step: a file's writes are safe from its next sync on, a name from the
 * next sync of its folder on (stricter than most file systems). Or a step fails. */
#ifndef CRASH_DISK_H
#define CRASH_DISK_H

#include <stdbool.h>
#include <stddef.h>

enum disk_loss {
    DISK_KEPT,      /* only the process died: everything that was written is there */
    DISK_DROPPED,   /* nothing is there that was not synced */
    DISK_TORN,      /* everything is there, and half of the step's own write */
    DISK_SCRAMBLED, /* of what was not synced any sectors and any names */
    DISK_LOSSES
};

/* root exists and is empty. */
void disk_watch(const char *root);
enum disk_failure {
    DISK_FAILS_ONCE,  /* nothing of it is done */
    DISK_FAILS_SHORT, /* of a write the first half is done, the rest fails */
    DISK_FAILS_ON,    /* every write after it fails, too */
};
/* Step `step` fails with that error. */
void disk_fail_at(size_t step, int error, enum disk_failure how);
bool disk_failed(void);
bool disk_cut_short(void); /* that step was a write, and half of it was done */
size_t disk_steps(void);
/* No more is written down. Syncs go on to cost nothing. */
void disk_stop(void);
/* What is there, made in the empty folder `to`, when the power goes at that step. */
void disk_restore(size_t step, enum disk_loss how, const char *to);
void disk_forget(void);

#endif
