/* Attempts of the relay, from qmgr's messages to its reports, against scripted servers and a small DNS server on the same loop. The
 * service's skeleton is played by the test. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "dns_server.h"
#include "net/dial.h"
#include "net/stream.h"
#include "relay/relay.h"
#include "smtp/wishes.h"

/* ---- a scripted SMTP server ---- */

struct line_rule {
    const char *prefix; /* of a command; "" is the greeting, "." the end of content */
    const char *reply;  /* with its CRLFs; "close", "hang" */
    unsigned uses;      /* 0: always */
};

struct peer {
    struct loop *loop;
    struct io *io;
    int fd;
    uint16_t port;
    struct line_rule rules[8];
    struct buf commands; /* all lines that came, content left out */
    struct buf content;
    unsigned connections, messages;
    struct link open;
};

struct peer_conn {
    struct link in_open;
    struct peer *peer;
    struct stream *stream;
    bool in_content;
};

static const char *default_reply(struct span line)
{
    static const char *const replies[][2] = {
        {"EHLO", "250-peer.test\r\n250-8BITMIME\r\n250 PIPELINING\r\n"}, {"DATA", "354 go\r\n"}, {"QUIT", "221 bye\r\n"}, {".", "250 2.0.0 taken\r\n"}};
    for (size_t i = 0; i < COUNT_OF(replies); i++)
        if (span_istarts(line, span_of(replies[i][0])))
            return replies[i][1];
    return line.n ? "250 2.1.0 ok\r\n" : "220 peer.test\r\n";
}

static const char *reply_for(struct peer *p, struct span line)
{
    for (size_t i = 0; i < COUNT_OF(p->rules) && p->rules[i].prefix; i++) {
        struct line_rule *r = &p->rules[i];
        if (r->uses == 99 || !span_istarts(line, span_of(r->prefix)) || (r->prefix[0] == '\0' && line.n))
            continue;
        if (r->uses && --r->uses == 0)
            r->uses = 99; /* spent */
        return r->reply;
    }
    return default_reply(line);
}

static void conn_free(struct peer_conn *c)
{
    list_del(&c->in_open);
    stream_free(&c->stream);
    mem_free(&c);
}

/* False: the connection is gone. */
static bool say_reply(struct peer_conn *c, struct span line)
{
    const char *reply = reply_for(c->peer, line);
    if (strcmp(reply, "close") == 0) {
        conn_free(c);
        return false;
    }
    if (strcmp(reply, "hang") == 0)
        return true;
    if (span_eqs(line, ".") && reply[0] == '2')
        c->peer->messages++;
    c->in_content = reply[0] == '3';
    stream_write(c->stream, span_of(reply));
    return true;
}

static size_t peer_data(void *ctx, struct span in)
{
    struct peer_conn *c = ctx;
    size_t all = in.n;
    while (span_find(in, '\n') >= 0) {
        struct span line = span_cut(&in, '\n');
        line.n -= line.n && line.p[line.n - 1] == '\r';
        if (c->in_content && !span_eqs(line, ".")) {
            buf_add(&c->peer->content, line);
            buf_addc(&c->peer->content, '\n');
            continue;
        }
        if (!c->in_content) {
            buf_add(&c->peer->commands, line);
            buf_addc(&c->peer->commands, '\n');
        }
        c->in_content = false;
        if (!say_reply(c, line))
            return all;
    }
    return all - in.n;
}

static void peer_event(void *ctx, enum stream_event e)
{
    if (e == STREAM_EOF || e == STREAM_ERROR)
        conn_free(ctx);
}

static void on_connection(void *ctx, unsigned events)
{
    static const struct stream_ops ops = {peer_data, peer_event};
    struct peer *p = ctx;
    int fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    (void)events;
    if (fd < 0)
        return;
    struct peer_conn *c = mem_alloc(sizeof *c);
    c->peer = p;
    list_add_tail(&p->open, &c->in_open);
    c->stream = stream_new(p->loop, fd, &ops, c);
    p->connections++;
    say_reply(c, SPAN_NONE);
}

static void peer_start(struct peer *p, struct loop *l, const char *address, uint16_t port)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof(struct sockaddr_in);
    int on = 1;
    dial_address_parse(span_of(address), port, &a);
    p->loop = l;
    list_init(&p->open);
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(p->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    cr_assert_eq(bind(p->fd, (struct sockaddr *)&a, n), 0, "%s:%u", address, port);
    cr_assert_eq(listen(p->fd, 50), 0);
    getsockname(p->fd, (struct sockaddr *)&a, &n);
    p->port = ntohs(((struct sockaddr_in *)&a)->sin_port);
    p->io = io_new(l, p->fd, on_connection, p);
    io_want(p->io, IO_READ);
}

static void peer_stop(struct peer *p)
{
    if (!p->io)
        return;
    LIST_EACH(&p->open, l)
        conn_free(container_of(l, struct peer_conn, in_open));
    io_free(&p->io);
    close(p->fd);
    buf_free(&p->commands);
    buf_free(&p->content);
}

/* ---- the service's skeleton, and qmgr ---- */

struct world {
    struct loop *loop;
    struct chan *to_qmgr, *to_relay; /* the relay's end; the test's, as qmgr */
    struct conf *conf;
    struct dns_server dns_server;
    struct relay relay;
    struct buf trace; /* "RCPT:KIND/CODE/S.D " and "end remote " */
    struct buf dialogue; /* of the latest report */
    unsigned ended, wanted;
    bool drained, late;
    struct timer *limit;
    struct peer a, b;
    uint32_t epoch;
};

