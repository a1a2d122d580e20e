/* Dates of mail: see date.h. The parser skips comments and folds, then reads fixed fields; it accepts what real mail
 * has (obsolete years and zones, names in any case) and refuses everything else. */
#include "mail/date.h"

#include <time.h>

#include "base/util.h"
#include "mail/header.h"

static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char day_names[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int month_days(int year, int month)
{
    static const int days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year));
}

/* Days since 1970-01-01 in the Gregorian calendar: years are counted from March, so that the leap day is a year's last.
 */
static int64_t civil_day(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void civil_from_day(int64_t days, struct mail_date *out)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t of_era = z - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t m = (5 * of_year + 2) / 153;
    out->day = (int)(of_year - (153 * m + 2) / 5 + 1);
    out->month = (int)(m < 10 ? m + 3 : m - 9);
    out->year = (int)(year + era * 400 + (out->month <= 2));
}

int64_t date_day(const struct mail_date *d)
{
    return civil_day(d->year, d->month, d->day);
}

int64_t date_unix(const struct mail_date *d)
{
    return date_day(d) * 86400 + d->hour * 3600 + d->minute * 60 + d->second - (int64_t)d->zone * 60;
}

void date_from_unix(int64_t seconds, int zone, struct mail_date *out)
{
    const int64_t first = civil_day(1, 1, 2) * 86400, last = civil_day(9999, 12, 31) * 86400;
    seconds = seconds < first ? first : seconds > last ? last : seconds;
    int64_t local = seconds + (int64_t)zone * 60;
    int64_t day = local / 86400, rest = local % 86400;
    if (rest < 0) {
        rest += 86400;
        day--;
    }
    civil_from_day(day, out);
    out->hour = (int)(rest / 3600);
    out->minute = (int)(rest / 60 % 60);
    out->second = (int)(rest % 60);
    out->zone = zone;
}

int date_zone(int64_t seconds)
{
    time_t t = (time_t)seconds;
    struct tm tm;
    return localtime_r(&t, &tm) ? (int)(tm.tm_gmtoff / 60) : 0;
}

/* ---- writing ---- */

static int zone_number(int zone)
{
    int minutes = zone < 0 ? -zone : zone;
    return minutes / 60 * 100 + minutes % 60;
}

static void put_two(char *p, int n, char pad)
{
    p[0] = n < 10 ? pad : (char)('0' + n / 10 % 10);
    p[1] = (char)('0' + n % 10);
}

/* Written by hand, as every message that comes in has one. */
void date_put(struct buf *out, int64_t seconds, int zone)
{
    struct mail_date d;
    date_from_unix(seconds, zone, &d);
    int week_day = (int)(((date_day(&d) + 4) % 7 + 7) % 7);
    char rest[] = " Mon 0000 00:00:00 +0000";
    memcpy(rest + 1, month_names[d.month - 1], 3);
    put_two(rest + 5, d.year / 100, '0');
    put_two(rest + 7, d.year % 100, '0');
    put_two(rest + 10, d.hour, '0');
    put_two(rest + 13, d.minute, '0');
    put_two(rest + 16, d.second, '0');
    rest[19] = zone < 0 ? '-' : '+';
    put_two(rest + 20, zone_number(zone) / 100, '0');
    put_two(rest + 22, zone_number(zone) % 100, '0');
    buf_adds(out, day_names[week_day]);
    buf_add(out, SPAN(", "));
    buf_addn(out, d.day);
    buf_adds(out, rest);
}

/* Written by hand: a client asks for ten thousand of them at once. */
void date_put_imap(struct buf *out, int64_t seconds, int zone)
{
    struct mail_date d;
    date_from_unix(seconds, zone, &d);
    char *p = buf_room(out, 26);
    put_two(p, d.day, ' ');
    p[2] = p[6] = '-';
    memcpy(p + 3, month_names[d.month - 1], 3);
    put_two(p + 7, d.year / 100, '0');
    put_two(p + 9, d.year % 100, '0');
    p[11] = p[20] = ' ';
    put_two(p + 12, d.hour, '0');
    p[14] = p[17] = ':';
    put_two(p + 15, d.minute, '0');
    put_two(p + 18, d.second, '0');
    p[21] = zone < 0 ? '-' : '+';
    put_two(p + 22, zone_number(zone) / 100, '0');
    put_two(p + 24, zone_number(zone) % 100, '0');
    out->n += 26;
}

/* ---- reading ---- */

/* 1 to most digits; how many there were, 0: none. */
static unsigned take_digits(struct span *s, unsigned most, int *out)
{
    unsigned n = 0;
    int v = 0;
    while (n < s->n && n < most && ascii_digit(s->p[n]))
        v = v * 10 + (s->p[n++] - '0');
    *out = v;
    *s = span_from(*s, n);
    return n;
}

static bool take_char(struct span *s, char c)
{
    if (!s->n || *s->p != c)
        return false;
    *s = span_from(*s, 1);
    return true;
}

static struct span take_letters(struct span *s)
{
    size_t n = 0;
    while (n < s->n && ascii_alpha(s->p[n]))
        n++;
    struct span word = span_sub(*s, 0, n);
    *s = span_from(*s, n);
    return word;
}

/* 1 to 12 for a month's name or its longer spelling, 0: none. */
static int month_of(struct span word)
{
    for (int m = 0; m < 12; m++)
        if (word.n >= 3 && span_ieq(span_sub(word, 0, 3), span_of(month_names[m])))
            return m + 1;
    return 0;
}

