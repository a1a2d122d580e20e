/* The session's view of the selected mailbox, and telling the client what changed: EXPUNGE, EXISTS, RECENT, FETCH, in
 * this order and only where the protocol allows it. RFC 3501 §5.2, §7.4.1. */
#include <stdlib.h>

#include "base/mem.h"
#include "imap/impl.h"

#define SCAN_UIDS 16384 /* uids read at a time */

/* ---- lists of uids ---- */

static void add_uid(uint32_t **v, size_t *n, size_t *cap, uint32_t uid)
{
    if (*n == *cap) {
        *cap = *cap ? *cap * 2 : 64;
        *v = mem_resize(*v, *cap * sizeof **v);
    }
    (*v)[(*n)++] = uid;
}

static int by_value(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static void sort_unique(uint32_t *v, size_t *n)
{
    size_t k = 0;
    if (*n > 1)
        qsort(v, *n, sizeof *v, by_value);
    for (size_t i = 0; i < *n; i++)
        if (!k || v[k - 1] != v[i])
            v[k++] = v[i];
    *n = k;
}

static bool has_uid(const uint32_t *v, size_t n, uint32_t uid)
{
    size_t at = set_lower(v, n, uid);
    return at < n && v[at] == uid;
}

/* Changes can repeat for ever while a client says nothing: no list grows beyond twice the mailbox. */
static void note(uint32_t **v, size_t *n, size_t *cap, const struct imap_change *c, size_t mailbox_n)
{
    for (size_t i = 0; i < c->n; i++)
        add_uid(v, n, cap, c->uids[i]);
    if (*n > 2 * mailbox_n + 1024)
        sort_unique(*v, n);
}

bool imap_changed(struct imap *s, const struct imap_change *c)
{
    struct view *v = &s->view;
    if (!v->selected || c->mailbox != v->mailbox)
        return false;
    switch (c->kind) {
    case IMAP_CHANGE_NEW: v->fresh = true; break;
    case IMAP_CHANGE_FLAGS:
        if (v->own)
            return false;
        note(&v->flagged, &v->flagged_n, &v->flagged_cap, c, v->n);
        break;
    case IMAP_CHANGE_EXPUNGED: note(&v->gone, &v->gone_n, &v->gone_cap, c, v->n); break;
    case IMAP_CHANGE_GONE:
        for (size_t i = 0; i < v->n; i++)
            add_uid(&v->gone, &v->gone_n, &v->gone_cap, v->uids[i]);
        break;
    case IMAP_CHANGE_RENAMED: v->renamed = true; break;
    }
    return s->idling;
}

/* ---- reading rows ---- */

int view_rows(struct imap *s, uint32_t a, uint32_t b, struct imap_rows *rows)
{
    return s->b->scan(s->ctx, s->view.mailbox, s->view.uids[a], s->view.uids[b], rows, &s->err);
}

uint32_t *view_uids(struct imap *s, const struct set *positions, size_t *n)
{
    uint64_t count = set_count(positions);
    uint32_t *uids = mem_array(count ? count : 1, sizeof *uids);
    *n = 0;
    for (size_t i = 0; i < positions->n; i++)
        for (uint32_t p = positions->v[i].lo; p <= positions->v[i].hi; p++)
            uids[(*n)++] = s->view.uids[p];
    return uids;
}

/* Takes messages with uid >= lo into the view. unseen: the first message without \Seen, as a sequence number. */
static int read_new(struct imap *s, uint32_t lo, uint32_t uidnext, uint32_t *unseen)
{
    struct view *v = &s->view;
    struct imap_rows rows = {0};
    int r = IMAP_DONE;
    for (uint64_t from = lo; r == IMAP_DONE && from < uidnext; from += SCAN_UIDS) {
        rows.n = 0;
        r = s->b->scan(s->ctx, v->mailbox, (uint32_t)from, (uint32_t)MIN_OF(from + SCAN_UIDS - 1, (uint64_t)UINT32_MAX),
                       &rows, &s->err);
        for (size_t i = 0; r == IMAP_DONE && i < rows.n; i++) {
            add_uid(&v->uids, &v->n, &v->cap, rows.v[i].uid);
            if (unseen && !*unseen && !(rows.v[i].flags & IMAP_SEEN))
                *unseen = (uint32_t)v->n;
        }
    }
    mem_free(&rows.v);
    return r;
}

/* ---- \Recent ---- */

bool view_is_recent(const struct view *v, uint32_t uid)
{
    for (size_t i = 0; i < v->recent_n; i++)
        if (uid >= v->recent[i].from && uid < v->recent[i].to)
            return true;
    return false;
}

size_t view_recent_count(const struct view *v)
{
    size_t n = 0;
    for (size_t i = 0; i < v->recent_n; i++)
        n += set_lower(v->uids, v->n, v->recent[i].to) - set_lower(v->uids, v->n, v->recent[i].from);
    return n;
}

static void add_recent(struct view *v, uint32_t from, uint32_t to)
{
    if (from >= to)
        return;
    if (v->recent_n && (v->recent[v->recent_n - 1].to >= from || v->recent_n == IMAP_RECENT_RANGES))
        v->recent[v->recent_n - 1].to = to;
    else
        v->recent[v->recent_n].from = from, v->recent[v->recent_n++].to = to;
}

/* Messages up to uidnext become \Recent here and nowhere else (RFC3501:2.3.2); EXAMINE only looks. */
static int take_recent(struct imap *s, uint32_t recent_from, uint32_t uidnext)
{
    struct view *v = &s->view;
    int r = IMAP_DONE;
    if (recent_from >= uidnext)
        return r;
    if (!v->read_only)
        r = s->b->claim_recent(s->ctx, v->mailbox, &recent_from, &s->err);
    if (r == IMAP_DONE)
        add_recent(v, recent_from, uidnext);
    return r;
}

/* ---- opening and closing ---- */

void view_close(struct imap *s)
{
    struct view *v = &s->view;
    mem_free(&v->uids);
    mem_free(&v->gone);
    mem_free(&v->flagged);
    arena_free(&v->keyword_arena);
    *v = (struct view){0};
}

int view_open(struct imap *s, const struct imap_mailbox *box, bool read_only, uint32_t *first_unseen)
{
    struct view *v = &s->view;
    view_close(s);
    *first_unseen = 0;
    v->mailbox = box->id;
    v->read_only = read_only;
    v->uidvalidity = box->uidvalidity;
    v->cap = box->messages + 16;
    v->uids = mem_array(v->cap, sizeof *v->uids);
    int r = read_new(s, 1, box->uidnext, first_unseen);
    if (r == IMAP_DONE)
        r = take_recent(s, box->recent_from, box->uidnext);
    v->selected = true;
    if (r != IMAP_DONE || !view_load_keywords(s)) {
        view_close(s);
        return r == IMAP_DONE ? IMAP_FAILED : r;
    }
    return r;
}

/* ---- telling ---- */

/* From the highest number down, so that each is right when it is told. */
static void tell_expunged(struct imap *s)
{
    struct view *v = &s->view;
    sort_unique(v->gone, &v->gone_n);
    size_t left = v->gone_n;
    for (size_t i = v->n; i > 0 && left > 0; i--) {
        while (left > 0 && v->gone[left - 1] > v->uids[i - 1])
            left--;
        if (left > 0 && v->gone[left - 1] == v->uids[i - 1]) {
            imap_text(s, "* ");
            imap_number(s, i);
            imap_text(s, " EXPUNGE\r\n");
            left--;
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < v->n; i++)
        if (!has_uid(v->gone, v->gone_n, v->uids[i]))
            v->uids[kept++] = v->uids[i];
    v->n = kept;
    v->gone_n = 0;
}

static void tell_new(struct imap *s)
{
    struct view *v = &s->view;
    struct imap_mailbox now;
    size_t before = v->n;
    v->fresh = false;
    if (s->b->status(s->ctx, v->mailbox, &now, &s->err) != IMAP_DONE)
        return;
    uint32_t last = v->n ? v->uids[v->n - 1] : 0;
    if (last == UINT32_MAX || read_new(s, last + 1, now.uidnext, NULL) != IMAP_DONE || v->n == before)
        return;
    take_recent(s, MAX_OF(now.recent_from, last + 1), now.uidnext);
    imap_text(s, "* ");
    imap_number(s, v->n);
    imap_text(s, " EXISTS\r\n* ");
    imap_number(s, view_recent_count(v));
    imap_text(s, " RECENT\r\n");
}

static void tell_flags_of(struct imap *s, const struct imap_row *row)
{
    size_t at = set_lower(s->view.uids, s->view.n, row->uid);
    if (at == s->view.n || s->view.uids[at] != row->uid)
        return;
    view_know_keywords(s, row->keywords);
    imap_text(s, "* ");
    imap_number(s, at + 1);
    imap_text(s, " FETCH (UID ");
    imap_number(s, row->uid);
    imap_text(s, " FLAGS ");
    view_put_flags(s, row);
    imap_text(s, ")\r\n");
}

static void tell_flags(struct imap *s)
{
    struct view *v = &s->view;
    sort_unique(v->flagged, &v->flagged_n);
    size_t n = v->flagged_n;
    struct imap_rows rows = {0};
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1;
             end < n && v->flagged[end] - v->flagged[i] < SCAN_UIDS && v->flagged[end] - v->flagged[end - 1] < 64;
             end++)
            ;
        rows.n = 0;
        if (s->b->scan(s->ctx, v->mailbox, v->flagged[i], v->flagged[end - 1], &rows, &s->err) != IMAP_DONE)
            break;
        for (size_t k = 0; k < rows.n; k++)
            if (has_uid(v->flagged, n, rows.v[k].uid))
                tell_flags_of(s, &rows.v[k]);
    }
    v->flagged_n = 0;
    mem_free(&rows.v);
}

static void tell_renamed(struct imap *s)
{
    struct imap_mailbox now;
    s->view.renamed = false;
    if (s->b->status(s->ctx, s->view.mailbox, &now, &s->err) != IMAP_DONE)
        return;
    s->view.uidvalidity = now.uidvalidity;
    imap_text(s, "* OK [UIDVALIDITY ");
    imap_number(s, now.uidvalidity);
    imap_text(s, "] The mailbox has another name now\r\n");
}

void view_tell(struct imap *s)
{
    struct view *v = &s->view;
    if (!v->selected)
        return;
    if (v->renamed)
        tell_renamed(s);
    if (v->gone_n && !s->keep_numbers)
        tell_expunged(s);
    if (v->fresh)
        tell_new(s);
    if (v->flagged_n)
        tell_flags(s);
}
