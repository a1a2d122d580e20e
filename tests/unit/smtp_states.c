/* RFC 5321 and its extensions as one table: each command, in each form of its argument, in each state of a session. Each cell is a reply,
 * with its enhanced code, and the state behind it; every cell is tried whole, byte by byte, in one packet with what came before and what
 * comes behind, behind an error, and with recipients still being asked about. */
#include <criterion/criterion.h>

#include "smtp_owner.h"

#include <stdio.h>

#define EHLO "EHLO client.test\r\n"
#define MAIL "MAIL FROM:<x@remote.test>\r\n"
#define RCPT "RCPT TO:<alice@example.test>\r\n"
#define BAD_RCPT "RCPT TO:<nobody@example.test>\r\n"
#define GOOD_PLAIN "AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM="
#define BAD_PLAIN "AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdAB3cm9uZw=="
#define TLS EHLO "STARTTLS\r\n|"
#define IN TLS EHLO GOOD_PLAIN "\r\n"
#define OWN_MAIL "MAIL FROM:<alice@example.test>\r\n"

enum role { MX, FULL, SUBMISSION, CUSTOMERS, ROLES };

/* A column: what was said before. A bar: what follows waits until what is before it was answered (TLS has to come up). A tilde between
 * bars: the queue closes. */
struct column {
    enum role role;
    char letter;
    const char *said;
};

static const struct column columns[] = {
    /* port 25 */
    {MX, 'c', ""},                                   /* connected and greeted */
    {MX, 'h', "HELO client.test\r\n"},               /* without extensions */
    {MX, 'e', EHLO},                                 /* with them */
    {MX, 't', TLS},                                  /* behind the handshake: nothing is known */
    {MX, 'u', TLS EHLO},                             /* with extensions over TLS */
    {MX, 'm', EHLO MAIL},                            /* a transaction */
    {MX, 'r', EHLO MAIL RCPT},                       /* with a recipient */
    {MX, 'n', EHLO MAIL BAD_RCPT},                   /* with none but a refused one */
    {MX, 'b', EHLO MAIL RCPT "BDAT 3\r\nabc"},       /* its content has begun in chunks */
    {MX, 'y', EHLO "MAIL FROM:<x@remote.test> BODY=BINARYMIME\r\n" RCPT}, /* binary content is to come */
    {MX, 'd', EHLO MAIL RCPT "DATA\r\n.\r\n"},       /* a message is over */
    {MX, 'q', "QUIT\r\n"},                           /* the session is */
    {MX, 'z', EHLO MAIL RCPT "GET / HTTP/1.1\r\n"},  /* the session was ended with 421 */
    {MX, 'v', EHLO "|~|"},                           /* the queue takes no mail any more */
    {MX, 'w', EHLO MAIL RCPT "|~|"},                 /* the same within a transaction */
    /* port 25 with every command switched on, the client being a trusted front */
    {FULL, 'c', ""},
    {FULL, 'e', EHLO},
    {FULL, 'r', EHLO MAIL RCPT},
    {FULL, 'b', EHLO MAIL RCPT "BDAT 3\r\nabc"},
    /* submission */
    {SUBMISSION, 'c', ""},
    {SUBMISSION, 'e', EHLO},
    {SUBMISSION, 'u', TLS EHLO},                     /* over TLS, not logged in */
    {SUBMISSION, 'f', TLS EHLO BAD_PLAIN "\r\n"},    /* a login failed */
    {SUBMISSION, 'x', TLS EHLO "AUTH LOGIN\r\n"},    /* within one */
    {SUBMISSION, 'i', IN},                           /* logged in */
    {SUBMISSION, 'm', IN OWN_MAIL},
    {SUBMISSION, 'r', IN OWN_MAIL RCPT},
    {SUBMISSION, 'b', IN OWN_MAIL RCPT "BDAT 3\r\nabc"},
    /* customers who come for their mail */
    {CUSTOMERS, 'c', ""},
    {CUSTOMERS, 'e', EHLO},
    {CUSTOMERS, 'u', TLS EHLO},
    {CUSTOMERS, 'x', TLS EHLO "AUTH PLAIN\r\n"},
    {CUSTOMERS, 'i', IN},
};

#include "smtp_states.h"

/* ---- a session of a role ---- */

static void begin(struct smtp_owner *o, enum role role)
{
    smtp_owner_open(o, role == SUBMISSION || role == CUSTOMERS);
    o->config.max_errors = 200;
    o->config.on_demand = role == CUSTOMERS;
    o->entitled = role != MX;
    if (role != FULL)
        return;
    o->config.send_commands = o->config.etrn = true;
    o->config.vrfy = o->config.expn = SMTP_ASKING_ON;
    smtp_server_trust(o->s);
}

