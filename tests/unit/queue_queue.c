/* The queue on a real file: group commit counted, what a restart finds, tokens, orphans, outcomes of one transaction.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "db/db.h"
#include "queue/impl.h"
#include "queue/queue.h"

static char dir[64];
static struct err err;
static unsigned salt; /* of tokens */

static void make_dir(void)
{
    snprintf(dir, sizeof dir, "/tmp/waypost-queue-XXXXXX");
    cr_assert(mkdtemp(dir));
}

static void remove_dir(void)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    cr_assert_eq(system(cmd), 0);
}

TestSuite(queue, .init = make_dir, .fini = remove_dir, .timeout = 120);

struct world {
    struct loop *loop;
    struct queue *q;
    unsigned done, failed;
    unsigned want;
    bool running;
};

struct one {
    struct queue_accept a;
    struct world *w;
    struct queue_message m;
    struct queue_recipient r[3];
    char token[QUEUE_TOKEN_BYTES];
    char body[64];
};

static void open_queue(struct world *w, int64_t commit_wait)
{
    struct queue_options o = {.dir = dir, .commit_wait_ms = commit_wait, .now_ms = 1800000000000};
    *w = (struct world){.loop = loop_new()};
    cr_assert_eq(queue_open(&w->q, w->loop, &o, &err), 0, "%s", err.text);
}

static void close_queue(struct world *w)
{
    queue_close(&w->q);
    loop_free(&w->loop);
}

static void count(struct world *w, const struct queue_request *r)
{
    w->done++;
    w->failed += r->fail != QUEUE_OK;
    if (w->done >= w->want && w->running)
        loop_stop(w->loop);
}

static void on_accepted(struct queue_request *r)
{
    struct one *o = container_of(container_of(r, struct queue_accept, request), struct one, a);
    count(o->w, r);
}

static void make(struct world *w, struct one *o, unsigned n, size_t recipients)
{
    uint64_t id = queue_ids(w->q, recipients + 1);
    *o = (struct one){.w = w};
    snprintf(o->body, sizeof o->body, "Subject: %u\r\n\r\nhello\r\n", n);
    memcpy(o->token, &n, sizeof n);
    memcpy(o->token + sizeof n, &salt, sizeof salt);
    o->m = (struct queue_message){.id = id,
                                  .sender = SPAN("carol@remote.test"),
                                  .received = 1000,
                                  .size = strlen(o->body),
                                  .header_bytes = 10,
                                  .origin = QUEUE_FROM_OUTSIDE,
                                  .prefix = SPAN("X: y\r\n"),
                                  .body = span_of(o->body)};
    o->m.size += o->m.prefix.n;
    for (size_t i = 0; i < recipients; i++)
        o->r[i] = (struct queue_recipient){.id = id + 1 + i,
                                           .state = QUEUE_WAITING,
                                           .next = 1000 + n,
                                           .address = i ? SPAN("b@example.test") : SPAN("a@example.test")};
    o->a = (struct queue_accept){
        .request.done = on_accepted, .message = &o->m, .recipients = o->r, .count = recipients, .token = o->token};
}

static void run_loop(struct world *w)
{
    w->running = true;
    loop_run(w->loop);
    w->running = false;
}

static void run(struct world *w, unsigned want)
{
    w->want = want;
    if (w->done < want)
        run_loop(w);
    cr_assert_eq(w->done, want);
}

static struct one *accept_many(struct world *w, unsigned n, size_t recipients)
{
    struct one *all = mem_array(n, sizeof *all);
    w->done = 0;
    for (unsigned i = 0; i < n; i++) {
        make(w, &all[i], i, recipients);
        queue_accept(w->q, &all[i].a);
    }
    run(w, n);
    return all;
}

static size_t due(struct queue_due *out, size_t max)
{
    struct queue_reader *r;
    size_t n;
    int64_t coming;
    cr_assert_eq(queue_reader_open(&r, dir, &err), 0, "%s", err.text);
    cr_assert_eq(queue_read_due(r, &(struct queue_due){0}, 1000000, out, max, &n, &coming, &err), 0, "%s", err.text);
    queue_reader_close(&r);
    return n;
}

Test(queue, one_commit_holds_what_waited_together)
{
    struct world w;
    struct queue_due d[200];
    open_queue(&w, 20);
    queue_senders(w.q, 100);
    struct one *all = accept_many(&w, 100, 1);
    struct queue_stats s = queue_stats(w.q);
    cr_assert_eq(s.requests, 100);
    cr_assert_leq(s.commits, 3, "%lu commits", (unsigned long)s.commits);
    cr_assert_eq(w.failed, 0);
    cr_assert_eq(due(d, 200), 100);
    mem_free(&all);
    close_queue(&w);
}

