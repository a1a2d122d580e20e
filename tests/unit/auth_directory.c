/* auth/directory: who an address means (HAZARDS 29 and 16, RFC5321:4.5.1, RFC2142:4), loops, numbers never given again,
 * senders. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "auth/directory.h"
#include "base/clock.h"

static char dir[64];
static struct directory *d;
static struct err err;
static const struct directory_options options = {
    .uid_first = 200000, .uid_last = 200007, .hostname = {"mx.example.test", 15}};

static void set_up(void)
{
    snprintf(dir, sizeof(dir), "/tmp/waypost-directory-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(directory_open(&d, dir, &options, &err), 0, "%s", err.text);
    cr_assert_eq(directory_domain_add(d, SPAN("Example.TEST"), &err), DIR_OK);
}

static void tear_down(void)
{
    char cmd[128];
    directory_close(&d);
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(directory, .init = set_up, .fini = tear_down);

static struct account add(const char *address)
{
    struct account a;
    cr_assert_eq(directory_account_add(d, span_of(address), "hash", clock_wall(), &a, &err), DIR_OK, "%s: %s", address,
                 err.text);
    return a;
}

static enum dir_result alias(const char *address, const char *target)
{
    struct span t = span_of(target);
    return directory_alias_add(d, span_of(address), &t, 1, &err);
}

static void expect(const char *address, enum resolve_kind kind, enum resolve_rule rule, uint32_t account,
                   const char *detail)
{
    struct resolution r;
    cr_assert_eq(directory_resolve(d, span_of(address), &r, &err), DIR_OK, "%s: %s", address, err.text);
    cr_expect_eq((int)r.kind, (int)kind, "%s: kind %d", address, (int)r.kind);
    cr_expect_eq((int)r.rule, (int)rule, "%s: rule %d", address, (int)r.rule);
    if (kind == RESOLVE_ACCOUNT)
        cr_expect_eq(r.account, account, "%s: account %u", address, r.account);
    cr_expect_str_eq(r.detail, detail, "%s", address);
}

Test(directory, rules_in_their_order)
{
    struct account alice = add("alice@example.test"), plus = add("alice+exact@example.test");
    cr_assert_eq(alias("sales@example.test", "alice@example.test"), DIR_OK);
    cr_assert_eq(alias("@example.test", "alice@example.test"), DIR_OK);
    expect("alice@example.test", RESOLVE_ACCOUNT, RULE_EXACT, alice.id, "");
    expect("ALICE@Example.Test", RESOLVE_ACCOUNT, RULE_EXACT, alice.id, "");
    expect("\"alice\"@example.test", RESOLVE_ACCOUNT, RULE_EXACT, alice.id, "");
    expect("alice+exact@example.test", RESOLVE_ACCOUNT, RULE_EXACT, plus.id, "");
    expect("alice+lists@example.test", RESOLVE_ACCOUNT, RULE_DETAIL, alice.id, "lists");
    expect("alice+exact+more@example.test", RESOLVE_ACCOUNT, RULE_DETAIL, alice.id, "exact+more");
    expect("sales@example.test", RESOLVE_ALIAS, RULE_ALIAS, 0, "");
    expect("sales+x@example.test", RESOLVE_ALIAS, RULE_ALIAS_DETAIL, 0, "");
    expect("postmaster@example.test", RESOLVE_ACCOUNT, RULE_ROLE, alice.id, "");
    expect("nobody@example.test", RESOLVE_ALIAS, RULE_CATCH_ALL, 0, "");
    expect("nobody+x@example.test", RESOLVE_ALIAS, RULE_CATCH_ALL, 0, "");
    expect("\"\"@example.test", RESOLVE_ALIAS, RULE_CATCH_ALL, 0, "");
    expect("alice@elsewhere.test", RESOLVE_ELSEWHERE, RULE_NONE, 0, "");
    expect("alice@sub.example.test", RESOLVE_ELSEWHERE, RULE_NONE, 0, "");
    expect("alice@[192.0.2.1]", RESOLVE_ELSEWHERE, RULE_NONE, 0, "");
}

Test(directory, postmaster_and_abuse_are_always_somebodys)
{
    bool relayed;
    cr_expect_eq(directory_welcome(d, SPAN("postmaster@example.test"), &relayed).kind, OUTCOME_RETRY, "no account yet");
    struct account alice = add("alice@example.test"), bob = add("bob@example.test");
    static const char *const names[] = {
        "postmaster@example.test",    "PostMaster@example.test", "abuse@EXAMPLE.test", "postmaster", "POSTMASTER",
        "postmaster@mx.example.test", "abuse@MX.example.test"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        expect(names[i], RESOLVE_ACCOUNT, RULE_ROLE, alice.id, "");
        cr_expect_eq(directory_welcome(d, span_of(names[i]), &relayed).kind, OUTCOME_DONE);
    }
    expect("alice@mx.example.test", RESOLVE_ELSEWHERE, RULE_NONE, 0, "");
    cr_assert_eq(directory_account_set_state(d, alice.id, ACCOUNT_DISABLED, &err), DIR_OK);
    expect("postmaster@example.test", RESOLVE_ACCOUNT, RULE_ROLE, bob.id, "");
    cr_assert_eq(directory_domain_add(d, SPAN("empty.test"), &err), DIR_OK);
    expect("abuse@empty.test", RESOLVE_ACCOUNT, RULE_ROLE, bob.id, "");
    cr_assert_eq(alias("abuse@example.test", "bob@example.test"), DIR_OK);
    expect("abuse@example.test", RESOLVE_ALIAS, RULE_ALIAS, 0, "");
}

Test(directory, loops_are_refused_when_made)
{
    struct account x = add("x@example.test");
    cr_expect_eq(alias("a@example.test", "a@example.test"), DIR_REFUSED);
    cr_expect_eq(alias("a@example.test", "A+detail@Example.test"), DIR_REFUSED);
    cr_expect_eq(alias("a@example.test", "b@example.test"), DIR_OK, "b does not exist yet");
    cr_expect_eq(alias("b@example.test", "c@example.test"), DIR_OK);
    cr_expect_eq(alias("c@example.test", "a@example.test"), DIR_REFUSED);
    cr_expect_eq(alias("c@example.test", "x@example.test"), DIR_OK);
    cr_expect_eq(alias("c@example.test", "b+y@example.test"), DIR_REFUSED, "and the whole change is undone");
    cr_expect_eq(alias("@example.test", "nobody@example.test"), DIR_REFUSED, "the catch-all leads to itself");
    cr_expect_eq(alias("@example.test", "a@example.test"), DIR_OK);
    bool relayed;
    cr_expect_eq(directory_welcome(d, SPAN("anything@example.test"), &relayed).kind, OUTCOME_DONE);
    /* A loop that a removal leaves behind ends, and is refused at the door. */
    cr_assert_eq(directory_account_set_state(d, x.id, ACCOUNT_REMOVED, &err), DIR_OK);
    cr_expect_eq(directory_welcome(d, SPAN("anything@example.test"), &relayed).kind, OUTCOME_FAILED);
}

