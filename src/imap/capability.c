/* See capability.h. A capability stands here when it is served completely. */
#include "imap/capability.h"

#include "base/util.h"

enum {
    BEFORE = 1, /* the login */
    AFTER = 2,
    STARTTLS = 4, /* where it is offered and not yet done */
    CLEAR = 8,    /* where a login is refused for want of TLS */
    LOGIN = 16,   /* where a login is possible */
};

static const struct {
    const char *name;
    unsigned when;
} table[] = {
    {"IMAP4rev1", BEFORE | AFTER}, /* RFC3501:6.1.1 */
    {"LITERAL+", BEFORE | AFTER},  /* RFC7888:2 */
    {"ID", BEFORE | AFTER},        /* RFC2971 */
    {"STARTTLS", STARTTLS},
    {"LOGINDISABLED", CLEAR}, /* RFC3501:6.2.3 */
    {"SASL-IR", LOGIN},       /* RFC4959:3 */
    {"IDLE", AFTER}, /* RFC2177 */
    {"NAMESPACE", AFTER},
    {"UIDPLUS", AFTER}, /* RFC4315 */
    {"UNSELECT", AFTER},
    {"MOVE", AFTER}, /* RFC6851 */
    {"CHILDREN", AFTER},
    {"LIST-EXTENDED", AFTER}, /* RFC5258 */
    {"SPECIAL-USE", AFTER},   /* RFC6154 */
};

void imap_put_capabilities(struct buf *out, enum imap_capability_when when, bool starttls, struct span mechanisms)
{
    unsigned now = when == IMAP_AFTER_LOGIN
                       ? AFTER
                       : BEFORE | (when == IMAP_BEFORE_TLS ? CLEAR : LOGIN) | (starttls ? STARTTLS : 0);
    const char *between = "";
    for (size_t i = 0; i < COUNT_OF(table); i++)
        if (table[i].when & now) {
            buf_adds(out, between);
            buf_adds(out, table[i].name);
            between = " ";
        }
    /* LOGIN is served, but not announced: who wants it has the command */
    while (when == IMAP_BEFORE_LOGIN && mechanisms.n) {
        struct span name = span_word(&mechanisms);
        if (!span_eqs(name, "LOGIN"))
            buf_printf(out, " AUTH=%.*s", SPANV(name));
    }
}