static struct world *world; /* what the skeleton's functions answer from */

struct loop *service_loop(struct service *s UNUSED)
{
    return world->loop;
}

const struct conf *service_conf(struct service *s UNUSED)
{
    return world->conf;
}

struct chan *service_chan(struct service *s UNUSED, enum role peer UNUSED, uint32_t instance UNUSED)
{
    return world->to_qmgr;
}

void service_done(struct service *s UNUSED)
{
    world->drained = true;
    loop_stop(world->loop);
}

struct tls_ctx *relay_trusted(struct relay *r)
{
    return r->tls_trusted;
}

static void relay_msg(void *ctx, struct chan *c UNUSED, const struct msg *m, int fd)
{
    struct world *w = ctx;
    if (m->type == MSG_attempt)
        attempt_on_begin(&w->relay, &m->attempt);
    else if (m->type == MSG_attempt_rcpt)
        attempt_on_rcpt(&w->relay, &m->attempt_rcpt);
    else if (m->type == MSG_attempt_go)
        attempt_on_go(&w->relay, &m->attempt_go, fd);
}

static void qmgr_msg(void *ctx, struct chan *c UNUSED, const struct msg *m, int fd UNUSED)
{
    struct world *w = ctx;
    if (m->type == MSG_rcpt_report) {
        const struct msg_rcpt_report *r = &m->rcpt_report;
        buf_printf(&w->trace, "%llu:%u/%u/%u.%u ", (unsigned long long)r->rcpt, r->kind, r->code, r->subject, r->detail);
        buf_clear(&w->dialogue);
        buf_add(&w->dialogue, r->dialogue);
    }
    if (m->type != MSG_attempt_report)
        return;
    buf_printf(&w->trace, "end%s ", m->attempt_report.unreached ? "-unreached" : m->attempt_report.outdated ? "-outdated" : "");
    if (++w->ended >= w->wanted)
        loop_stop(w->loop);
}

static void on_limit(void *ctx)
{
    struct world *w = ctx;
    w->late = true;
    loop_stop(w->loop);
}

static const struct zone_record zone[] = {
    {"two.test", DNS_MX, {"\x00\x0a\x01" "a\x04test\x00", 10}}, {"two.test", DNS_MX, {"\x00\x14\x01" "b\x04test\x00", 10}},
    {"null.test", DNS_MX, {"\x00\x00\x00", 3}},                 {"self.test", DNS_MX, {"\x00\x0a\x02" "us\x04test\x00", 11}},
    {"half.test", DNS_MX, {"\x00\x0a\x01" "a\x04test\x00", 10}}, {"half.test", DNS_MX, {"\x00\x14\x02" "us\x04test\x00", 11}},
    {"a.test", DNS_A, {"\x7f\x05\x00\x01", 4}},                 {"b.test", DNS_A, {"\x7f\x05\x00\x02", 4}},
    {"plain.test", DNS_A, {"\x7f\x05\x00\x01", 4}},             {"us.test", DNS_A, {"\x7f\x05\x00\x03", 4}},
    {"nohost.test", DNS_MX, {"\x00\x0a\x04" "gone\x04test\x00", 13}},
    {"mixed.test", DNS_MX, {"\x00\x0a\x04" "fail\x04test\x00", 13}}, {"mixed.test", DNS_MX, {"\x00\x14\x01" "a\x04test\x00", 10}},
    {"empty.test", DNS_TXT, {"\x01x", 2}},
};

static void setup(struct world *w)
{
    static const struct chan_ops as_relay = {.on_msg = relay_msg}, as_qmgr = {.on_msg = qmgr_msg};
    struct err err;
    int fds[2];
    memset(w, 0, sizeof *w);
    world = w;
    log_set_level(LOG_LEVEL_ERROR);
    w->loop = loop_new();
    w->limit = timer_new(w->loop, on_limit, w);
    w->conf = conf_new(1);
    peer_start(&w->a, w->loop, "127.5.0.1", 0);
    w->conf->relay.port = w->a.port;
    cr_assert_eq(chan_pair(fds, &err), 0);
    w->to_qmgr = chan_new(w->loop, fds[0], ROLE_QMGR, 0, &as_relay, w);
    w->to_relay = chan_new(w->loop, fds[1], ROLE_RELAY, 0, &as_qmgr, w);
    dns_server_start(&w->dns_server, w->loop, zone, COUNT_OF(zone));
    struct relay *r = &w->relay;
    r->loop = w->loop;
    snprintf(r->own, sizeof r->own, "us.test");
    r->texts = dns_warm(NULL, &err);
    const char *servers[] = {w->dns_server.address};
    struct dns_options o = {.servers = servers, .server_count = 1};
    r->dns = dns_new(w->loop, &o, r->texts, &err);
    r->tls = tls_client_new(SPAN_NONE, &err);
    cr_assert(r->dns && r->tls, "%s", err.text);
    r->tls_trusted = tls_ref(r->tls);
    list_init(&r->collecting);
    list_init(&r->waiting);
    list_init(&r->running);
    r->run = (struct defer){.fn = attempt_run_waiting, .ctx = r};
    pool_init(&r->pool, w->loop, RELAY_IDLE_MAX);
}

