/* The content of a message for an operator: its header, its body, or all as it is stored, in pieces that end with a line
 * where they can. Contents are private: who asked is in the log. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "qmgr/question.h"
#include "qmgr/trace.h"

#define SHOW_TIME_MS 3600000
#define PIECE 32768

enum part { PART_HEADERS, PART_BODY, PART_RAW };
static const char *const options[] = {"--headers", "--body", "--raw"};

struct show {
    uint64_t message;
    enum part part;
    uint64_t from, to; /* of the content, bytes */
    bool begun;
    char piece[PIECE];
};

/* Up to the last line's end in it; all of it when it has none, or is the last one. */
static size_t whole_lines(struct span s, bool last)
{
    ptrdiff_t end = last ? -1 : span_rfind(s, '\n');
    return end < 0 ? s.n : (size_t)end + 1;
}

/* The empty line between header and body is neither's. */
static bool put_piece(struct question *k, struct show *w, struct span s)
{
    if (w->part == PART_BODY && !w->begun && span_starts(s, SPAN("\r\n")))
        s = span_from(s, 2);
    w->begun = true;
    question_text(k, "text", s);
    return question_row(k);
}

static int put_file(struct question *k, struct show *w, struct err *err)
{
    char path[4300];
    bool more = true;
    snprintf(path, sizeof path, "%s/spool/%s", question_dir(k), qid_text(w->message).text);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_errno(err, "its file");
    while (more && w->from < w->to) {
        ssize_t n = pread(fd, w->piece, MIN_OF(w->to - w->from, (uint64_t)PIECE), (off_t)w->from);
        if (n <= 0) {
            err_set(err, "its file: %s", n < 0 ? strerror(errno) : "it is shorter than it was");
            close(fd);
            return -1;
        }
        size_t put = whole_lines(span_make(w->piece, (size_t)n), w->from + (uint64_t)n == w->to);
        more = put_piece(k, w, span_make(w->piece, put));
        w->from += put;
    }
    close(fd);
    return 0;
}

static void put_memory(struct question *k, struct show *w, const struct queue_message *m)
{
    struct buf all = {0};
    buf_add(&all, m->prefix);
    buf_add(&all, m->body);
    struct span left = span_sub(buf_span(&all), (size_t)w->from, (size_t)(w->to - w->from));
    for (bool more = true; more && left.n;) {
        struct span s = span_sub(left, 0, PIECE);
        s.n = whole_lines(s, s.n == left.n);
        more = put_piece(k, w, s);
        left = span_from(left, s.n);
    }
    buf_free(&all);
}

static void choose(struct show *w, const struct queue_message *m)
{
    uint64_t header = MIN_OF((uint64_t)m->header_bytes, m->size);
    w->from = w->part == PART_BODY ? header : 0;
    w->to = w->part == PART_HEADERS ? header : m->size;
}

static int put_content(struct question *k, struct show *w, struct err *err)
{
    struct queue_reader *r;
    struct queue_message m;
    struct arena a = {0};
    if (queue_reader_open(&r, question_dir(k), err))
        return -1;
    int rc = queue_read_message(r, w->message, true, &a, &m, err);
    queue_reader_close(&r);
    if (rc == 0) {
        choose(w, &m);
        if (m.spooled)
            rc = put_file(k, w, err);
        else
            put_memory(k, w, &m);
    }
    arena_free(&a);
    return rc;
}

static void run(struct question *k, void *ctx)
{
    struct err err = {""};
    int rc = put_content(k, ctx, &err);
    if (rc > 0)
        question_end(k, ADMIN_NO_SUCH, "no such message in the queue (it may have been delivered)");
    else if (rc < 0)
        question_end(k, ADMIN_FAILED, "its content can't be read: %s", err.text);
    else
        question_end(k, ADMIN_DONE, "%s", "");
}

static void show_free(void *ctx)
{
    struct show *w = ctx;
    mem_free(&w);
}

void show_content(void *ctx, struct admin_call *c, const struct span *args, size_t n)
{
    struct show *w = mem_alloc(sizeof *w);
    size_t part = COUNT_OF(options);
    bool named = false;
    for (size_t i = 0; i < n; i++) {
        size_t o = 0;
        while (o < COUNT_OF(options) && !span_eqs(args[i], options[o]))
            o++;
        if (o < COUNT_OF(options))
            part = o;
        else
            named = qid_parse(args[i], &w->message);
    }
    if (n != 2 || part == COUNT_OF(options) || !named) {
        show_free(w);
        admin_end(c, ADMIN_USAGE, "say an ID, and perhaps one of --headers, --body and --raw");
        return;
    }
    w->part = (enum part)part;
    struct qid_text qid = qid_text(w->message);
    LOGI("content-shown", KVT("qid", qid.text), KVT("what", options[part]), KVU("uid", admin_uid(c)));
    question_ask(ctx, c, &(struct question_work){run, show_free, w, SHOW_TIME_MS, 0, 0});
}
