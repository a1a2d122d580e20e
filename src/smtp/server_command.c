/* The commands of RFC 5321 §4.1.1 as a table, and those that are answered on the spot. */
#include "auth/mechanisms.h"
#include "smtp/server_impl.h"
#include "smtp/wishes.h"

enum arg { ARG_NONE, ARG_MAY, ARG_MUST };

#define IN(state) (1u << (state))
#define ANY (IN(S_HELLO) | IN(S_READY) | IN(S_MAIL) | IN(S_CHUNKS))

struct command {
    const char *verb;
    unsigned states; /* where it may come */
    enum arg arg;
    void (*act)(struct smtp_server *s, struct span arg);
    const char *help; /* NULL: not served */
};

static void act_help(struct smtp_server *s, struct span arg);

/* RFC5321:4.1.1.1: the argument is a domain or an address literal. What clients really send is often neither, so here
 * only its size and octets are checked; it is used in the Received field alone. */
static bool helo_valid(struct span arg)
{
    return arg.n <= SMTP_DOMAIN_MAX && span_is_ascii(arg) && span_find(arg, ' ') < 0;
}

static bool hello(struct smtp_server *s, struct span arg, bool esmtp)
{
    if (!helo_valid(arg)) {
        smtp_server_refuse(s, 501, "5.5.4", "That is no host name");
        return false;
    }
    smtp_server_forget(s); /* RFC5321:4.1.4: as RSET */
    buf_clear(&s->helo);
    buf_add(&s->helo, arg);
    s->esmtp = esmtp;
    smtp_server_want(s, SMTP_WANT_HELLO);
    smtp_server_move(s, S_READY);
    return true;
}

static void act_helo(struct smtp_server *s, struct span arg)
{
    if (!hello(s, arg, false))
        return;
    smtp_reply_put(&s->out, 250, NULL, s->config->hostname);
    smtp_server_count_idle(s);
}

/* RFC9422:4: what max-transactions and max-recipients allow; at most six digits. */
static void put_limits(struct smtp_server *s)
{
    buf_add(&s->out, SPAN("250-LIMITS"));
    if (s->config->max_transactions) {
        buf_add(&s->out, SPAN(" MAILMAX="));
        buf_addn(&s->out, MIN_OF(s->config->max_transactions, 999999u));
    }
    buf_add(&s->out, SPAN(" RCPTMAX="));
    buf_addn(&s->out, MIN_OF(s->config->max_recipients, 999999u));
    buf_add(&s->out, SPAN("\r\n"));
}

static void put_wishes(struct smtp_server *s)
{
    struct buf *out = &s->out;
    if (smtp_server_serves_requiretls(s))
        buf_add(out, SPAN("250-REQUIRETLS\r\n"));
    if (s->config->by_min) /* RFC2852:2 */
        buf_printf(out, "250-DELIVERBY %u\r\n", s->config->by_min);
    else
        buf_add(out, SPAN("250-DELIVERBY\r\n"));
    if (smtp_server_serves_hold(s)) { /* RFC4865:3 */
        buf_printf(out, "250-FUTURERELEASE %u ", s->config->hold_max);
        smtp_time_put(out, s->door->wall / 1000 + (int64_t)s->config->hold_max);
        buf_add(out, SPAN("\r\n"));
    }
    if (smtp_server_serves_priority(s)) /* RFC6710:9.2: every level is one of its own, so also the three of MIXER are */
        buf_add(out, SPAN("250-MT-PRIORITY MIXER\r\n"));
}

/* What concerns mail that comes in. */
static void put_mail_extensions(struct smtp_server *s)
{
    buf_add(&s->out, SPAN("250-PIPELINING\r\n250-SIZE "));
    buf_addn(&s->out, (int64_t)s->config->max_size);
    buf_add(&s->out, SPAN("\r\n250-8BITMIME\r\n250-BINARYMIME\r\n250-CHUNKING\r\n250-DSN\r\n250-SMTPUTF8\r\n"));
    put_limits(s);
    put_wishes(s);
}