static void teardown(struct world *w)
{
    struct relay *r = &w->relay;
    attempt_drop_all(r);
    cr_assert_eq(r->held, 0);
    cr_assert_eq(r->running_count, 0);
    pool_close(&r->pool);
    loop_defer_cancel(w->loop, &r->run);
    dns_free(&r->dns);
    dns_texts_free(&r->texts);
    tls_unref(&r->tls);
    tls_unref(&r->tls_trusted);
    idmap_free(&r->attempts);
    peer_stop(&w->a);
    peer_stop(&w->b);
    dns_server_stop(&w->dns_server);
    chan_free(&w->to_qmgr);
    chan_free(&w->to_relay);
    timer_free(&w->limit);
    const struct conf *c = w->conf;
    cr_assert_eq(c->refs, 1, "every attempt has let go of it");
    conf_unref(&c);
    buf_free(&w->trace);
    buf_free(&w->dialogue);
    loop_free(&w->loop);
}

struct letter {
    uint64_t lease;
    const char *domain, *sender;
    const char *rcpts[4];
    const char *content;
    int fd;
    bool body_8bit, binary, smtputf8;
    uint8_t tls_need, by_mode;
    const char *route;
    bool smarthost;
    int64_t by_left; /* ms */
    int priority;
};

static void give(struct world *w, const struct letter *l)
{
    struct span content = span_of(l->content ? l->content : "Subject: x\r\n\r\nhello\r\n");
    struct msg m = {.type = MSG_attempt, .attempt = {.lease = l->lease, .qid = SPAN("QID"), .domain = span_of(l->domain),
                    .sender = span_of(l->sender ? l->sender : "from@us.test"), .size = content.n, .header_bytes = 12, .body_kind = l->binary ? 2 : l->body_8bit, .smtputf8 = l->smtputf8,
                    .tls_need = l->tls_need, .by_mode = l->by_mode, .deliver_by = (uint64_t)(loop_wall(w->loop) + l->by_left), .priority = msg_priority_put(l->priority),
                    .route = span_of(l->route ? l->route : ""), .smarthost = l->smarthost}};
    cr_assert_eq(chan_say(w->to_relay, &m, -1), 0);
    for (size_t i = 0; i < COUNT_OF(l->rcpts) && l->rcpts[i]; i++) {
        struct msg r = {.type = MSG_attempt_rcpt, .attempt_rcpt = {.lease = l->lease, .rcpt = l->lease * 10 + i, .address = span_of(l->rcpts[i])}};
        cr_assert_eq(chan_say(w->to_relay, &r, -1), 0);
    }
    struct msg go = {.type = MSG_attempt_go, .attempt_go = {.lease = l->lease}};
    if (!l->fd)
        go.attempt_go.body = content;
    cr_assert_eq(chan_say(w->to_relay, &go, l->fd ? l->fd : -1), 0);
}

static void run_until(struct world *w, unsigned reports)
{
    w->wanted = reports;
    timer_start(w->limit, 60000);
    if (w->ended < w->wanted)
        loop_run(w->loop);
    timer_stop(w->limit);
    cr_assert_not(w->late, "not all reports came: %s", buf_cstr(&w->trace));
}

static void one(const char *name, const struct letter *l, const struct line_rule *rules, size_t n, const char *trace)
{
    struct world w;
    setup(&w);
    for (size_t i = 0; i < n; i++)
        w.a.rules[i] = rules[i];
    peer_start(&w.b, w.loop, "127.5.0.2", w.a.port);
    give(&w, l);
    run_until(&w, 1);
    cr_expect_str_eq(buf_cstr(&w.trace), trace, "%s: %s", name, buf_cstr(&w.trace));
    teardown(&w);
}

#define RULES(...) (const struct line_rule[]){__VA_ARGS__}, COUNT_OF(((const struct line_rule[]){__VA_ARGS__}))

/* ---- where it goes ---- */

Test(relay, attempt_routes)
{
    static const struct {
        const char *domain, *trace;
    } cases[] = {
        {"plain.test", "10:2/250/0.0 end "},   /* no MX: the address itself, RFC5321:5.1 */
        {"[127.5.0.1]", "10:2/250/0.0 end "},
        {"PLAIN.test", "10:2/250/0.0 end "},
        {"null.test", "10:5/0/1.10 end-unreached "}, /* RFC7505:3 */
        {"nowhere.test", "10:5/0/1.2 end-unreached "},
        {"empty.test", "10:5/0/1.2 end-unreached "},
        {"self.test", "10:5/0/4.6 end-unreached "},
        {"half.test", "10:2/250/0.0 end "},
        {"nohost.test", "10:5/0/4.4 end-unreached "},
        {"failing.test", "10:4/0/4.3 end-unreached "},
        {"mixed.test", "10:2/250/0.0 end "},
        {"two words", "10:5/0/1.2 end-unreached "},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct letter l = {.lease = 1, .domain = cases[i].domain, .rcpts = {"x@there.test"}};
        one(cases[i].domain, &l, RULES({".", "250 ok\r\n", 0}), cases[i].trace);
    }
}

