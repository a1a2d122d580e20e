/* See authors.h. Trusts nothing: real mail has odd fields, and who wants to pass for another makes them odder, so that
 * this server reads one author and the recipient's program shows another. Beside the mailboxes that header.h finds,
 * every word with an @ counts that stands outside of quotes and comments. */
#include "mail/authors.h"

#include "mail/address.h"

struct reader {
    struct arena *arena;
    const char *field;
    struct author *list;
    size_t n;
    const char *wrong;
};

static void add(struct reader *r, struct span address)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->list[i].field == r->field && span_ieq(r->list[i].address, address))
            return;
    if (r->n == AUTHORS_MAX)
        r->wrong = "The message names too many authors";
    else
        r->list[r->n++] = (struct author){r->field, address};
}

static void add_mailbox(struct reader *r, const struct header_address *m)
{
    struct buf text = {0};
    if (!m->local.n || !m->domain.n) {
        r->wrong = strcmp(r->field, "From") == 0 ? "From names somebody without an address"
                                                 : "Sender names somebody without an address";
        return;
    }
    address_put(&text, m->local, m->domain);
    add(r, arena_dup(r->arena, buf_span(&text)));
    buf_free(&text);
}

static size_t add_mailboxes(struct reader *r, struct span value)
{
    size_t found = 0;
    for (struct header_address *m = header_addresses(value, r->arena); m && !r->wrong; m = m->next)
        if (m->kind == HEADER_MAILBOX) {
            found++;
            add_mailbox(r, m);
        }
    return found;
}

/* ---- words with an @ ---- */

static bool ends_word(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || (c && strchr("<>(),;:\"", c));
}

/* The length of the quoted string or comment at the front. */
static size_t skipped(struct span s)
{
    char close = s.p[0] == '"' ? '"' : ')';
    unsigned depth = 1;
    size_t i = 1;
    for (; i < s.n && depth; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == close)
            depth--;
        else if (close == ')' && s.p[i] == '(')
            depth++;
    }
    return MIN_OF(i, s.n);
}

static void add_words(struct reader *r, struct span rest)
{
    while (rest.n && !r->wrong) {
        size_t n = 0;
        if (rest.p[0] == '"' || rest.p[0] == '(') {
            /* "local part"@domain is a mailbox and found as one */
            rest = span_from(rest, skipped(rest));
            if (rest.n && rest.p[0] == '@')
                while (rest.n && !ends_word(rest.p[0]))
                    rest = span_from(rest, 1);
            continue;
        }
        while (n < rest.n && !ends_word(rest.p[n]))
            n++;
        struct span word = span_sub(rest, 0, n);
        ptrdiff_t at = span_find(word, '@');
        if (at > 0 && (size_t)at + 1 < word.n)
            add(r, arena_dup(r->arena, word));
        rest = span_from(rest, n ? n : 1);
    }
}

static void read_field(struct reader *r, const char *field, struct span value)
{
    r->field = field;
    if (add_mailboxes(r, value) == 0 && !r->wrong)
        r->wrong = strcmp(field, "From") == 0 ? "From names no address" : "Sender names no address";
    if (!r->wrong)
        add_words(r, value);
}

/* RFC5322:3.6: each of them once. */
const char *authors_read(struct span header, struct arena *a, struct author *list, size_t *n)
{
    struct reader r = {.arena = a, .list = list};
    struct header_field f;
    bool from = false, sender = false;
    while (!r.wrong && header_next(&header, &f)) {
        bool is_from = span_ieqs(f.name, "From"), is_sender = span_ieqs(f.name, "Sender");
        if ((is_from && from) || (is_sender && sender))
            r.wrong = is_from ? "The message has more than one From field" : "The message has more than one Sender field";
        else if (is_from || is_sender)
            read_field(&r, is_from ? "From" : "Sender", f.value);
        from |= is_from;
        sender |= is_sender;
    }
    *n = r.n;
    return r.wrong;
}