/* Commands that settings, or a login, switch on. */
static void put_commands(struct smtp_server *s)
{
    if (smtp_server_serves_vrfy(s))
        buf_add(&s->out, SPAN("250-VRFY\r\n"));
    if (smtp_server_serves_expn(s))
        buf_add(&s->out, SPAN("250-EXPN\r\n"));
    if (s->config->send_commands) /* RFC5321:F.6 */
        buf_add(&s->out, SPAN("250-SEND\r\n250-SOML\r\n250-SAML\r\n"));
    if (s->config->etrn)
        buf_add(&s->out, SPAN("250-ETRN\r\n"));
    if (s->config->local)
        buf_add(&s->out, SPAN("250-XTOKEN\r\n"));
    if (s->trusted)
        buf_add(&s->out, SPAN("250-XCLIENT " SMTP_XCLIENT_ATTRIBUTES "\r\n"));
}

/* RFC5321:4.1.1.1: only what is served to the end is announced. */
static void act_ehlo(struct smtp_server *s, struct span arg)
{
    if (!hello(s, arg, true))
        return;
    struct buf *out = &s->out;
    smtp_reply_line(out, 250, NULL, true, s->config->hostname);
    if (!s->config->on_demand)
        put_mail_extensions(s);
    if (s->config->starttls && !s->tls)
        buf_add(out, SPAN("250-STARTTLS\r\n"));
    if (smtp_server_offers_auth(s)) {
        buf_add(out, SPAN("250-AUTH "));
        char names[SASL_OFFER_MAX];
        buf_add(out, sasl_offer(smtp_server_mechanisms(s), names));
        buf_add(out, SPAN("\r\n"));
    }
    if (s->config->on_demand)
        buf_add(out, SPAN("250-ATRN\r\n"));
    else
        put_commands(s);
    buf_add(out, SPAN("250 ENHANCEDSTATUSCODES\r\n"));
    smtp_server_count_idle(s);
}

static void act_rset(struct smtp_server *s, struct span arg UNUSED)
{
    smtp_server_forget(s);
    if (s->state == S_MAIL || s->state == S_CHUNKS)
        smtp_server_move(s, S_READY);
    smtp_server_say(s, 250, "2.0.0", "Ok");
    smtp_server_count_idle(s);
}

static void act_noop(struct smtp_server *s, struct span arg UNUSED)
{
    smtp_server_say(s, 250, "2.0.0", "Ok");
    smtp_server_count_idle(s);
}

static void act_quit(struct smtp_server *s, struct span arg UNUSED)
{
    smtp_server_say(s, 221, "2.0.0", "Goodbye");
    smtp_server_move(s, S_CLOSED);
    smtp_server_want(s, SMTP_WANT_CLOSE);
}

static void act_unserved(struct smtp_server *s, struct span arg UNUSED)
{
    smtp_server_refuse(s, 502, "5.5.1", "That command is not served here");
}

/* The first word of another protocol: whoever sends it speaks through somebody else's client. */
static void act_foreign(struct smtp_server *s, struct span arg UNUSED)
{
    smtp_server_end(s, 421, "4.7.0", "This is SMTP");
}

#define RCPT_HELP "RCPT TO:<address> [NOTIFY=NEVER|SUCCESS,FAILURE,DELAY] [ORCPT=type;xtext]"