Test(directory, chains_of_aliases_are_bounded)
{
    char from[64], to[64];
    for (int i = 0; i < ALIAS_DEPTH_MAX; i++) {
        snprintf(from, sizeof(from), "n%d@example.test", ALIAS_DEPTH_MAX - 1 - i);
        snprintf(to, sizeof(to), "n%d@example.test", ALIAS_DEPTH_MAX - i);
        cr_assert_eq(alias(from, to), DIR_OK, "%s", err.text);
    }
    cr_expect_eq(alias("first@example.test", "n0@example.test"), DIR_REFUSED);
}

Test(directory, what_would_never_be_reached_is_refused)
{
    add("alice@example.test");
    cr_expect_eq(alias("alice@example.test", "x@elsewhere.test"), DIR_REFUSED);
    cr_expect_eq(alias("alice+lists@example.test", "x@elsewhere.test"), DIR_REFUSED);
    cr_expect_eq(alias("bob+lists@example.test", "x@elsewhere.test"), DIR_OK);
    struct account a;
    cr_expect_eq(directory_account_add(d, SPAN("bob@example.test"), "h", 0, &a, &err), DIR_REFUSED);
    cr_expect_eq(directory_account_add(d, SPAN("bo@example.test"), "h", 0, &a, &err), DIR_OK);
    cr_expect_eq(directory_account_add(d, SPAN("ALICE@example.test"), "h", 0, &a, &err), DIR_REFUSED);
}

