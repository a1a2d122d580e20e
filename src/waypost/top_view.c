/* The screen of `waypost queue top`. */
#include "waypost/output.h"
#include "waypost/top.h"

#define HOME "\x1b[H"
#define LINE_END "\x1b[K\r\n"
#define REST_EMPTY "\x1b[K\x1b[J"

/* ---- an answer as lines ---- */

static size_t width_of(struct span s)
{
    size_t w = 0;
    for (size_t i = 0; i < s.n; i++)
        w += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return w;
}

static struct span clipped(struct span s, size_t width)
{
    size_t i = 0;
    for (size_t w = 0; i < s.n; i++) {
        w += ((unsigned char)s.p[i] & 0xc0) != 0x80;
        if (w > width)
            break;
    }
    return span_sub(s, 0, i);
}

static void put_cell(struct buf *out, const struct row_cell *c, bool right, size_t width)
{
    struct buf text = {0};
    if (c->kind == 0)
        output_clean(&text, c->value, false);
    else if (c->kind == 2)
        buf_adds(&text, c->number ? "yes" : "no");
    else
        buf_printf(&text, "%llu", (unsigned long long)c->number);
    struct span s = clipped(buf_span(&text), width);
    int pad = (int)(width - width_of(s));
    if (right)
        buf_printf(out, "%*s%.*s  ", pad, "", SPANV(s));
    else
        buf_printf(out, "%.*s%*s  ", SPANV(s), pad, "");
    buf_free(&text);
}

struct column {
    const char *head;
    unsigned width;
    bool right;
};

static const struct column rate_columns[] = {
    {"", 12, false}, {"SINCE START", 12, true}, {"1 MIN", 10, true}, {"5 MIN", 10, true}, {"60 MIN", 10, true}};
static const struct column dest_columns[] = {{"DESTINATION", 30, false}, {"STATE", 9, false},  {"IN TURN", 8, true}, {"UNDER WAY", 9, true},
                                             {"ATTEMPT MS", 10, true},   {"ON DISK", 7, true}, {"REASON", 200, false}};

static void put_head(struct buf *out, const struct column *columns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct row_cell c = {.value = span_of(columns[i].head)};
        put_cell(out, &c, columns[i].right, columns[i].width);
    }
    buf_addc(out, '\n');
}

static void put_line(struct buf *out, const struct column *columns, size_t n, const struct client_row *row)
{
    if (out->n == 0)
        put_head(out, columns, n);
    for (size_t i = 0; i < n && i < row->count; i++)
        put_cell(out, &row->cells[i], columns[i].right, columns[i].width);
    buf_addc(out, '\n');
}

void top_row(void *view, const struct client_row *row)
{
    struct top_view *v = view;
    if (row->count == 0)
        return;
    if (span_eqs(row->cells[0].name, "event")) {
        put_line(&v->rates, rate_columns, COUNT_OF(rate_columns), row);
    } else if (span_eqs(row->cells[0].name, "destination")) {
        put_line(&v->dests, dest_columns, COUNT_OF(dest_columns), row);
    } else {
        for (size_t i = 0; i < row->count; i++)
            buf_printf(&v->counts, "%.*s %llu   ", SPANV(row->cells[i].name), (unsigned long long)row->cells[i].number);
    }
}

void top_view_free(struct top_view *v)
{
    buf_free(&v->counts);
    buf_free(&v->rates);
    buf_free(&v->dests);
}

/* ---- the screen ---- */

static void put_lines(struct buf *out, struct span text, unsigned width, unsigned *left)
{
    while (text.n && *left) {
        struct span line = clipped(span_cut(&text, '\n'), width);
        buf_printf(out, "%.*s%s", SPANV(line), --*left ? LINE_END : REST_EMPTY);
    }
}

static void put_gap(struct buf *out, unsigned *left)
{
    if (*left)
        buf_adds(out, --*left ? LINE_END : REST_EMPTY);
}

void top_draw(const struct top_view *v, struct span note, unsigned width, unsigned height, struct buf *out)
{
    unsigned left = height;
    buf_adds(out, HOME);
    put_lines(out, note, width, &left);
    put_lines(out, buf_span(&v->counts), width, &left);
    put_gap(out, &left);
    put_lines(out, buf_span(&v->rates), width, &left);
    put_gap(out, &left);
    put_lines(out, buf_span(&v->dests), width, &left);
    if (left)
        buf_adds(out, REST_EMPTY);
}
