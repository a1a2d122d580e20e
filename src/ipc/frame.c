#include "ipc/frame.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"

#define FDS_SEEN_MAX 8 /* room for more than the one we accept, so that a peer's extra ones are seen and closed */

/* Collects the descriptors of a control buffer; returns how many there were, leaves the first in *fd and closes the rest. */
static unsigned take_fds(struct msghdr *h, int *fd)
{
    unsigned seen = 0;
    *fd = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int got;
            memcpy(&got, CMSG_DATA(c) + i * sizeof got, sizeof got);
            if (seen++ == 0)
                *fd = got;
            else
                close(got);
        }
    }
    return seen;
}

enum frame_status frame_recv(int sock, void *buf, size_t size, bool block, size_t *n, int *fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FDS_SEEN_MAX * sizeof(int))];
    } control;
    struct iovec iov = {buf, size};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t r;
    unsigned resets = 0; /* one comes when the peer left with something of ours unread: what it had sent before is still to be had */
    do
        r = recvmsg(sock, &h, MSG_CMSG_CLOEXEC | (block ? 0 : MSG_DONTWAIT));
    while (r < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0)));
    if (r < 0)
        return errno == EAGAIN ? FRAME_AGAIN : errno == ECONNRESET ? FRAME_END : FRAME_BAD;
    unsigned seen = take_fds(&h, fd);
    bool lost = seen == 0 && (h.msg_flags & MSG_CTRUNC) && !(h.msg_flags & MSG_TRUNC) && r > 0;
    if (!lost && ((h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || seen > 1)) {
        if (*fd >= 0)
            close(*fd);
        *fd = -1;
        return FRAME_BAD;
    }
    if (r == 0)
        return FRAME_END; /* no frame of ours is empty */
    *n = (size_t)r;
    return lost ? FRAME_LOST : FRAME_GOT;
}

int frame_send(int sock, const struct frame_out *frames, unsigned count, bool block)
{
    struct mmsghdr hs[FRAME_BATCH];
    struct iovec iovs[FRAME_BATCH];
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } controls[FRAME_BATCH];
    count = MIN_OF(count, FRAME_BATCH);
    for (unsigned i = 0; i < count; i++) {
        iovs[i] = (struct iovec){(void *)(size_t)frames[i].p, frames[i].n};
        hs[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iovs[i], .msg_iovlen = 1}};
        if (frames[i].fd < 0)
            continue;
        memset(&controls[i], 0, sizeof controls[i]);
        hs[i].msg_hdr.msg_control = &controls[i];
        hs[i].msg_hdr.msg_controllen = sizeof controls[i].bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&hs[i].msg_hdr);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &frames[i].fd, sizeof(int));
    }
    int r;
    do {
        r = sendmmsg(sock, hs, count, MSG_NOSIGNAL | (block ? 0 : MSG_DONTWAIT));
    } while (r < 0 && errno == EINTR);
    return r;
}
