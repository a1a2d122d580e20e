/* auth/app_password: made once, good for its protocols, revocable alone; and what an older directory becomes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "auth/directory.h"
#include "db/db.h"

static char dir[64], secret[APP_PASSWORD_SIZE];
static struct app_found found;
static struct directory *d;
static struct account alice, bob;
static struct err err;
static const struct directory_options options = {
    .uid_first = 200000, .uid_last = 200007, .hostname = {"mx.example.test", 15}};

static void set_up(void)
{
    snprintf(dir, sizeof(dir), "/tmp/waypost-app-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(password_init(&err), 0);
    cr_assert_eq(directory_open(&d, dir, &options, &err), 0, "%s", err.text);
    cr_assert_eq(directory_domain_add(d, SPAN("example.test"), &err), DIR_OK);
    cr_assert_eq(directory_account_add(d, SPAN("alice@example.test"), "hash", 1, &alice, &err), DIR_OK);
    cr_assert_eq(directory_account_add(d, SPAN("bob@example.test"), "hash", 1, &bob, &err), DIR_OK);
}

static void tear_down(void)
{
    char cmd[128];
    directory_close(&d);
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(app_password, .init = set_up, .fini = tear_down);

static enum app_check check(uint32_t account, const char *password, unsigned protocol, int64_t now)
{
    return directory_app_check(d, account, span_of(password), protocol, now, &found, &err);
}

static int64_t used;
static unsigned rows;

static void note(void *ctx, const struct app_password *p)
{
    (void)ctx;
    rows++;
    if (span_eqs(p->name, "phone"))
        used = p->used;
}

static void read_list(uint32_t account)
{
    rows = 0;
    used = -1;
    cr_assert_eq(directory_app_list(d, account, note, NULL, &err), 0);
}

Test(app_password, life)
{
    char phone[APP_PASSWORD_SIZE];
    cr_assert_eq(directory_app_add(d, alice.id, SPAN("phone"), APP_IMAP | APP_SMTP, 1000, phone, &err), DIR_OK);
    cr_assert_eq(directory_app_add(d, alice.id, SPAN("printer"), APP_SMTP, 1000, secret, &err), DIR_OK);
    cr_assert(strlen(phone) == 23 && strcmp(phone, secret) != 0);
    read_list(alice.id);
    cr_assert(rows == 2 && used == 0);
    cr_assert_eq((int)check(alice.id, phone, APP_IMAP, 1000000), (int)APP_RIGHT);
    cr_assert_str_eq(found.name, "phone");
    cr_assert_eq((int)check(alice.id, phone, APP_SMTP, 1000001), (int)APP_RIGHT);
    read_list(alice.id);
    cr_assert_eq(used, 1000000, "a use so soon after another is not written down");
    cr_assert_eq((int)check(alice.id, phone, APP_SMTP, 1060000), (int)APP_RIGHT);
    cr_assert_eq((int)check(alice.id, phone, APP_POP3, 2000000), (int)APP_ELSEWHERE);
    read_list(alice.id);
    cr_assert_eq(used, 1060000);
    cr_assert_eq((int)check(alice.id, secret, APP_IMAP, 1), (int)APP_ELSEWHERE);
    cr_assert_eq((int)check(bob.id, phone, APP_IMAP, 1), (int)APP_NONE, "another's");
    cr_assert_eq((int)check(alice.id, "", APP_IMAP, 1), (int)APP_NONE);
    phone[22]++;
    cr_assert_eq((int)check(alice.id, phone, APP_IMAP, 1), (int)APP_NONE);
    phone[22]--;
    cr_assert_eq(directory_app_remove(d, bob.id, SPAN("phone"), &err), DIR_MISSING);
    cr_assert_eq(directory_app_remove(d, alice.id, SPAN("phone"), &err), DIR_OK);
    cr_assert_eq(directory_app_remove(d, alice.id, SPAN("phone"), &err), DIR_MISSING);
    cr_assert_eq((int)check(alice.id, phone, APP_IMAP, 1), (int)APP_NONE);
    cr_assert_eq((int)check(alice.id, secret, APP_SMTP, 1), (int)APP_RIGHT, "the other one stays");
    cr_assert_eq(directory_account_set_state(d, alice.id, ACCOUNT_PURGED, &err), DIR_OK);
    read_list(alice.id);
    cr_assert_eq(rows, 0, "gone with the account");
}

static int64_t kept[4];
static unsigned kept_n;

static void note_scram(void *ctx, int64_t id, struct span scram)
{
    (void)ctx;
    cr_assert(span_starts(scram, SPAN("text")));
    kept[kept_n++] = id;
}

static unsigned scrams(uint32_t account, unsigned protocol)
{
    kept_n = 0;
    cr_assert_eq(directory_app_scrams(d, account, protocol, note_scram, NULL, &err), 0);
    return kept_n;
}

/* What SCRAM needs of them: for their protocols, gone with them, and when SCRAM is switched off. */
Test(app_password, verifiers)
{
    cr_assert_eq(directory_app_add(d, alice.id, SPAN("phone"), APP_IMAP | APP_SMTP, 1, secret, &err), DIR_OK);
    cr_assert_eq((int)check(alice.id, secret, APP_IMAP, 1), (int)APP_RIGHT);
    cr_assert(found.bare);
    int64_t id = directory_app_id(d, alice.id, SPAN("phone"), &err);
    cr_assert(id > 0 && id == found.id && directory_app_id(d, bob.id, SPAN("phone"), &err) == 0);
    cr_assert_eq(scrams(alice.id, APP_IMAP), 0);
    cr_assert_eq(directory_app_scram(d, id, "text", &err), 0);
    cr_assert(scrams(alice.id, APP_IMAP) == 1 && kept[0] == id && scrams(alice.id, APP_SMTP) == 1);
    cr_assert(scrams(alice.id, APP_POP3) == 0 && scrams(alice.id, 0) == 0 && scrams(bob.id, APP_IMAP) == 0);
    cr_assert_eq((int)check(alice.id, secret, APP_IMAP, 1), (int)APP_RIGHT);
    cr_assert_not(found.bare);
    cr_assert_eq((int)directory_app_use(d, alice.id, id, 500000, &found, &err), (int)APP_RIGHT);
    cr_assert_str_eq(found.name, "phone");
    read_list(alice.id);
    cr_assert_eq(used, 500000);
    cr_assert_eq((int)directory_app_use(d, bob.id, id, 1, &found, &err), (int)APP_NONE);
    cr_assert_eq(directory_scram_drop(d, SCRAM_SHA_1, &err), 0);
    cr_assert_eq(scrams(alice.id, APP_IMAP), 1);
    cr_assert_eq(directory_scram_drop(d, SCRAM_SHA_256, &err), 0);
    cr_assert_eq(scrams(alice.id, APP_IMAP), 0);
    cr_assert_eq(directory_app_scram(d, id, "text", &err), 0);
    cr_assert_eq(directory_app_remove(d, alice.id, SPAN("phone"), &err), DIR_OK);
    cr_assert_eq((int)directory_app_use(d, alice.id, id, 1, &found, &err), (int)APP_NONE);
    cr_assert_eq(directory_app_scram(d, id, "text", &err), 0, "too late");
    cr_assert_eq(scrams(alice.id, APP_IMAP), 0);
}