/* A request during which another one comes. */
struct host {
    struct queue_request request, guest;
    struct world *w;
    bool refused; /* the guest can't be carried out */
    unsigned runs, guest_runs;
};

static void on_host(struct queue_request *r)
{
    count(container_of(r, struct host, request)->w, r);
}

static void on_guest(struct queue_request *r)
{
    count(container_of(r, struct host, guest)->w, r);
}

static int run_guest(struct queue *q, struct queue_request *r, struct err *e)
{
    struct host *h = container_of(r, struct host, guest);
    (void)q;
    h->guest_runs++;
    return h->refused ? err_set(e, "not this one") : 0;
}

static int run_host(struct queue *q, struct queue_request *r, struct err *e)
{
    struct host *h = container_of(r, struct host, request);
    (void)e;
    if (h->runs++ == 0)
        queue_submit(q, &h->guest, 60000);
    return 0;
}

Test(queue, what_comes_while_rows_are_written_goes_with_them)
{
    for (int refused = 0; refused < 2; refused++) {
        struct world w;
        struct host h = {.refused = refused, .w = &w};
        h.request.done = on_host;
        h.request.run = run_host;
        h.guest.done = on_guest;
        h.guest.run = run_guest;
        open_queue(&w, 2);
        queue_submit(w.q, &h.request, 0);
        run(&w, 2); /* well before the minute that the guest could have waited */
        cr_assert_eq(queue_stats(w.q).commits, 1);
        cr_assert_eq(h.request.fail, QUEUE_OK);
        cr_assert_eq(h.guest.fail != QUEUE_OK, h.refused);
        cr_assert_eq(h.runs, refused ? 2 : 1);
        cr_assert_eq(h.guest_runs, refused ? 2 : 1, "each on its own, then");
        close_queue(&w);
    }
}

/* A sender that waits for each answer before the next message. */
struct chain {
    struct one one;
    struct world *w;
    unsigned sent;
};

static void chain_next(struct chain *c);

static void on_chain(struct queue_request *r)
{
    struct one *o = container_of(container_of(r, struct queue_accept, request), struct one, a);
    struct chain *c = container_of(o, struct chain, one);
    count(c->w, r);
    if (c->w->done < c->w->want)
        chain_next(c);
}

static void chain_next(struct chain *c)
{
    static unsigned serial;
    make(c->w, &c->one, ++serial, 1);
    c->one.a.request.done = on_chain;
    c->sent++;
    queue_accept(c->w->q, &c->one.a);
}

Test(queue, a_hundred_sessions_share_their_syncs_and_a_single_one_never_waits)
{
    struct world w;
    static struct chain c[100];
    open_queue(&w, 2);
    queue_senders(w.q, 100);
    w.want = 3000;
    for (int i = 0; i < 100; i++) {
        c[i].w = &w;
        chain_next(&c[i]);
    }
    run_loop(&w);
    double per = (double)queue_stats(w.q).commits / w.done;
    cr_assert_lt(per, 0.1, "%.3f commits a message", per);
    cr_assert_eq(w.failed, 0);
    close_queue(&w); /* the rest of them is carried out here */

    open_queue(&w, 1000);
    queue_senders(w.q, 1);
    struct chain alone = {.w = &w};
    w.want = 5;
    int64_t before = loop_now(w.loop);
    chain_next(&alone);
    run_loop(&w);
    cr_assert_lt(loop_now(w.loop) - before, 1000, "five commits of one session take less than one commit-wait");
    cr_assert_eq(queue_stats(w.q).commits, 5);
    close_queue(&w);
}

Test(queue, rows_come_back_as_they_were)
{
    struct world w;
    struct queue_reader *r;
    struct queue_message m;
    struct queue_recipient rc[4];
    struct arena a = {0};
    size_t n;
    open_queue(&w, 0);
    struct one *all = accept_many(&w, 1, 3);
    cr_assert_eq(queue_reader_open(&r, dir, &err), 0);
    cr_assert_eq(queue_read_message(r, all[0].m.id, true, &a, &m, &err), 0, "%s", err.text);
    cr_assert(span_eqs(m.sender, "carol@remote.test") && span_eqs(m.prefix, "X: y\r\n") &&
              span_eqs(m.body, all[0].body));
    cr_assert_eq(m.header_bytes, 10);
    cr_assert_eq(queue_read_recipients(r, all[0].m.id, 0, rc, 4, &n, &a, &err), 0);
    cr_assert_eq(n, 3);
    cr_assert(span_eqs(rc[0].address, "a@example.test") && rc[0].state == QUEUE_WAITING && rc[0].original.p == NULL &&
              rc[0].sender.p == NULL);
    cr_assert_eq(queue_read_message(r, 12345, true, &a, &m, &err), 1, "there is none");
    queue_reader_close(&r);
    arena_free(&a);
    mem_free(&all);
    close_queue(&w);
}