static void feed(struct smtp_owner *o, struct span bytes, bool slowly)
{
    while (bytes.n) {
        struct span part = span_cut(&bytes, '|');
        if (span_eqs(part, "~"))
            o->door.queue_closed = true;
        else if (slowly)
            smtp_owner_feed_slowly(o, part);
        else
            smtp_owner_feed(o, part);
    }
}

/* ---- replies: well-formed, and one for each command ---- */

/* RFC2034:4: 2yz, 4yz and 5yz begin with an enhanced code of that class, but for the greeting and the answer to EHLO and HELO. */
static bool is_status(struct span word, char class)
{
    struct span part[3];
    for (int i = 0; i < 3; i++)
        part[i] = span_cut(&word, '.');
    if (word.n || part[0].n != 1 || part[0].p[0] != class)
        return false;
    for (int i = 1; i < 3; i++) {
        if (part[i].n < 1 || part[i].n > 3)
            return false;
        for (size_t at = 0; at < part[i].n; at++)
            if (!ascii_digit(part[i].p[at]))
                return false;
    }
    return true;
}

/* Takes one reply off `sent`, checks each of its lines and writes "250 2.0.0", or "250". RFC5321:4.2, RFC5321:4.2.1 */
static void take_reply(struct span *sent, struct buf *out)
{
    char first[32] = "";
    for (bool more = true; more;) {
        cr_assert_gt(sent->n, 0, "a reply goes on");
        struct span line = span_cut(sent, '\n');
        cr_assert(line.n <= 511 && span_ends(line, SPAN("\r")) && line.n >= 5, "a line: %.*s", SPANV(line));
        line.n--;
        cr_assert(!span_has_control(line), "a line: %.*s", SPANV(line));
        cr_assert(line.p[0] >= '2' && line.p[0] <= '5' && ascii_digit(line.p[1]) && ascii_digit(line.p[2]) && strchr(" -", line.p[3]),
                  "a line: %.*s", SPANV(line));
        more = line.p[3] == '-';
        struct span rest = span_from(line, 4), word = span_word(&rest);
        char now[32];
        if (is_status(word, line.p[0]))
            snprintf(now, sizeof now, "%.3s %.*s", line.p, SPANV(word));
        else
            snprintf(now, sizeof now, "%.3s", line.p);
        cr_assert(!*first || strcmp(first, now) == 0, "every line has the codes of the first: %.*s", SPANV(line));
        memcpy(first, now, sizeof first);
    }
    buf_adds(out, out->n ? "|" : "");
    buf_adds(out, first);
}

static void codes_of(struct span sent, struct buf *out)
{
    buf_clear(out);
    while (sent.n)
        take_reply(&sent, out);
}

/* ---- what a refusal must not change ---- */

struct facts {
    const char *state;
    unsigned rcpts, welcome, commits, login;
    size_t sender, content, helo;
    bool transaction, closed;
};

static struct facts look(const struct smtp_owner *o)
{
    const struct smtp_transaction *t = smtp_server_transaction(o->s);
    struct facts f = {.state = smtp_server_state(o->s),
                      .commits = o->commits,
                      .login = (unsigned)smtp_server_login_name(o->s).n,
                      .helo = smtp_server_helo(o->s).n,
                      .content = smtp_server_content(o->s)->n,
                      .transaction = t != NULL,
                      .closed = o->closed};
    if (t) {
        f.rcpts = t->rcpt_count;
        f.welcome = t->welcome;
        f.sender = t->sender.n;
    }
    return f;
}

static bool same(const struct facts *a, const struct facts *b)
{
    return a->state == b->state && a->welcome == b->welcome && a->commits == b->commits && a->login == b->login &&
           a->sender == b->sender && a->content == b->content && a->helo == b->helo && a->transaction == b->transaction;
}

/* ---- the ways of saying a command ---- */

enum way { WHOLE, SLOWLY, BEHIND_ERROR, WAYS };
static const char *const way_names[] = {"whole", "byte by byte", "behind an error"};

struct got {
    struct buf codes;
    const char *after;
    bool changed; /* of what a refusal must not change */
};

