/* What is held against a client of port 25 before its mail is looked at: it spoke first, it names itself wrongly, DNS knows no good name
 * for its address. Each check has a grade (section door of the configuration). DNS is asked through policyd from the first moment on, and
 * waited for where the answer decides: at RCPT for a refusal, at the end of the content for the header.
 *
 * RFC5321:4.1.4: mail is never refused because the name of EHLO does not fit the client's address or DNS; those findings are marked at
 * most. What DNS could not say just now is deferred at most. */
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "smtp/helo.h"
#include "smtp/results.h"
#include "smtpd/smtpd.h"

#define TRIES 2

enum { NAMED_UNKNOWN, NAMED_NONE, NAMED_ELSEWHERE, NAMED_BOTH_WAYS }; /* F_named */

#define GRADE(s, check) ((s)->house->conf->door.check)

static bool on_duty(const struct session *s)
{
    return !s->d->submission && !s->names.exempt;
}

/* ---- the findings, and how much may be done about each ---- */

static enum conf_grade at_most(enum conf_grade grade, enum conf_grade most)
{
    return MIN_OF(grade, most);
}

static enum conf_grade client_grade(const struct session *s)
{
    if (!s->names.client_known || s->names.client_kind == NAMED_BOTH_WAYS)
        return CONF_GRADE_OFF;
    return s->names.client_kind == NAMED_UNKNOWN ? at_most(GRADE(s, reverse_dns), CONF_GRADE_DEFER)
                                                 : GRADE(s, reverse_dns);
}

static enum smtp_helo_kind helo_kind(const struct session *s)
{
    return smtp_helo_kind(smtp_server_helo(s->smtp), s->house->smtp.hostname, span_of(s->remote),
                          span_of(stream_local(s->stream)));
}

/* RFC5321:4.1.4 */
static enum conf_grade helo_grade(const struct session *s)
{
    if (!s->names.helo_flaw)
        return CONF_GRADE_OFF;
    return s->names.helo_flaw == SMTP_HELO_OTHER_LITERAL ? at_most(GRADE(s, helo), CONF_GRADE_HEADER) : GRADE(s, helo);
}

/* ---- asking policyd ---- */

static void client_ask(struct session *s);
static void helo_ask(struct session *s);

static const char *kind_text(unsigned kind)
{
    static const char *const texts[] = {"not known just now", "no such name", "leads elsewhere", "good"};
    return texts[kind];
}

/* Those that waited for what is known now. */
static void go_on(struct session *s)
{
    if (!names_pending(s, CONF_GRADE_DEFER))
        held_rcpts_go(s);
    if (s->names.holding && !names_pending(s, CONF_GRADE_HEADER)) {
        s->names.holding = false;
        if (s->names.holding_commit)
            commit(s);
        else
            spool_room(s);
    }
    session_poke(s);
}

static unsigned kind_of(enum chan_why why, const struct msg *m)
{
    return why == CHAN_ANSWERED && m->type == MSG_named ? m->named.kind : NAMED_UNKNOWN;
}

static void on_client(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    (void)c;
    struct session *s = ctx;
    s->names.client_id = 0;
    if (fd >= 0)
        close(fd);
    if (why == CHAN_GONE && ++s->names.client_tries < TRIES) {
        client_ask(s);
        return;
    }
    s->names.client_known = true;
    s->names.client_kind = (uint8_t)kind_of(why, m);
    struct span name = why == CHAN_ANSWERED && m->type == MSG_named ? m->named.name : SPAN("");
    if (name.n)
        s->names.client = mem_strndup(name.p, name.n);
    if (s->names.client_kind != NAMED_BOTH_WAYS)
        LOGI("reverse-dns", KVT("client", s->remote), KVS("name", name), KVT("finding", kind_text(s->names.client_kind)));
    go_on(s);
}

static void on_helo(void *ctx, struct chan *c, enum chan_why why, const struct msg *m, int fd)
{
    (void)c;
    struct session *s = ctx;
    s->names.helo_id = 0;
    if (fd >= 0)
        close(fd);
    if (why == CHAN_GONE && ++s->names.helo_tries < TRIES) {
        helo_ask(s);
        return;
    }
    s->names.helo_known = true;
    s->names.helo_kind = (uint8_t)kind_of(why, m);
    if (s->names.helo_kind == NAMED_NONE)
        LOGI("helo", KVT("client", s->remote), KVS("name", smtp_server_helo(s->smtp)),
             KVT("finding", kind_text(s->names.helo_kind)));
    go_on(s);
}

