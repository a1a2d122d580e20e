/* The checks of a configuration that concern more than one key, or what the file names. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/url.h"
#include "conf/notice_text.h"
#include "conf/priv.h"

#define HOLD_NAME_MAX 40

/* ---- files ---- */

/* secret: must not be readable by everybody (HAZARDS 32). Whether it can be read. */
static bool check_file(struct conf_parse *p, unsigned line, const char *key, const char *path, bool secret)
{
    struct stat st;
    if (!p->files || !*path)
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool good = fd >= 0 && fstat(fd, &st) == 0;
    if (!good) {
        conf_error(p, line, "%s: %s cannot be read (%s), mend the path or its rights", key, path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        conf_error(p, line, "%s: %s is not a file, name a file", key, path);
        good = false;
    } else if (secret && (st.st_mode & S_IROTH)) {
        conf_error(p, line, "%s: %s can be read by everybody, run: chmod o-rwx %s", key, path, path);
    }
    if (fd >= 0)
        close(fd);
    return good;
}

static void check_pair(struct conf_parse *p, enum conf_section s, unsigned instance, const char *certificate,
                       const char *key)
{
    if (*certificate && !*key)
        conf_error(p, conf_line(p, s, instance, "certificate"),
                   "a certificate without \"key\", name the file of its private key");
    if (*key && !*certificate)
        conf_error(p, conf_line(p, s, instance, "key"),
                   "a key without \"certificate\", name the file of its certificate chain");
    unsigned line = conf_line(p, s, instance, "key");
    struct err err;
    bool both = check_file(p, conf_line(p, s, instance, "certificate"), "certificate", certificate, false);
    both = check_file(p, line, "key", key, true) && both;
    if (both && p->pair && p->pair(certificate, key, &err))
        conf_error(p, line, "key: %s with the certificate %s: %s, name a certificate and the key that it was made with", key, certificate, err.text);
}

/* ---- listeners ---- */

static bool all_loopback(const struct conf_listen *l)
{
    for (size_t i = 0; i < l->address.n; i++)
        if (!conf_is_loopback(l->address.items[i]))
            return false;
    return true;
}

static void check_listen(struct conf_parse *p, const struct conf_listen *l)
{
    unsigned line = conf_line(p, CONF_SECTION_listen, l->index, NULL);
    check_pair(p, CONF_SECTION_listen, l->index, l->certificate, l->key);
    if (l->tls != CONF_TLS_NONE && !*conf_listen_certificate(p->conf, l))
        conf_error(p, line,
                   "listen \"%s\" has no certificate for TLS, add certificate and key here or in a section tls, or say "
                   "\"tls none;\"",
                   l->name);
    check_file(p, conf_line(p, CONF_SECTION_listen, l->index, "client-ca"), "client-ca", l->client_ca, false);
    if (*l->client_ca && (l->tls == CONF_TLS_NONE || l->protocol == CONF_PROTOCOL_SMTP))
        conf_error(p, conf_line(p, CONF_SECTION_listen, l->index, "client-ca"),
                   "client-ca where nobody logs in over TLS, take it away");
    if (l->plaintext_login && !all_loopback(l))
        conf_error(
            p, conf_line(p, CONF_SECTION_listen, l->index, "plaintext-login"),
            "plaintext-login on an address that others can reach, take it away or listen on 127.0.0.1 or ::1 only");
    if (l->tls == CONF_TLS_NONE && l->protocol != CONF_PROTOCOL_SMTP && !l->plaintext_login)
        conf_error(p, line,
                   "nobody could log in on listen \"%s\": it has no TLS, say \"tls starttls;\" or \"tls implicit;\" "
                   "(or plaintext-login on loopback)",
                   l->name);
}

static void check_proxy(struct conf_parse *p, const struct conf_listen *l)
{
    if (l->proxy && !l->proxy_from.n)
        conf_error(p, conf_line(p, CONF_SECTION_listen, l->index, "proxy"),
                   "proxy without proxy-from, name the networks of your load balancers: \"proxy-from 192.0.2.0/24;\"");
    if (!l->proxy && l->proxy_from.n)
        conf_error(p, conf_line(p, CONF_SECTION_listen, l->index, "proxy-from"),
                   "proxy-from without \"proxy yes;\", add that or take it away");
}

static bool same_place(const struct conf_listen *a, size_t i, const struct conf_listen *b, size_t j)
{
    return a->port == b->port && strcmp(a->address.items[i], b->address.items[j]) == 0;
}

/* Whether an earlier listener has one of its addresses with the same port; says so. */
static bool collides(struct conf_parse *p, const struct conf_listen *b, const struct conf_listen *a)
{
    for (size_t j = 0; j < b->address.n; j++)
        for (size_t i = 0; i < a->address.n; i++)
            if (b->port && same_place(a, i, b, j)) {
                conf_error(p, conf_line(p, CONF_SECTION_listen, b->index, "port"),
                           "%s port %u is taken by listen \"%s\" already, choose another port or address",
                           b->address.items[j], b->port, a->name);
                return true;
            }
    return false;
}

static void check_collisions(struct conf_parse *p)
{
    const struct conf *c = p->conf;
    for (size_t b = 1; b < c->listen_count; b++)
        for (size_t a = 0; a < b; a++)
            if (collides(p, &c->listen[b], &c->listen[a]))
                break;
}

/* ---- texts of notifications ---- */

static void check_notice(struct conf_parse *p, enum notice_kind kind, const char *path)
{
    const char *key = notice_kind_name(kind);
    struct notice_text text;
    struct buf content = {0};
    struct err err;
    unsigned line = conf_line(p, CONF_SECTION_notices, 0, key);
    if (!check_file(p, line, key, path, false))
        return;
    if (conf_read_text(path, &content, &err))
        conf_error(p, line, "%s: %s, name a text file", key, err.text);
    else if (notice_text_parse(buf_span(&content), kind, &text, &line, &err))
        conf_error_in(p, path, line, "%s", err.text);
    buf_free(&content);
}

/* RFC3282:2, RFC5646:2.1: words of letters and digits with hyphens between. */
static bool is_language(struct span s)
{
    if (s.n == 0 || s.n > 35 || span_ends(s, SPAN("-")))
        return false;
    while (s.n) {
        struct span word = span_cut(&s, '-');
        for (size_t i = 0; i < word.n; i++)
            if (!ascii_alpha(word.p[i]) && !ascii_digit(word.p[i]))
                return false;
        if (word.n == 0 || word.n > 8)
            return false;
    }
    return true;
}

static void check_notices(struct conf_parse *p)
{
    const struct conf *c = p->conf;
    const char *const paths[NOTICE_KINDS] = {
        [NOTICE_FAILED] = c->notices.failed,     [NOTICE_DELAYED] = c->notices.delayed,
        [NOTICE_EXPANDED] = c->notices.expanded, [NOTICE_RELAYED] = c->notices.relayed,
        [NOTICE_DELIVERED] = c->notices.delivered, [NOTICE_DOUBLE_BOUNCE] = c->notices.double_bounce,
        [NOTICE_ACCOUNT_HELD] = c->notices.account_held, [NOTICE_ACCOUNT_HELD_OPERATOR] = c->notices.account_held_operator,
    };
    for (unsigned i = 0; i < NOTICE_KINDS; i++)
        check_notice(p, (enum notice_kind)i, paths[i]);
    if (*c->notices.language && !is_language(span_of(c->notices.language)))
        conf_error(p, conf_line(p, CONF_SECTION_notices, 0, "language"),
                   "language: \"%s\" is no language tag, write one such as de or pt-BR", c->notices.language);
}

/* ---- the rest ---- */

static void check_relay(struct conf_parse *p)
{
    const struct conf *c = p->conf;
    int families[2] = {0};
    for (size_t i = 0; i < c->relay.source.n && i < 2; i++)
        conf_is_address(c->relay.source.items[i], &families[i]);
    if (families[0] && families[0] == families[1])
        conf_error(p, conf_line(p, CONF_SECTION_relay, 0, "source"),
                   "source: two addresses of one kind, give at most one IPv4 and one IPv6 address");
    if (!*c->relay.smarthost) {
        static const char *const alone[] = {"smarthost-user", "smarthost-password-file", "ca-file"};
        const char *values[] = {c->relay.smarthost_user, c->relay.smarthost_password, c->relay.ca_file};
        for (size_t i = 0; i < 3; i++)
            if (*values[i])
                conf_error(p, conf_line(p, CONF_SECTION_relay, 0, alone[i]),
                           "%s without a smarthost, add \"smarthost HOST;\" or take it away", alone[i]);
        if (c->relay.tls == CONF_RELAY_TLS_IMPLICIT)
            conf_error(p, conf_line(p, CONF_SECTION_relay, 0, "tls"),
                       "tls implicit without a smarthost, say may or must");
    }
    if (!*c->relay.smarthost_user != !*c->relay.smarthost_password)
        conf_error(p,
                   conf_line(p, CONF_SECTION_relay, 0,
                             *c->relay.smarthost_user ? "smarthost-user" : "smarthost-password-file"),
                   "smarthost-user and smarthost-password-file go together, add the other one");
    check_file(p, conf_line(p, CONF_SECTION_relay, 0, "smarthost-password-file"), "smarthost-password-file",
               c->relay.smarthost_password, true);
    check_file(p, conf_line(p, CONF_SECTION_relay, 0, "ca-file"), "ca-file", c->relay.ca_file, false);
}

static void check_orders(struct conf_parse *p)
{
    const struct conf *c = p->conf;
    if (c->queue.retry_min > c->queue.retry_max)
        conf_error(p, conf_line(p, CONF_SECTION_queue, 0, "retry-min"),
                   "retry-min is longer than retry-max, make it shorter");
    if (c->accounts.uid_first > c->accounts.uid_last)
        conf_error(p, conf_line(p, CONF_SECTION_accounts, 0, "uid-first"),
                   "uid-first is above uid-last, make it smaller");
    if (c->accounts.scram_sha_1 && !c->accounts.scram)
        conf_error(p, conf_line(p, CONF_SECTION_accounts, 0, "scram-sha-1"),
                   "scram-sha-1 without scram: who can do better should, add \"scram yes;\"");
}

/* The secret and the tokens go there: not in the clear, but to this very machine. */
static void check_introspection(struct conf_parse *p)
{
    const struct conf *c = p->conf;
    unsigned line = conf_line(p, CONF_SECTION_oauth, 0, "introspection");
    struct url u;
    if (!*c->oauth.introspection) {
        if (*c->oauth.introspection_client || *c->oauth.introspection_secret)
            conf_error(p, conf_line(p, CONF_SECTION_oauth, 0, *c->oauth.introspection_client ? "introspection-client" : "introspection-secret-file"),
                       "a client of an endpoint that is not named, add \"introspection https://…;\" or take it away");
        return;
    }
    if (!url_parse(span_of(c->oauth.introspection), &u))
        conf_error(p, line, "introspection: \"%s\" is no address of a service, write one such as https://login.example.org/introspect",
                   c->oauth.introspection);
    else if (!u.tls && !u.is_loopback)
        conf_error(p, line, "introspection without TLS, write https://… (http is for a loopback address only)");
    if (!*c->oauth.audience && !*c->oauth.scope)
        conf_error(p, line, "introspection without audience and scope, add one: a token for somebody else is not one for us");
    if (!*c->oauth.introspection_client != !*c->oauth.introspection_secret)
        conf_error(p, line, "introspection-client and introspection-secret-file go together, add the other one");
    check_file(p, conf_line(p, CONF_SECTION_oauth, 0, "introspection-secret-file"), "introspection-secret-file",
               c->oauth.introspection_secret, true);
    if (u.tls)
        check_file(p, conf_line(p, CONF_SECTION_oauth, 0, "introspection-ca"), "introspection-ca", c->oauth.introspection_ca, false);
}

static void check_oauth(struct conf_parse *p)
{
    const struct conf *c = p->conf;
    unsigned line = conf_line(p, CONF_SECTION_oauth, 0, "keys");
    check_file(p, line, "keys", c->oauth.keys, false);
    if (*c->oauth.keys && (!*c->oauth.issuer || !*c->oauth.audience))
        conf_error(p, line, "keys without issuer and audience, add both: a token for somebody else is not one for us");
    if (!*c->oauth.claim)
        conf_error(p, conf_line(p, CONF_SECTION_oauth, 0, "claim"), "claim is empty, name one such as email");
    check_introspection(p);
}

/* What a customer's host asks for is asked for by name. */
static void check_patterns(struct conf_parse *p)
{
    for (size_t i = 0; i < p->conf->domain_count; i++) {
        const struct conf_domain *d = &p->conf->domain[i];
        const char *key = d->on_demand ? "on-demand" : d->pull_by[0] ? "pull-by" : d->pull_from.n ? "pull-from" : NULL;
        if (key && conf_domain_is_pattern(d))
            conf_error(p, conf_line(p, CONF_SECTION_domain, d->index, key),
                       "%s is for one domain, not for all of \"%s\": write a section for it", key, d->name);
    }
}

/* ---- sections hold ---- */

static bool is_hold_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    return n > 0 && n <= HOLD_NAME_MAX && name[n] == '\0';
}

