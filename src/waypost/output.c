/* Tables, records, JSON. Texts come from mail, too: nothing in them reaches the terminal as a control character. */
#include "waypost/output.h"

#include <jansson.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/util.h"

#define PAGE_ROWS 200
#define PAGE_MS 50 /* that the first row of a page waits for others */
#define PAGE_BYTES (256u << 10)
#define COLUMNS_MAX 64

struct output {
    enum output_form form;
    FILE *to;
    const char *extra_name, *extra_value;
    size_t rows;
    bool header_due;
    /* The page of a table: all cells one after the other, each ended by a NUL. */
    size_t columns, page_rows;
    char names[COLUMNS_MAX][65];
    bool right[COLUMNS_MAX]; /* numbers */
    size_t width[COLUMNS_MAX];
    struct buf page;
    int64_t page_since;
};

struct output *output_new(enum output_form form, FILE *to)
{
    struct output *o = mem_alloc(sizeof(*o));
    o->form = form;
    o->to = to;
    return o;
}

void output_extra(struct output *o, const char *name, const char *value)
{
    o->extra_name = name;
    o->extra_value = value;
}

size_t output_rows(const struct output *o)
{
    return o->rows;
}

/* ---- cells as text ---- */

/* Control characters, C1 ones too, and broken UTF-8 become \xNN; those in `kept` stay. */
static void clean(struct buf *b, struct span s, const char *kept)
{
    bool utf8 = span_is_utf8(s);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool c1 = c == 0xc2 && i + 1 < s.n && (unsigned char)s.p[i + 1] < 0xa0;
        if (c && strchr(kept, c))
            buf_addc(b, (char)c);
        else if (c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8) || c1)
            buf_printf(b, "\\x%02x", c1 ? (unsigned char)s.p[++i] : c);
        else
            buf_addc(b, (char)c);
    }
}

void output_clean(struct buf *b, struct span s, bool lines)
{
    clean(b, s, lines ? "\n" : "");
}

void output_lines(struct buf *b, struct span s)
{
    while (s.n) {
        bool ended = span_find(s, '\n') >= 0;
        struct span line = span_cut(&s, '\n');
        if (ended && line.n && line.p[line.n - 1] == '\r')
            line.n--;
        clean(b, line, "\t"); /* headers fold with it, and it moves the cursor only */
        if (ended)
            buf_addc(b, '\n');
    }
}

static void put_time(struct buf *b, uint64_t ms)
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    char text[64];
    if (ms && localtime_r(&t, &tm) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm))
        buf_adds(b, text);
    else
        buf_addc(b, '-');
}

