/* A span: borrowed bytes with a length. It owns nothing and dies with what it points into; it may hold any byte, NUL too. */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const char *p;
    size_t n;
};

#define SPAN(literal) ((struct span){"" literal, sizeof(literal) - 1})
#define SPAN_NONE ((struct span){NULL, 0})
/* For printf: "%.*s" with SPANV(s). Only for text that is known to hold no NUL. */
#define SPANV(s) (int)(s).n, ((s).p ? (s).p : "")

static inline struct span span_of(const char *text)
{
    return (struct span){text, text ? strlen(text) : 0};
}

static inline struct span span_make(const void *p, size_t n)
{
    return (struct span){p, n};
}

bool span_eq(struct span a, struct span b);
bool span_ieq(struct span a, struct span b); /* ASCII letters without case */
bool span_eqs(struct span a, const char *text);
bool span_ieqs(struct span a, const char *text);
int span_cmp(struct span a, struct span b); /* bytewise, shorter first */
bool span_starts(struct span s, struct span prefix);
bool span_istarts(struct span s, struct span prefix);
bool span_ends(struct span s, struct span suffix);
bool span_iends(struct span s, struct span suffix);

/* Index of the first (last) such byte or of the piece; -1 when there is none. */
ptrdiff_t span_find(struct span s, char c);
ptrdiff_t span_rfind(struct span s, char c);
ptrdiff_t span_search(struct span s, struct span piece);

/* Whether the pattern, in which * stands for any bytes, fits all of s; ASCII letters without case. */
bool span_fits(struct span s, struct span pattern);

struct span span_sub(struct span s, size_t from, size_t n); /* clipped to s */
struct span span_from(struct span s, size_t from);          /* clipped to s */
struct span span_utf8_cut(struct span s, size_t most);      /* its first bytes, no sequence of UTF-8 cut in two */
struct span span_trim(struct span s);                       /* without SP, TAB, CR, LF at both ends */
/* Takes the next word (up to SP or TAB) off *s, with the blanks around it; empty at the end. */
struct span span_word(struct span *s);
/* Cuts *s at the first `c`: returns what is before it, leaves what is after it (empty when there is none). */
struct span span_cut(struct span *s, char c);

/* Decimal digits only, no sign, no blanks, at most `max`; false (and *out untouched) otherwise. */
bool span_u64(struct span s, uint64_t max, uint64_t *out);
/* True when a control character (below 0x20, or 0x7f) is in it. */
bool span_has_control(struct span s);
bool span_is_ascii(struct span s); /* no byte above 0x7f */
bool span_is_utf8(struct span s);  /* well-formed UTF-8, RFC 3629: no surrogates, no overlong forms */

static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static inline char ascii_upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
}

static inline bool ascii_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static inline bool ascii_digit(char c)
{
    return c >= '0' && c <= '9';
}

#endif
