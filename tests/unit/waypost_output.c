/* waypost/output: tables, records and JSON, with hostile text in them (HAZARDS 7: escaped at the one writer). */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/clock.h"
#include "waypost/output.h"
#include "waypost/progress.h"

static char *text;
static size_t text_n;

static void write_rows(enum output_form form, const struct row_cell (*rows)[3], size_t n)
{
    FILE *f = open_memstream(&text, &text_n);
    struct output *o = output_new(form, f);
    for (size_t i = 0; i < n; i++)
        output_row(o, &(struct client_row){rows[i], 3});
    cr_assert_eq(output_end(&o), 0);
    fclose(f);
}

static const struct row_cell rows[][3] = {
    {{.kind = 0, .name = SPAN("id"), .value = SPAN("a")},
     {.kind = 1, .name = SPAN("count"), .number = 5},
     {.kind = 2, .name = SPAN("held"), .number = 1}},
    {{.kind = 0, .name = SPAN("id"), .value = SPAN("j\xc3\xb6rg\x1b[2J\r\n\"")},
     {.kind = 1, .name = SPAN("count"), .number = 12345},
     {.kind = 2, .name = SPAN("held")}},
};

Test(waypost, table)
{
    write_rows(OUTPUT_TABLE, rows, 2);
    cr_expect_str_eq(text, "ID                    COUNT  HELD\n"
                           "a                         5  yes\n"
                           "j\xc3\xb6rg\\x1b[2J\\x0d\\x0a\"  12345  no\n");
    free(text);
}

Test(waypost, a_long_table_is_printed_by_pages)
{
    FILE *f = open_memstream(&text, &text_n);
    struct output *o = output_new(OUTPUT_TABLE, f);
    for (int i = 0; i < 1000; i++)
        output_row(o, &(struct client_row){rows[0], 3});
    fflush(f);
    cr_expect_gt(text_n, 500, "pages are written before the end");
    cr_assert_eq(output_end(&o), 0);
    fclose(f);
    size_t lines = 0;
    for (size_t i = 0; i < text_n; i++)
        lines += text[i] == '\n';
    cr_expect_eq(lines, 1001);
    free(text);
}

Test(waypost, a_row_waits_for_others_but_not_for_long)
{
    FILE *f = open_memstream(&text, &text_n);
    struct output *o = output_new(OUTPUT_TABLE, f);
    output_row(o, &(struct client_row){rows[0], 3});
    fflush(f);
    cr_expect_eq(text_n, 0);
    output_pause(o);
    cr_expect_str_eq(text, "ID  COUNT  HELD\na       5  yes\n");
    output_row(o, &(struct client_row){rows[0], 3});
    int64_t since = clock_mono();
    while (clock_mono() - since < 60)
        ;
    output_row(o, &(struct client_row){rows[0], 3});
    cr_expect_str_eq(text, "ID  COUNT  HELD\na       5  yes\na       5  yes\na       5  yes\n", "rows that come slowly");
    cr_assert_eq(output_end(&o), 0);
    fclose(f);
    free(text);
}

Test(waypost, pieces_of_messages_are_harmless)
{
    struct buf out = {0};
    output_lines(&out, SPAN("Subject: j\xc3\xb6rg\x1b[2J\r\n\tfolded\r\n\r\nbroken \xff j\xc3\xb6rg\nlone\rcr\0nul \xc2\x9b\r\nno end\r"));
    cr_expect_str_eq(buf_cstr(&out), "Subject: j\xc3\xb6rg\\x1b[2J\n\tfolded\n\nbroken \\xff j\\xc3\\xb6rg\nlone\\x0dcr\\x00nul \\x9b\nno end\\x0d");
    buf_free(&out);
}

Test(waypost, records)
{
    write_rows(OUTPUT_RECORDS, rows, 1);
    cr_expect_str_eq(text, "id:    a\ncount: 5\nheld:  yes\n");
    free(text);
}

Test(waypost, json)
{
    const struct row_cell odd[][3] = {
        {{.kind = 0, .name = SPAN("text"), .value = SPAN("\"\\\x01\xff\0x")},
         {.kind = 3, .name = SPAN("at"), .number = 1700000000123},
         {.kind = 3, .name = SPAN("never")}},
        {{.kind = 4, .name = SPAN("size"), .number = 1},
         {.kind = 0, .name = SPAN("empty"), .value = SPAN("")},
         {.kind = 2, .name = SPAN("flag"), .number = 1}},
    };
    json_error_t e;
    write_rows(OUTPUT_JSON, odd, 2);
    json_t *all = json_loads(text, 0, &e);
    cr_assert(all && json_array_size(all) == 2, "%s: %s", e.text, text);
    json_t *first = json_array_get(all, 0), *second = json_array_get(all, 1);
    cr_expect_str_eq(json_string_value(json_object_get(first, "text")), "\"\\\\x01\\xff\\x00x");
    cr_expect_str_eq(json_string_value(json_object_get(first, "at")), "2023-11-14T22:13:20.123Z");
    cr_expect(json_is_null(json_object_get(first, "never")));
    cr_expect_eq(json_integer_value(json_object_get(second, "size")), 1);
    cr_expect_str_eq(json_string_value(json_object_get(second, "empty")), "");
    cr_expect(json_is_true(json_object_get(second, "flag")));
    json_decref(all);
    free(text);
    write_rows(OUTPUT_JSON, NULL, 0);
    cr_expect_str_eq(text, "[]\n");
    free(text);
}

Test(waypost, progress_is_one_line)
{
    static const struct {
        struct msg_adm_progress p;
        const char *line;
    } cases[] = {{{.done = 120000, .total = 1000000, .text = SPAN("messages")}, "120,000 of 1,000,000 messages (12%)"},
                 {{.done = 999, .text = SPAN("messages")}, "999 messages"},
                 {{.done = 1000, .text = SPAN("a\x1b[2Jb\n")}, "1,000 a\\x1b[2Jb\\x0a"},
                 {{.done = UINT64_MAX, .total = 1, .text = SPAN("x")}, "18,446,744,073,709,551,615 of 1 x (100%)"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf b = {0};
        progress_text(&cases[i].p, &b);
        cr_expect_str_eq(buf_cstr(&b), cases[i].line);
        buf_free(&b);
    }
}
