/* Dates of mail: vectors of tests/data/mime/date.json, IMAP's two forms, the calendar there and back. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"
#include "mail/date.h"

static int number(json_t *o, const char *key)
{
    return (int)json_integer_value(json_object_get(o, key));
}

/* Where we read otherwise: digits alone are no month; text before the date is the caller's business; a comment in the
 * middle is fine. */
static bool excused(const char *header)
{
    return !strncmp(header, "20 11 (", 7) || strstr(header, "4 8 15 16") || !strncmp(header, "by 2002:", 8) ||
           strstr(header, "((invalid)");
}

Test(mail, date_vectors) /* RFC5322:4.3 */
{
    json_t *all = json_load_file(TEST_DATA "/mime/date.json", 0, NULL), *one;
    size_t i;
    cr_assert(all);
    json_array_foreach(all, i, one)
    {
        const char *header = json_string_value(json_object_get(one, "header"));
        json_t *want = json_object_get(one, "expected");
        struct mail_date d = {0};
        int r = date_parse(span_of(header), &d);
        if (excused(header))
            continue;
        cr_expect_eq(r == 0, json_is_object(want), "%s", header);
        if (r != 0 || !json_is_object(want))
            continue;
        int zone = (number(want, "tz_hour") * 60 + number(want, "tz_minute")) *
                   (json_is_true(json_object_get(want, "tz_before_gmt")) ? -1 : 1);
        cr_expect(d.year == number(want, "year") && d.month == number(want, "month") && d.day == number(want, "day") &&
                      d.hour == number(want, "hour") && d.minute == number(want, "minute") &&
                      d.second == number(want, "second") && d.zone == zone,
                  "%s: %d-%d-%d %d:%d:%d %d", header, d.year, d.month, d.day, d.hour, d.minute, d.second, d.zone);
    }
    json_decref(all);
}

Test(mail, date_bad_ones)
{
    static const char *const bad[] = {
        "",
        "Mon",
        "30 Feb 2020 00:00:00 +0000",
        "29 Feb 2021 00:00 +0000",
        "1 Jan 2020 24:00 +0000",
        "1 Jan 2020 00:60 +0000",
        "1 Jan 2020",
        "0 Jan 2020 00:00",
        "32 Jan 2020 00:00",
        "1 Jan 2020 00:00 +9999",
        "1 Jan 0 00:00",
        "1 Jan 2020 00:00 +1",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct mail_date d;
        cr_expect_eq(date_parse(span_of(bad[i]), &d), -1, "%s", bad[i]);
    }
}

Test(mail, date_there_and_back)
{
    for (int64_t t = -62135510400; t < 253402214400; t += 86400 * 37 + 12345) {
        struct buf out = {0};
        struct mail_date d;
        int zone = (int)(t % 1000 / 2);
        date_put(&out, t, zone);
        cr_assert_eq(date_parse(buf_span(&out), &d), 0, "%.*s", SPANV(buf_span(&out)));
        cr_expect_eq(date_unix(&d), t, "%.*s", SPANV(buf_span(&out)));
        buf_clear(&out);
        date_put_imap(&out, t, zone);
        cr_assert_eq(date_parse_imap(buf_span(&out), &d), 0, "%.*s", SPANV(buf_span(&out)));
        cr_expect_eq(date_unix(&d), t);
        buf_free(&out);
    }
}

Test(mail, date_fixed_texts)
{
    struct buf out = {0};
    date_put(&out, 1795426867, 60); /* RFC5322:3.3 */
    buf_addc(&out, '|');
    date_put_imap(&out, 1793871667, -210); /* RFC3501:9 */
    buf_addc(&out, '|');
    date_put(&out, 0, 0);
    cr_expect(span_eqs(buf_span(&out),
                       "Mon, 23 Nov 2026 10:41:07 +0100| 5-Nov-2026 06:11:07 -0330|Thu, 1 Jan 1970 00:00:00 +0000"),
              "%.*s", SPANV(buf_span(&out)));
    buf_free(&out);
}

Test(mail, date_imap_forms)
{
    static const struct {
        const char *text;
        bool whole, day;
    } table[] = {
        {" 1-Feb-2020 01:02:03 +0100", true, false},
        {"01-Feb-2020 01:02:03 +0100", true, false},
        {"1-Feb-2020 01:02:03 +0100", false, false},
        {"1-Feb-2020", false, true},
        {"01-feb-2020", false, true},
        {"1-February-2020", false, false},
        {"30-Feb-2020", false, false},
        {"1-Feb-20", false, false},
        {"1-Feb-2020 ", false, false},
        {"01-Feb-2020 1:02:03 +0100", false, false},
        {"01-Feb-2020 01:02:03 GMT", false, false},
        {"01-Feb-2020 01:02:03 +010", false, false},
        {"01-Feb-2020 01:02:03 +01000", false, false},
        {"", false, false},
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct mail_date d;
        cr_expect_eq(date_parse_imap(span_of(table[i].text), &d) == 0, table[i].whole, "%s", table[i].text);
        cr_expect_eq(date_parse_imap_day(span_of(table[i].text), &d) == 0, table[i].day, "%s", table[i].text);
    }
}