/* Nobody can be asked: as if the answer were "not known now". */
static uint64_t ask(struct session *s, const struct msg *m, chan_answer_fn *fn)
{
    return chan_full(s->d->judge) ? 0 : chan_ask(s->d->judge, m, -1, fn, s);
}

static void client_ask(struct session *s)
{
    struct msg m = {.type = MSG_client_names};
    m.client_names.address = span_of(s->remote);
    s->names.client_id = ask(s, &m, on_client);
    s->names.client_known = s->names.client_id == 0;
}

static void helo_ask(struct session *s)
{
    struct msg m = {.type = MSG_helo_names};
    m.helo_names = (struct msg_helo_names){.name = smtp_server_helo(s->smtp), .address = span_of(s->remote)};
    s->names.helo_id = ask(s, &m, on_helo);
    s->names.helo_known = s->names.helo_id == 0;
}

/* ---- what happens to a session ---- */

void names_begin(struct session *s)
{
    names_end(s);
    s->names = (struct manners){.exempt = conf_networks_have(&s->house->conf->limits.exempt, &s->peer)};
    if (on_duty(s) && GRADE(s, reverse_dns) != CONF_GRADE_OFF)
        client_ask(s);
}

void names_hello(struct session *s)
{
    if (!on_duty(s) || GRADE(s, helo) == CONF_GRADE_OFF)
        return;
    enum smtp_helo_kind kind = helo_kind(s);
    const char *flaw = smtp_helo_flaw(kind);
    if (s->names.helo_id)
        chan_forget(s->d->judge, s->names.helo_id);
    s->names.helo_id = 0;
    s->names.helo_known = false;
    s->names.helo_flaw = flaw ? (uint8_t)kind : 0;
    if (flaw)
        LOGI("helo", KVT("client", s->remote), KVS("name", smtp_server_helo(s->smtp)), KVT("finding", flaw));
    else if (kind == SMTP_HELO_NAME)
        helo_ask(s);
}

enum conf_grade names_early(struct session *s)
{
    if (GRADE(s, early_talker) == CONF_GRADE_OFF || s->d->submission)
        return CONF_GRADE_OFF;
    if (!s->names.early)
        LOGI("early-talker", KVT("client", s->remote));
    s->names.early = true;
    return GRADE(s, early_talker);
}

void names_end(struct session *s)
{
    if (s->names.client_id)
        chan_forget(s->d->judge, s->names.client_id);
    if (s->names.helo_id)
        chan_forget(s->d->judge, s->names.helo_id);
    s->names.client_id = s->names.helo_id = 0;
    s->names.holding = false;
    mem_free(&s->names.client);
}

/* Whether an answer is on its way on which that much, or more, depends. */
bool names_pending(const struct session *s, enum conf_grade grade)
{
    return (s->names.client_id && GRADE(s, reverse_dns) >= grade) ||
           (s->names.helo_id && grade <= CONF_GRADE_HEADER && GRADE(s, helo) >= grade);
}

bool names_hold(struct session *s, bool commits)
{
    if (!names_pending(s, CONF_GRADE_HEADER))
        return false;
    s->names.holding = true;
    s->names.holding_commit = commits;
    return true;
}

/* ---- RCPT ---- */

/* RFC5321:4.5.1: whoever is kept out must be able to ask why. */
static bool is_postmaster(struct span address)
{
    ptrdiff_t at = span_rfind(address, '@');
    return span_ieqs(at < 0 ? address : span_sub(address, 0, (size_t)at), "postmaster");
}

static struct outcome refusal(enum conf_grade grade, unsigned subject, unsigned detail, const char *text)
{
    bool final = grade == CONF_GRADE_REJECT;
    return outcome_make(final ? OUTCOME_FAILED : OUTCOME_RETRY, final ? 550 : 450, subject, detail, "%s", text);
}

