/* Names of mailboxes: UTF-8 rows of the database, never paths. Starts from "reject" (HAZARDS 22). RFC3501:5.1 */
#include "store/internal.h"

static bool bad_level(struct span level)
{
    return level.n == 0 || span_eqs(level, ".") || span_eqs(level, "..");
}

/* '%' and '*' are wildcards of LIST: a name that holds one could not be asked for. */
static bool bad_bytes(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        /* U+0080..U+009F are control characters too: C2 80..9F. */
        if (c < 0x20 || c == 0x7f || c == '%' || c == '*' ||
            (c == 0xc2 && i + 1 < s.n && (unsigned char)s.p[i + 1] < 0xa0))
            return true;
    }
    return !span_is_utf8(s);
}

static bool bad_levels(struct span s)
{
    struct span rest = s;
    for (;;) {
        ptrdiff_t at = span_find(rest, '/');
        struct span level = at < 0 ? rest : span_sub(rest, 0, (size_t)at);
        if (bad_level(level))
            return true;
        if (at < 0)
            return false;
        rest = span_from(rest, (size_t)at + 1);
    }
}

int store_name(struct span given, struct arena *a, struct span *out, struct err *err)
{
    struct span s = given;
    if (s.n > 1 && s.p[s.n - 1] == '/')
        s.n--;
    if (s.n == 0 || s.n > STORE_NAME_MAX || bad_bytes(s) || bad_levels(s)) {
        err_set(err, "not a name for a mailbox");
        return STORE_BAD_NAME;
    }
    /* RFC3501:5.1 INBOX in any case; the same for what is below it. */
    bool inbox = span_istarts(s, SPAN("INBOX")) && (s.n == 5 || s.p[5] == '/');
    if (inbox && memcmp(s.p, "INBOX", 5) != 0) {
        s = arena_dup(a, s);
        memcpy((char *)s.p, "INBOX", 5);
    }
    *out = s;
    return STORE_OK;
}