Test(directory, welcome_looks_behind_aliases)
{
    struct account alice = add("alice@example.test");
    add("bob@example.test");
    bool relayed;
    cr_assert_eq(alias("dead@example.test", "gone@example.test"), DIR_OK);
    cr_assert_eq(alias("out@example.test", "x@elsewhere.test"), DIR_OK);
    cr_assert_eq(alias("mixed@example.test", "gone@example.test"), DIR_OK);
    cr_assert_eq(alias("mixed@example.test", "bob@example.test"), DIR_OK);
    cr_assert_eq(alias("toalice@example.test", "alice@example.test"), DIR_OK);
    struct {
        const char *address;
        int kind;
        unsigned detail;
        bool relayed;
    } cases[] = {
        {"alice@example.test", OUTCOME_DONE, 1, false},  {"alice+x@example.test", OUTCOME_DONE, 1, false},
        {"dead@example.test", OUTCOME_FAILED, 1, false}, {"out@example.test", OUTCOME_DONE, 1, false},
        {"mixed@example.test", OUTCOME_DONE, 1, false},  {"gone@example.test", OUTCOME_FAILED, 1, false},
        {"x@elsewhere.test", OUTCOME_DONE, 1, true},     {"not an address", OUTCOME_FAILED, 3, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct outcome o = directory_welcome(d, span_of(cases[i].address), &relayed);
        cr_expect_eq(o.kind, cases[i].kind, "%s", cases[i].address);
        cr_expect_eq(o.detail, cases[i].detail, "%s", cases[i].address);
        cr_expect_eq(relayed, cases[i].relayed, "%s", cases[i].address);
    }
    cr_assert_eq(directory_account_set_state(d, alice.id, ACCOUNT_DISABLED, &err), DIR_OK);
    cr_expect_eq(directory_welcome(d, SPAN("alice@example.test"), &relayed).subject, 2, "RFC3463:3.3 X.2.1 disabled");
    cr_expect_eq(directory_welcome(d, SPAN("toalice@example.test"), &relayed).kind, OUTCOME_FAILED);
    cr_assert_eq(directory_account_set_state(d, alice.id, ACCOUNT_REMOVED, &err), DIR_OK);
    cr_expect_eq(directory_welcome(d, SPAN("alice@example.test"), &relayed).subject, 1);
}

Test(directory, numbers_are_never_given_again)
{
    struct account a = add("a@example.test"), b = add("b@example.test"), c;
    cr_expect_eq(a.uid, 200000);
    cr_expect_eq(b.uid, 200001);
    cr_assert_eq(directory_account_set_state(d, b.id, ACCOUNT_REMOVED, &err), DIR_OK);
    cr_expect_eq(directory_account_find(d, SPAN("b@example.test"), &c, &err), DIR_MISSING);
    cr_expect_eq(directory_account_named(d, SPAN("b@example.test"), &c, &err), DIR_OK);
    cr_expect_eq(c.id, b.id);
    struct account again = add("b@example.test");
    cr_assert_eq(directory_account_named(d, SPAN("b@example.test"), &c, &err), DIR_OK);
    cr_expect_eq(c.id, again.id, "the one that is there comes first");
    cr_expect_eq(directory_account_set_state(d, b.id, ACCOUNT_ENABLED, &err), DIR_REFUSED, "its name is taken");
    cr_assert_eq(directory_account_named(d, SPAN("2"), &c, &err), DIR_OK);
    cr_expect_eq(c.id, b.id);
    cr_assert_eq(directory_account_set_state(d, b.id, ACCOUNT_PURGED, &err), DIR_OK);
    cr_expect_eq(directory_account_named(d, SPAN("2"), &c, &err), DIR_MISSING);
    cr_expect_eq(directory_account_set_state(d, b.id, ACCOUNT_ENABLED, &err), DIR_MISSING);
    cr_expect_gt(again.id, b.id);
    cr_expect_gt(again.uid, b.uid);
    directory_close(&d);
    cr_assert_eq(directory_open(&d, dir, &options, &err), 0);
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof(name), "n%d@example.test", i);
        cr_expect_eq(add(name).uid, again.uid + 1 + (uint32_t)i);
    }
    cr_expect_eq(directory_account_add(d, SPAN("toomany@example.test"), "h", 0, &c, &err), DIR_FAILED,
                 "the range is used up");
    cr_expect_eq(directory_account_find(d, SPAN("toomany@example.test"), &c, &err), DIR_MISSING);
}

