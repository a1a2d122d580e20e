/* On submission: whether all that a message names in From and Sender is its account's (RFC6409:6.1), asked before the
 * message is stored. Once for each message, when its header section is there: at the first part of a large content, or
 * at its end. The reverse-path was asked about at MAIL; whoever writes as it costs no question. */
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "mail/address.h"
#include "mail/authors.h"
#include "mail/submission.h"
#include "smtpd/smtpd.h"

struct authors_ask {
    enum smtp_want want; /* what goes on afterwards */
    struct arena arena;
    struct author list[AUTHORS_MAX];
    size_t n, at;
};

void authors_drop(struct session *s)
{
    if (s->authors)
        arena_free(&s->authors->arena);
    mem_free(&s->authors);
}

static bool same_mailbox(struct span a, struct span b)
{
    struct address_key one, two;
    return span_eq(a, b) ||
           (address_key(a, &one) && address_key(b, &two) && span_eq(address_key_span(&one), address_key_span(&two)));
}

/* RFC6409:6.3 */
static struct outcome not_well_formed(const char *why, unsigned subject, unsigned detail)
{
    return outcome_make(OUTCOME_FAILED, 554, subject, detail, "%s", why);
}

/* The address in a reply: of printable ASCII, whatever it was. */
static struct outcome not_yours(const struct author *a)
{
    char text[120];
    size_t n = 0;
    for (size_t i = 0; i < a->address.n && n < sizeof text - 1; i++)
        text[n++] = a->address.p[i] > 0x20 && a->address.p[i] < 0x7f ? a->address.p[i] : '?';
    text[n] = 0;
    return outcome_make(OUTCOME_FAILED, 550, 7, 1, "%s names %s, which is no address of yours", a->field, text);
}

static void refuse(struct session *s, enum smtp_want want, const struct outcome *o)
{
    if (want == SMTP_WANT_ROOM)
        smtp_server_no_room(s->smtp, o);
    else
        smtp_server_committed(s->smtp, o);
}

static struct outcome no_directory(void)
{
    return outcome_make(OUTCOME_RETRY, 451, 3, 0, "The directory does not answer just now, try again later");
}

static bool ask_next(struct session *s);

static void on_answer(void *ctx, struct chan *c UNUSED, enum chan_why why, const struct msg *m, int fd)
{
    struct session *s = ctx;
    struct authors_ask *a = s->authors;
    enum smtp_want want = a->want;
    s->login.id = 0;
    if (fd >= 0)
        close(fd);
    bool answered = why == CHAN_ANSWERED && m->type == MSG_verdict;
    if (answered && m->verdict.kind == OUTCOME_DONE) {
        a->at++;
        if (ask_next(s))
            return;
        if (s->authors_good) {
            if (want == SMTP_WANT_ROOM)
                spool_room(s);
            else
                commit(s);
        }
    } else {
        struct outcome o =
            answered && m->verdict.kind == OUTCOME_FAILED ? not_yours(&a->list[a->at]) : no_directory();
        authors_drop(s);
        refuse(s, want, &o);
    }
    session_poke(s);
}

/* True: an answer is awaited. Else the message is good (authors_good), or was refused for want of a directory. */
static bool ask_next(struct session *s)
{
    struct authors_ask *a = s->authors;
    enum smtp_want want = a->want;
    struct span sender = smtp_server_transaction(s->smtp)->sender;
    while (a->at < a->n && sender.n && same_mailbox(a->list[a->at].address, sender))
        a->at++;
    if (a->at == a->n) {
        s->authors_good = true;
        authors_drop(s);
        return false;
    }
    struct msg m = {.type = MSG_sender_check};
    m.sender_check = (struct msg_sender_check){.instance = service_instance(s->d->service),
                                               .session = s->id,
                                               .sender = span_sub(a->list[a->at].address, 0, IPC_ADDRESS_MAX)};
    s->login.id = chan_full(s->d->authd) ? 0 : chan_ask(s->d->authd, &m, -1, on_answer, s);
    if (s->login.id)
        return true;
    struct outcome o = no_directory();
    authors_drop(s);
    refuse(s, want, &o);
    return false;
}

bool authors_asked(struct session *s, enum smtp_want want)
{
    if (!s->d->submission || s->authors_good || !s->house->check_from)
        return false;
    const struct smtp_transaction *t = smtp_server_transaction(s->smtp);
    struct span header = span_sub(buf_span(smtp_server_content(s->smtp)), 0, t->data.header_bytes);
    unsigned subject, detail;
    s->authors = mem_alloc(sizeof *s->authors);
    s->authors->want = want;
    s->add_sender = submission_wants_sender(header);
    const char *why = submission_flaw(header, t->smtputf8, &subject, &detail);
    if (!why)
        why = authors_read(header, &s->authors->arena, s->authors->list, &s->authors->n);
    if (why) {
        struct outcome o = not_well_formed(why, subject, detail);
        authors_drop(s);
        refuse(s, want, &o);
        return true;
    }
    return ask_next(s) || !s->authors_good;
}