/* A list or a filter over a million messages must not read what they contain: it lies apart. */
Test(queue, looking_through_messages_needs_no_content)
{
    struct world w;
    struct db *db;
    struct queue_reader *r;
    struct queue_item items[4];
    struct queue_message m;
    struct arena a = {0};
    struct queue_place at = {0};
    size_t n;
    bool end;
    open_queue(&w, 0);
    struct one *all = accept_many(&w, 2, 1);
    close_queue(&w);
    cr_assert_eq(db_open(&db, dir, "queue.db", &(struct db_options){.one_process = true}, &err), 0, "%s", err.text);
    cr_assert_eq(db_exec(db, "DROP TABLE content", &err), 0, "%s", err.text);
    db_close(&db);

    cr_assert_eq(queue_reader_open(&r, dir, &err), 0, "%s", err.text);
    struct queue_filter f = {.sender = SPAN("carol@remote.test"), .either = SPAN("a@example.test")};
    cr_assert_eq(queue_read_page(r, &f, &at, 100, items, 4, &n, &end, &a, &err), 0, "%s", err.text);
    cr_assert(n == 2 && end && items[1].message.id == all[1].m.id);
    cr_assert_eq(queue_read_message(r, all[0].m.id, false, &a, &m, &err), 0, "%s", err.text);
    queue_reader_close(&r);
    arena_free(&a);
    mem_free(&all);
}

Test(queue, content_that_is_gone_is_told_from_an_empty_one)
{
    struct world w;
    struct db *db;
    struct queue_reader *r;
    struct queue_message m;
    struct arena a = {0};
    open_queue(&w, 0);
    struct one *all = accept_many(&w, 1, 1);
    close_queue(&w);
    cr_assert_eq(db_open(&db, dir, "queue.db", &(struct db_options){.one_process = true}, &err), 0, "%s", err.text);
    cr_assert_eq(db_exec(db, "DELETE FROM content", &err), 0, "%s", err.text);
    db_close(&db);
    cr_assert_eq(queue_reader_open(&r, dir, &err), 0, "%s", err.text);
    cr_assert_eq(queue_read_message(r, all[0].m.id, true, &a, &m, &err), 1);
    cr_assert_eq(queue_read_message(r, all[0].m.id, false, &a, &m, &err), 0);
    queue_reader_close(&r);
    arena_free(&a);
    mem_free(&all);
}

static struct world *settled_world;


static void on_settled(struct queue_request *r)
{
    count(settled_world, r);
}

static void settle(struct world *w, struct queue_settle *s)
{
    settled_world = w;
    w->done = 0;
    s->request.done = on_settled;
    queue_settle(w->q, s, 0);
    run(w, 1);
    cr_assert_eq(s->request.fail, QUEUE_OK, "%s", s->request.why);
}

static int64_t file_bytes(void)
{
    char path[100];
    struct stat st;
    snprintf(path, sizeof path, "%s/queue.db", dir);
    cr_assert_eq(stat(path, &st), 0);
    return st.st_size;
}

struct small_file {
    struct world *w;
    struct timer *t;
};

static void stop_when_small(void *ctx)
{
    struct small_file *f = ctx;
    if (queue_stats(f->w->q).tidied > 10 && file_bytes() < INT64_C(20) << 20)
        loop_stop(f->w->loop);
    else
        timer_start(f->t, 100);
}

