#include "service/handed.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define CERT_KINDS 5
#define LISTENERS_MAX 4096

struct cert {
    struct link link;
    unsigned instance;
    int fds[CERT_KINDS];
};

void handed_init(struct handed *h)
{
    *h = (struct handed){0};
    list_init(&h->certs);
}

static void free_cert(struct cert *c)
{
    for (unsigned i = 0; i < CERT_KINDS; i++)
        if (c->fds[i] >= 0)
            close(c->fds[i]);
    list_del(&c->link);
    mem_free(&c);
}

void handed_free(struct handed *h)
{
    LIST_EACH(&h->certs, l)
        free_cert(container_of(l, struct cert, link));
    for (size_t i = 0; i < h->count; i++)
        if (h->list[i].fd >= 0)
            close(h->list[i].fd);
    mem_free(&h->list);
    mem_free(&h->instances);
    h->count = 0;
}

/* ---- certificates ---- */

static struct cert *find_cert(struct handed *h, unsigned instance)
{
    LIST_EACH(&h->certs, l)
        if (container_of(l, struct cert, link)->instance == instance)
            return container_of(l, struct cert, link);
    return NULL;
}

void handed_cert(struct handed *h, const struct msg_cert_file *m, int fd)
{
    struct cert *c = find_cert(h, m->instance);
    if (!c) {
        c = mem_alloc(sizeof *c);
        *c = (struct cert){.instance = m->instance, .fds = {-1, -1, -1, -1, -1}};
        list_add_tail(&h->certs, &c->link);
    }
    if (c->fds[m->what] >= 0)
        close(c->fds[m->what]);
    c->fds[m->what] = fd;
}

int handed_cert_fd(struct handed *h, unsigned instance, unsigned what)
{
    struct cert *c = find_cert(h, instance);
    if (!c || what >= CERT_KINDS || c->fds[what] < 0)
        return -1;
    lseek(c->fds[what], 0, SEEK_SET);
    return c->fds[what];
}

/* ---- listeners ---- */

void handed_listener(struct handed *h, const struct msg_listener *m, int fd)
{
    if (h->count >= LISTENERS_MAX) {
        close(fd);
        return;
    }
    h->list = mem_resize(h->list, (h->count + 1) * sizeof *h->list);
    h->instances = mem_resize(h->instances, (h->count + 1) * sizeof *h->instances);
    h->list[h->count] = (struct service_listener){NULL, fd};
    h->instances[h->count++] = m->instance;
}

void handed_tie(struct handed *h, const struct conf *conf)
{
    size_t kept = 0;
    for (size_t i = 0; i < h->count; i++) {
        const struct conf_listen *l = conf_listen_at(conf, h->instances[i]);
        if (!l) {
            close(h->list[i].fd);
            continue;
        }
        h->list[kept] = (struct service_listener){l, h->list[i].fd};
        h->instances[kept++] = h->instances[i];
    }
    h->count = kept;
}

static bool same_socket(int a, int b)
{
    struct stat sa, sb;
    return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_ino == sb.st_ino && sa.st_dev == sb.st_dev;
}

void handed_keep(struct handed *next, struct handed *old)
{
    for (size_t i = 0; i < next->count; i++)
        for (size_t j = 0; j < old->count; j++)
            if (old->list[j].fd >= 0 && same_socket(next->list[i].fd, old->list[j].fd)) {
                close(next->list[i].fd);
                next->list[i].fd = old->list[j].fd;
                old->list[j].fd = -1;
                break;
            }
}

void handed_move(struct handed *to, struct handed *from)
{
    to->list = from->list;
    to->instances = from->instances;
    to->count = from->count;
    LIST_EACH(&from->certs, l) {
        list_del(l);
        list_add_tail(&to->certs, l);
    }
    handed_init(from);
}
