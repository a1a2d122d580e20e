/* Mailbox names in commands and replies: modified UTF-7 on the wire, UTF-8 within. What a name may be is the backend's
 * rule. */
#include "imap/impl.h"
#include "imap/utf7.h"
#include "mail/nstring.h"

#define NAME_MAX_BYTES 2048 /* as written; the backend's own limit is lower */

bool imap_decode_name(struct arena *a, struct span raw, struct span *name)
{
    struct buf out = {0};
    bool ok = raw.n <= NAME_MAX_BYTES && utf7_decode(raw, &out) == 0;
    if (ok)
        *name = arena_dup(a, buf_span(&out));
    buf_free(&out);
    return ok;
}

bool imap_take_mailbox(struct imap *s, struct lex *x, struct span *name)
{
    struct span raw;
    if (!lex_sp(x) || !lex_astring(x, &raw)) {
        imap_bad(s, "A mailbox name was expected");
        return false;
    }
    bool ok = imap_decode_name(x->arena, raw, name);
    if (!ok)
        imap_no_code(s, IMAP_BAD_NAME, NULL);
    return ok;
}

void imap_put_mailbox(struct imap *s, struct span name)
{
    struct buf wire = {0};
    utf7_encode(name, &wire);
    nstring_put_astring(&s->out, buf_span(&wire));
    buf_free(&wire);
}

bool imap_take_set(struct imap *s, struct lex *x, struct set *positions)
{
    struct set set;
    if (!lex_sp(x) || !set_parse(x, &set)) {
        imap_bad(s, "A set of messages was expected");
        return false;
    }
    if (!set_resolve(&set, s->uid, s->view.uids, s->view.n, x->arena, positions)) {
        imap_bad(s, "There is no such message"); /* RFC3501:6.4.8: unknown uids are no error, unknown numbers are */
        return false;
    }
    return true;
}
