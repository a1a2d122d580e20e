#include "queue/turns.h"

#include "base/mem.h"

struct turns_domain {
    uint64_t key;
    struct link turn;
    struct link lines; /* of its senders, in their turns */
    struct idmap by_sender;
};

struct turns_line {
    uint64_t sender;
    struct turns_domain *domain;
    struct link turn, entries;
    size_t count;
};

void turns_init(struct turns *t)
{
    *t = (struct turns){0};
    list_init(&t->domains);
}

static struct turns_domain *domain_get(struct turns *t, uint64_t key)
{
    struct turns_domain *d = idmap_get(&t->by_domain, key);
    if (d)
        return d;
    d = mem_alloc(sizeof *d);
    d->key = key;
    list_init(&d->lines);
    list_add_tail(&t->domains, &d->turn);
    idmap_put(&t->by_domain, key, d);
    return d;
}

static struct turns_line *line_get(struct turns_domain *d, uint64_t sender)
{
    struct turns_line *l = idmap_get(&d->by_sender, sender);
    if (l)
        return l;
    l = mem_alloc(sizeof *l);
    l->sender = sender;
    l->domain = d;
    list_init(&l->entries);
    list_add_tail(&d->lines, &l->turn);
    idmap_put(&d->by_sender, sender, l);
    return l;
}

/* An empty one goes, with its domain when it was the last. */
static void line_leave(struct turns *t, struct turns_line *l)
{
    struct turns_domain *d = l->domain;
    if (l->count)
        return;
    list_del(&l->turn);
    idmap_del(&d->by_sender, l->sender);
    mem_free(&l);
    if (d->by_sender.count)
        return;
    list_del(&d->turn);
    idmap_del(&t->by_domain, d->key);
    idmap_free(&d->by_sender);
    mem_free(&d);
}

void turns_free(struct turns *t)
{
    while (!list_empty(&t->domains)) {
        struct turns_domain *d = container_of(t->domains.next, struct turns_domain, turn);
        struct turns_line *l = container_of(d->lines.next, struct turns_line, turn);
        l->count = 0;
        line_leave(t, l);
    }
    idmap_free(&t->by_domain);
    t->count = 0;
}

void turns_add(struct turns *t, struct turns_entry *e, uint64_t domain, uint64_t sender)
{
    struct turns_line *l = line_get(domain_get(t, domain), sender);
    list_add_tail(&l->entries, &e->link);
    e->line = l;
    l->count++;
    t->count++;
}

struct turns_entry *turns_next(struct turns *t)
{
    if (list_empty(&t->domains))
        return NULL;
    struct turns_domain *d = container_of(t->domains.next, struct turns_domain, turn);
    struct turns_line *l = container_of(d->lines.next, struct turns_line, turn);
    struct turns_entry *e = container_of(l->entries.next, struct turns_entry, link);
    list_del(&d->turn);
    list_add_tail(&t->domains, &d->turn);
    list_del(&l->turn);
    list_add_tail(&d->lines, &l->turn);
    turns_remove(t, e);
    return e;
}

void turns_remove(struct turns *t, struct turns_entry *e)
{
    struct turns_line *l = e->line;
    if (!l)
        return;
    list_del(&e->link);
    e->line = NULL;
    l->count--;
    t->count--;
    line_leave(t, l);
}

size_t turns_waiting(const struct turns *t, uint64_t domain, uint64_t sender)
{
    const struct turns_domain *d = idmap_get(&t->by_domain, domain);
    const struct turns_line *l = d ? idmap_get(&d->by_sender, sender) : NULL;
    return l ? l->count : 0;
}
