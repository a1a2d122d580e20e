/* An intrusive doubly linked ring. The head is a link of its own; an unlinked link points to itself. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>

#include "base/util.h"

struct link {
    struct link *next, *prev;
};

#define LIST_INIT(head) {&(head), &(head)}

static inline void list_init(struct link *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct link *head)
{
    return head->next == head;
}

static inline bool list_linked(const struct link *l)
{
    return l->next && l->next != l;
}

static inline void list_add_tail(struct link *head, struct link *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

static inline void list_add_head(struct link *head, struct link *l)
{
    list_add_tail(head->next, l);
}

/* Fine on a link that is in no list, or zeroed. */
static inline void list_del(struct link *l)
{
    if (!l->next)
        return;
    l->prev->next = l->next;
    l->next->prev = l->prev;
    list_init(l);
}

/* The body may delete `l`, and nothing else of the list. */
#define LIST_EACH(head, l) \
    for (struct link *l = (head)->next, *l##_next = l->next; l != (head); l = l##_next, l##_next = l->next)

#endif