Test(relay, attempt_next_host)
{
    static const struct {
        const char *what;
        struct line_rule rule;
        const char *trace;
        unsigned at_b; /* messages that the second host got */
    } cases[] = {
        {"greeted with 4yz", {"", "421 busy\r\n", 0}, "10:2/250/0.0 end ", 1},
        {"greeted with 5yz", {"", "554 no\r\n", 0}, "10:2/250/0.0 end ", 1},
        {"EHLO for later", {"EHLO", "450 no\r\n", 0}, "10:2/250/0.0 end ", 1},
        {"closed at once", {"", "close", 0}, "10:2/250/0.0 end ", 1},
        {"garbage", {"", "what?\r\n", 0}, "10:2/250/0.0 end ", 1},
        {"our own name", {"", "220 US.test\r\n", 0}, "10:2/250/0.0 end ", 1},
        {"closed at MAIL", {"MAIL", "close", 0}, "10:2/250/0.0 end ", 1},
        {"421 at RCPT", {"RCPT", "421 4.3.2 down\r\n", 0}, "10:2/250/0.0 end ", 1},
        {"closed before the content", {"DATA", "close", 0}, "10:2/250/0.0 end ", 1},
        {"MAIL refused for now", {"MAIL", "451 4.7.1 later\r\n", 0}, "10:4/451/7.1 end ", 0},
        {"MAIL refused", {"MAIL", "550 5.7.1 no\r\n", 0}, "10:5/550/7.1 end ", 0},
        {"RCPT refused for now", {"RCPT", "450 4.2.1 later\r\n", 0}, "10:4/450/2.1 end ", 0},
        {"content refused", {".", "554 5.6.0 no\r\n", 0}, "10:5/554/6.0 end ", 0},
        {"content refused for now", {".", "451 4.3.0 no\r\n", 0}, "10:4/451/3.0 end ", 0},
        {"lost behind the final dot: perhaps taken, so nobody else gets it now", {".", "close", 0}, "10:4/0/4.2 end ", 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct world w;
        struct letter l = {.lease = 1, .domain = "two.test", .rcpts = {"x@two.test"}};
        setup(&w);
        w.a.rules[0] = cases[i].rule;
        peer_start(&w.b, w.loop, "127.5.0.2", w.a.port);
        w.b.rules[0] = (struct line_rule){".", "250 ok\r\n", 0};
        give(&w, &l);
        run_until(&w, 1);
        cr_expect_str_eq(buf_cstr(&w.trace), cases[i].trace, "%s: %s", cases[i].what, buf_cstr(&w.trace));
        cr_expect_eq(w.b.messages, cases[i].at_b, "%s", cases[i].what);
        teardown(&w);
    }
}

/* What was said is reported for people: by each host that was tried, and nothing of a success without a story. */
Test(relay, attempt_keeps_the_dialogue)
{
    static const struct {
        struct line_rule rule;
        const char *dialogue;
    } cases[] = {
        {{"QUIT", "221 bye\r\n", 0}, ""},
        {{"RCPT", "550 5.1.1 nobody\r\n", 0}, "connect -> 220 peer.test | EHLO -> 250 peer.test | MAIL -> 250 2.1.0 ok | RCPT -> 550 5.1.1 nobody"},
        {{".", "close", 0},
         "connect -> 220 peer.test | EHLO -> 250 peer.test | MAIL -> 250 2.1.0 ok | DATA -> 354 go"},
        {{"", "421 4.3.2 busy\r\n", 0}, "a.test[127.5.0.1]: connect -> 421 4.3.2 busy"},
        {{"EHLO", "close", 0},
         "a.test[127.5.0.1]: connect -> 220 peer.test | the next host closed the connection while waiting for the answer to EHLO"},
        {{"", "220 us.test\r\n", 0},
         "a.test[127.5.0.1]: connect -> 220 us.test | EHLO -> 250 peer.test | a.test[127.5.0.1] gives itself our own name: mail would loop"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct world w;
        struct letter l = {.lease = 1, .domain = "two.test", .rcpts = {"x@two.test"}};
        setup(&w);
        w.a.rules[0] = cases[i].rule;
        peer_start(&w.b, w.loop, "127.5.0.2", w.a.port);
        give(&w, &l);
        run_until(&w, 1);
        cr_expect_str_eq(buf_cstr(&w.dialogue), cases[i].dialogue, "%zu: %s", i, buf_cstr(&w.dialogue));
        teardown(&w);
    }
}

Test(relay, attempt_when_no_host_will)
{
    struct letter l = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}};
    one("all greet with 554", &l, RULES({"", "554 5.7.1 no\r\n", 0}), "10:5/554/7.1 end-unreached ");
    one("all greet with 421", &l, RULES({"", "421 no\r\n", 0}), "10:4/421/0.0 end-unreached ");
    struct world w;
    setup(&w);
    peer_stop(&w.a);
    memset(&w.a, 0, sizeof w.a);
    give(&w, &l);
    run_until(&w, 1);
    cr_expect_str_eq(buf_cstr(&w.trace), "10:4/0/4.1 end-unreached ");
    teardown(&w);
}

/* ---- recipients ---- */

Test(relay, attempt_keeps_recipients_apart)
{
    struct letter l = {.lease = 1, .domain = "plain.test", .rcpts = {"good@plain.test", "later@plain.test", "never@plain.test", "a b@plain.test"}};
    one("partial", &l, RULES({"RCPT TO:<later", "451 4.2.1 busy\r\n", 0}, {"RCPT TO:<never", "550 5.1.1 nobody\r\n", 0}),
        "13:5/0/1.3 11:4/451/2.1 12:5/550/1.1 10:2/250/0.0 end ");
}