static const struct command commands[] = {
    {"EHLO", ANY, ARG_MUST, act_ehlo, "EHLO host: begins the session and lists the extensions"},
    {"MAIL", IN(S_READY), ARG_MUST, smtp_server_act_mail, "MAIL FROM:<address>"},
    {"RCPT", IN(S_MAIL), ARG_MUST, smtp_server_act_rcpt, RCPT_HELP},
    {"DATA", IN(S_MAIL) | IN(S_CHUNKS), ARG_NONE, smtp_server_act_data,
     "DATA: the message follows, to a line with a dot alone"},
    {"QUIT", ANY, ARG_NONE, act_quit, "QUIT: ends the session"},
    {"RSET", ANY, ARG_NONE, act_rset, "RSET: forgets the transaction"},
    {"NOOP", ANY, ARG_MAY, act_noop, "NOOP: does nothing"},
    {"HELO", ANY, ARG_MUST, act_helo, "HELO host: begins the session without extensions"},
    {"STARTTLS", IN(S_READY), ARG_NONE, smtp_server_act_starttls, "STARTTLS: begins TLS"},
    {"AUTH", IN(S_READY), ARG_MUST, smtp_server_act_auth, "AUTH mechanism [response]: logs in, by a mechanism of those in EHLO"},
    {"VRFY", ANY, ARG_MUST, smtp_server_act_vrfy,
     "VRFY address [SMTPUTF8]: whether it exists; 252 says neither yes nor no"},
    {"HELP", ANY, ARG_MAY, act_help, "HELP [command]: what you read"},
    {"BDAT", ANY, ARG_MAY, smtp_server_act_bdat, "BDAT octets [LAST]: so many octets of the message follow"},
    {"EXPN", ANY, ARG_MAY, smtp_server_act_expn, "EXPN alias [SMTPUTF8]: its members"},
    {"XCLIENT", IN(S_HELLO) | IN(S_READY), ARG_MUST, smtp_server_act_xclient,
     "XCLIENT attribute=xtext ...: whom a trusted front speaks for: " SMTP_XCLIENT_ATTRIBUTES},
    {"ETRN", IN(S_HELLO) | IN(S_READY), ARG_MUST, smtp_server_act_etrn,
     "ETRN [@]domain: starts the queue for that domain, for those who may"},
    {"ATRN", IN(S_HELLO) | IN(S_READY), ARG_MAY, smtp_server_act_atrn, "ATRN [domain,...]: sends what waits for these domains over this connection"},
    {"TURN", IN(S_HELLO) | IN(S_READY), ARG_NONE, smtp_server_act_turn, "TURN: as ATRN, for every domain that the login is entitled to"},
    {"SEND", IN(S_READY), ARG_MUST, smtp_server_act_send, "SEND FROM:<address> ...: as MAIL, to the user's terminal"},
    {"SOML", IN(S_READY), ARG_MUST, smtp_server_act_soml, "SOML FROM:<address> ...: as MAIL, to the terminal or the mailbox"},
    {"SAML", IN(S_READY), ARG_MUST, smtp_server_act_saml, "SAML FROM:<address> ...: as MAIL, to the terminal and the mailbox"},
    {"GET", ANY, ARG_MAY, act_foreign, NULL},
    {"POST", ANY, ARG_MAY, act_foreign, NULL},
    {"PUT", ANY, ARG_MAY, act_foreign, NULL},
    {"HEAD", ANY, ARG_MAY, act_foreign, NULL},
    {"OPTIONS", ANY, ARG_MAY, act_foreign, NULL},
    {"CONNECT", ANY, ARG_MAY, act_foreign, NULL},
};

/* Commands that settings, or a login, switch on; else they are as if there were none of that name. */
static const struct {
    void (*act)(struct smtp_server *s, struct span arg);
    bool (*served)(const struct smtp_server *s);
} optional[] = {
    {smtp_server_act_etrn, smtp_server_serves_etrn},
    {smtp_server_act_send, smtp_server_serves_send},
    {smtp_server_act_soml, smtp_server_serves_send},
    {smtp_server_act_saml, smtp_server_serves_send},
    {smtp_server_act_atrn, smtp_server_serves_atrn},
    {smtp_server_act_turn, smtp_server_serves_turn},
};

/* RFC2645:5.4: a customer's host finds these, and no others. */
static bool is_for_customers(const struct command *c)
{
    static const char *const verbs[] = {"EHLO", "HELO", "AUTH", "STARTTLS", "ATRN", "QUIT", "NOOP", "RSET", "HELP"};
    for (size_t i = 0; i < COUNT_OF(verbs); i++)
        if (span_eqs(span_of(c->verb), verbs[i]))
            return true;
    return c->act == act_foreign;
}

static bool is_served(const struct smtp_server *s, const struct command *c)
{
    if (s->config->on_demand && !is_for_customers(c))
        return false;
    for (size_t i = 0; i < COUNT_OF(optional); i++)
        if (optional[i].act == c->act)
            return optional[i].served(s);
    return true;
}

/* Commands that are refused, not unknown, where they are not offered. */
static bool is_offered(const struct smtp_server *s, const struct command *c)
{
    if (c->act == smtp_server_act_starttls)
        return s->config->starttls && !s->tls;
    if (c->act == smtp_server_act_auth)
        return s->config->submission;
    if (c->act == smtp_server_act_expn)
        return smtp_server_serves_expn(s);
    return c->act != smtp_server_act_xclient || s->trusted;
}

