/* NOTIFY, ORCPT, RET and ENVID, RFC 3461 §4. Every check starts from "no". */
#include "smtp/dsn.h"

#include "smtp/path.h"

static const struct {
    const char *word;
    uint8_t bit;
} notify_words[] = {{"SUCCESS", SMTP_NOTIFY_SUCCESS}, {"FAILURE", SMTP_NOTIFY_FAILURE}, {"DELAY", SMTP_NOTIFY_DELAY}};

static uint8_t notify_bit(struct span word)
{
    for (size_t i = 0; i < COUNT_OF(notify_words); i++)
        if (span_ieqs(word, notify_words[i].word))
            return notify_words[i].bit;
    return 0;
}

/* RFC3461:4.1: NEVER stands alone. */
bool smtp_notify_parse(struct span value, uint8_t *notify)
{
    *notify = 0;
    if (span_ieqs(value, "NEVER")) {
        *notify = SMTP_NOTIFY_NEVER;
        return true;
    }
    if (value.n == 0 || value.p[value.n - 1] == ',')
        return false;
    while (value.n) {
        uint8_t bit = notify_bit(span_cut(&value, ','));
        if (!bit)
            return false;
        *notify |= bit;
    }
    return true;
}

bool smtp_ret_parse(struct span value, uint8_t *ret)
{
    *ret = span_ieqs(value, "FULL") ? SMTP_RET_FULL : span_ieqs(value, "HDRS") ? SMTP_RET_HDRS : 0;
    return *ret != 0;
}

/* xtext that stands for printable ASCII, blanks included. */
static bool printable_xtext(struct span value)
{
    struct buf text = {0};
    bool good = value.n > 0 && smtp_xtext_decode(value, &text) == 0;
    for (size_t i = 0; good && i < text.n; i++)
        good = (unsigned char)text.p[i] >= 0x20 && (unsigned char)text.p[i] < 0x7f;
    buf_free(&text);
    return good;
}

bool smtp_envid_valid(struct span value)
{
    return value.n <= SMTP_ENVID_MAX && printable_xtext(value);
}

/* addr-type ";" xtext; the type is an atom. What UTF-8 addresses look like in it: RFC6533:3. */
bool smtp_orcpt_valid(struct span value, bool utf8)
{
    ptrdiff_t at = span_find(value, ';');
    if (at <= 0 || value.n > SMTP_ORCPT_MAX)
        return false;
    for (ptrdiff_t i = 0; i < at; i++)
        if (!ascii_alpha(value.p[i]) && !ascii_digit(value.p[i]) && value.p[i] != '-')
            return false;
    struct span rest = span_from(value, (size_t)at + 1);
    if (utf8 && !span_is_ascii(rest)) /* utf-8-addr-unitext */
        return span_ieqs(span_sub(value, 0, (size_t)at), "utf-8") && span_is_utf8(rest) && !span_has_control(rest) &&
               span_find(rest, ' ') < 0;
    return printable_xtext(rest);
}

void smtp_notify_put(struct buf *out, uint8_t notify)
{
    if (!notify)
        return;
    buf_add(out, SPAN(" NOTIFY="));
    if (notify & SMTP_NOTIFY_NEVER) {
        buf_add(out, SPAN("NEVER"));
        return;
    }
    const char *comma = "";
    for (size_t i = 0; i < COUNT_OF(notify_words); i++)
        if (notify & notify_words[i].bit) {
            buf_adds(out, comma);
            buf_adds(out, notify_words[i].word);
            comma = ",";
        }
}

void smtp_ret_put(struct buf *out, uint8_t ret)
{
    if (ret)
        buf_adds(out, ret == SMTP_RET_FULL ? " RET=FULL" : " RET=HDRS");
}

/* The code point at the front of UTF-8 that was checked; *n: its octets. */
static uint32_t code_point(struct span s, size_t *n)
{
    unsigned char c = (unsigned char)s.p[0];
    *n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    uint32_t u = *n == 1 ? c : c & (0x7fu >> *n);
    for (size_t i = 1; i < *n && i < s.n; i++)
        u = u << 6 | ((unsigned char)s.p[i] & 0x3fu);
    return u;
}

void smtp_orcpt_put(struct buf *out, struct span orcpt, bool utf8)
{
    if (!smtp_orcpt_valid(orcpt, true))
        return;
    buf_add(out, SPAN(" ORCPT="));
    while (orcpt.n) {
        size_t n;
        uint32_t u = code_point(orcpt, &n);
        if (u < 0x80 || utf8)
            buf_add(out, span_sub(orcpt, 0, n));
        else
            buf_printf(out, "\\x{%X}", (unsigned)u);
        orcpt = span_from(orcpt, n);
    }
}