/* RFC5321:4.5.3.1.10: the rest goes in a second transaction of the same session. */
Test(relay, attempt_too_many_recipients)
{
    struct letter l = {.lease = 1, .domain = "plain.test", .rcpts = {"a@plain.test", "b@plain.test", "c@plain.test"}};
    one("in two turns", &l, RULES({"RCPT TO:<c", "452 4.5.3 too many\r\n", 1}), "10:2/250/0.0 11:2/250/0.0 12:2/250/0.0 end ");
    one("nobody at all", &l, RULES({"RCPT", "452 4.5.3 too many\r\n", 0}), "10:4/452/5.3 11:4/452/5.3 12:4/452/5.3 end ");
    one("never", &l, RULES({"RCPT TO:<c", "452 too many\r\n", 0}), "10:2/250/0.0 11:2/250/0.0 12:4/452/0.0 end ");
}

/* ---- what the message needs ---- */

/* RFC6152:3, RFC1870:6.1, RFC6531:3.5, RFC6531:3.2 (domains as A-labels). */
Test(relay, attempt_8bit_size_and_utf8)
{
    struct letter eight = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}, .content = "Subject: x\r\n\r\n\xfc\r\n", .body_8bit = true};
    struct letter seven = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}, .body_8bit = true};
    struct letter signed_ = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}, .content = "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xfc\r\n--b\r\n\r\nx\r\n--b--\r\n", .body_8bit = true};
    struct letter hard = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}, .content = "Subject: \xc3\xbc\r\n\r\nx\r\n", .body_8bit = true};
    struct letter utf8 = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}, .content = "Subject: \xc3\xbc\r\n\r\nx\r\n", .smtputf8 = true};
    struct letter named = {.lease = 1, .domain = "plain.test", .rcpts = {"x@b\xc3\xbc" "cher.test"}, .smtputf8 = true};
    one("8BITMIME offered", &eight, RULES({"MAIL FROM:<from@us.test> BODY=8BITMIME", "250 ok\r\n", 0}, {"MAIL", "555 no\r\n", 0}), "10:2/250/0.0 end ");
    one("not offered: encoded", &eight, RULES({"EHLO", "250 x\r\n", 0}, {"MAIL FROM:<from@us.test> BODY", "555 no\r\n", 0}), "10:2/250/0.0 end ");
    one("not offered, and encoded it is too large", &eight, RULES({"EHLO", "250-x\r\n250 SIZE 40\r\n", 0}), "10:5/0/3.4 end ");
    one("not offered, signed", &signed_, RULES({"EHLO", "250 x\r\n", 0}), "10:5/0/6.2 end ");
    one("not offered, in the header", &hard, RULES({"EHLO", "250 x\r\n", 0}), "10:5/0/6.3 end ");
    one("not offered, not needed", &seven, RULES({"EHLO", "250 x\r\n", 0}, {"MAIL FROM:<from@us.test> BODY", "555 no\r\n", 0}), "10:2/250/0.0 end ");
    one("SMTPUTF8 not offered", &utf8, RULES({"EHLO", "250 x\r\n", 0}), "10:5/0/6.7 end ");
    one("SMTPUTF8 not needed: the domain in A-labels", &named, RULES({"RCPT TO:<x@xn--bcher-kva.test>", "250 ok\r\n", 0}, {"RCPT", "550 5.1.1 no\r\n", 0}), "10:2/250/0.0 end ");
    one("too large", &seven, RULES({"EHLO", "250-x\r\n250 SIZE 10\r\n", 0}), "10:5/0/3.4 end ");
}

/* RFC3030:3 */
Test(relay, attempt_binary)
{
    struct letter lines = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}, .content = "Subject: x\r\n\r\na\nb\xfc", .binary = true};
    struct letter bound = lines, fine = lines;
    struct world w;
    bound.content = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\na\nb\r\n--b--\r\n";
    fine.content = "Subject: x\r\n\r\nfine\r\n";
    one("signed", &bound, RULES({"EHLO", "250-x\r\n250 8BITMIME\r\n", 0}), "10:5/0/6.2 end ");
    one("BINARYMIME without CHUNKING is none", &lines, RULES({"EHLO", "250-x\r\n250 BINARYMIME\r\n", 0}, {"MAIL FROM:<from@us.test> BODY", "555 no\r\n", 0}), "10:2/250/0.0 end ");
    one("nothing binary in it", &fine, RULES({"EHLO", "250 x\r\n", 0}, {"MAIL FROM:<from@us.test> BODY", "555 no\r\n", 0}), "10:2/250/0.0 end ");
    one("as it is", &lines, RULES({"EHLO", "250-x\r\n250-CHUNKING\r\n250 BINARYMIME\r\n", 0}, {"MAIL FROM:<from@us.test> BODY=BINARYMIME", "250 ok\r\n", 0}, {"MAIL", "555 no\r\n", 0},
        {"BDAT 18 LAST", "250 2.0.0 taken\r\n", 0}, {"BDAT", "555 no\r\n", 0}, {"DATA", "503 no\r\n", 0}), "10:2/250/0.0 end ");
    setup(&w);
    w.a.rules[0] = (struct line_rule){"EHLO", "250-x\r\n250-SIZE\r\n250 8BITMIME\r\n", 0};
    w.a.rules[1] = (struct line_rule){"MAIL FROM:<from@us.test> SIZE=78 BODY=8BITMIME", "250 ok\r\n", 0};
    w.a.rules[2] = (struct line_rule){"MAIL", "555 no\r\n", 0};
    give(&w, &lines);
    run_until(&w, 1);
    cr_expect_str_eq(buf_cstr(&w.trace), "10:2/250/0.0 end ");
    cr_expect_str_eq(buf_cstr(&w.a.content), "Subject: x\nMIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\nYQpi/A==\n");
    teardown(&w);
}