static void put_bytes(struct buf *b, uint64_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    size_t u = 0;
    while (v >= 1024 && u + 1 < COUNT_OF(units)) {
        v /= 1024;
        u++;
    }
    buf_printf(b, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static void put_cell(struct buf *b, const struct row_cell *c)
{
    switch (c->kind) {
    case ROW_NUMBER: buf_printf(b, "%llu", (unsigned long long)c->number); break;
    case ROW_FLAG: buf_adds(b, c->number ? "yes" : "no"); break;
    case ROW_TIME: put_time(b, c->number); break;
    case ROW_BYTES: put_bytes(b, c->number); break;
    default: output_clean(b, c->value, false);
    }
}

static size_t text_width(const char *s, size_t n)
{
    size_t w = 0;
    for (size_t i = 0; i < n; i++)
        w += ((unsigned char)s[i] & 0xc0) != 0x80;
    return w;
}

/* ---- tables ---- */

static void print_padded(struct output *o, size_t column, const char *text)
{
    size_t w = text_width(text, strlen(text));
    size_t pad = o->width[column] > w ? o->width[column] - w : 0;
    bool last = column + 1 == o->columns;
    if (o->right[column])
        fprintf(o->to, "%*s%s%s", (int)pad, "", text, last ? "\n" : "  ");
    else
        fprintf(o->to, "%s%*s", text, last ? 0 : (int)pad + 2, ""), last ? fputc('\n', o->to) : 0;
}

static void print_header(struct output *o)
{
    for (size_t i = 0; i < o->columns; i++) {
        char name[65];
        size_t n = 0;
        for (; o->names[i][n]; n++)
            name[n] = ascii_upper(o->names[i][n]);
        name[n] = 0;
        print_padded(o, i, name);
    }
    o->header_due = false;
}

static void print_page(struct output *o)
{
    const char *at = o->page.p;
    if (o->page_rows && o->header_due)
        print_header(o);
    for (size_t r = 0; r < o->page_rows; r++)
        for (size_t i = 0; i < o->columns; i++) {
            print_padded(o, i, at);
            at += strlen(at) + 1;
        }
    buf_clear(&o->page);
    o->page_rows = 0;
}

static bool same_columns(const struct output *o, const struct client_row *row)
{
    if (row->count != o->columns)
        return false;
    for (size_t i = 0; i < row->count; i++)
        if (!span_eqs(row->cells[i].name, o->names[i]))
            return false;
    return true;
}

static void new_columns(struct output *o, const struct client_row *row)
{
    print_page(o);
    if (o->rows > 1)
        fputc('\n', o->to);
    o->columns = row->count;
    o->header_due = true;
    for (size_t i = 0; i < row->count; i++) {
        const struct row_cell *c = &row->cells[i];
        snprintf(o->names[i], sizeof(o->names[i]), "%.*s", SPANV(c->name));
        o->right[i] = c->kind == ROW_NUMBER || c->kind == ROW_BYTES;
        o->width[i] = text_width(o->names[i], strlen(o->names[i]));
    }
}

static void table_row(struct output *o, const struct client_row *row)
{
    if (!same_columns(o, row))
        new_columns(o, row);
    for (size_t i = 0; i < row->count; i++) {
        size_t before = o->page.n;
        put_cell(&o->page, &row->cells[i]);
        if (o->page.n == before)
            buf_addc(&o->page, '-');
        o->width[i] = MAX_OF(o->width[i], text_width(o->page.p + before, o->page.n - before));
        buf_addc(&o->page, 0);
    }
    if (o->page_rows++ == 0)
        o->page_since = clock_mono();
    if (o->page_rows == PAGE_ROWS || o->page.n > PAGE_BYTES)
        print_page(o);
    else if (clock_mono() - o->page_since >= PAGE_MS)
        (void)output_pause(o);
}

/* ---- records ---- */

static void record_row(struct output *o, const struct client_row *row)
{
    size_t widest = 0;
    struct buf text = {0};
    for (size_t i = 0; i < row->count; i++)
        widest = MAX_OF(widest, row->cells[i].name.n);
    if (o->rows > 1)
        fputc('\n', o->to);
    for (size_t i = 0; i < row->count; i++) {
        buf_clear(&text);
        put_cell(&text, &row->cells[i]);
        fprintf(o->to, "%.*s:%*s%s\n", SPANV(row->cells[i].name), (int)(widest - row->cells[i].name.n) + 1, "",
                buf_cstr(&text));
    }
    buf_free(&text);
}

/* ---- JSON ---- */

/* RFC 8259 texts are UTF-8: other bytes are shown as \xNN, as in tables. */
static json_t *json_text(struct span s)
{
    if (span_is_utf8(s))
        return json_stringn(s.n ? s.p : "", s.n);
    struct buf clean = {0};
    output_clean(&clean, s, false);
    json_t *j = json_stringn(clean.p, clean.n);
    buf_free(&clean);
    return j;
}

/* RFC 3339, UTC; none is null. */
static json_t *json_time(uint64_t ms)
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    char date[64], text[80];
    if (!ms || !gmtime_r(&t, &tm) || !strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm))
        return json_null();
    snprintf(text, sizeof(text), "%s.%03uZ", date, (unsigned)(ms % 1000));
    return json_string(text);
}

static json_t *json_cell(const struct row_cell *c)
{
    switch (c->kind) {
    case ROW_NUMBER:
    case ROW_BYTES: return json_integer((json_int_t)c->number);
    case ROW_FLAG: return json_boolean(c->number != 0);
    case ROW_TIME: return json_time(c->number);
    default: return json_text(c->value);
    }
}

static void json_row(struct output *o, const struct client_row *row)
{
    json_t *object = json_object();
    for (size_t i = 0; i < row->count; i++) {
        char name[65];
        snprintf(name, sizeof(name), "%.*s", SPANV(row->cells[i].name));
        json_object_set_new(object, name, json_cell(&row->cells[i]));
    }
    fputs(o->rows > 1 ? ",\n " : "[", o->to);
    json_dumpf(object, o->to, JSON_COMPACT);
    json_decref(object);
}

/* ---- all forms ---- */

void output_row(void *output, const struct client_row *row)
{
    struct output *o = output;
    struct row_cell cells[COLUMNS_MAX];
    size_t n = MIN_OF(row->count, (size_t)COLUMNS_MAX - 1);
    if (n)
        memcpy(cells, row->cells, n * sizeof(*cells));
    if (o->extra_name)
        cells[n++] =
            (struct row_cell){.kind = ROW_TEXT, .name = span_of(o->extra_name), .value = span_of(o->extra_value)};
    struct client_row full = {cells, n};
    o->rows++;
    if (o->form == OUTPUT_JSON)
        json_row(o, &full);
    else if (o->form == OUTPUT_RECORDS)
        record_row(o, &full);
    else
        table_row(o, &full);
}

bool output_pause(void *output)
{
    struct output *o = output;
    print_page(o);
    fflush(o->to);
    return true;
}

int output_end(struct output **op)
{
    struct output *o = *op;
    if (o->form == OUTPUT_JSON)
        fputs(o->rows ? "]\n" : "[]\n", o->to);
    print_page(o);
    int rc = fflush(o->to) || ferror(o->to) ? -1 : 0;
    buf_free(&o->page);
    mem_free(op);
    return rc;
}