/* After a backlog of 48 MiB the file is given back in steps, and what is behind the gap is moved. */
Test(queue, the_file_of_a_backlog_gets_small_again)
{
    enum { N = 1200 };
    struct world w;
    static char body[40000];
    struct queue_due d[8];
    memset(body, 'x', sizeof body);
    open_queue(&w, 0);
    struct one *all = mem_array(N, sizeof *all);
    struct queue_settle *gone = mem_array(N, sizeof *gone);
    struct queue_change *ch = mem_array(N, sizeof *ch);
    for (unsigned i = 0; i < N; i++) {
        make(&w, &all[i], i, 1);
        all[i].m.body = span_make(body, sizeof body);
        queue_accept(w.q, &all[i].a);
    }
    run(&w, N);
    salt = 1;
    struct one *stay = accept_many(&w, 2, 1);
    cr_assert_gt(file_bytes() + (INT64_C(16) << 10) * (int64_t)queue_stats(w.q).wal_pages, INT64_C(40) << 20);
    settled_world = &w;
    w.done = 0;
    for (unsigned i = 0; i < N; i++) {
        ch[i] = (struct queue_change){.kind = QUEUE_GONE, .row = {.id = all[i].r[0].id}};
        gone[i] = (struct queue_settle){.message = all[i].m.id, .changes = &ch[i], .count = 1, .request.done = on_settled};
        queue_settle(w.q, &gone[i], 0);
    }
    run(&w, N);
    struct small_file f = {&w, NULL};
    f.t = timer_new(w.loop, stop_when_small, &f);
    timer_start(f.t, 10);
    loop_run(w.loop); /* or for ever */
    timer_free(&f.t);
    close_queue(&w);
    cr_assert_eq(due(d, 8), 2, "nothing was lost by it");
    mem_free(&all);
    mem_free(&gone);
    mem_free(&ch);
    mem_free(&stay);
}

Test(queue, a_token_is_taken_once_and_remembered_after_its_message_left)
{
    struct world w;
    open_queue(&w, 0);
    struct one *first = accept_many(&w, 1, 1);
    struct one *again = accept_many(&w, 1, 1);
    cr_assert_eq(again[0].a.duplicate_of, first[0].m.id);
    cr_assert_eq(first[0].a.duplicate_of, 0);
    struct queue_change gone = {.kind = QUEUE_GONE, .row = {.id = first[0].r[0].id}};
    struct queue_settle s = {.message = first[0].m.id, .changes = &gone, .count = 1};
    settle(&w, &s);
    cr_assert(s.message_gone);
    struct queue_due d[2];
    cr_assert_eq(due(d, 2), 0);
    close_queue(&w);

    open_queue(&w, 0);
    struct queue_token t = {.request.done = on_settled};
    settled_world = &w;
    memcpy(t.token, first[0].token, sizeof t.token);
    queue_token_ask(w.q, &t);
    run(&w, 1);
    cr_assert_eq(t.message, first[0].m.id);
    memset(t.token, 0x55, sizeof t.token);
    w.done = 0;
    queue_token_ask(w.q, &t);
    run(&w, 1);
    cr_assert_eq(t.message, 0);
    mem_free(&first);
    mem_free(&again);
    close_queue(&w);
}

Test(queue, failure_and_notification_are_one_transaction)
{
    struct world w;
    struct queue_due d[8];
    open_queue(&w, 0);
    struct one *all = accept_many(&w, 1, 2);
    uint64_t id = queue_ids(w.q, 2);
    struct queue_message notice = {.id = id, .sender = SPAN(""), .origin = QUEUE_NOTIFICATION, .body = SPAN("bounce")};
    struct queue_recipient to = {.id = id + 1, .state = QUEUE_WAITING, .next = 5, .address = SPAN("carol@remote.test")};
    struct queue_change ch[] = {{QUEUE_GONE, {.id = all[0].r[0].id}},
                                {QUEUE_UPDATE,
                                 {.id = all[0].r[1].id,
                                  .state = QUEUE_WAITING,
                                  .attempts = 1,
                                  .next = 2000000,
                                  .kind = 4,
                                  .code = 451,
                                  .why = SPAN("later")}}};
    struct queue_settle s = {.message = all[0].m.id, .changes = ch, .count = 2, .notice = &notice, .notice_to = &to};
    settle(&w, &s);
    cr_assert(!s.message_gone);
    cr_assert_eq(due(d, 8), 1, "the notification; the other recipient later");
    cr_assert_eq(d[0].message, id);
    /* a request that cannot be carried out leaves nothing of itself, and does not harm the others of its batch */
    struct queue_settle bad = {.request.done = on_settled,
                               .message = all[0].m.id,
                               .changes = ch,
                               .count = 2,
                               .notice = &notice,
                               .notice_to = &to};
    struct one good;
    w.done = 0;
    make(&w, &good, 77, 1);
    queue_senders(w.q, 2);
    queue_settle(w.q, &bad, 50);
    queue_accept(w.q, &good.a);
    run(&w, 2);
    cr_assert_eq(bad.request.fail, QUEUE_BROKEN);
    cr_assert_eq(good.a.request.fail, QUEUE_OK);
    mem_free(&all);
    close_queue(&w);
}