#define NO_BY {"EHLO", "250-x\r\n250 DSN\r\n", 0}
#define BY {"EHLO", "250-x\r\n250-DSN\r\n250 DELIVERBY 60\r\n", 0}

/* RFC2852:4.1.4; RFC6710:4.2, RFC6710:4.3 */
Test(relay, attempt_deliver_by_and_priority)
{
    struct letter r = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}, .by_mode = SMTP_BY_RETURN, .by_left = 100500};
    struct letter n = r, soon = r, over = r, passed = r, trace = r, urgent = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}, .priority = -3};
    n.by_mode = SMTP_BY_NOTIFY;
    trace.by_mode = SMTP_BY_NOTIFY | SMTP_BY_TRACE;
    soon.by_left = 30000;
    over.by_left = -1;
    passed.by_mode = SMTP_BY_NOTIFY;
    passed.by_left = -5500;
    one("nobody watches the time", &r, RULES(NO_BY), "10:5/0/3.3 end ");
    one("less than the least", &soon, RULES(BY), "10:5/0/4.7 end ");
    one("passed", &over, RULES(BY), "10:5/0/4.7 end ");
    one("passed on", &r, RULES(BY, {"MAIL FROM:<from@us.test> BY=100;R", "250 ok\r\n", 0}, {"MAIL", "555 no\r\n", 0}), "10:2/250/0.0 end ");
    one("what has passed is told", &passed, RULES(BY, {"MAIL FROM:<from@us.test> BY=-6;N", "250 ok\r\n", 0}, {"MAIL", "555 no\r\n", 0}), "10:2/250/0.0 end ");
    one("trace", &trace, RULES(BY, {"MAIL FROM:<from@us.test> BY=100;NT", "250 ok\r\n", 0}, {"MAIL", "555 no\r\n", 0}), "10:2/250/0.0 end ");
    one("a delay is asked for instead", &n, RULES(NO_BY, {"MAIL FROM:<from@us.test> BY", "555 no\r\n", 0}, {"RCPT TO:<x@plain.test> NOTIFY=FAILURE,DELAY", "250 ok\r\n", 0}, {"RCPT", "555 no\r\n", 0}),
        "10:2/250/0.0 end ");
    one("priority", &urgent, RULES({"EHLO", "250-x\r\n250 MT-PRIORITY\r\n", 0}, {"MAIL FROM:<from@us.test> MT-PRIORITY=-3", "250 ok\r\n", 0}, {"MAIL", "555 no\r\n", 0}), "10:2/250/0.0 end ");
    one("not asked for there", &urgent, RULES({"MAIL FROM:<from@us.test> MT", "555 no\r\n", 0}), "10:2/250/0.0 end ");
}

/* RFC8689:4.2.1, RFC8689:4.2.2, RFC8689:5 */
Test(relay, attempt_requires_tls)
{
    struct letter must = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}, .tls_need = 1}, by_mx = must, bounce = must, needless = must;
    by_mx.domain = "two.test";
    bounce.sender = "";
    bounce.domain = "two.test";
    needless.tls_need = 2;
    one("no STARTTLS there", &must, RULES({"EHLO", "250 x\r\n", 0}), "10:5/0/7.10 end-unreached ");
    one("busy there", &must, RULES({"", "421 busy\r\n", 0}), "10:4/421/0.0 end-unreached ");
    one("nothing proves the MX", &by_mx, RULES({"EHLO", "250 x\r\n", 0}), "10:5/0/7.30 end-unreached ");
    one("a notification goes all the same", &bounce, RULES({"MAIL FROM:<> REQ", "555 no\r\n", 0}), "10:2/250/0.0 end ");
    struct world w;
    setup(&w);
    w.conf->relay.tls = CONF_RELAY_TLS_MUST;
    give(&w, &needless);
    run_until(&w, 1);
    cr_expect_str_eq(buf_cstr(&w.trace), "10:2/250/0.0 end ");
    needless.tls_need = 0; /* the connection that was made in clear is not for others */
    needless.lease = 2;
    give(&w, &needless);
    run_until(&w, 2);
    cr_expect_str_eq(buf_cstr(&w.trace), "10:2/250/0.0 end 20:4/0/7.4 end-unreached ");
    teardown(&w);
}

/* Opportunistic TLS: a handshake that fails means clear text; one that is required means no delivery. */
Test(relay, attempt_tls_fails)
{
    struct letter l = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}};
    one("clear text then", &l, RULES({"EHLO", "250-x\r\n250 STARTTLS\r\n", 0}, {"STARTTLS", "220 go\r\n", 0}, {"\x16\x03", "close", 0}), "10:2/250/0.0 end ");
    struct world w;
    setup(&w);
    w.conf->relay.tls = CONF_RELAY_TLS_MUST;
    w.a.rules[0] = (struct line_rule){"EHLO", "250-x\r\n250 STARTTLS\r\n", 0};
    w.a.rules[1] = (struct line_rule){"STARTTLS", "454 4.7.0 no\r\n", 0};
    give(&w, &l);
    run_until(&w, 1);
    cr_expect_str_eq(buf_cstr(&w.trace), "10:4/454/7.0 end-unreached ");
    cr_expect_eq(w.a.messages, 0);
    teardown(&w);
}