Test(directory, a_removed_account_comes_back_unless_its_name_is_taken)
{
    struct account a = add("a@example.test");
    cr_assert_eq(directory_account_set_state(d, a.id, ACCOUNT_REMOVED, &err), DIR_OK);
    cr_assert_eq(directory_account_set_state(d, a.id, ACCOUNT_ENABLED, &err), DIR_OK);
    expect("a@example.test", RESOLVE_ACCOUNT, RULE_EXACT, a.id, "");
    cr_assert_eq(directory_account_set_state(d, a.id, ACCOUNT_REMOVED, &err), DIR_OK);
    cr_assert_eq(alias("a@example.test", "x@elsewhere.test"), DIR_OK);
    cr_expect_eq(directory_account_set_state(d, a.id, ACCOUNT_ENABLED, &err), DIR_REFUSED);
}

Test(directory, senders)
{
    struct account alice = add("alice@example.test"), bob = add("bob@example.test");
    cr_assert_eq(alias("team@example.test", "alice@example.test"), DIR_OK);
    cr_assert_eq(alias("team@example.test", "bob@example.test"), DIR_OK);
    cr_assert_eq(alias("all@example.test", "team@example.test"), DIR_OK);
    cr_assert_eq(alias("sales@example.test", "bob+sales@example.test"), DIR_OK);
    cr_assert_eq(alias("@example.test", "bob@example.test"), DIR_OK);
    struct {
        const char *sender;
        int alice, bob;
    } cases[] = {
        {"alice@example.test", 1, 0},
        {"ALICE@example.test", 1, 0},
        {"alice+any@example.test", 1, 0},
        {"bob@example.test", 0, 1},
        {"team@example.test", 1, 1},
        {"all@example.test", 1, 1},
        {"sales@example.test", 0, 1},
        {"whatever@example.test", 0, 1}, /* the catch-all is his */
        {"alice@elsewhere.test", 0, 0},
        {"alice", 0, 0},
        {"", 0, 0},
        {"postmaster@example.test", 1, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cr_expect_eq(directory_may_send(d, alice.id, span_of(cases[i].sender), &err), cases[i].alice, "alice %s",
                     cases[i].sender);
        cr_expect_eq(directory_may_send(d, bob.id, span_of(cases[i].sender), &err), cases[i].bob, "bob %s",
                     cases[i].sender);
    }
}

Test(directory, delegated_addresses)
{
    struct account alice = add("alice@example.test"), bob = add("bob@example.test");
    static const char *const good[] = {"Bob@Example.test", "me@elsewhere.test", "@club.test",
                                      "\"two words\"@b\303\274cher.test"};
    for (size_t i = 0; i < COUNT_OF(good); i++)
        cr_assert_eq(directory_delegate_add(d, alice.id, span_of(good[i]), &err), DIR_OK, "%s: %s", good[i], err.text);
    static const char *const bad[] = {"", "@", "me", "@not a domain", "a b@c.test", "me@[192.0.2.1]", "@[192.0.2.1]"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        cr_expect_eq(directory_delegate_add(d, alice.id, span_of(bad[i]), &err), DIR_USAGE, "%s", bad[i]);
    cr_expect_eq(directory_delegate_add(d, alice.id, SPAN("ME@elsewhere.test"), &err), DIR_REFUSED, "there already");
    static const char *const may[] = {"bob@example.test", "bob+x@example.test", "me@ELSEWHERE.test", "me+y@elsewhere.test",
                                      "anyone@club.test", "two words@xn--bcher-kva.test"};
    for (size_t i = 0; i < COUNT_OF(may) - 1; i++) {
        cr_expect_eq(directory_may_send(d, alice.id, span_of(may[i]), &err), 1, "%s", may[i]);
        cr_expect_eq(directory_may_send(d, bob.id, span_of(may[i]), &err), i < 2, "%s", may[i]);
    }
    cr_expect_eq(directory_may_send(d, alice.id, SPAN("\"two words\"@xn--bcher-kva.test"), &err), 1);
    static const char *const not[] = {"other@elsewhere.test", "anyone@sub.club.test", "club.test", "@club.test",
                                      "me@[192.0.2.1]"};
    for (size_t i = 0; i < COUNT_OF(not); i++)
        cr_expect_eq(directory_may_send(d, alice.id, span_of(not[i]), &err), 0, "%s", not[i]);
    cr_assert_eq(directory_delegate_remove(d, alice.id, SPAN("me@elsewhere.test"), &err), DIR_OK);
    cr_assert_eq(directory_delegate_remove(d, alice.id, SPAN("me@elsewhere.test"), &err), DIR_MISSING);
    cr_expect_eq(directory_may_send(d, alice.id, SPAN("me@elsewhere.test"), &err), 0);
}

Test(directory, domains)
{
    cr_expect_eq(directory_domain_add(d, SPAN("EXAMPLE.test"), &err), DIR_REFUSED);
    cr_expect_eq(directory_domain_add(d, SPAN("not a domain"), &err), DIR_USAGE);
    cr_expect_eq(directory_domain_add(d,
                                      SPAN("b\xc3\xbc"
                                           "cher.test"),
                                      &err),
                 DIR_OK);
    cr_expect_eq(directory_domain_local(d, SPAN("xn--bcher-kva.test"), &err), 1);
    add("j@xn--bcher-kva.test");
    expect("j@b\xc3\xbc"
           "cher.test",
           RESOLVE_ACCOUNT, RULE_EXACT, 1, "");
    struct account a;
    cr_expect_eq(directory_account_add(d, SPAN("a@missing.test"), "h", 0, &a, &err), DIR_MISSING);
    cr_expect(strstr(err.text, "waypost domain add missing.test"), "%s", err.text);
    cr_expect_eq(directory_domain_remove(d, SPAN("xn--bcher-kva.test"), &err), DIR_REFUSED);
    cr_expect_eq(directory_account_set_state(d, 1, ACCOUNT_REMOVED, &err), DIR_OK);
    cr_expect_eq(directory_domain_remove(d, SPAN("xn--bcher-kva.test"), &err), DIR_OK);
    cr_expect_eq(directory_domain_remove(d, SPAN("xn--bcher-kva.test"), &err), DIR_MISSING);
    cr_expect_eq(directory_account_set_state(d, 1, ACCOUNT_ENABLED, &err), DIR_MISSING, "its domain is gone");
    cr_expect_eq(directory_domain_add(d, SPAN("xn--bcher-kva.test"), &err), DIR_OK);
    cr_expect_eq(directory_account_set_state(d, 1, ACCOUNT_ENABLED, &err), DIR_OK);
}

static void count_one(void *ctx, const struct account *a)
{
    *(uint32_t *)ctx = a->id;
}

static void count_alias(void *ctx, int64_t row, struct span local, struct span domain, struct span target)
{
    (void)local;
    (void)domain;
    (void)target;
    *(int64_t *)ctx = row;
}

Test(directory, lists_are_read_in_pages)
{
    uint32_t last = 0;
    int64_t row = 0;
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof(name), "n%d@example.test", i);
        add(name);
        snprintf(name, sizeof(name), "a%d@example.test", i);
        cr_assert_eq(alias(name, "x@elsewhere.test"), DIR_OK);
    }
    cr_assert_eq(directory_accounts(d, SPAN_NONE, 0, 2, count_one, &last, &err), 0);
    cr_expect_eq(last, 2);
    cr_assert_eq(directory_accounts(d, SPAN("example.test"), last, 2, count_one, &last, &err), 0);
    cr_expect_eq(last, 4);
    cr_assert_eq(directory_aliases(d, SPAN("example.test"), 0, 3, count_alias, &row, &err), 0);
    cr_expect_eq(row, 3);
    cr_assert_eq(directory_aliases(d, SPAN_NONE, row, 10, count_alias, &row, &err), 0);
    cr_expect_eq(row, 5);
    struct span target = SPAN("X@elsewhere.test");
    cr_expect_eq(directory_alias_remove(d, SPAN("a1@example.test"), &target, 1, &err), DIR_OK);
    cr_expect_eq(directory_alias_remove(d, SPAN("a1@example.test"), NULL, 0, &err), DIR_MISSING);
    cr_expect_eq(directory_alias_remove(d, SPAN("a2@example.test"), NULL, 0, &err), DIR_OK);
}

