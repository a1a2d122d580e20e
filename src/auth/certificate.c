/* Clients' certificates: whose each is, by the SHA-256 of the whole certificate. That a certificate verifies was found
 * out by the front that has the TLS session; here it is a name. */
#include <sodium.h>

#include "auth/directory_priv.h"
#include "base/base64.h"
#include "base/util.h"

#define USE_NOTED_MS 60000 /* as for app passwords: a login must not cost a sync */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool read_hex(struct span text, uint8_t *out)
{
    size_t n = 0;
    bool colons = text.n == 3 * CERTIFICATE_FINGERPRINT - 1;
    if (!colons && text.n != 2 * CERTIFICATE_FINGERPRINT)
        return false;
    for (size_t i = 0; i < text.n; i += 2) {
        if (colons && n && text.p[i++] != ':')
            return false;
        if (hex(text.p[i]) < 0 || hex(text.p[i + 1]) < 0)
            return false;
        out[n++] = (uint8_t)(hex(text.p[i]) << 4 | hex(text.p[i + 1]));
    }
    return true;
}

/* RFC7468:5.1 */
static bool read_pem(struct span text, uint8_t *out)
{
    static const struct span begin = {"-----BEGIN CERTIFICATE-----", 27}, end = {"-----END CERTIFICATE-----", 25};
    ptrdiff_t from = span_search(text, begin);
    struct span rest = from < 0 ? SPAN_NONE : span_from(text, (size_t)from + begin.n);
    ptrdiff_t to = span_search(rest, end);
    struct buf joined = {0}, der = {0};
    if (from < 0 || to < 0)
        return false;
    for (size_t i = 0; i < (size_t)to; i++)
        if (rest.p[i] != '\r' && rest.p[i] != '\n' && rest.p[i] != ' ' && rest.p[i] != '\t')
            buf_addc(&joined, rest.p[i]);
    bool good = base64_decode(buf_span(&joined), &der) == 0 && der.n > 0;
    if (good)
        crypto_hash_sha256(out, (const unsigned char *)der.p, der.n);
    buf_free(&joined);
    buf_free(&der);
    return good;
}

bool certificate_read(struct span text, uint8_t *fingerprint)
{
    return read_hex(text, fingerprint) || read_pem(text, fingerprint);
}

static struct span blob(const uint8_t *fingerprint)
{
    return span_make(fingerprint, CERTIFICATE_FINGERPRINT);
}

int directory_certificate_owner(struct directory *d, const uint8_t *fingerprint, uint32_t *account, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "SELECT account FROM certificate WHERE fingerprint = ?");
    db_bind_blob(s, 1, blob(fingerprint));
    int got = db_step(s, err);
    if (got <= 0)
        return got;
    *account = (uint32_t)db_i64(s, 0);
    db_reset(s);
    return 1;
}

int directory_certificate_used(struct directory *d, const uint8_t *fingerprint, int64_t now, struct err *err)
{
    struct db_stmt *s =
        db_stmt(d->db, "UPDATE certificate SET used = ?1 WHERE fingerprint = ?2 AND used <= ?1 - ?3");
    db_bind_i64(s, 1, now);
    db_bind_blob(s, 2, blob(fingerprint));
    db_bind_i64(s, 3, USE_NOTED_MS);
    return db_run(s, err);
}

enum dir_result directory_certificate_add(struct directory *d, uint32_t account, const uint8_t *fingerprint,
                                          int64_t now, struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "INSERT INTO certificate (account, fingerprint, created) SELECT ?1, ?2, ?3"
                                       " WHERE (SELECT count(*) FROM certificate WHERE account = ?1) < ?4");
    db_bind_i64(s, 1, account);
    db_bind_blob(s, 2, blob(fingerprint));
    db_bind_i64(s, 3, now);
    db_bind_i64(s, 4, CERTIFICATES_MAX);
    if (db_run(s, err))
        return db_code(d->db) == DB_CONSTRAINT
                   ? dir_refuse(err, DIR_REFUSED, "that certificate belongs to an account already")
                   : DIR_FAILED;
    return db_changes(d->db) ? DIR_OK
                             : dir_refuse(err, DIR_REFUSED, "an account has %d certificates at most", CERTIFICATES_MAX);
}

enum dir_result directory_certificate_remove(struct directory *d, uint32_t account, const uint8_t *fingerprint,
                                             struct err *err)
{
    struct db_stmt *s = db_stmt(d->db, "DELETE FROM certificate WHERE account = ? AND fingerprint = ?");
    db_bind_i64(s, 1, account);
    db_bind_blob(s, 2, blob(fingerprint));
    if (db_run(s, err))
        return DIR_FAILED;
    return db_changes(d->db) ? DIR_OK : dir_refuse(err, DIR_MISSING, "the account has no such certificate");
}

int directory_certificate_list(struct directory *d, uint32_t account, directory_certificate_fn *fn, void *ctx,
                               struct err *err)
{
    struct db_stmt *s =
        db_stmt(d->db, "SELECT fingerprint, created, used FROM certificate WHERE account = ? ORDER BY id");
    int got;
    db_bind_i64(s, 1, account);
    while ((got = db_step(s, err)) > 0) {
        struct certificate c = {.created = db_i64(s, 1), .used = db_i64(s, 2)};
        struct span b = db_blob(s, 0);
        if (b.n == sizeof(c.fingerprint))
            memcpy(c.fingerprint, b.p, b.n);
        fn(ctx, &c);
    }
    return got;
}
