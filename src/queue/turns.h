/* Who is asked about next: entries in lines, one line for each domain and, inside of it, for each sender. Turns go round the
 * domains and, in each, round its senders, one entry a turn, so that one that comes last waits for one of each domain and
 * not for all that came before it. Pure: keys are any numbers, entries are links of their owner's. */
#ifndef QUEUE_TURNS_H
#define QUEUE_TURNS_H

#include "base/list.h"
#include "base/map.h"

struct turns {
    struct link domains; /* those with entries, in their turns */
    struct idmap by_domain;
    size_t count;
};

struct turns_line;
struct turns_entry {
    struct link link;
    struct turns_line *line; /* NULL: in none */
};

void turns_init(struct turns *t);
void turns_free(struct turns *t); /* entries that are in it are forgotten */
/* Behind the others of that domain and sender. */
void turns_add(struct turns *t, struct turns_entry *e, uint64_t domain, uint64_t sender);
/* Takes out the one whose turn it is; NULL: there is none. */
struct turns_entry *turns_next(struct turns *t);
/* Takes it out; nothing when it is in none. */
void turns_remove(struct turns *t, struct turns_entry *e);
/* How many of that domain and sender wait. */
size_t turns_waiting(const struct turns *t, uint64_t domain, uint64_t sender);

#endif
