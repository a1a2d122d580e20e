/* See submission.h. Trusts nothing. */
#include "mail/submission.h"

/* RFC5322:3.6: at most once each. */
static const struct {
    const char *name, *twice;
} once[] = {
    {"From", "The message has more than one From field"},
    {"Date", "The message has more than one Date field"},
    {"Sender", "The message has more than one Sender field"},
    {"Reply-To", "The message has more than one Reply-To field"},
    {"To", "The message has more than one To field"},
    {"Cc", "The message has more than one Cc field"},
    {"Message-ID", "The message has more than one Message-ID field"},
    {"In-Reply-To", "The message has more than one In-Reply-To field"},
    {"References", "The message has more than one References field"},
    {"Subject", "The message has more than one Subject field"},
};
enum { FIELD_FROM };

/* The bit of that field among `once`, 0: another. */
static unsigned bit_of(struct span name)
{
    for (unsigned i = 0; i < COUNT_OF(once); i++)
        if (span_ieqs(name, once[i].name))
            return 1u << i;
    return 0;
}

/* RFC5322:2.2: printable characters but the colon. */
static bool is_name(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= 0x20 || s.p[i] == 0x7f)
            return false;
    return s.n > 0;
}

const char *submission_flaw(struct span header, bool utf8, unsigned *subject, unsigned *detail)
{
    struct header_field f;
    struct span rest = header;
    unsigned seen = 0;
    *subject = 6; /* RFC3463:3.7 */
    *detail = 0;
    while (header_next(&rest, &f)) {
        unsigned bit = bit_of(f.name);
        if (!is_name(f.name))
            return span_is_ascii(f.name) ? "The header has a line that is no field (or there is no empty line behind it)"
                                         : "The header has a field whose name is not ASCII";
        for (unsigned i = 0; seen & bit && i < COUNT_OF(once); i++)
            if (bit == 1u << i)
                return once[i].twice;
        seen |= bit;
    }
    if (!(seen & 1u << FIELD_FROM))
        return "The message has no From field";
    if (span_is_ascii(header))
        return NULL;
    *detail = 7; /* RFC6531:3.5: X.6.7 */
    if (!utf8)
        return "The header has characters beyond ASCII: encode them (RFC 2047), or use SMTPUTF8";
    return span_is_utf8(header) ? NULL : "The header is not UTF-8";
}

bool submission_wants_sender(struct span header)
{
    struct header_field f;
    struct arena a = {0};
    size_t authors = 0;
    bool sender = false;
    while (header_next(&header, &f)) {
        sender |= span_ieqs(f.name, "Sender");
        if (!span_ieqs(f.name, "From"))
            continue;
        for (struct header_address *m = header_addresses(f.value, &a); m; m = m->next)
            authors += m->kind == HEADER_MAILBOX;
    }
    arena_free(&a);
    return authors > 1 && !sender;
}
