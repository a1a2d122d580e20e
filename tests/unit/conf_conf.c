/* The configuration file: what is right, what is wrong and how that is said, and the way to the programs. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/conf.h"

static struct conf *parse(const char *text, struct conf_errors *e)
{
    return conf_parse("/etc/waypost/waypost.conf", span_of(text), 1, e);
}

static void free_conf(struct conf *c)
{
    const struct conf *p = c;
    conf_unref(&p);
}

static struct conf *good(const char *text)
{
    struct conf_errors e = {0};
    struct conf *c = parse(text, &e);
    cr_assert(c, "%s", buf_cstr(&e.text));
    conf_errors_free(&e);
    return c;
}

#define TLS_SECTION "tls { certificate /c.pem; key /k.pem; }\n"

Test(conf, an_empty_file_is_all_defaults)
{
    struct conf *c = good("");
    cr_assert_eq(c->smtp.max_message_size, UINT64_C(50) << 20);
    cr_assert_eq(c->smtp.max_recipients, 1000u);
    cr_assert_eq(c->tls.min_version, CONF_TLS_1_2);
    cr_assert_eq(c->queue.commit_wait, 2);
    cr_assert_eq(c->queue.expire, INT64_C(5) * 24 * 3600 * 1000);
    cr_assert_eq(c->relay.port, 25u);
    cr_assert(c->dns.local_zones);
    cr_assert_eq(c->log_level, CONF_LOG_INFO);
    cr_assert(*c->hostname, "the machine's name");
    cr_assert_eq(c->listen_count, 0u);
    cr_assert_eq(c->relay.source.n, 0u);
    free_conf(c);
}

Test(conf, the_most_specific_section_of_a_domain)
{
    static const char *const cases[][2] = {{"a.test", "a.test"},        {"x.a.test", "*.a.test"},     {"X.Y.A.test", "*.a.test"},
                                           {"b.a.test", "b.a.test"},    {"c.b.a.test", "*.b.a.test"}, {"xa.test", "*"},
                                           {"test", "*"},               {"", "*"},                    {"[192.0.2.1]", "*"}};
    struct conf *c = good("domain a.test { }\ndomain * { }\ndomain *.a.TEST { }\ndomain b.a.test { }\ndomain *.b.a.test { }\n"), *none = good("domain *.x.test { }\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_str_eq(conf_domain_for(c, span_of(cases[i][0]))->name, cases[i][1], "%s", cases[i][0]);
    cr_expect_null(conf_domain_for(none, SPAN("x.test")), "not below itself");
    cr_expect_not_null(conf_domain_for(none, SPAN("y.x.test")));
    cr_expect_null(conf_domain_for(none, SPAN("test")));
    free_conf(c);
    free_conf(none);
}

Test(conf, every_form_of_value)
{
    struct conf *c =
        good("# a comment\nhostname mail.example.test; state \"/var/lib/way post\";\nlog-level debug;\n" TLS_SECTION
             "listen mx {\n  protocol smtp; address 127.0.0.1 ::1; port 2525;\n}\n"
             "listen in { protocol submission; port 587; tls implicit; certificate a/b.pem; key /k2.pem; }\n"
             "smtp { max-message-size 1G; command-timeout 90s; instances 3; }\n"
             "relay { smarthost [2001:db8::1]:587; smarthost-user \"a \\\"b\\\\\"; smarthost-password-file pw; source "
             "::1 127.0.0.1; tls must; }\n"
             "dns { server 127.0.0.1@5353; local-zones no; }\n"
             "domain Z.test { hold yes; }\ndomain a.test { }\n");
    cr_assert_str_eq(c->hostname, "mail.example.test");
    cr_assert_str_eq(c->state, "/var/lib/way post");
    cr_assert_eq(c->listen_count, 2u);
    cr_assert_str_eq(c->listen[0].name, "mx");
    cr_assert_eq(c->listen[0].address.n, 2u);
    cr_assert_str_eq(c->listen[0].address.items[1], "::1");
    cr_assert_eq(c->listen[0].port, 2525u);
    cr_assert_eq(conf_listen_role(&c->listen[0]), ROLE_MX);
    cr_assert_str_eq(conf_listen_certificate(c, &c->listen[0]), "/c.pem");
    cr_assert_eq(c->listen[1].address.n, 2u, "both kinds of address");
    cr_assert_str_eq(c->listen[1].certificate, "/etc/waypost/a/b.pem");
    cr_assert_str_eq(conf_listen_key(c, &c->listen[1]), "/k2.pem");
    cr_assert_eq(c->smtp.max_message_size, UINT64_C(1) << 30);
    cr_assert_eq(c->smtp.command_timeout, 90000);
    cr_assert_eq(conf_instances(c, ROLE_MX), 3u);
    cr_assert_str_eq(c->relay.smarthost_user, "a \"b\\");
    cr_assert_eq(c->relay.tls, CONF_RELAY_TLS_MUST);
    cr_assert_not(c->dns.local_zones);
    cr_assert_str_eq(c->dns.server.items[0], "127.0.0.1@5353");
    cr_assert(conf_domain_find(c, SPAN("z.TEST"))->hold);
    cr_assert_not(conf_domain_find(c, SPAN("a.test"))->hold);
    cr_assert_null(conf_domain_find(c, SPAN("b.test")));
    free_conf(c);
}

/* A text, and the whole of what is said about it. */
static const struct {
    const char *text, *said;
} wrong[] = {
    {"hostnme a.test;\n", "F:1: unknown key \"hostnme\" outside of a section, did you mean \"hostname\"?\n"},
    {"\nsmtp { max-recipient 7; }\n",
     "F:2: unknown key \"max-recipient\" in a section smtp, did you mean \"max-recipients\"?\n"},
    {"port 25;\n", "F:1: unknown key \"port\" outside of a section, it belongs to: listen, relay\n"},
    {"zzzzzzzzzz 1;\n",
     "F:1: unknown key \"zzzzzzzzzz\" outside of a section, take the line away (waypost.conf(5) lists all keys)\n"},
    {"smpt { }\n", "F:1: unknown section \"smpt\", did you mean \"smtp\"?\n"},
    {"smpt {\nmax-recipients 7;\nnonsense 1;\nport 25; }\n",
     "F:1: unknown section \"smpt\", did you mean \"smtp\"?\n"
     "F:2: max-recipients: \"7\" is out of range, write 100 to 100000\n"
     "F:3: unknown key \"nonsense\" in a section smtp, take the line away (waypost.conf(5) lists all keys)\n"
     "F:4: unknown key \"port\" in a section smtp, it belongs to: listen, relay\n"},
    {"zzzzzzzzzz {\nport a; }\n", "F:1: unknown section \"zzzzzzzzzz\", take it away (waypost.conf(5) lists all sections)\n"},
    {"lisen a {\ntls none; port 25; }\n", "F:1: unknown section \"lisen\", did you mean \"listen\"?\nF:1: section listen \"a\" has no \"protocol\", add it\n"},
    {"dns x {\nlocal-zones 0; }\n",
     "F:1: a section dns takes no name, write \"dns {\"\nF:2: local-zones: \"0\" is neither yes nor no, write one of them\n"},
    {"domain a..b {\nhold 0; }\n", "F:1: \"a..b\" is not a domain name, write one such as example.org, *.example.org or *\n"
                                  "F:2: hold: \"0\" is neither yes nor no, write one of them\n"},
    {"dns { server ns.test 127.0.0.1 ::x; }\n", "F:1: server: \"ns.test\" is not an IP address, write one such as 192.0.2.1 or 2001:db8::1\n"
                                              "F:1: server: \"::x\" is not an IP address, write one such as 192.0.2.1 or 2001:db8::1\n"},
    {"relay { source 127.0.0.1 ::1 a; }\n", "F:1: source: \"a\" is not an IP address, write one such as 192.0.2.1 or 2001:db8::1\n"
                                           "F:1: source: takes 0 to 2 values and has 3, take some away\n"},
    {"smtp { max-recipients 7; }\n", "F:1: max-recipients: \"7\" is out of range, write 100 to 100000\n"},
    {"smtp { max-message-size 50X; }\n",
     "F:1: max-message-size: \"50X\" is not a size, write a number with K, M or G behind, such as 50M\n"},
    {"smtp { max-message-size 99999999999999999999G; }\n",
     "F:1: max-message-size: \"99999999999999999999G\" is out of range, write 64K to 2G\n"},
    {"queue { expire 5; }\n",
     "F:1: expire: \"5\" is not a time, write a number with ms, s, m, h, d or w behind, such as 5m\n"},
    {"queue { expire -5d; }\n",
     "F:1: expire: \"-5d\" is not a time, write a number with ms, s, m, h, d or w behind, such as 5m\n"},
    {"dns { local-zones maybe; }\n", "F:1: local-zones: \"maybe\" is neither yes nor no, write one of them\n"},
    {"dns { server ns.test; }\n",
     "F:1: server: \"ns.test\" is not an IP address, write one such as 192.0.2.1 or 2001:db8::1\n"},
    {"log stdout;\n", "F:1: log: \"stdout\" is not known here, write stderr, syslog or journal\n"},
    {"log sylog;\n", "F:1: log: \"sylog\" is none of stderr, syslog or journal, did you mean \"syslog\"?\n"},
    {"hostname a.test b.test;\n", "F:1: hostname: takes one value and has 2, put quotes around a value with blanks\n"},
    {"hostname;\n", "F:1: hostname: has no value, give one\n"},
    {"hostname a..test;\n", "F:1: hostname: \"a..test\" is not a host name, write one such as mail.example.org\n"},
    {"hostname a.test\nlog stderr;\n", "F:1: \"hostname\" has no ';' at its end, add one\n"},
    {"hostname a.test; hostname b.test;\n", "F:1: \"hostname\" is given twice, keep this one or the one of line 1\n"},
    {"smtp { }\nsmtp {\nvrfy x; }\n", "F:2: section smtp stands twice, put all its keys into the one of line 1\n"
                                     "F:3: vrfy: \"x\" is not known here, write off, authenticated or on\n"},
    {"smtp x { }\n", "F:1: a section smtp takes no name, write \"smtp {\"\n"},
    {"domain { }\n", "F:1: a section domain needs one name, write \"domain NAME {\"\n"},
    {"domain a.test { }\ndomain A.test { }\n", "F:2: domain \"A.test\" stands twice, put all into the one of line 1\n"},
    {"domain *a.test { }\n", "F:1: \"*a.test\" is not a domain name, write one such as example.org, *.example.org or *\n"},
    {"domain *.a.test { \nrate 1/s; pull-by a@b.test; }\n", "F:2: pull-by is for one domain, not for all of \"*.a.test\": write a section for it\n"},
    {"domain a_b..c { }\n", "F:1: \"a_b..c\" is not a domain name, write one such as example.org, *.example.org or *\n"},
    {"smtp {\n", "F:1: the section is not closed, add a '}' at its end\n"},
    {"}\n", "F:1: a '}' that nothing precedes, take it away\n"},
    {"state \"/a;\n",
     "F:1: a quote is not closed, put a \" at the end of the value\nF:1: \"state\" has no ';' at its end, add one\n"},
    {"listen a {\n tls none;\n}\n",
     "F:1: section listen \"a\" has no \"protocol\", add it\nF:1: section listen \"a\" has no \"port\", add it\n"},
    {"listen a { protocol smtp; port 25; }\n", "F:1: listen \"a\" has no certificate for TLS, add certificate and key "
                                               "here or in a section tls, or say \"tls none;\"\n"},
    {"listen a { protocol imap; port 143; tls none; }\n",
     "F:1: nobody could log in on listen \"a\": it has no TLS, say \"tls starttls;\" or \"tls implicit;\" (or "
     "plaintext-login on loopback)\n"},
    {"listen a { protocol imap; port 143; tls none;\n plaintext-login yes; }\n",
     "F:2: plaintext-login on an address that others can reach, take it away or listen on 127.0.0.1 or ::1 only\n"},
    {"listen a { protocol smtp; port 25; tls none; }\nlisten b { protocol smtp; tls none;\nport 25; }\n",
     "F:3: 0.0.0.0 port 25 is taken by listen \"a\" already, choose another port or address\n"},
    {"tls { certificate /a; }\n", "F:1: a certificate without \"key\", name the file of its private key\n"},
    {"relay { smarthost-user me; smarthost-password-file p; }\n",
     "F:1: smarthost-user without a smarthost, add \"smarthost HOST;\" or take it away\n"
     "F:1: smarthost-password-file without a smarthost, add \"smarthost HOST;\" or take it away\n"},
    {"relay { smarthost a.test:0; }\n",
     "F:1: smarthost: \"a.test:0\" has no port behind the colon, write HOST:PORT with 1 to 65535\n"},
    {"relay { source 127.0.0.1 127.0.0.2; }\n",
     "F:1: source: two addresses of one kind, give at most one IPv4 and one IPv6 address\n"},
    {"queue { retry-min 5h; }\n", "F:1: retry-min is longer than retry-max, make it shorter\n"},
    {"accounts { uid-first 5000; uid-last 4000; }\n", "F:1: uid-first is above uid-last, make it smaller\n"},
    {"hostname \"a\tb\";\n", "F:1: a value holds a control character or is not UTF-8, take it out\nF:1: hostname: "
                             "\"?\" is not a host name, write one such as mail.example.org\n"},
};

