/* App passwords: made here, 100 bits each, so that a salted SHA-256 is enough to keep them and a check costs nothing.
 * Trusts only the database. */
#include <sodium.h>
#include <stdio.h>

#include "auth/directory_priv.h"

#define SALT 16
#define USE_NOTED_MS 60000 /* a use is written down once in so long: logins would cost a sync each */
#define LETTERS 20

struct digest {
    uint8_t salt[SALT], hash[crypto_hash_sha256_BYTES];
};

static void digest_of(struct digest *d, struct span password)
{
    crypto_hash_sha256_state h;
    crypto_hash_sha256_init(&h);
    crypto_hash_sha256_update(&h, d->salt, SALT);
    crypto_hash_sha256_update(&h, (const unsigned char *)password.p, password.n);
    crypto_hash_sha256_final(&h, d->hash);
}

static bool name_good(struct span name)
{
    return name.n > 0 && name.n <= APP_PASSWORD_NAME_MAX && span_is_utf8(name) && !span_has_control(name);
}

static void generate(char *out)
{
    static const char letters[33] = "abcdefghijkmnpqrstuvwxyz23456789"; /* without l, o, 0, 1 */
    uint8_t random[LETTERS];
    size_t n = 0;
    randombytes_buf(random, sizeof(random));
    for (size_t i = 0; i < LETTERS; i++) {
        if (i && i % 5 == 0)
            out[n++] = '-';
        out[n++] = letters[random[i] & 31];
    }
    out[n] = 0;
    sodium_memzero(random, sizeof(random));
}

static int count_of(struct directory *d, uint32_t account, int64_t *out, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT count(*) FROM app_password WHERE account = ?");
    db_bind_i64(s, 1, account);
    if (db_step(s, err) <= 0)
        return -1;
    *out = db_i64(s, 0);
    db_reset(s);
    return 0;
}

static int insert(struct directory *d, uint32_t account, struct span name, unsigned protocols, int64_t now,
                  struct span secret, struct err *err)
{
    struct digest digest;
    randombytes_buf(digest.salt, SALT);
    digest_of(&digest, secret);
    struct db_stmt *s =
        db_stmt(d->db, "INSERT INTO app_password (account, name, protocols, digest, created) VALUES (?, ?, ?, ?, ?)");
    db_bind_i64(s, 1, account);
    db_bind_text(s, 2, name);
    db_bind_i64(s, 3, protocols);
    db_bind_blob(s, 4, span_make(&digest, sizeof(digest)));
    db_bind_i64(s, 5, now);
    return db_run(s, err);
}

enum dir_result directory_app_add(struct directory *d, uint32_t account, struct span name, unsigned protocols,
                                  int64_t now, char *secret, struct err *err)
{
    int64_t count;
    if (!name_good(name) || !protocols)
        return dir_refuse(err, DIR_USAGE, "the name of an app password has 1 to %d bytes of text",
                          APP_PASSWORD_NAME_MAX);
    if (count_of(d, account, &count, err))
        return DIR_FAILED;
    if (count >= APP_PASSWORDS_MAX)
        return dir_refuse(err, DIR_REFUSED, "an account has %d app passwords at most", APP_PASSWORDS_MAX);
    generate(secret);
    if (insert(d, account, name, protocols, now, span_of(secret), err) == 0)
        return DIR_OK;
    sodium_memzero(secret, APP_PASSWORD_SIZE);
    return db_code(d->db) == DB_CONSTRAINT
               ? dir_refuse(err, DIR_REFUSED, "there is an app password of that name already: remove it first")
               : DIR_FAILED;
}

enum dir_result directory_app_remove(struct directory *d, uint32_t account, struct span name, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "DELETE FROM app_password WHERE account = ? AND name = ?");
    db_bind_i64(s, 1, account);
    db_bind_text(s, 2, name.p ? name : SPAN(""));
    if (db_run(s, err))
        return DIR_FAILED;
    return db_changes(d->db) ? DIR_OK : dir_refuse(err, DIR_MISSING, "the account has no app password of that name");
}