Test(queue, an_expanded_alias_leaves_with_the_last_of_its_children)
{
    struct world w;
    open_queue(&w, 0);
    struct one *all = accept_many(&w, 1, 1);
    uint64_t id = queue_ids(w.q, 2);
    struct queue_recipient kids[2] = {{.id = id,
                                       .parent = all[0].r[0].id,
                                       .depth = 1,
                                       .state = QUEUE_WAITING,
                                       .next = 9,
                                       .address = SPAN("x@example.test")},
                                      {.id = id + 1,
                                       .parent = all[0].r[0].id,
                                       .depth = 1,
                                       .state = QUEUE_WAITING,
                                       .next = 9,
                                       .address = SPAN("y@example.test")}};
    struct queue_change ex = {QUEUE_UPDATE, {.id = all[0].r[0].id, .state = QUEUE_EXPANDED}};
    struct queue_settle s = {.message = all[0].m.id, .changes = &ex, .count = 1, .children = kids, .child_count = 2};
    settle(&w, &s);
    cr_assert(!s.message_gone);
    for (int i = 0; i < 2; i++) {
        struct queue_change gone = {QUEUE_GONE, {.id = kids[i].id}};
        struct queue_settle g = {.message = all[0].m.id, .changes = &gone, .count = 1};
        settle(&w, &g);
        cr_assert_eq(g.message_gone, i == 1);
    }
    mem_free(&all);
    close_queue(&w);
}

Test(queue, ids_are_never_used_again_though_the_clock_goes_back)
{
    struct world w;
    open_queue(&w, 0);
    struct one *all = accept_many(&w, 3, 1);
    uint64_t last = all[2].r[0].id;
    mem_free(&all);
    close_queue(&w);
    open_queue(&w, 0);
    cr_assert_gt(queue_ids(w.q, 1), last);
    close_queue(&w);
}

static bool spool_has(uint64_t id)
{
    char path[160];
    snprintf(path, sizeof path, "%s/spool/%s", dir, qid_text(id).text);
    return access(path, F_OK) == 0;
}

Test(queue, spool_files_without_row_go_at_start_and_others_with_their_message)
{
    struct world w;
    open_queue(&w, 0);
    uint64_t orphan = queue_ids(w.q, 1);
    close(queue_spool_create(w.q, orphan, &err));
    struct one o;
    make(&w, &o, 1, 1);
    o.m.spooled = true;
    o.m.prefix = o.m.body = SPAN_NONE;
    o.m.size = 5;
    int fd = queue_spool_create(w.q, o.m.id, &err);
    cr_assert_eq(write(fd, "1234", 4), 4);
    queue_accept(w.q, &o.a);
    run(&w, 1);
    cr_assert(o.a.damaged, "shorter than its sender said");
    cr_assert_eq(write(fd, "5", 1), 1);
    close(fd);
    w.done = 0;
    queue_accept(w.q, &o.a);
    run(&w, 1);
    cr_assert(!o.a.damaged && o.a.request.fail == QUEUE_OK);
    close_queue(&w);
    open_queue(&w, 0);
    cr_assert(!spool_has(orphan));
    cr_assert(spool_has(o.m.id));
    struct queue_change gone = {QUEUE_GONE, {.id = o.r[0].id}};
    struct queue_settle s = {.message = o.m.id, .spooled = true, .changes = &gone, .count = 1};
    settle(&w, &s);
    cr_assert(s.message_gone);
    close_queue(&w);
    cr_assert(!spool_has(o.m.id));
}

struct settled_spool {
    struct world *w;
    struct timer *t;
};