static void note_step(void *ctx, const struct explain_step *s)
{
    struct buf *b = ctx;
    buf_printf(b, "%u %s [%.*s] %s%s\n", s->depth, s->rule, SPANV(s->looked_for), s->found, s->decides ? " !" : "");
}

Test(directory, explain_shows_the_order)
{
    add("alice@example.test");
    cr_assert_eq(alias("sales@example.test", "alice+s@example.test"), DIR_OK);
    struct buf b = {0};
    cr_assert_eq(directory_explain(d, SPAN("sales+x@example.test"), note_step, &b, &err), DIR_OK);
    cr_expect_str_eq(buf_cstr(&b), "0 domain [sales+x@example.test] served here\n"
                                   "0 account [sales+x] none\n"
                                   "0 account without detail [sales] none\n"
                                   "0 alias [sales+x] none\n"
                                   "0 alias without detail [sales] leads to: !\n"
                                   "1 domain [alice+s@example.test] served here\n"
                                   "1 account [alice+s] none\n"
                                   "1 account without detail [alice] account alice@example.test, detail s !\n");
    buf_free(&b);
}

Test(directory, usage_is_kept)
{
    struct account a = add("a@example.test"), b;
    struct account_usage u[] = {{a.id, 12345, 6}, {999, 1, 1}};
    cr_assert_eq(directory_usage(d, u, 2, &err), 0);
    cr_assert_eq(directory_account_get(d, a.id, &b, &err), DIR_OK);
    cr_expect(b.bytes == 12345 && b.messages == 6);
}