/* RFC7372:3.3 has the code of a client without a good name. */
static struct outcome client_refusal(const struct session *s, enum conf_grade grade)
{
    static const char *const why[] = {
        [NAMED_UNKNOWN] = "DNS does not answer for the name of your address %s, try again later",
        [NAMED_NONE] = "Your address %s has no name in DNS; ask whoever runs it for a PTR record",
        [NAMED_ELSEWHERE] = "The name in DNS of your address %s does not lead back to it; mend its PTR or its address record",
    };
    char text[200];
    snprintf(text, sizeof text, why[s->names.client_kind], s->remote);
    if (s->names.client_kind == NAMED_UNKNOWN)
        return outcome_make(OUTCOME_RETRY, 451, 4, 3, "%s", text);
    return refusal(grade, 7, 25, text);
}

bool names_refuse(const struct session *s, struct span address, struct outcome *o)
{
    if (!on_duty(s) || is_postmaster(address))
        return false;
    enum conf_grade helo = helo_grade(s), client = client_grade(s);
    if (s->names.early && GRADE(s, early_talker) == CONF_GRADE_DEFER) {
        *o = refusal(CONF_GRADE_DEFER, 7, 0, "You spoke before the greeting; wait for it when you come again");
    } else if (helo >= CONF_GRADE_DEFER && helo >= client) {
        char text[SMTP_DOMAIN_MAX + 120];
        snprintf(text, sizeof text, "The name you gave in EHLO %s", smtp_helo_flaw(s->names.helo_flaw));
        *o = refusal(helo, 7, 1, text);
    } else if (client >= CONF_GRADE_DEFER) {
        *o = client_refusal(s, client);
    } else {
        return false;
    }
    return true;
}

/* ---- the header ---- */

static const char *helo_result(const struct session *s)
{
    static const char *const results[] = {"temperror", "fail", "fail", "pass"};
    return s->names.helo_flaw ? "fail" : s->names.helo_known ? results[s->names.helo_kind] : "pass";
}

struct span names_client(const struct session *s)
{
    return s->names.client && s->names.client_kind == NAMED_BOTH_WAYS ? span_of(s->names.client) : SPAN("");
}

static const char *iprev_result(const struct session *s)
{
    static const char *const results[] = {"temperror", "permerror", "fail", "pass"};
    return results[s->names.client_kind];
}

/* A result, and the setting that says what it is worth. */
static void put_policy(const struct session *s, struct buf *out, const char *what, const char *result, const char *key,
                       const enum conf_grade *grade)
{
    char where[CONF_WHERE_MAX];
    const char *parts[] = {out->n ? "; " : "", what, result, " (", key, " ", conf_type_choices(CONF_IS_grade)[*grade], ", ",
                           conf_where(s->house->conf, grade, where), ")"};
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        buf_adds(out, parts[i]);
}

/* What is not known when the content ends decides nothing, and is left out. */
void names_policy(const struct session *s, struct buf *out)
{
    const struct conf *c = s->house->conf;
    if (s->d->submission || s->local)
        return;
    if (s->names.exempt) {
        char where[CONF_WHERE_MAX];
        buf_adds(out, "not checked (limits exempt, ");
        buf_adds(out, conf_where(c, &c->limits.exempt, where));
        buf_addc(out, ')');
        return;
    }
    if (c->door.reverse_dns != CONF_GRADE_OFF && s->names.client_known)
        put_policy(s, out, "iprev=", iprev_result(s), "reverse-dns", &c->door.reverse_dns);
    if (c->door.helo != CONF_GRADE_OFF && !s->names.helo_id)
        put_policy(s, out, "x-helo=", helo_result(s), "helo", &c->door.helo);
    if (s->names.early)
        put_policy(s, out, "x-early-talker=", "fail", "early-talker", &c->door.early_talker);
}

/* RFC8601:2.7.3 */
void names_header(struct session *s, struct buf *out)
{
    if (!on_duty(s))
        return;
    struct smtp_results r = {.by = s->house->smtp.hostname,
                             .remote = span_of(s->remote),
                             .name = span_of(s->names.client),
                             .helo = smtp_server_helo(s->smtp),
                             .early = s->names.early && GRADE(s, early_talker) >= CONF_GRADE_HEADER};
    if (GRADE(s, reverse_dns) >= CONF_GRADE_HEADER)
        r.iprev = iprev_result(s);
    if (GRADE(s, helo) >= CONF_GRADE_HEADER) {
        r.helo_result = helo_result(s);
        r.helo_why = s->names.helo_flaw ? "" : s->names.helo_known ? kind_text(s->names.helo_kind) : "";
    }
    smtp_results_put(out, &r);
}