/* ---- content from a file: memory does not grow with it ---- */

Test(relay, attempt_large_content)
{
    char path[] = "/tmp/waypost-large-XXXXXX", line[80];
    int fd = mkstemp(path);
    struct world w;
    unlink(path);
    memset(line, 'x', sizeof line);
    memcpy(line + 78, "\r\n", 2);
    FILE *f = fdopen(dup(fd), "w");
    for (int i = 0; i < 50000; i++) /* 4 MB */
        fwrite(line, 1, sizeof line, f);
    fclose(f);
    struct letter l = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}, .fd = fd};
    setup(&w);
    give(&w, &l);
    run_until(&w, 1);
    cr_assert_str_eq(buf_cstr(&w.trace), "10:2/250/0.0 end ");
    cr_assert_eq(w.a.content.n, 50000u * 79);
    close(fd);
    teardown(&w);
}

/* ---- reuse, drain, qmgr's death ---- */

Test(relay, attempt_reuses_connections)
{
    struct world w;
    setup(&w);
    struct letter l = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}};
    for (unsigned i = 1; i <= 3; i++) {
        l.lease = i;
        give(&w, &l);
        run_until(&w, i);
    }
    cr_expect_eq(w.a.connections, 1);
    cr_expect_eq(w.a.messages, 3);
    w.conf->relay.reuse_messages = 1;
    for (unsigned i = 4; i <= 5; i++) {
        l.lease = i;
        give(&w, &l);
        run_until(&w, i);
    }
    cr_expect_eq(w.a.connections, 2, "the kept one is worn out by the fourth");
    teardown(&w);
}

/* A kept connection that was closed meanwhile is nobody's failure. */
Test(relay, attempt_kept_connection_is_gone)
{
    struct world w;
    setup(&w);
    struct letter l = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}};
    give(&w, &l);
    run_until(&w, 1);
    w.a.rules[0] = (struct line_rule){"MAIL", "421 idle too long\r\n", 1};
    l.lease = 2;
    give(&w, &l);
    run_until(&w, 2);
    cr_expect_str_eq(buf_cstr(&w.trace), "10:2/250/0.0 end 20:2/250/0.0 end ");
    cr_expect_eq(w.a.connections, 2);
    teardown(&w);
}

Test(relay, attempt_cap_on_connections)
{
    struct world w;
    setup(&w);
    w.conf->relay.concurrency = 2;
    w.conf->relay.reuse_time = 0;
    for (uint64_t i = 1; i <= 10; i++) {
        struct letter l = {.lease = i, .domain = "plain.test", .rcpts = {"x@plain.test"}};
        give(&w, &l);
    }
    run_until(&w, 10);
    cr_expect_eq(w.a.messages, 10);
    teardown(&w);
}

Test(relay, attempt_drains)
{
    struct world w;
    setup(&w);
    w.conf->relay.concurrency = 1;
    struct letter first = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}}, second = first;
    second.lease = 2;
    w.a.rules[0] = (struct line_rule){".", "hang", 0}; /* the answer to the first one's content waits until the drain has begun */
    give(&w, &first);
    give(&w, &second);
    for (int i = 0; i < 3000 && !strstr(buf_cstr(&w.a.commands), "\n.\n"); i++) {
        timer_start(w.limit, 10);
        loop_run(w.loop);
    }
    w.late = false;
    w.relay.draining = true;
    attempt_drop_unstarted(&w.relay);
    LIST_EACH(&w.a.open, l)
        stream_write(container_of(l, struct peer_conn, in_open)->stream, SPAN("250 2.0.0 taken\r\n"));
    w.wanted = 99;
    timer_start(w.limit, 30000);
    loop_run(w.loop);
    cr_expect(w.drained && !w.late);
    for (int i = 0; i < 100 && w.ended == 0; i++) { /* its report is on its way */
        timer_start(w.limit, 10);
        loop_run(w.loop);
    }
    cr_expect_str_eq(buf_cstr(&w.trace), "10:2/250/0.0 end ", "the one under way is finished, the other one is not begun");
    teardown(&w);
}

/* Runs until the server has seen that command. */
static void run_to(struct world *w, const char *command)
{
    for (int i = 0; i < 3000 && !strstr(buf_cstr(&w->a.commands), command); i++) {
        timer_start(w->limit, 10);
        loop_run(w->loop);
    }
    cr_assert(strstr(buf_cstr(&w->a.commands), command));
}

Test(relay, attempt_when_qmgr_is_gone)
{
    struct letter l = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test"}};
    struct world w;
    setup(&w);
    w.a.rules[0] = (struct line_rule){"MAIL", "hang", 0};
    give(&w, &l);
    run_to(&w, "MAIL");
    attempt_qmgr_gone(&w.relay);
    cr_expect_eq(w.relay.held, 0, "taken back");
    teardown(&w);

    setup(&w);
    w.a.rules[0] = (struct line_rule){"DATA", "354 go\r\n", 0};
    w.a.rules[1] = (struct line_rule){".", "hang", 0};
    give(&w, &l);
    run_to(&w, "DATA");
    for (int i = 0; i < 20; i++) {
        timer_start(w.limit, 10);
        loop_run(w.loop);
    }
    attempt_qmgr_gone(&w.relay);
    cr_expect_eq(w.relay.held, 1, "the final dot is sent: it goes on");
    give(&w, &l); /* the next qmgr uses the number again */
    for (int i = 0; i < 50 && w.relay.held < 2; i++) {
        timer_start(w.limit, 10);
        loop_run(w.loop);
    }
    cr_expect_eq(w.relay.held, 2);
    cr_expect_str_eq(buf_cstr(&w.trace), "");
    teardown(&w);
}

