/* SEARCH and UID SEARCH, RFC 3501 §6.4.4: row by row through the view, in steps, so that a long search stops nobody
 * else. */
#include "imap/search.h"

#include "base/mem.h"
#include "mail/date.h"

#define CHUNK 512                     /* rows read at a time */
#define STEP_COST (UINT64_C(2) << 20) /* bytes looked at before others get their turn */
#define MESSAGE_COST 256              /* what a message counts at least */

struct search {
    struct search_key *keys;
    uint32_t next; /* position */
    struct imap_rows rows;
    size_t row;
    uint32_t *found;
    size_t found_n, found_cap, told;
    struct buf header;
    bool telling, failed;
};

void search_free(struct imap *s)
{
    if (!s->search)
        return;
    mem_free(&s->search->rows.v);
    mem_free(&s->search->found);
    buf_free(&s->search->header);
    mem_free(&s->search);
}

/* ---- keys ---- */

static int64_t day_of(int64_t ms)
{
    return ms >= 0 ? ms / 86400000 : (ms - 86399999) / 86400000;
}

static bool day_holds(enum search_op op, enum search_op before, int64_t day, int64_t wanted)
{
    if (op == before)
        return day < wanted;
    return (int)op == (int)before + 1 ? day == wanted : day >= wanted;
}

static bool sent_holds(struct search_message *m, const struct search_key *k)
{
    struct span value;
    struct mail_date d;
    if (!header_find(search_get_header(m), "Date", &value) || date_parse(value, &d) != 0)
        return false;
    return day_holds(k->op, SEARCH_SENTBEFORE, date_day(&d), (int64_t)k->number);
}

static bool any_holds(struct search_message *m, const struct search_key *first)
{
    for (; first; first = first->next)
        if (search_holds(m, first))
            return true;
    return false;
}

static bool all_hold(struct search_message *m, const struct search_key *first)
{
    for (; first; first = first->next)
        if (!search_holds(m, first))
            return false;
    return true;
}

bool search_holds(struct search_message *m, const struct search_key *k)
{
    const struct imap_row *row = m->row;
    switch (k->op) {
    case SEARCH_ALL: return true;
    case SEARCH_AND: return all_hold(m, k->first);
    case SEARCH_OR: return any_holds(m, k->first);
    case SEARCH_NOT: return !search_holds(m, k->first);
    case SEARCH_FLAG: return (row->flags & k->number) != 0;
    case SEARCH_KEYWORD: return (row->keywords & k->number) != 0;
    case SEARCH_RECENT: return view_is_recent(&m->s->view, row->uid);
    case SEARCH_LARGER: return row->size > k->number;
    case SEARCH_SMALLER: return row->size < k->number;
    case SEARCH_BEFORE:
    case SEARCH_ON:
    case SEARCH_SINCE: return day_holds(k->op, SEARCH_BEFORE, day_of(row->date_ms), (int64_t)k->number);
    case SEARCH_SENTBEFORE:
    case SEARCH_SENTON:
    case SEARCH_SENTSINCE: return sent_holds(m, k);
    case SEARCH_SET: return set_has(&k->set, m->position);
    case SEARCH_HEADER: return search_header(m, k->name, k->text);
    case SEARCH_BODY: return search_text(m, k->text, false);
    case SEARCH_TEXT: return search_text(m, k->text, true);
    }
    return false;
}

/* ---- going through the mailbox ---- */

static void add_found(struct search *q, uint32_t number)
{
    if (q->found_n == q->found_cap) {
        q->found_cap = q->found_cap ? q->found_cap * 2 : 256;
        q->found = mem_resize(q->found, q->found_cap * sizeof *q->found);
    }
    q->found[q->found_n++] = number;
}

static uint64_t try_row(struct imap *s, const struct imap_row *row)
{
    struct search *q = s->search;
    struct search_message m = {.s = s, .row = row, .header = &q->header, .cost = MESSAGE_COST};
    m.position = (uint32_t)set_lower(s->view.uids, s->view.n, row->uid);
    if (search_holds(&m, q->keys))
        add_found(q, s->uid ? row->uid : m.position + 1);
    q->failed |= m.failed;
    if (m.content)
        s->b->close(s->ctx, &m.content);
    return m.cost;
}

static bool load_rows(struct imap *s)
{
    struct search *q = s->search;
    q->rows.n = q->row = 0;
    if (q->next >= s->view.n)
        return false;
    uint32_t last = (uint32_t)MIN_OF((size_t)q->next + CHUNK, s->view.n) - 1;
    if (view_rows(s, q->next, last, &q->rows) != IMAP_DONE) {
        q->failed = true;
        q->rows.n = 0;
    }
    q->next = last + 1;
    return true;
}

/* True when all messages have been looked at. */
static bool look(struct imap *s)
{
    struct search *q = s->search;
    for (uint64_t cost = 0; cost < STEP_COST;) {
        if (q->row < q->rows.n)
            cost += try_row(s, &q->rows.v[q->row++]);
        else if (!load_rows(s))
            return true;
    }
    return false;
}

static bool tell(struct imap *s)
{
    struct search *q = s->search;
    if (!q->telling)
        imap_text(s, "* SEARCH");
    q->telling = true;
    for (; q->told < q->found_n && s->out.n < IMAP_OUT_HIGH; q->told++) {
        imap_text(s, " ");
        imap_number(s, q->found[q->told]);
    }
    return q->told == q->found_n;
}

static bool search_work(struct imap *s)
{
    struct search *q = s->search;
    if (!q->telling && !look(s))
        return false;
    if (!tell(s))
        return false;
    imap_text(s, "\r\n");
    if (q->failed)
        imap_no_code(s, IMAP_FAILED, "");
    else
        imap_ok(s, "Searched");
    return true;
}

void cmd_search(struct imap *s, struct lex *x)
{
    struct search_key *keys = NULL;
    int r = search_parse(s, x, &keys);
    if (r < 0) {
        imap_no(s, "[BADCHARSET (UTF-8 US-ASCII)] That charset is unknown");
        return;
    }
    if (r == 0) {
        imap_bad(s, "SEARCH for what?");
        return;
    }
    s->search = mem_alloc(sizeof *s->search);
    s->search->keys = keys;
    s->work = search_work;
}