static void say(const struct column *c, struct span line, enum way way, struct got *got)
{
    struct smtp_owner o;
    begin(&o, c->role);
    feed(&o, span_of(c->said), way == SLOWLY);
    if (way == BEHIND_ERROR && c->letter != 'x')
        feed(&o, SPAN("XYZZY\r\n"), false);
    buf_clear(&o.sent);
    struct facts before = look(&o);
    feed(&o, line, way == SLOWLY);
    struct facts after = look(&o);
    codes_of(buf_span(&o.sent), &got->codes);
    got->after = before.state == after.state ? "" : after.state;
    got->changed = !same(&before, &after);
    smtp_owner_close(&o);
}

static const struct key *key_of(char letter)
{
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (keys[i].letter == letter)
            return &keys[i];
    cr_assert_fail("no such letter: %c", letter);
    return NULL;
}

/* The rows' cells in the order of the columns. */
static char cell(const struct row *r, size_t column)
{
    enum role role = columns[column].role;
    size_t first = column;
    while (first && columns[first - 1].role == role)
        first--;
    cr_assert_lt(column - first, strlen(r->cells[role]), "a cell is missing: %.*s", SPANV(r->said));
    return r->cells[role][column - first];
}

typedef void check_fn(const struct column *c, const struct row *r, const struct key *k);

static void each_cell(check_fn *check)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        for (size_t c = 0; c < COUNT_OF(columns); c++)
            check(&columns[c], &rows[i], key_of(cell(&rows[i], c)));
}

static bool within_login(const struct column *c)
{
    return span_ends(span_of(c->said), SPAN("AUTH LOGIN\r\n")) || span_ends(span_of(c->said), SPAN("AUTH PLAIN\r\n"));
}

/* RFC4954:4: more than one line in answer to a challenge is blind, and ends the session. */
static const struct key blind = {.codes = "503 5.5.1", .after = "closed"};

static void check_cell(const struct column *c, const struct row *r, const struct key *row_key)
{
    struct got got = {0};
    const struct key *k = row_key;
    for (enum way w = 0; w < WAYS; w++) {
        say(c, r->said, w, &got);
        k = w != SLOWLY && within_login(c) && span_find(r->said, '\n') + 1 < (ptrdiff_t)r->said.n ? &blind : row_key;
        cr_expect(span_eqs(buf_span(&got.codes), k->codes) && strcmp(got.after, k->after) == 0,
                  "behind \"%s\" %s, \"%.*s\": %.*s, then %s; not %s, then %s", c->said, way_names[w], SPANV(r->said),
                  SPANV(buf_span(&got.codes)), got.after, k->codes, k->after);
        /* What was refused has changed nothing; but it ends a session, the exchange of a login, or with the last chunk a transaction. */
        bool ends = strcmp(k->after, "closed") == 0 || strchr("126", k->letter);
        bool refused = got.codes.n && strchr("45", got.codes.p[0]) && c->letter != 'x' && !ends;
        cr_expect(!refused || !got.changed, "behind \"%s\", the refused \"%.*s\" changed something", c->said, SPANV(r->said));
    }
    buf_free(&got.codes);
}

/* RFC5321:4.1.4, RFC5321:4.2.4, RFC5321:4.3.2, RFC2034:4, RFC3030:2, RFC4954:4, RFC1985:5, RFC2645:5.2.1, RFC5321:F.1, RFC5321:F.6 */
Test(smtp_states, each_command_in_each_state)
{
    each_cell(check_cell);
}

/* ---- in one packet with what comes before and behind ---- */

/* What becomes of a NOOP that is pipelined behind. */
static const char *behind(const struct column *c, const struct row *r, const struct key *k)
{
    bool refused = k->codes[0] == '4' || k->codes[0] == '5';
    if (k->letter == '.' || strcmp(k->after, "closed") == 0 || strcmp(k->after, "data") == 0)
        return "";
    if (span_eqs(r->said, "STARTTLS\r\n") && k->letter == 'T') /* RFC3207:4.2: it came in clear and is gone */
        return "";
    /* HAZARDS 5: what came behind a refused DATA was written as content and must not run as commands. */
    if (span_istarts(r->said, SPAN("DATA")) && refused && c->letter != 'x')
        return "";
    /* The octets of a chunk belong to a command that was none, and to the line behind. */
    if (span_istarts(r->said, SPAN("BDAT")) && !span_ends(r->said, SPAN("\n")) && (k->letter == '-' || c->letter == 'x'))
        return "|500 5.5.1";
    return "|250 2.0.0";
}