/* ---- hosts that are named ---- */

/* A route takes recipients of any domains, without a login, whatever the smarthost and its login are; nothing fails for good because of it. */
Test(relay, attempt_route)
{
    struct world w;
    char route[64];
    struct letter l = {.lease = 1, .domain = "anywhere.at.all", .rcpts = {"x@anywhere.at.all", "y@else.where"}, .route = route};
    setup(&w);
    snprintf(route, sizeof route, "127.5.0.1:%u", w.a.port);
    w.conf->relay.smarthost = "127.5.0.9:1";
    w.conf->relay.port = 1;
    w.conf->relay.smarthost_user = "me";
    w.conf->relay.smarthost_password = "pass";
    w.conf->relay.plaintext_login = true;
    w.conf->relay.tls = CONF_RELAY_TLS_NEVER;
    w.a.rules[0] = (struct line_rule){"EHLO", "250-x\r\n250 AUTH PLAIN\r\n", 0};
    give(&w, &l);
    run_until(&w, 1);
    cr_expect_str_eq(buf_cstr(&w.trace), "10:2/250/0.0 11:2/250/0.0 end ", "%s", buf_cstr(&w.trace));
    cr_expect_null(strstr(buf_cstr(&w.a.commands), "AUTH"));
    pool_close(&w.relay.pool);
    w.a.rules[1] = (struct line_rule){"", "554 5.7.1 no\r\n", 0};
    l.lease = 2;
    give(&w, &l);
    run_until(&w, 2);
    cr_expect_str_eq(buf_cstr(&w.trace), "10:2/250/0.0 11:2/250/0.0 end 20:4/554/7.1 21:4/554/7.1 end-unreached ", "%s", buf_cstr(&w.trace));
    cr_expect_eq(w.dns_server.questions, 0);
    w.conf->relay.tls = CONF_RELAY_TLS_MUST;
    w.a.rules[1] = (struct line_rule){0};
    l.lease = 3;
    give(&w, &l);
    run_until(&w, 3);
    cr_expect(strstr(buf_cstr(&w.trace), "30:4/0/7.4 31:4/0/7.4 end-unreached "), "%s", buf_cstr(&w.trace));
    teardown(&w);
}

/* What qmgr put together for one smarthost is never given to a host that only some of it is for. */
Test(relay, attempt_for_a_smarthost_that_was)
{
    struct world w;
    struct letter l = {.lease = 1, .domain = "plain.test", .rcpts = {"x@plain.test", "y@else.where"}, .route = "old.test", .smarthost = true};
    setup(&w);
    give(&w, &l);
    run_until(&w, 1);
    w.conf->relay.smarthost = "127.5.0.1:1";
    l.lease = 2;
    give(&w, &l);
    run_until(&w, 2);
    cr_expect_str_eq(buf_cstr(&w.trace), "end-outdated end-outdated ", "%s", buf_cstr(&w.trace));
    cr_expect_eq(w.a.connections, 0);
    teardown(&w);
}

Test(relay, attempt_smarthost)
{
    struct world w;
    char smarthost[64];
    struct letter l = {.lease = 1, .domain = "anywhere.at.all", .rcpts = {"x@anywhere.at.all"}};
    setup(&w);
    snprintf(smarthost, sizeof smarthost, "127.5.0.1:%u", w.a.port);
    w.conf->relay.smarthost = smarthost;
    w.conf->relay.port = 1;
    w.conf->relay.smarthost_user = "me";
    w.conf->relay.smarthost_password = "pass";
    w.a.rules[0] = (struct line_rule){"EHLO", "250-x\r\n250 AUTH PLAIN\r\n", 0};
    give(&w, &l);
    run_until(&w, 1);
    cr_expect_str_eq(buf_cstr(&w.trace), "10:4/0/7.0 end-unreached ", "no password in clear: %s", buf_cstr(&w.trace));
    cr_expect_null(strstr(buf_cstr(&w.a.commands), "AUTH"));
    w.conf->relay.plaintext_login = true;
    l.lease = 2;
    w.a.rules[1] = (struct line_rule){"AUTH PLAIN AG1lAHBhc3M=", "235 ok\r\n", 0};
    give(&w, &l);
    run_until(&w, 2);
    w.a.rules[1] = (struct line_rule){"AUTH", "535 5.7.8 no\r\n", 0};
    pool_close(&w.relay.pool);
    l.lease = 3;
    give(&w, &l);
    run_until(&w, 3);
    cr_expect_str_eq(buf_cstr(&w.trace), "10:4/0/7.0 end-unreached 20:2/250/0.0 end 30:4/535/7.8 end-unreached ", "%s", buf_cstr(&w.trace));
    cr_expect_eq(w.dns_server.questions, 0);
    teardown(&w);
}