static void stop_when_few_files(void *ctx)
{
    struct settled_spool *f = ctx;
    char path[100];
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/spool", dir);
    DIR *d = opendir(path);
    cr_assert(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    if (n <= 2)
        loop_stop(f->w->loop);
    else
        timer_start(f->t, 10);
}

/* More than a start looks at; the rest goes while it runs, but what has been made since, and what has a row. */
Test(queue, many_spool_files_without_row_go_after_the_start)
{
    enum { N = 2500 };
    struct world w;
    open_queue(&w, 0);
    uint64_t first = queue_ids(w.q, N);
    for (uint64_t i = 0; i < N; i++)
        close(queue_spool_create(w.q, first + i, &err));
    struct one o;
    make(&w, &o, 1, 1);
    o.m.spooled = true;
    o.m.prefix = o.m.body = SPAN_NONE;
    o.m.size = 0;
    close(queue_spool_create(w.q, o.m.id, &err));
    queue_accept(w.q, &o.a);
    run(&w, 1);
    cr_assert(!o.a.damaged && o.a.request.fail == QUEUE_OK);
    close_queue(&w);
    open_queue(&w, 0);
    uint64_t fresh = queue_ids(w.q, 1);
    close(queue_spool_create(w.q, fresh, &err));
    struct settled_spool f = {.w = &w};
    f.t = timer_new(w.loop, stop_when_few_files, &f);
    timer_start(f.t, 0);
    loop_run(w.loop);
    timer_free(&f.t);
    cr_assert(spool_has(o.m.id) && spool_has(fresh));
    close_queue(&w);
}

Test(queue, what_was_answered_survives_kill_9)
{
    int pipes[2];
    cr_assert_eq(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct world w;
        open_queue(&w, 2);
        queue_senders(w.q, 50);
        for (;;) {
            struct one *all = accept_many(&w, 50, 1);
            for (int i = 0; i < 50; i++)
                if (all[i].a.request.fail == QUEUE_OK &&
                    write(pipes[1], &all[i].m.id, sizeof(uint64_t)) != sizeof(uint64_t))
                    _exit(1);
            mem_free(&all);
            if (++salt > 200)
                _exit(0);
        }
    }
    close(pipes[1]);
    usleep(300000);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    struct world w;
    open_queue(&w, 0);
    struct queue_reader *r;
    cr_assert_eq(queue_reader_open(&r, dir, &err), 0);
    uint64_t id;
    unsigned n = 0;
    struct arena a = {0};
    while (read(pipes[0], &id, sizeof id) == sizeof id) {
        struct queue_message m;
        cr_assert_eq(queue_read_message(r, id, true, &a, &m, &err), 0, "%s was answered and is lost",
                     qid_text(id).text);
        arena_reset(&a);
        n++;
    }
    cr_assert_gt(n, 0);
    arena_free(&a);
    queue_reader_close(&r);
    close_queue(&w);
}

Test(queue, the_log_stays_bounded_under_constant_writing)
{
    struct world w;
    char path[160];
    struct stat st;
    open_queue(&w, 2);
    queue_senders(w.q, 200);
    static char big[40000];
    memset(big, 'x', sizeof big);
    for (int round = 0; round < 50; round++, salt++) {
        struct one *all = mem_array(100, sizeof *all);
        w.done = 0;
        for (unsigned i = 0; i < 100; i++) {
            make(&w, &all[i], (unsigned)round * 100 + i, 1);
            all[i].m.body = span_make(big, sizeof big);
            queue_accept(w.q, &all[i].a);
        }
        run(&w, 100);
        for (unsigned i = 0; i < 100; i++) {
            struct queue_change gone = {QUEUE_GONE, {.id = all[i].r[0].id}};
            struct queue_settle s = {.message = all[i].m.id, .changes = &gone, .count = 1};
            if (i % 2)
                settle(&w, &s);
        }
        mem_free(&all);
    }
    snprintf(path, sizeof path, "%s/queue.db-wal", dir);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_lt(st.st_size, 128 << 20, "%lld bytes after more than 200 MB", (long long)st.st_size);
    cr_assert_gt(queue_stats(w.q).checkpoints, 1);
    close_queue(&w);
}

/* Among many others, looking at no more rows than it has; those that left, or wait no longer, are not there. */
Test(queue, what_waits_for_a_domain_is_found_by_it)
{
    struct world w;
    struct queue_reader *r;
    struct queue_item items[10];
    struct arena a = {0};
    size_t n;
    bool end;
    open_queue(&w, 0);
    struct one *all = accept_many(&w, 200, 2);
    for (unsigned i = 0; i < 200; i += 10) {
        struct queue_change c = {QUEUE_UPDATE, all[i].r[1]};
        c.row.state = QUEUE_PICKUP;
        c.row.next = 5000000;
        c.row.domain = i % 40 == 0 ? SPAN("xn--bcher-kva.test") : SPAN("other.test");
        settle(&w, &(struct queue_settle){.message = all[i].m.id, .changes = &c, .count = 1});
    }
    struct queue_change held = {QUEUE_UPDATE, all[40].r[1]}, gone = {QUEUE_GONE, all[80].r[1]};
    held.row.state = QUEUE_HELD;
    held.row.next = 0;
    settle(&w, &(struct queue_settle){.message = all[40].m.id, .changes = &held, .count = 1});
    settle(&w, &(struct queue_settle){.message = all[80].m.id, .changes = &gone, .count = 1});
    cr_assert_eq(queue_reader_open(&r, dir, &err), 0);
    struct queue_filter f = {.waits = SPAN("xn--bcher-kva.test"), .state = QUEUE_PICKUP};
    struct queue_place at = {0};
    cr_assert_eq(queue_read_page(r, &f, &at, 4, items, 2, &n, &end, &a, &err), 0, "%s", err.text);
    cr_assert(n == 2 && !end && items[0].message.id == all[0].m.id && items[1].message.id == all[120].m.id);
    cr_assert_eq(queue_read_page(r, &f, &at, 2, items, 10, &n, &end, &a, &err), 0);
    cr_assert(n == 1 && end && items[0].recipient.id == all[160].r[1].id);
    f.waits = SPAN("nobody.test");
    at = (struct queue_place){0};
    cr_assert_eq(queue_read_page(r, &f, &at, 1, items, 10, &n, &end, &a, &err), 0);
    cr_assert(n == 0 && end);
    queue_reader_close(&r);
    arena_free(&a);
    mem_free(&all);
    close_queue(&w);
}

Test(queue, pages_show_what_matches)
{
    struct world w;
    struct queue_reader *r;
    struct queue_item items[10];
    struct arena a = {0};
    size_t n, all_n = 0;
    bool end = false;
    open_queue(&w, 0);
    struct one *all = accept_many(&w, 25, 2);
    cr_assert_eq(queue_reader_open(&r, dir, &err), 0);
    struct queue_filter f = {.recipient = SPAN("B@example.test")};
    struct queue_place at = {0};
    while (!end) {
        cr_assert_eq(queue_read_page(r, &f, &at, 7, items, 10, &n, &end, &a, &err), 0, "%s", err.text);
        for (size_t i = 0; i < n; i++)
            cr_assert(span_eqs(items[i].recipient.address, "b@example.test"));
        all_n += n;
    }
    cr_assert_eq(all_n, 25);
    f = (struct queue_filter){.message = all[3].m.id};
    at = (struct queue_place){0};
    cr_assert_eq(queue_read_page(r, &f, &at, 100, items, 10, &n, &end, &a, &err), 0);
    cr_assert(n == 2 && end);
    queue_reader_close(&r);
    arena_free(&a);
    mem_free(&all);
    close_queue(&w);
}

/* All that matches, `max` at a time, as numbers of `all` (recipients behind the comma). */
static char *matching(struct queue_reader *r, const struct queue_filter *f, const struct one *all, unsigned count, size_t max)
{
    static char text[400];
    struct queue_item items[10];
    struct arena a = {0};
    struct queue_place at = {0};
    bool end = false;
    size_t n;
    *text = '\0';
    while (!end) {
        cr_assert_eq(queue_read_page(r, f, &at, 7, items, max, &n, &end, &a, &err), 0, "%s", err.text);
        for (size_t i = 0; i < n; i++)
            for (unsigned k = 0; k < count; k++)
                if (items[i].message.id == all[k].m.id)
                    snprintf(text + strlen(text), sizeof text - strlen(text), "%u,%u ", k, items[i].recipient.id == all[k].r[1].id);
    }
    arena_free(&a);
    return text;
}

Test(queue, filters_by_age_size_state_and_domain_in_pages_of_any_length)
{
    static struct one all[40];
    struct world w;
    struct queue_reader *r;
    open_queue(&w, 0);
    for (unsigned i = 0; i < COUNT_OF(all); i++) {
        make(&w, &all[i], i, 2);
        all[i].m.received = (int64_t)(all[i].m.id / 1000) - (int64_t)(COUNT_OF(all) - i) * 3600000; /* each an hour younger */
        all[i].m.size = 1000 * (i + 1);
        all[i].r[0].address = i % 8 ? SPAN("a@example.test") : SPAN("a@b\xc3\xbc" "cher.test");
        queue_accept(w.q, &all[i].a);
    }
    run(&w, COUNT_OF(all));
    struct queue_change c = {QUEUE_UPDATE, all[16].r[0]}; /* has waited: in its canonical form */
    c.row.domain = SPAN("xn--bcher-kva.test");
    c.row.next = 7;
    settle(&w, &(struct queue_settle){.message = all[16].m.id, .changes = &c, .count = 1});
    c = (struct queue_change){QUEUE_UPDATE, all[24].r[0]};
    c.row.state = QUEUE_HELD;
    c.row.next = 0;
    settle(&w, &(struct queue_settle){.message = all[24].m.id, .changes = &c, .count = 1});
    cr_assert_eq(queue_reader_open(&r, dir, &err), 0);
    int64_t from = all[37].m.received;
    for (size_t max = 1; max <= 10; max += 3) {
        cr_expect_str_eq(matching(r, &(struct queue_filter){.since = from}, all, COUNT_OF(all), max), "37,0 37,1 38,0 38,1 39,0 39,1 ");
        cr_expect_str_eq(matching(r, &(struct queue_filter){.before = all[2].m.received}, all, COUNT_OF(all), max), "0,0 0,1 1,0 1,1 ");
        cr_expect_str_eq(matching(r, &(struct queue_filter){.larger = 3000, .smaller = 5000}, all, COUNT_OF(all), max), "3,0 3,1 ");
        struct queue_filter f = {.domain = SPAN("B\xc3\xbc" "cher.test"), .canonical = SPAN("xn--bcher-kva.test")};
        cr_expect_str_eq(matching(r, &f, all, COUNT_OF(all), max), "16,0 0,0 8,0 24,0 32,0 ", "what has waited, then the rest");
        f.state = QUEUE_HELD;
        cr_expect_str_eq(matching(r, &f, all, COUNT_OF(all), max), "24,0 ");
        cr_expect_str_eq(matching(r, &(struct queue_filter){.state = QUEUE_HELD}, all, COUNT_OF(all), max), "24,0 ");
        cr_expect_str_eq(matching(r, &(struct queue_filter){.state = QUEUE_PARKED}, all, COUNT_OF(all), max), "");
    }
    queue_reader_close(&r);
    close_queue(&w);
}

static void on_taken(struct queue_request *r)
{
    count(settled_world, r);
}

/* What came from another queue is taken over once, each recipient for itself, also after a restart and when it has left. */
Test(queue, what_comes_from_another_queue_comes_once)
{
    struct world w;
    struct queue_due d[8];
    const uint64_t sources[] = {50, 51, 52};
    static const struct {
        size_t first, count;
        uint64_t fingerprint;
        size_t made;
    } steps[] = {{0, 2, 7, 1}, {0, 2, 7, 0}, {0, 3, 7, 1}, {2, 1, 7, 0}, {2, 1, 8, 1}};
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        open_queue(&w, 0);
        uint64_t id = queue_ids(w.q, 4);
        struct queue_message m = {.id = id, .sender = SPAN("a@b.test"), .origin = QUEUE_FROM_OUTSIDE, .size = 4, .body = SPAN("body")};
        struct queue_recipient r[3] = {{.id = id + 1, .state = QUEUE_EXPANDED, .address = SPAN("all@c.test")},
                                       {.id = id + 2, .parent = id + 1, .state = QUEUE_WAITING, .next = 10, .address = SPAN("x@c.test")},
                                       {.id = id + 3, .parent = id + 1, .state = QUEUE_WAITING, .next = 20, .address = SPAN("y@c.test")}};
        struct queue_import in = {.request.done = on_taken, .message = &m, .recipients = r + steps[i].first, .sources = sources + steps[i].first, .count = steps[i].count, .fingerprint = steps[i].fingerprint};
        settled_world = &w;
        queue_import(w.q, &in);
        run(&w, 1);
        cr_assert(in.request.fail == QUEUE_OK && in.made == steps[i].made, "step %zu: %zu", i, in.made);
        if (i == 0) { /* delivered: it does not come back */
            struct queue_change gone = {.kind = QUEUE_GONE, .row = {.id = id + 2}};
            settle(&w, &(struct queue_settle){.message = id, .changes = &gone, .count = 1});
        }
        close_queue(&w);
    }
    cr_assert_eq(due(d, 8), 2, "y, and the y of another queue with the same ids");
}

Test(queue, a_spool_file_that_is_not_as_announced_makes_nothing)
{
    struct world w;
    struct queue_due d[2];
    const uint64_t source = 9;
    open_queue(&w, 0);
    uint64_t id = queue_ids(w.q, 2);
    struct queue_message m = {.id = id, .sender = SPAN(""), .origin = QUEUE_FROM_OUTSIDE, .size = 100000, .spooled = true};
    struct queue_recipient r = {.id = id + 1, .state = QUEUE_WAITING, .next = 10, .address = SPAN("x@c.test")};
    struct queue_import in = {.request.done = on_taken, .message = &m, .recipients = &r, .sources = &source, .count = 1};
    settled_world = &w;
    queue_import(w.q, &in);
    run(&w, 1);
    cr_assert(in.request.fail == QUEUE_OK && in.damaged && in.made == 0);
    close_queue(&w);
    cr_assert_eq(due(d, 2), 0);
}