Test(conf, wrong_files_say_what_and_how_to_mend)
{
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct conf_errors e = {0};
        struct conf *c = conf_parse("F", span_of(wrong[i].text), 1, &e);
        cr_expect_null(c, "accepted: %s", wrong[i].text);
        cr_expect_str_eq(buf_cstr(&e.text), wrong[i].said, "\n%s is said:\n%s", wrong[i].text, buf_cstr(&e.text));
        conf_errors_free(&e);
        free_conf(c);
    }
}

Test(conf, five_mistakes_are_five_lines)
{
    struct conf_errors e = {0};
    cr_assert_null(parse("hostnam mail.test;\n"
                         "smtp {\n"
                         "    max-message-size fifty;\n"
                         "    max-recipients 1\n"
                         "}\n"
                         "qeue { expire 5d; }\n"
                         "dns { local-zones 0; }\n", &e));
    size_t lines = 0;
    for (size_t i = 0; i < e.text.n; i++)
        lines += e.text.p[i] == '\n';
    /* line 4 lacks its ';' and is out of range: these are the two mistakes of one line */
    cr_assert_eq(lines, 6u, "%s", buf_cstr(&e.text));
    cr_assert_eq(e.count, 6u);
    conf_errors_free(&e);
    cr_assert_null(parse("hostnam mail.test;\nsmtp {\n    max-message-size fifty;\n    max-recipients 1;\n}\nqeue { "
                         "expire 5d; }\ndns { local-zones 0; }\n",
                         &e));
    cr_assert_eq(e.count, 5u, "%s", buf_cstr(&e.text));
    conf_errors_free(&e);
}