/* HAZARDS 8: whatever the local part holds, it is bound, never SQL. */
Test(directory, local_parts_are_data)
{
    static const char *const odd[] = {"\"'; DROP TABLE account; --\"@example.test", "\"$(reboot)|`id`\"@example.test",
                                      "o'neil@example.test", "%@example.test", "_@example.test"};
    for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
        struct account a = add(odd[i]), b;
        expect(odd[i], RESOLVE_ACCOUNT, RULE_EXACT, a.id, "");
        cr_assert_eq(directory_account_find(d, span_of(a.login), &b, &err), DIR_OK, "%s", a.login);
        cr_expect_eq(a.id, b.id);
    }
}

Test(directory, rcpt_is_fast)
{
    add("alice@example.test");
    bool relayed;
    int64_t t = clock_mono();
    for (int i = 0; i < 20000; i++)
        directory_welcome(d, i & 1 ? SPAN("alice@example.test") : SPAN("nobody@example.test"), &relayed);
    t = clock_mono() - t;
    cr_log_info("20,000 lookups in %d ms", (int)t);
    cr_expect_lt(t, 10000);
}

/* RFC3463:3.3 X.2.2; HAZARDS 16: whether there is room is decided at RCPT, behind the aliases. */
Test(directory, quotas_at_rcpt)
{
    struct account alice = add("alice@example.test"), bob = add("bob@example.test");
    struct span both[] = {SPAN("alice@example.test"), SPAN("bob@example.test")};
    struct account_usage used[] = {{alice.id, 1000, 1}, {bob.id, 10, 1}};
    bool relayed;
    cr_assert_eq(directory_usage(d, used, 2, &err), 0);
    cr_assert_eq(directory_alias_add(d, SPAN("all@example.test"), both, 2, &err), DIR_OK);
    cr_expect_eq(directory_welcome_sized(d, both[0], 5000, &relayed).kind, OUTCOME_DONE, "no quota");
    cr_assert_eq(directory_domain_quota_set(d, SPAN("EXAMPLE.test"), 1500, &err), DIR_OK);
    cr_expect_eq(directory_welcome_sized(d, both[0], 500, &relayed).kind, OUTCOME_DONE);
    struct outcome o = directory_welcome_sized(d, both[0], 501, &relayed);
    cr_expect(o.kind == OUTCOME_RETRY && o.code == 452 && o.subject == 2 && o.detail == 2);
    o = directory_welcome_sized(d, both[0], 1501, &relayed);
    cr_expect(o.kind == OUTCOME_FAILED && o.code == 552 && o.subject == 2 && o.detail == 2, "it will never fit");
    cr_assert_eq(directory_account_quota_set(d, alice.id, 1000, &err), DIR_OK);
    o = directory_welcome(d, both[0], &relayed);
    cr_expect(o.kind == OUTCOME_RETRY && o.code == 452, "full");
    cr_expect_eq(directory_welcome(d, SPAN("all@example.test"), &relayed).kind, OUTCOME_DONE, "bob has room");
    cr_assert_eq(directory_account_quota_set(d, bob.id, 5, &err), DIR_OK);
    cr_expect_eq(directory_welcome(d, SPAN("all@example.test"), &relayed).code, 452);
    cr_assert_eq(directory_account_quota_set(d, bob.id, 0, &err), DIR_OK);
    cr_expect_eq(directory_welcome_sized(d, both[1], 1u << 30, &relayed).kind, OUTCOME_DONE, "none");
    cr_assert_eq(directory_account_quota_set(d, alice.id, -1, &err), DIR_OK);
    cr_assert_eq(directory_domain_quota_set(d, SPAN("example.test"), -1, &err), DIR_OK);
    struct directory_options o2 = options;
    o2.quota = 999;
    directory_configure(d, &o2);
    cr_expect_eq(directory_welcome(d, both[0], &relayed).code, 452, "the default");
    cr_assert_eq(directory_account_quota_set(d, 77, 5, &err), DIR_MISSING);
    cr_assert_eq(directory_domain_quota_set(d, SPAN("other.test"), 5, &err), DIR_MISSING);
}