Test(app_password, refusals)
{
    static const struct span bad[] = {{"", 0}, {"a\nb", 3}, {"a\0b", 3}, {"\xff", 1},
                                      {"12345678901234567890123456789012345678901234567890123456789012345", 65}};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        cr_expect_eq(directory_app_add(d, alice.id, bad[i], APP_IMAP, 1, secret, &err), DIR_USAGE, "case %zu", i);
    cr_expect_eq(directory_app_add(d, alice.id, SPAN("x"), 0, 1, secret, &err), DIR_USAGE, "for nothing");
    cr_expect_eq(directory_app_add(d, alice.id, SPAN("x"), APP_IMAP, 1, secret, &err), DIR_OK);
    cr_expect_eq(directory_app_add(d, alice.id, SPAN("x"), APP_SMTP, 1, secret, &err), DIR_REFUSED);
    cr_expect_eq(directory_app_add(d, bob.id, SPAN("x"), APP_SMTP, 1, secret, &err), DIR_OK);
    for (int i = 1; i < APP_PASSWORDS_MAX; i++) {
        char text[8];
        snprintf(text, sizeof(text), "n%d", i);
        cr_expect_eq(directory_app_add(d, alice.id, span_of(text), APP_SMTP, 1, secret, &err), DIR_OK);
    }
    cr_expect_eq(directory_app_add(d, alice.id, SPAN("one more"), APP_SMTP, 1, secret, &err), DIR_REFUSED);
}

/* A directory of the first form keeps its accounts and gets what is new. */
Test(app_password, an_older_directory)
{
    struct db *db;
    struct db_options how = {.one_process = true};
    directory_close(&d);
    cr_assert_eq(db_open(&db, dir, "directory.db", &how, &err), 0);
    cr_assert_eq(db_exec(db, "ALTER TABLE account DROP COLUMN scram; ALTER TABLE account DROP COLUMN scram_sha_1;"
                             "ALTER TABLE account DROP COLUMN sha_1; ALTER TABLE account DROP COLUMN quota; ALTER TABLE domain DROP COLUMN quota;"
                             "DROP TABLE sending; DROP TABLE certificate; DROP TABLE delegate; DROP TABLE secret; DROP TABLE app_password;"
                             "PRAGMA user_version = 1", &err), 0, "%s", err.text);
    db_close(&db);
    cr_assert_eq(directory_open(&d, dir, &options, &err), 0, "%s", err.text);
    cr_assert_eq(directory_account_get(d, alice.id, &alice, &err), DIR_OK);
    cr_assert(strcmp(alice.hash, "hash") == 0 && alice.scram[0][0] == 0);
    cr_assert_eq(directory_app_add(d, alice.id, SPAN("phone"), APP_IMAP, 1, secret, &err), DIR_OK);
    uint8_t one[SCRAM_KEY], two[SCRAM_KEY];
    cr_assert(directory_secret(d, one, &err) == 0 && directory_secret(d, two, &err) == 0);
    cr_assert_eq(memcmp(one, two, SCRAM_KEY), 0);
}
