/* Text of mail to UTF-8: see words.h. Charsets other than the four built in go through iconv, whose tables are files:
 * all of them are opened by words_warm(), because the empty root of an account's process has none. */
#include "mail/words.h"

#include <iconv.h>
#include <locale.h>
#include <wctype.h>

#include "base/util.h"

#define REPLACEMENT "\xef\xbf\xbd"

/* What real mail is written in, beside utf-8, us-ascii, iso-8859-1 and windows-1252. Other names for the same follow in
 * `aliases`. */
static const char *const names[] = {
    "ISO-8859-2",   "ISO-8859-3",   "ISO-8859-4",   "ISO-8859-5",   "ISO-8859-6",   "ISO-8859-7",   "ISO-8859-8",
    "ISO-8859-9",   "ISO-8859-10",  "ISO-8859-11",  "ISO-8859-13",  "ISO-8859-14",  "ISO-8859-15",  "ISO-8859-16",
    "WINDOWS-1250", "WINDOWS-1251", "WINDOWS-1253", "WINDOWS-1254", "WINDOWS-1255", "WINDOWS-1256", "WINDOWS-1257",
    "WINDOWS-1258", "KOI8-R",       "KOI8-U",       "IBM437",       "IBM850",       "IBM852",       "IBM866",
    "MACINTOSH",    "TIS-620",      "GB2312",       "GBK",          "GB18030",      "BIG5",         "BIG5-HKSCS",
    "EUC-JP",       "SHIFT_JIS",    "ISO-2022-JP",  "EUC-KR",       "ISO-2022-KR",  "UTF-7",        "UTF-16",
    "UTF-16BE",     "UTF-16LE",     "UTF-32",
};

static const struct {
    const char *alias, *name;
} aliases[] = {
    {"KS_C_5601-1987", "EUC-KR"},
    {"KS_C_5601", "EUC-KR"},
    {"CP949", "EUC-KR"},
    {"SHIFT-JIS", "SHIFT_JIS"},
    {"X-SJIS", "SHIFT_JIS"},
    {"CP932", "SHIFT_JIS"},
    {"CP936", "GBK"},
    {"ISO-8859-8-I", "ISO-8859-8"},
    {"ISO-8859-6-I", "ISO-8859-6"},
    {"CP1250", "WINDOWS-1250"},
    {"CP1251", "WINDOWS-1251"},
    {"CP1253", "WINDOWS-1253"},
    {"CP1254", "WINDOWS-1254"},
    {"CP1255", "WINDOWS-1255"},
    {"CP1256", "WINDOWS-1256"},
    {"CP1257", "WINDOWS-1257"},
    {"CP437", "IBM437"},
    {"CP850", "IBM850"},
    {"CP852", "IBM852"},
    {"CP866", "IBM866"},
    {"UNICODE-1-1-UTF-7", "UTF-7"},
    {"WINDOWS-874", "TIS-620"},
};

static iconv_t opened[COUNT_OF(names)];
static locale_t folding; /* for towlower_l */
static bool warm;

void words_warm(void)
{
    if (warm)
        return;
    warm = true;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        opened[i] = iconv_open("UTF-8", names[i]);
    folding = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

void words_cool(void)
{
    if (!warm)
        return;
    warm = false;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (opened[i] != (iconv_t)-1)
            iconv_close(opened[i]);
    if (folding)
        freelocale(folding);
    folding = (locale_t)0;
}

/* ---- charsets ---- */

enum builtin { CHARSET_ASCII, CHARSET_UTF8, CHARSET_LATIN1, CHARSET_ICONV, CHARSET_UNKNOWN };

static enum builtin find_charset(struct span name, iconv_t *cd)
{
    static const struct {
        const char *name;
        enum builtin is;
    } own[] = {
        {"US-ASCII", CHARSET_ASCII}, {"ASCII", CHARSET_ASCII},        {"ANSI_X3.4-1968", CHARSET_ASCII},
        {"UTF-8", CHARSET_UTF8},     {"UTF8", CHARSET_UTF8},          {"ISO-8859-1", CHARSET_LATIN1},
        {"LATIN1", CHARSET_LATIN1},  {"ISO8859-1", CHARSET_LATIN1},   {"WINDOWS-1252", CHARSET_LATIN1},
        {"CP1252", CHARSET_LATIN1},  {"UNKNOWN-8BIT", CHARSET_ASCII}, {"X-UNKNOWN", CHARSET_ASCII},
    };
    if (!name.n)
        return CHARSET_ASCII;
    for (size_t i = 0; i < COUNT_OF(own); i++)
        if (span_ieqs(name, own[i].name))
            return own[i].is;
    for (size_t i = 0; i < COUNT_OF(aliases); i++)
        if (span_ieqs(name, aliases[i].alias))
            name = span_of(aliases[i].name);
    words_warm();
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (span_ieqs(name, names[i]) && opened[i] != (iconv_t)-1) {
            *cd = opened[i];
            return CHARSET_ICONV;
        }
    return CHARSET_UNKNOWN;
}

bool charset_known(struct span charset)
{
    iconv_t cd;
    return find_charset(charset, &cd) != CHARSET_UNKNOWN;
}

static void put_utf8(struct buf *out, uint32_t c)
{
    char *p = buf_room(out, 4);
    if (c < 0x80) {
        p[0] = (char)c;
        out->n += 1;
    } else if (c < 0x800) {
        p[0] = (char)(0xc0 | c >> 6);
        p[1] = (char)(0x80 | (c & 0x3f));
        out->n += 2;
    } else if (c < 0x10000) {
        p[0] = (char)(0xe0 | c >> 12);
        p[1] = (char)(0x80 | (c >> 6 & 0x3f));
        p[2] = (char)(0x80 | (c & 0x3f));
        out->n += 3;
    } else {
        p[0] = (char)(0xf0 | c >> 18);
        p[1] = (char)(0x80 | (c >> 12 & 0x3f));
        p[2] = (char)(0x80 | (c >> 6 & 0x3f));
        p[3] = (char)(0x80 | (c & 0x3f));
        out->n += 4;
    }
}

/* Windows-1252 is what "iso-8859-1" means in practice: its 0x80-0x9f are letters and quotes, the standard's are
 * controls. */
static void put_latin1(struct buf *out, struct span s)
{
    static const uint16_t c1[32] = {
        0x20ac, 0xfffd, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
        0x2039, 0x0152, 0xfffd, 0x017d, 0xfffd, 0xfffd, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
        0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0xfffd, 0x017e, 0x0178,
    };
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        put_utf8(out, c >= 0x80 && c < 0xa0 ? c1[c - 0x80] : c);
    }
}