/* What an account may send: its own limit, its domain's, the default. */
Test(directory, limits_of_sending)
{
    struct account a;
    uint32_t most[SENDING_LIMITS];
    enum sending_from from[SENDING_LIMITS];
    cr_assert_eq(directory_account_add(d, SPAN("sender@example.test"), "hash", 1, &a, &err), DIR_OK, "%s", err.text);
    struct directory_options o = options;
    o.sending[SENDING_MESSAGES_HOUR] = 10;
    directory_configure(d, &o);
    cr_assert_eq(directory_sending(d, a.id, most, from, &err), 0);
    cr_expect(most[SENDING_MESSAGES_HOUR] == 10 && from[SENDING_MESSAGES_HOUR] == SENDING_BY_DEFAULT && most[SENDING_NEW_DAY] == 0);
    cr_assert_eq(directory_domain_sending_set(d, SPAN("EXAMPLE.test"), SENDING_NEW_DAY, 20, &err), DIR_OK);
    cr_assert_eq(directory_account_sending_set(d, a.id, SENDING_MESSAGES_HOUR, 0, &err), DIR_OK);
    cr_assert_eq(directory_sending(d, a.id, most, from, &err), 0);
    cr_expect(most[SENDING_MESSAGES_HOUR] == 0 && from[SENDING_MESSAGES_HOUR] == SENDING_BY_ACCOUNT);
    cr_expect(most[SENDING_NEW_DAY] == 20 && from[SENDING_NEW_DAY] == SENDING_BY_DOMAIN);
    cr_assert_eq(directory_account_sending_set(d, a.id, SENDING_NEW_DAY, 5, &err), DIR_OK);
    cr_assert_eq(directory_account_sending_set(d, a.id, SENDING_MESSAGES_HOUR, -1, &err), DIR_OK);
    cr_assert_eq(directory_sending(d, a.id, most, from, &err), 0);
    cr_expect(most[SENDING_MESSAGES_HOUR] == 10 && most[SENDING_NEW_DAY] == 5 && from[SENDING_NEW_DAY] == SENDING_BY_ACCOUNT);
    cr_expect_eq(directory_domain_sending_set(d, SPAN("nowhere.test"), SENDING_NEW_DAY, 5, &err), DIR_MISSING);
    cr_expect_eq(directory_domain_sending_set(d, SPAN("a b"), SENDING_NEW_DAY, 5, &err), DIR_USAGE);
}