/* Patterns that nothing could fit. with_at: of addresses, else of domains. */
static void check_hold_patterns(struct conf_parse *p, const struct conf_hold *h, const char *key, const struct conf_list *l, bool with_at)
{
    for (size_t i = 0; i < l->n; i++) {
        const char *v = l->items[i];
        bool any = strchr(v, '*') != NULL, at = strchr(v, '@') != NULL;
        if (with_at && !at && !any && strcmp(v, "<>") != 0 && !span_ieqs(span_of(v), "postmaster"))
            conf_error(p, conf_line(p, CONF_SECTION_hold, h->index, key),
                       "%s: \"%s\" fits no address, write one such as ann@example.org or *@example.org", key, v);
        else if (!with_at && at)
            conf_error(p, conf_line(p, CONF_SECTION_hold, h->index, key),
                       "%s: \"%s\" fits no domain, write one such as example.org or *.example.org", key, v);
    }
}

static void check_holds(struct conf_parse *p)
{
    const struct conf *c = p->conf;
    for (size_t i = 0; i < c->hold_count; i++) {
        const struct conf_hold *h = &c->hold[i];
        if (!is_hold_name(h->name))
            conf_error(p, h->line, "hold \"%s\": a name has 1 to %d letters, digits, dots, dashes and underscores, choose another",
                       h->name, HOLD_NAME_MAX);
        if (!h->sender.n && !h->recipient.n && !h->domain.n && !h->larger && !*h->header)
            conf_error(p, h->line, "hold \"%s\" has no condition, add one; \"recipient *;\" is for all mail", h->name);
        check_hold_patterns(p, h, "sender", &h->sender, true);
        check_hold_patterns(p, h, "recipient", &h->recipient, true);
        check_hold_patterns(p, h, "domain", &h->domain, false);
    }
    if (c->hold_count > CONF_HOLDS_MAX)
        conf_error(p, c->hold[CONF_HOLDS_MAX].line, "more than %d sections hold, take some away", CONF_HOLDS_MAX);
}

void conf_check(struct conf_parse *p)
{
    struct conf *c = p->conf;
    check_pair(p, CONF_SECTION_tls, 0, c->tls.certificate, c->tls.key);
    for (size_t i = 0; i < c->listen_count; i++) {
        check_listen(p, &c->listen[i]);
        check_proxy(p, &c->listen[i]);
    }
    check_collisions(p);
    check_relay(p);
    check_file(p, conf_line(p, CONF_SECTION_dns, 0, "trust-anchor"), "trust-anchor", c->dns.trust_anchor, false);
    check_orders(p);
    check_patterns(p);
    check_holds(p);
    check_oauth(p);
    check_notices(p);
}
