/* The screen of `waypost queue top`: what fits, and nothing that a terminal obeys but our own sequences. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "waypost/top.h"

static void fill(struct top_view *v)
{
    const struct row_cell event[] = {{.name = SPAN("event"), .value = SPAN("in")},
                                         {.kind = 1, .name = SPAN("since-start"), .number = 1234},
                                         {.name = SPAN("1-min"), .value = SPAN("7.5")}};
    const struct row_cell dest[] = {{.name = SPAN("destination"), .value = SPAN("b\xc3\xbc\x1b[2Jcher.test")},
                                        {.name = SPAN("state"), .value = SPAN("open")},
                                        {.kind = 1, .name = SPAN("in-turn"), .number = 12}};
    const struct row_cell counts[] = {{.kind = 1, .name = SPAN("due"), .number = 5}, {.kind = 1, .name = SPAN("later"), .number = 6}};
    top_row(v, &(struct client_row){event, 3});
    top_row(v, &(struct client_row){dest, 3});
    top_row(v, &(struct client_row){dest, 3});
    top_row(v, &(struct client_row){counts, 2});
}

static char *drawn(unsigned width, unsigned height)
{
    static char text[4000];
    struct top_view v = {0};
    struct buf out = {0};
    fill(&v);
    top_draw(&v, SPAN("note"), width, height, &out);
    snprintf(text, sizeof text, "%s", buf_cstr(&out));
    buf_free(&out);
    top_view_free(&v);
    return text;
}

Test(top, whole)
{
    cr_expect_str_eq(drawn(60, 24), "\x1b[Hnote\x1b[K\r\n"
                                    "due 5   later 6   \x1b[K\r\n"
                                    "\x1b[K\r\n"
                                    "               SINCE START       1 MIN       5 MIN      60 M\x1b[K\r\n"
                                    "in                    1234         7.5  \x1b[K\r\n"
                                    "\x1b[K\r\n"
                                    "DESTINATION                     STATE       IN TURN  UNDER W\x1b[K\r\n"
                                    "b\xc3\xbc\\x1b[2Jcher.test              open             12  \x1b[K\r\n"
                                    "b\xc3\xbc\\x1b[2Jcher.test              open             12  \x1b[K\r\n"
                                    "\x1b[K\x1b[J");
}

Test(top, clipped)
{
    cr_expect_str_eq(drawn(5, 3), "\x1b[Hnote\x1b[K\r\ndue 5\x1b[K\r\n\x1b[K\x1b[J");
    cr_expect_str_eq(drawn(3, 1), "\x1b[Hnot\x1b[K\x1b[J");
    for (unsigned height = 1; height < 12; height++) {
        unsigned lines = 0;
        for (const char *c = drawn(60, height); *c; c++)
            lines += *c == '\n';
        cr_expect_leq(lines, height - 1, "the last line would scroll");
    }
}