/* RFC5322:4.3: two digits are 1950 to 2049, three count from 1900. */
static int full_year(int year, unsigned digits)
{
    if (digits <= 2)
        return year < 50 ? 2000 + year : 1900 + year;
    return digits == 3 ? 1900 + year : year;
}

static bool in_range(const struct mail_date *d)
{
    return d->year >= 1 && d->year <= 9999 && d->month >= 1 && d->month <= 12 && d->day >= 1 &&
           d->day <= month_days(d->year, d->month) && d->hour <= 23 && d->minute <= 59 && d->second <= 60;
}

static bool take_zone_digits(struct span *s, int *zone)
{
    bool west = *s->p == '-';
    *s = span_from(*s, 1);
    int n;
    unsigned digits = take_digits(s, 4, &n);
    if (digits == 2 && take_char(s, ':')) { /* +01:00 */
        int minutes;
        if (take_digits(s, 2, &minutes) != 2)
            return false;
        n = n * 100 + minutes;
        digits = 4;
    }
    if (digits != 4 || n / 100 > 23 || n % 100 > 59)
        return false;
    *zone = (n / 100 * 60 + n % 100) * (west ? -1 : 1);
    return true;
}

/* RFC5322:4.3: names of zones; the military letters say nothing dependable and count as +0000. */
static int named_zone(struct span name)
{
    static const struct {
        const char *name;
        int hours;
    } zones[] = {{"EST", -5}, {"EDT", -4}, {"CST", -6}, {"CDT", -5},
                 {"MST", -7}, {"MDT", -6}, {"PST", -8}, {"PDT", -7}};
    for (size_t i = 0; i < COUNT_OF(zones); i++)
        if (span_ieqs(name, zones[i].name))
            return zones[i].hours * 60;
    return 0;
}

static bool take_zone(struct span *s, int *zone)
{
    *zone = 0;
    header_skip_cfws(s);
    if (s->n && (*s->p == '+' || *s->p == '-'))
        return take_zone_digits(s, zone);
    *zone = named_zone(take_letters(s));
    return true;
}

static bool take_time(struct span *s, struct mail_date *d)
{
    d->second = 0;
    if (!take_digits(s, 2, &d->hour))
        return false;
    header_skip_cfws(s);
    if (!take_char(s, ':') && !take_char(s, '.'))
        return false;
    header_skip_cfws(s);
    if (!take_digits(s, 2, &d->minute))
        return false;
    header_skip_cfws(s);
    if (!take_char(s, ':') && !take_char(s, '.'))
        return true;
    header_skip_cfws(s);
    return take_digits(s, 2, &d->second) > 0;
}

/* "1 Jul 2003", also with '-' between the pieces. */
static bool take_day_month_year(struct span *s, struct mail_date *d)
{
    if (!take_digits(s, 2, &d->day))
        return false;
    header_skip_cfws(s);
    take_char(s, '-');
    header_skip_cfws(s);
    d->month = month_of(take_letters(s));
    header_skip_cfws(s);
    take_char(s, '-');
    header_skip_cfws(s);
    unsigned digits = take_digits(s, 4, &d->year);
    d->year = full_year(d->year, digits);
    return d->month && digits >= 2;
}

int date_parse(struct span text, struct mail_date *out)
{
    struct mail_date d = {0};
    header_skip_cfws(&text);
    if (take_letters(&text).n) { /* the day's name tells nothing new */
        header_skip_cfws(&text);
        take_char(&text, ',');
        header_skip_cfws(&text);
    }
    if (!take_day_month_year(&text, &d))
        return -1;
    header_skip_cfws(&text);
    if (!take_time(&text, &d) || !take_zone(&text, &d.zone) || !in_range(&d))
        return -1;
    *out = d;
    return 0;
}

/* RFC3501:9: date-day-fixed "-" date-month "-" date-year */
static bool take_imap_day(struct span *s, struct mail_date *d, bool fixed)
{
    unsigned digits = take_digits(s, 2, &d->day);
    if (fixed && digits == 0 && take_char(s, ' '))
        digits = take_digits(s, 1, &d->day) ? 2 : 0;
    if (!digits || (fixed && digits != 2) || !take_char(s, '-'))
        return false;
    struct span month = take_letters(s);
    d->month = month.n == 3 ? month_of(month) : 0;
    return d->month && take_char(s, '-') && take_digits(s, 4, &d->year) == 4;
}

int date_parse_imap_day(struct span text, struct mail_date *out)
{
    struct mail_date d = {0};
    if (!take_imap_day(&text, &d, false) || text.n || !in_range(&d))
        return -1;
    *out = d;
    return 0;
}

int date_parse_imap(struct span text, struct mail_date *out)
{
    struct mail_date d = {0};
    bool ok = take_imap_day(&text, &d, true) && take_char(&text, ' ') && take_digits(&text, 2, &d.hour) == 2 &&
              take_char(&text, ':') && take_digits(&text, 2, &d.minute) == 2 && take_char(&text, ':') &&
              take_digits(&text, 2, &d.second) == 2 && take_char(&text, ' ') && text.n == 5 &&
              (*text.p == '+' || *text.p == '-') && take_zone_digits(&text, &d.zone);
    if (!ok || text.n || !in_range(&d))
        return -1;
    *out = d;
    return 0;
}
