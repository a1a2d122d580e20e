#include "smtp/wishes.h"

#include "mail/date.h"

/* ---- DELIVERBY ---- */

static bool by_mode(struct span s, uint8_t *mode)
{
    if (s.n == 0 || s.n > 2 || (s.n == 2 && ascii_lower(s.p[1]) != 't'))
        return false;
    char c = ascii_lower(s.p[0]);
    *mode = (uint8_t)((c == 'r' ? SMTP_BY_RETURN : c == 'n' ? SMTP_BY_NOTIFY : 0) | (s.n == 2 ? SMTP_BY_TRACE : 0));
    return c == 'r' || c == 'n';
}

bool smtp_by_parse(struct span value, int64_t *seconds, uint8_t *mode)
{
    struct span time = span_cut(&value, ';');
    bool before = time.n && time.p[0] == '-';
    uint64_t n;
    if (time.n && (time.p[0] == '-' || time.p[0] == '+'))
        time = span_from(time, 1);
    if (time.n == 0 || time.n > 9 || !span_u64(time, SMTP_BY_TIME_MAX, &n) || !by_mode(value, mode))
        return false;
    *seconds = before ? -(int64_t)n : (int64_t)n;
    return *seconds > 0 || !(*mode & SMTP_BY_RETURN); /* RFC2852:4 */
}

void smtp_by_put(struct buf *out, int64_t seconds, uint8_t mode)
{
    int64_t max = SMTP_BY_TIME_MAX;
    seconds = MAX_OF(MIN_OF(seconds, max), -max);
    buf_printf(out, " BY=%lld;%s%s", (long long)seconds, mode & SMTP_BY_RETURN ? "R" : "N",
               mode & SMTP_BY_TRACE ? "T" : "");
}

/* ---- FUTURERELEASE ---- */

bool smtp_hold_for_parse(struct span value, uint32_t *seconds)
{
    uint64_t n;
    if (value.n == 0 || value.n > 9 || value.p[0] == '0' || !span_u64(value, SMTP_HOLD_MAX, &n))
        return false;
    *seconds = (uint32_t)n;
    return true;
}

/* That many digits, then `behind` (0: nothing is taken). */
static bool digits(struct span *s, size_t n, char behind, int *out)
{
    uint64_t v;
    if (s->n < n + (behind != 0) || !span_u64(span_sub(*s, 0, n), 9999, &v) ||
        (behind && ascii_lower(s->p[n]) != behind))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!ascii_digit(s->p[i]))
            return false;
    *out = (int)v;
    *s = span_from(*s, n + (behind != 0));
    return true;
}

/* time-secfrac of RFC 3339; *any: it is more than nothing. */
static bool fraction(struct span *s, bool *any)
{
    size_t n = 0;
    *any = false;
    if (s->n == 0 || s->p[0] != '.')
        return true;
    *s = span_from(*s, 1);
    for (; n < s->n && ascii_digit(s->p[n]); n++)
        *any |= s->p[n] != '0';
    *s = span_from(*s, n);
    return n > 0;
}

/* time-offset */
static bool offset(struct span s, int *zone)
{
    int hours, minutes;
    bool west = s.n && s.p[0] == '-';
    *zone = 0;
    if (s.n == 1 && ascii_lower(s.p[0]) == 'z')
        return true;
    if (s.n != 6 || (!west && s.p[0] != '+'))
        return false;
    s = span_from(s, 1);
    if (!digits(&s, 2, ':', &hours) || !digits(&s, 2, 0, &minutes) || hours > 23 || minutes > 59)
        return false;
    *zone = (west ? -1 : 1) * (hours * 60 + minutes);
    return true;
}

static bool day_there(const struct mail_date *d)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = d->year % 4 == 0 && (d->year % 100 != 0 || d->year % 400 == 0);
    return d->year > 0 && d->month >= 1 && d->month <= 12 && d->day >= 1 &&
           d->day <= days[d->month - 1] + (d->month == 2 && leap);
}

bool smtp_hold_until_parse(struct span value, int64_t *seconds)
{
    struct mail_date d;
    bool more;
    if (value.n > SMTP_HOLD_TEXT_MAX || !digits(&value, 4, '-', &d.year) || !digits(&value, 2, '-', &d.month) ||
        !digits(&value, 2, 't', &d.day) || !digits(&value, 2, ':', &d.hour) || !digits(&value, 2, ':', &d.minute) ||
        !digits(&value, 2, 0, &d.second) || !fraction(&value, &more) || !offset(value, &d.zone) || !day_there(&d) ||
        d.hour > 23 || d.minute > 59 || d.second > 60)
        return false;
    *seconds = date_unix(&d) + more;
    return true;
}

void smtp_time_put(struct buf *out, int64_t seconds)
{
    struct mail_date d;
    date_from_unix(seconds, 0, &d);
    buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02dZ", d.year, d.month, d.day, d.hour, d.minute, d.second);
}

/* ---- MT-PRIORITY ---- */

bool smtp_priority_parse(struct span value, int8_t *priority)
{
    bool below = value.n == 2 && value.p[0] == '-';
    struct span digit = span_from(value, below);
    if (digit.n != 1 || !ascii_digit(digit.p[0]) || (below && digit.p[0] == '0'))
        return false;
    *priority = (int8_t)((below ? -1 : 1) * (digit.p[0] - '0'));
    return true;
}
