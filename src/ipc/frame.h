/* One frame on a SEQPACKET socket, with at most one descriptor: the system calls under chan.c, apart so that they read by themselves. */
#ifndef IPC_FRAME_H
#define IPC_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum frame_status { FRAME_GOT, FRAME_LOST, FRAME_AGAIN, FRAME_END, FRAME_BAD };

/* Receives one frame into buf. FRAME_GOT: *n bytes and *fd (-1: none), the caller's. FRAME_LOST: *n bytes, and a descriptor that this
 * process had no room for (RLIMIT_NOFILE; recvmsg(2): MSG_CTRUNC), which is closed. FRAME_BAD: truncated, or more descriptors than one
 * (all closed), or an error of the socket. */
enum frame_status frame_recv(int sock, void *buf, size_t size, bool block, size_t *n, int *fd);

struct frame_out {
    const void *p;
    size_t n;
    int fd; /* -1: none */
};

/* Sends the first of `count` frames that the socket takes at once. Returns how many, or -1 with errno. */
int frame_send(int sock, const struct frame_out *frames, unsigned count, bool block);

#define FRAME_BATCH 32

#endif