/* RFC4954:4: AUTH is the last of its group, but with the response of PLAIN. */
static bool must_be_last(struct span said)
{
    return span_istarts(said, SPAN("AUTH")) && !span_istarts(said, SPAN("AUTH PLAIN "));
}

static void check_packet(const struct column *c, const struct row *r, const struct key *k)
{
    struct smtp_owner o;
    struct buf all = {0}, want = {0}, got = {0};
    begin(&o, c->role);
    feed(&o, span_of(c->said), false);
    codes_of(buf_span(&o.sent), &want);
    smtp_owner_close(&o);
    if (within_login(c)) {
        cr_assert(span_ends(buf_span(&want), SPAN("|334")));
        want.n -= 3;
        buf_adds(&want, blind.codes);
    } else if (must_be_last(r->said) && k->letter != '.') {
        buf_printf(&want, "|%s", blind.codes);
    } else {
        if (*k->codes)
            buf_printf(&want, "|%s", k->codes);
        buf_adds(&want, behind(c, r, k));
    }
    begin(&o, c->role);
    buf_adds(&all, c->said);
    buf_add(&all, r->said);
    buf_adds(&all, "NOOP\r\n");
    feed(&o, buf_span(&all), false);
    codes_of(buf_span(&o.sent), &got);
    cr_expect(span_eq(buf_span(&got), buf_span(&want)), "in one packet:\n%.*s\ngot  %.*s\nwant %.*s", SPANV(buf_span(&all)),
              SPANV(buf_span(&got)), SPANV(buf_span(&want)));
    smtp_owner_close(&o);
    buf_free(&all);
    buf_free(&want);
    buf_free(&got);
}

/* RFC2920:3.1: as many replies, the same ones, in order. */
Test(smtp_states, in_one_packet)
{
    each_cell(check_packet);
}

/* ---- while the owner is still thinking ---- */

/* With the recipient of the column still being asked about nothing overtakes it, and the reply is the same behind it; recipients that
 * are asked about meanwhile may be answered first. */
static void check_held(const struct column *c, const struct row *r, const struct key *k)
{
    if (c->letter != 'r')
        return;
    struct smtp_owner o;
    struct buf want = {0}, got = {0};
    begin(&o, c->role);
    struct span said = span_of(c->said), rcpt = SPAN(RCPT);
    feed(&o, span_sub(said, 0, said.n - rcpt.n), false);
    buf_clear(&o.sent);
    o.hold_rcpts = true;
    feed(&o, rcpt, false);
    feed(&o, r->said, false);
    cr_expect_eq(o.sent.n, 0, "\"%.*s\" overtook a recipient: %.*s", SPANV(r->said), SPANV(buf_span(&o.sent)));
    for (unsigned i = o.held_count; i-- > 0;)
        smtp_owner_answer_rcpt(&o, i);
    codes_of(buf_span(&o.sent), &got);
    buf_printf(&want, "250 2.1.5|%s", k->codes);
    cr_expect(span_eq(buf_span(&got), buf_span(&want)), "\"%.*s\" behind a recipient: %.*s, not %.*s", SPANV(r->said),
              SPANV(buf_span(&got)), SPANV(buf_span(&want)));
    smtp_owner_close(&o);
    buf_free(&want);
    buf_free(&got);
}

Test(smtp_states, while_a_recipient_is_asked_about)
{
    each_cell(check_held);
}

/* The same behind a message that is being stored. */
static void check_stored(const struct column *c, const struct row *r, const struct key *k)
{
    if (c->letter != 'd')
        return;
    struct smtp_owner o;
    struct buf want = {0}, got = {0};
    begin(&o, c->role);
    o.hold_commits = true;
    feed(&o, span_of(c->said), false);
    buf_clear(&o.sent);
    feed(&o, r->said, false);
    cr_expect_eq(o.sent.n, 0, "\"%.*s\" overtook a message", SPANV(r->said));
    struct outcome yes = outcome_make(OUTCOME_DONE, 250, 0, 0, "Ok");
    smtp_server_committed(o.s, &yes);
    smtp_owner_run(&o);
    codes_of(buf_span(&o.sent), &got);
    buf_printf(&want, "250 2.0.0|%s", k->codes);
    cr_expect(span_eq(buf_span(&got), buf_span(&want)), "\"%.*s\" behind a message: %.*s, not %.*s", SPANV(r->said),
              SPANV(buf_span(&got)), SPANV(buf_span(&want)));
    smtp_owner_close(&o);
    buf_free(&want);
    buf_free(&got);
}

Test(smtp_states, while_a_message_is_stored)
{
    each_cell(check_stored);
}