/* Length of the well-formed UTF-8 sequence at the front, 0: there is none. *c: its character. */
static size_t utf8_take(struct span s, uint32_t *c)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char b = (unsigned char)s.p[0];
    size_t n = b < 0x80 ? 1 : b >= 0xc2 && b < 0xe0 ? 2 : b >= 0xe0 && b < 0xf0 ? 3 : b >= 0xf0 && b < 0xf5 ? 4 : 0;
    if (!n || n > s.n)
        return 0;
    *c = n == 1 ? b : b & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if (((unsigned char)s.p[i] & 0xc0) != 0x80)
            return 0;
        *c = *c << 6 | ((unsigned char)s.p[i] & 0x3f);
    }
    return *c < least[n] || *c > 0x10ffff || (*c >= 0xd800 && *c < 0xe000) ? 0 : n;
}

static void put_checked_utf8(struct buf *out, struct span s)
{
    while (s.n) {
        uint32_t c;
        size_t n = utf8_take(s, &c);
        if (n)
            buf_add(out, span_sub(s, 0, n));
        else
            buf_adds(out, REPLACEMENT);
        s = span_from(s, n ? n : 1);
    }
}

static void put_ascii(struct buf *out, struct span s)
{
    if (span_is_utf8(s))
        buf_add(out, s);
    else
        put_latin1(out, s);
}

static void put_iconv(struct buf *out, iconv_t cd, struct span s)
{
    char *in = (char *)(uintptr_t)s.p;
    size_t left = s.n;
    iconv(cd, NULL, NULL, NULL, NULL);
    while (left) {
        char *to = buf_room(out, left * 2 + 16), *start = to;
        size_t room = out->cap - out->n, before = left;
        size_t r = iconv(cd, &in, &left, &to, &room);
        out->n += (size_t)(to - start);
        if (r == (size_t)-1 && left && (left == before || room >= 16)) { /* a byte that means nothing there */
            buf_adds(out, REPLACEMENT);
            in++;
            left--;
        }
    }
}

bool charset_to_utf8(struct span charset, struct span bytes, struct buf *out)
{
    iconv_t cd;
    switch (find_charset(charset, &cd)) {
    case CHARSET_ASCII: put_ascii(out, bytes); return true;
    case CHARSET_UTF8: put_checked_utf8(out, bytes); return true;
    case CHARSET_LATIN1: put_latin1(out, bytes); return true;
    case CHARSET_ICONV: put_iconv(out, cd, bytes); return true;
    case CHARSET_UNKNOWN: break;
    }
    for (size_t i = 0; i < bytes.n; i++)
        if ((unsigned char)bytes.p[i] < 0x80)
            buf_addc(out, bytes.p[i]);
        else
            buf_adds(out, REPLACEMENT);
    return false;
}

/* ---- folding of case ---- */

static uint32_t fold_char(uint32_t c)
{
    if (folding) /* upper first: several small letters share one capital */
        return (uint32_t)towlower_l((wint_t)towupper_l((wint_t)c, folding), folding);
    return (c >= 0xc0 && c <= 0xde && c != 0xd7) ? c + 32 : c;
}

void words_fold(struct span text, struct buf *out)
{
    words_warm();
    while (text.n) {
        size_t n = 0;
        char *p = buf_room(out, text.n);
        while (n < text.n && (unsigned char)text.p[n] < 0x80) {
            p[n] = ascii_lower(text.p[n]);
            n++;
        }
        out->n += n;
        text = span_from(text, n);
        uint32_t c;
        if (!text.n)
            break;
        n = utf8_take(text, &c);
        if (n)
            put_utf8(out, fold_char(c));
        else
            buf_addc(out, *text.p);
        text = span_from(text, n ? n : 1);
    }
}
