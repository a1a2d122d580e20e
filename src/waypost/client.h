/* The operator's end of the admin socket: one command to one service of the running instance, its rows as they come.
 * Blocking. */
#ifndef WAYPOST_CLIENT_H
#define WAYPOST_CLIENT_H

#include "ipc/msg.h"
#include "ipc/rows.h"

/* Connects to run/admin.sock and names the service. -1: nothing runs there, or we may not. */
int client_open(const char *run, const char *service, struct err *err);
/* Sends arguments and command, with a descriptor (-1: none; it stays the caller's). */
int client_send(int fd, const char *command, const struct span *args, size_t nargs, int file, struct err *err);

struct client_row {
    const struct row_cell *cells; /* live until the callback returns */
    size_t count;
};
typedef void client_row_fn(void *ctx, const struct client_row *row);
#define CLIENT_PAUSE_MS 50
typedef bool client_pause_fn(void *ctx); /* nothing has come for that long; false: enough */
/* Reads rows to the end; pause may be NULL; how far it is is shown on stderr (progress.h). Returns the exit status with
 * its message in `message`; -1: the connection broke. */
int client_read(int fd, const char *service, client_row_fn *fn, client_pause_fn *pause, void *ctx, struct buf *message,
                struct err *err);
/* A descriptor of the supervisor's process, for client_wait_end(); -1: it can't be had. */
int client_supervisor(int fd);
/* Waits until that process has ended, and closes the descriptor. */
void client_wait_end(int process);

#endif