static bool has_help(const struct smtp_server *s, const struct command *c)
{
    return c->help && is_served(s, c) && is_offered(s, c);
}

static const struct command *command_find(struct span verb)
{
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (span_ieqs(verb, commands[i].verb))
            return &commands[i];
    return NULL;
}

/* RFC5321:4.1.1.8 */
static void help_on(struct smtp_server *s, const struct command *c)
{
    struct buf all = {0};
    buf_adds(&all, c->help);
    if (c->act == smtp_server_act_mail)
        smtp_server_mail_forms(s, &all);
    smtp_reply_put(&s->out, 214, "2.0.0", buf_span(&all));
    buf_free(&all);
}

static void help_on_all(struct smtp_server *s)
{
    struct buf all = {0};
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (has_help(s, &commands[i]))
            buf_printf(&all, "%s%s", all.n ? " " : "", commands[i].verb);
    smtp_reply_line(&s->out, 214, "2.0.0", true, buf_span(&all));
    smtp_reply_line(&s->out, 214, "2.0.0", false, SPAN("See RFC 5321; questions go to the postmaster of this host"));
    buf_free(&all);
}

static void act_help(struct smtp_server *s, struct span arg)
{
    const struct command *c = arg.n ? command_find(arg) : NULL;
    if (arg.n && (!c || !has_help(s, c))) {
        smtp_server_refuse(s, 504, "5.5.4", "There is no help on that");
        return;
    }
    if (c)
        help_on(s, c);
    else
        help_on_all(s);
    smtp_server_count_idle(s);
}

/* RFC5321:4.1.4: the order of commands. */
static void out_of_order(struct smtp_server *s)
{
    static const char *const texts[S_COUNT] = {
        [S_HELLO] = "Say EHLO first",
        [S_READY] = "Say MAIL first",
        [S_MAIL] = "A transaction is open, finish it or say RSET",
        [S_CHUNKS] = "The content has begun, go on with BDAT or say RSET",
    };
    smtp_server_refuse(s, 503, "5.5.1", texts[s->state]);
}

static void carry_out(struct smtp_server *s, const struct command *c, struct span arg)
{
    if (!is_served(s, c))
        act_unserved(s, arg);
    else if (!(c->states & IN(s->state)))
        out_of_order(s);
    else if (c->arg == ARG_MUST && arg.n == 0)
        smtp_server_refuse(s, 501, "5.5.4", "That command needs an argument");
    else if (c->arg == ARG_NONE && arg.n)
        smtp_server_refuse(s, 501, "5.5.4", "That command has no argument");
    else
        c->act(s, arg);
}

/* RFC2920:3.1: DATA is the last of its group. What came behind a refused one was written as content; as commands it must never run
 * (HAZARDS 5). */
static void end_if_content_came(struct smtp_server *s)
{
    if (s->more_behind && s->state != S_DATA && s->state != S_CLOSED) {
        smtp_server_move(s, S_CLOSED);
        smtp_server_want(s, SMTP_WANT_CLOSE);
    }
}

void smtp_server_command(struct smtp_server *s, struct span line)
{
    struct span rest = line;
    while (rest.n && rest.p[rest.n - 1] == ' ') /* RFC5321:4.1.1: blanks at the end are tolerated */
        rest.n--;
    s->verb = span_cut(&rest, ' ');
    rest = span_trim(rest);
    if (smtp_server_leaves(s) && s->state != S_MAIL && s->state != S_CHUNKS && !span_ieqs(s->verb, "QUIT")) {
        smtp_server_end(s, 421, "4.3.2", "The service is going down, try again in a moment");
        return;
    }
    const struct command *c = command_find(s->verb);
    if (c && c->act == smtp_server_act_auth && !smtp_server_auth_is_last(s, rest))
        smtp_server_end(s, 503, "5.5.1", SMTP_AUTH_LAST);
    else if (c)
        carry_out(s, c, rest);
    else
        smtp_server_refuse(s, 500, "5.5.1", "No such command");
    if (c && c->act == smtp_server_act_data)
        end_if_content_came(s);
}