Test(conf, no_text_crashes_it)
{
    static const char all[] = "listen a { protocol smtp; port \"25\"; tls none; } # c\ndomain b.test { hold yes; } "
                              "smtp { max-recipients 100; }\n";
    for (size_t n = 0; n < sizeof all; n++)
        for (unsigned change = 0; change < 3; change++) {
            char text[sizeof all];
            struct conf_errors e = {0};
            memcpy(text, all, sizeof all);
            if (change)
                text[n] = change == 1 ? '\0' : '{';
            free_conf(conf_parse("F", span_make(text, change ? sizeof all : n), 1, &e));
            conf_errors_free(&e);
        }
}

Test(conf, files_that_are_named_are_looked_at)
{
    char dir[] = "/tmp/wp-conf-XXXXXX", path[64], text[512];
    struct conf_errors e = {0};
    cr_assert(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/c", dir);
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    dprintf(fd, "tls { certificate none.pem;\n key key.pem; }\n");
    close(fd);
    snprintf(text, sizeof text, "%s/key.pem", dir);
    close(open(text, O_WRONLY | O_CREAT, 0644));
    chmod(text, 0644);
    cr_assert_null(conf_load(path, 1, &e));
    cr_assert_eq(e.count, 2u, "%s", buf_cstr(&e.text));
    cr_assert(strstr(buf_cstr(&e.text), "/c:1: certificate: "), "%s", e.text.p);
    cr_assert(strstr(buf_cstr(&e.text), "/c:2: key: "), "%s", e.text.p);
    cr_assert(strstr(e.text.p, "can be read by everybody, run: chmod o-rwx "));
    conf_errors_free(&e);
    cr_assert_null(conf_load("/nowhere/waypost.conf", 1, &e));
    cr_assert(strstr(buf_cstr(&e.text), "cannot be opened"));
    conf_errors_free(&e);
    unlink(text);
    unlink(path);
    rmdir(dir);
}

/* ---- the way to a program ---- */

struct wire {
    struct conf_receiver *r;
    const struct conf *out;
    int last;
    unsigned settings;
};

static void on_say(void *ctx, const struct msg *m)
{
    struct wire *w = ctx;
    struct err err;
    struct buf frame = {0};
    struct msg got;
    cr_assert_eq(msg_encode(m, &frame, &err), 0, "%s", err.text);
    cr_assert_eq(msg_decode(buf_span(&frame), ROLE_WAYPOSTD, false, &got, &err), 0, "%s", err.text);
    w->settings += m->type == MSG_setting;
    w->last = conf_receive(w->r, &got, &w->out, &err);
    cr_assert(w->last >= 0, "%s", err.text);
    buf_free(&frame);
}

static const struct conf *carry(const struct conf *c, enum role role)
{
    struct wire w = {.r = conf_receiver_new()};
    struct err err;
    cr_assert_eq(conf_send(c, role, on_say, &w, &err), 0, "%s", err.text);
    cr_assert_eq(w.last, 1);
    cr_assert(w.settings > 3);
    conf_receiver_free(&w.r);
    return w.out;
}

Test(conf, a_role_is_told_what_is_its_own)
{
    char secret[] = "/tmp/wp-secret-XXXXXX", text[1024];
    int fd = mkstemp(secret);
    dprintf(fd, "pass word\nsecond line\n");
    close(fd);
    snprintf(text, sizeof text,
             "hostname h.test;\n" TLS_SECTION
             "listen i { protocol imap; port 143; address ::1; }\nlisten s { protocol smtp; port 25; }\n"
             "relay { smarthost s.test; smarthost-user u; smarthost-password-file %s; concurrency 7; source ::1; }\n"
             "domain held.test { hold yes; }\ndns { server ::1@53 127.0.0.1; }\nqueue { expire 1h; }\n",
             secret);
    struct conf *c = good(text);

    const struct conf *mx = carry(c, ROLE_MX);
    cr_assert_str_eq(mx->hostname, "h.test");
    cr_assert_eq(mx->generation, 1u);
    cr_assert_eq(mx->listen_count, 1u);
    cr_assert_eq(mx->listen[0].index, 1u, "the index is the one of the file");
    cr_assert_str_eq(conf_listen_at(mx, 1)->name, "s");
    cr_assert_null(conf_listen_at(mx, 0));
    cr_assert_eq(mx->domain_count, 0u);
    cr_assert_eq(mx->relay.concurrency, 200u, "not its own: the default");
    cr_assert_str_eq(mx->relay.smarthost_password, "");
    cr_assert_str_eq(mx->tls.key, "", "no program is told where keys are");
    conf_unref(&mx);

    const struct conf *relay = carry(c, ROLE_RELAY);
    cr_assert_str_eq(relay->relay.smarthost_password, "pass word");
    cr_assert_eq(relay->relay.concurrency, 7u);
    cr_assert_eq(relay->dns.server.n, 2u);
    cr_assert_str_eq(relay->dns.server.items[1], "127.0.0.1");
    cr_assert_eq(relay->listen_count, 0u);
    conf_unref(&relay);

    const struct conf *authd = carry(c, ROLE_AUTHD);
    cr_assert(conf_domain_find(authd, SPAN("HELD.test"))->hold);
    conf_unref(&authd);
    const struct conf *qmgr = carry(c, ROLE_QMGR);
    cr_assert_eq(qmgr->queue.expire, 3600000);
    conf_unref(&qmgr);
    unlink(secret);
    struct err err;
    struct wire w = {.r = conf_receiver_new()};
    cr_assert_eq(conf_send(c, ROLE_RELAY, on_say, &w, &err), -1, "its secret is gone");
    conf_receiver_free(&w.r);
    free_conf(c);
}

/* Each program is told of the conditions that it looks at, and where they stand. */
Test(conf, rules_that_hold)
{
    struct conf_errors e = {0};
    struct span name, pattern;
    struct conf *c = good("hold b-2 { sender *@a.test <>; recipient x@b.test; domain *.b.test; larger 1M; reason \"two words\"; }\n"
                          "hold a { header \"Subject:  *free money* \"; }\nlisten s { protocol smtp; port 25; tls none; }\n");
    const struct conf *qmgr = carry(c, ROLE_QMGR), *mx = carry(c, ROLE_MX), *relay = carry(c, ROLE_RELAY);
    cr_assert_eq(qmgr->hold_count, 2u);
    cr_expect_str_eq(qmgr->hold[0].name, "b-2", "in the order of the file");
    cr_expect_eq(qmgr->hold[1].line, 2u);
    cr_expect_str_eq(qmgr->file, "/etc/waypost/waypost.conf");
    cr_expect_str_eq(qmgr->hold[0].sender.items[1], "<>");
    cr_expect_eq(qmgr->hold[0].larger, CONF_MIB);
    cr_expect_str_eq(qmgr->hold[0].reason, "two words");
    cr_assert_eq(mx->hold_count, 2u);
    cr_expect_eq(mx->hold[0].sender.n, 0u, "not its business");
    cr_assert(conf_field_of(span_of(mx->hold[1].header), &name, &pattern));
    cr_expect(span_eqs(name, "Subject") && span_eqs(pattern, "*free money*"));
    cr_expect_eq(relay->hold_count, 0u);
    struct buf changes = {0};
    struct conf *d = good("hold a { header \"Subject: *\"; }\nlisten s { protocol smtp; port 25; tls none; }\n");
    conf_changes(c, d, &changes);
    cr_expect_str_eq(buf_cstr(&changes), "hold b-2, hold a");
    buf_free(&changes);
    conf_unref(&qmgr);
    conf_unref(&mx);
    conf_unref(&relay);
    free_conf(d);
    free_conf(c);
    cr_assert_null(parse("hold a {\n}\nhold \"b c\" { sender *; }\nhold d {\n header \"no colon\";\n sender ann;\n domain a@b.test;\n larger 1;\n}\nhold D { recipient *; }\n"
                         "hold e { recipient *; header \"Sub ject: x\"; }\nhold f { recipient *; header \"Bet\xc3\xa4reff: x\"; }\n", &e)); /* RFC5322:2.2 */
    static const char *const wants[] = {":1: hold \"a\" has no condition", ":3: hold \"b c\": a name has", ":5: header: \"no colon\" is not a field",
                                        ":6: sender: \"ann\" fits no address", ":7: domain: \"a@b.test\" fits no domain", ":10: hold \"D\" stands twice",
                                        ":11: header: \"Sub ject: x\" is not a field", ":12: header: \"Bet\xc3\xa4reff: x\" is not a field"};
    for (size_t i = 0; i < COUNT_OF(wants); i++)
        cr_expect(strstr(buf_cstr(&e.text), wants[i]), "no %s in %s", wants[i], buf_cstr(&e.text));
    cr_expect_eq(e.count, COUNT_OF(wants), "%s", buf_cstr(&e.text));
    conf_errors_free(&e);
}

/* What a setting decided is shown with its place, by programs that never see the file. */
Test(conf, places_travel)
{
    char text[CONF_WHERE_MAX];
    struct conf *c = good("listen s { protocol smtp; port 25; tls none; }\ndoor {\n  helo defer;\n}\n");
    const struct conf *mx = carry(c, ROLE_MX);
    cr_expect_str_eq(conf_where(c, &c->door.helo, text), "/etc/waypost/waypost.conf:3");
    cr_expect_str_eq(conf_where(mx, &mx->door.helo, text), "/etc/waypost/waypost.conf:3");
    cr_expect_str_eq(conf_where(mx, &mx->door.reverse_dns, text), "the default");
    cr_expect_str_eq(conf_where(mx, &mx->relay.concurrency, text), "the default");
    conf_unref(&mx);
    free_conf(c);
}

Test(conf, wrong_settings_are_refused)
{
    static const struct msg_setting bad[] = {
        {.section = 99},
        {.section = CONF_SECTION_smtp, .key = 0},
        {.section = CONF_SECTION_listen, .instance = 3, .key = 6},
        {.section = CONF_SECTION_main, .key = 3, .number = 9},
        {.section = CONF_SECTION_main, .key = 9999},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct conf_receiver *r = conf_receiver_new();
        const struct conf *out = NULL;
        struct err err;
        struct msg m = {.type = MSG_setting, .setting = bad[i]};
        cr_expect_eq(conf_receive(r, &m, &out, &err), -1, "%zu", i);
        conf_receiver_free(&r);
    }
    struct conf_receiver *r = conf_receiver_new();
    const struct conf *out = NULL;
    struct err err;
    cr_assert_eq(conf_receive(r, &(struct msg){.type = MSG_settings_end, .settings_end = {.count = 1}}, &out, &err),
                 -1);
    conf_receiver_free(&r);
}

Test(conf, what_a_reload_may_change)
{
    struct conf *a = good("state /a;\n"), *b = good("state /b;\ndns { local-zones no; }\n"),
                *c = good("state /a;\nsmtp { max-recipients 100; }\n");
    cr_assert_str_eq(conf_fixed_differs(a, b), "state");
    cr_assert_null(conf_fixed_differs(a, c));
    cr_assert(conf_needs_restart(a, b, ROLE_RELAY));
    cr_assert_not(conf_needs_restart(a, b, ROLE_MX));
    cr_assert_not(conf_needs_restart(a, c, ROLE_MX));
    free_conf(a);
    free_conf(b);
    free_conf(c);
}

Test(conf, a_generation_lives_as_long_as_its_sessions)
{
    const struct conf *c = good(""), *session = conf_ref(c);
    conf_unref(&c);
    cr_assert_null(c);
    cr_assert_eq(session->relay.port, 25u);
    conf_unref(&session);
}