int directory_app_list(struct directory *d, uint32_t account, directory_app_fn *fn, void *ctx, struct err *err)
{
    struct db_stmt *s =
        db_stmt(d->db, "SELECT name, protocols, created, used FROM app_password WHERE account = ? ORDER BY id");
    int got;
    db_bind_i64(s, 1, account);
    while ((got = db_step(s, err)) > 0)
        fn(ctx, &(struct app_password){db_text(s, 0), (unsigned)db_i64(s, 1), db_i64(s, 2), db_i64(s, 3)});
    return got;
}

/* The one that it is; id 0: none. Every one is compared, whichever it is. */
static int find(struct directory *d, uint32_t account, struct span password, unsigned *protocols, struct app_found *found,
                struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT id, protocols, name, digest, scram FROM app_password WHERE account = ?");
    int got;
    *found = (struct app_found){0};
    db_bind_i64(s, 1, account);
    while ((got = db_step(s, err)) > 0) {
        struct digest kept, tried;
        struct span blob = db_blob(s, 3);
        if (blob.n != sizeof(kept))
            continue;
        memcpy(&kept, blob.p, sizeof(kept));
        memcpy(tried.salt, kept.salt, SALT);
        digest_of(&tried, password);
        if (sodium_memcmp(&tried, &kept, sizeof(kept)) != 0)
            continue;
        found->id = db_i64(s, 0);
        found->bare = db_text(s, 4).n == 0;
        *protocols = (unsigned)db_i64(s, 1);
        snprintf(found->name, sizeof(found->name), "%.*s", SPANV(db_text(s, 2)));
    }
    return got;
}

static enum app_check note_use(struct directory *d, int64_t id, int64_t now, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "UPDATE app_password SET used = ?1 WHERE id = ?2 AND used <= ?1 - ?3");
    db_bind_i64(s, 1, now);
    db_bind_i64(s, 2, id);
    db_bind_i64(s, 3, USE_NOTED_MS);
    return db_run(s, err) ? APP_FAILED : APP_RIGHT;
}

enum app_check directory_app_check(struct directory *d, uint32_t account, struct span password, unsigned protocol,
                                   int64_t now, struct app_found *found, struct err *err)
{
    unsigned protocols = 0;
    if (find(d, account, password, &protocols, found, err))
        return APP_FAILED;
    if (!found->id)
        return APP_NONE;
    return protocols & protocol ? note_use(d, found->id, now, err) : APP_ELSEWHERE;
}

/* ---- SCRAM ---- */

int64_t directory_app_id(struct directory *d, uint32_t account, struct span name, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT id FROM app_password WHERE account = ? AND name = ?");
    db_bind_i64(s, 1, account);
    db_bind_text(s, 2, name);
    return directory_id(s, err);
}

int directory_app_scram(struct directory *d, int64_t id, const char *scram, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "UPDATE app_password SET scram = ? WHERE id = ?");
    db_bind_text(s, 1, span_of(scram));
    db_bind_i64(s, 2, id);
    return db_run(s, err);
}

int directory_app_scrams(struct directory *d, uint32_t account, unsigned protocol, directory_app_scram_fn *fn, void *ctx, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT id, scram FROM app_password WHERE account = ? AND protocols & ? AND scram <> '' ORDER BY id");
    int got;
    db_bind_i64(s, 1, account);
    db_bind_i64(s, 2, protocol);
    while ((got = db_step(s, err)) > 0)
        fn(ctx, db_i64(s, 0), db_text(s, 1));
    return got;
}

enum app_check directory_app_use(struct directory *d, uint32_t account, int64_t id, int64_t now, struct app_found *found, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT name FROM app_password WHERE id = ? AND account = ?");
    db_bind_i64(s, 1, id);
    db_bind_i64(s, 2, account);
    int got = db_step(s, err);
    *found = (struct app_found){.id = id};
    if (got <= 0)
        return got < 0 ? APP_FAILED : APP_NONE;
    snprintf(found->name, sizeof(found->name), "%.*s", SPANV(db_text(s, 0)));
    db_reset(s);
    return note_use(d, id, now, err);
}