/* What was found is remembered, and never longer than it is so. */
Test(directory, a_change_is_seen_by_the_next_question)
{
    struct directory_options o = options;
    struct resolution r;
    char text[64];
    struct account bob = add("bob@example.test");
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(directory_resolve(d, SPAN("Bob+x@example.test"), &r, &err), DIR_OK);
        cr_assert(r.kind == RESOLVE_ACCOUNT && r.account == bob.id && r.state == ACCOUNT_ENABLED);
        cr_assert_str_eq(r.login, "bob@example.test");
        cr_assert_str_eq(r.detail, "x");
    }
    struct account exact = add("bob+x@example.test");
    expect("Bob+x@example.test", RESOLVE_ACCOUNT, RULE_EXACT, exact.id, "");
    cr_assert_eq(directory_account_set_state(d, exact.id, ACCOUNT_DISABLED, &err), DIR_OK);
    cr_assert_eq(directory_resolve(d, SPAN("Bob+x@example.test"), &r, &err), DIR_OK);
    cr_assert_eq(r.state, ACCOUNT_DISABLED);
    expect("postmaster@mx.test", RESOLVE_ELSEWHERE, RULE_NONE, 0, "");
    o.hostname = SPAN("mx.test");
    directory_configure(d, &o);
    expect("postmaster@mx.test", RESOLVE_ACCOUNT, RULE_ROLE, bob.id, "");
    cr_assert_eq(directory_resolve(d, SPAN("postmaster@mx.test"), &r, &err), DIR_OK);
    cr_assert_str_eq(r.login, "bob@example.test");
    directory_configure(d, &options);
    expect("postmaster@mx.test", RESOLVE_ELSEWHERE, RULE_NONE, 0, "");
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 1500; i++) { /* more than are remembered */
            char detail[16];
            snprintf(detail, sizeof(detail), "%d", i);
            snprintf(text, sizeof(text), "bob+%s@example.test", detail);
            expect(text, RESOLVE_ACCOUNT, RULE_DETAIL, bob.id, detail);
        }
}
