/* The queue before the pool threads. A job's memory, with the password in it, is wiped when it ends. */
#include "authd/hasher.h"

#include <stdio.h>

#include "auth/saslprep.h"
#include "base/list.h"
#include "base/mem.h"

struct job {
    struct link link;
    struct hasher *hasher; /* NULL once it is freed */
    uint64_t client, round; /* every client has one job in a round */
    bool make, derive, known, ok, prepared;
    struct hasher_want want;
    size_t password_n;
    char password[PASSWORD_MAX + 1];
    char hash[PASSWORD_HASH_MAX];
    hasher_scram scram;
    hasher_fn *fn;
    void *ctx;
};

struct hasher {
    struct loop *loop;
    struct link waiting, running; /* waiting: in the order of their rounds */
    unsigned waiting_n, running_n;
    uint64_t round; /* that runs now */
};

static void start_some(struct hasher *h);

struct hasher *hasher_new(struct loop *l)
{
    struct hasher *h = mem_alloc(sizeof(*h));
    h->loop = l;
    list_init(&h->waiting);
    list_init(&h->running);
    return h;
}

static void job_free(struct job **j)
{
    list_del(&(*j)->link);
    password_wipe(*j, sizeof(**j));
    mem_free(j);
}

static void job_abandon(struct job *j)
{
    list_del(&j->link);
    j->hasher = NULL;
    j->fn(j->ctx, false, NULL, NULL);
}

void hasher_free(struct hasher **hp)
{
    struct hasher *h = *hp;
    if (!h)
        return;
    LIST_EACH(&h->waiting, l)
    {
        struct job *j = container_of(l, struct job, link);
        job_abandon(j);
        job_free(&j);
    }
    /* A thread works on these: job_done() frees them. */
    LIST_EACH(&h->running, l)
    job_abandon(container_of(l, struct job, link));
    mem_free(hp);
}

/* On a pool thread: touches nothing but the job. */
static void job_run(void *ctx)
{
    struct job *j = ctx;
    struct span password = {j->password, j->password_n};
    struct err err;
    j->ok = j->derive ? true : j->make ? password_hash(password, j->hash, &err) == 0 : password_check(j->known ? j->hash : NULL, password);
    for (unsigned i = 0; j->ok && i < SCRAM_HASHES; i++) {
        struct scram_verifier v;
        if (!(j->want.hashes & 1u << i))
            continue;
        scram_derive((enum scram_hash)i, password, j->want.salt[i], SCRAM_ITERATIONS, &v);
        scram_put(&v, j->scram[i]);
        password_wipe(&v, sizeof(v));
    }
}

static void job_done(void *ctx)
{
    struct job *j = ctx;
    struct hasher *h = j->hasher;
    if (h) {
        h->running_n--;
        j->fn(j->ctx, j->ok, j->hash, &j->scram);
    }
    job_free(&j);
    if (h)
        start_some(h);
}

static void start_some(struct hasher *h)
{
    while (h->running_n < HASHER_AT_ONCE && !list_empty(&h->waiting)) {
        struct job *j = container_of(h->waiting.next, struct job, link);
        list_del(&j->link);
        list_add_tail(&h->running, &j->link);
        h->waiting_n--;
        h->running_n++;
        h->round = j->round;
        loop_work(h->loop, job_run, job_done, j);
    }
}

/* Behind the last one of its round. */
static int add(struct hasher *h, struct job *j)
{
    struct link *before = h->waiting.prev;
    while (before != &h->waiting && container_of(before, struct job, link)->round > j->round)
        before = before->prev;
    j->hasher = h;
    list_add_head(before, &j->link);
    h->waiting_n++;
    start_some(h);
    return 0;
}

/* The last one of all is one of the client that has most waiting; nobody makes room for one that would come behind it. */
static bool make_room(struct hasher *h, uint64_t round)
{
    struct job *last = container_of(h->waiting.prev, struct job, link);
    if (h->waiting_n < HASHER_WAITING_MAX)
        return true;
    if (last->round <= round)
        return false;
    h->waiting_n--;
    job_abandon(last);
    job_free(&last);
    return true;
}

static unsigned waiting_of(const struct hasher *h, uint64_t client)
{
    unsigned n = 0;
    LIST_EACH(&h->waiting, l)
    n += container_of(l, struct job, link)->client == client;
    LIST_EACH(&h->running, l)
    n += container_of(l, struct job, link)->client == client;
    return n;
}

/* In its prepared form, so that one typed elsewhere is the same (RFC4616:2). One that can't be prepared (newer signs than Unicode 3.2 has)
 * is as good as any, byte for byte, but no client could prove it with SCRAM. One that is too long is no password: empty ones are refused
 * after the same work. */
static void take_password(struct job *j, struct span password)
{
    j->prepared = saslprep(password, j->password, sizeof(j->password), &j->password_n);
    if (j->prepared)
        return;
    j->password_n = password.n <= PASSWORD_MAX ? password.n : 0;
    if (j->password_n)
        memcpy(j->password, password.p, j->password_n);
}

static struct job *job_new(struct hasher *h, uint64_t client, struct span password, const struct hasher_want *want, hasher_fn *fn,
                           void *ctx)
{
    unsigned mine = waiting_of(h, client);
    if (mine >= HASHER_WAITING_EACH || !make_room(h, h->round + mine))
        return NULL;
    struct job *j = mem_alloc(sizeof(*j));
    j->client = client;
    j->round = h->round + mine;
    take_password(j, password);
    if (want && j->prepared)
        j->want = *want;
    j->fn = fn;
    j->ctx = ctx;
    return j;
}

int hasher_check(struct hasher *h, uint64_t client, const char *hash, struct span password, const struct hasher_want *want,
                 hasher_fn *fn, void *ctx)
{
    struct job *j = job_new(h, client, password, want, fn, ctx);
    if (!j)
        return -1;
    j->known = hash != NULL;
    snprintf(j->hash, sizeof(j->hash), "%s", hash ? hash : "");
    return add(h, j);
}

int hasher_make(struct hasher *h, uint64_t client, struct span password, const struct hasher_want *want, hasher_fn *fn, void *ctx)
{
    struct job *j = job_new(h, client, password, want, fn, ctx);
    if (!j)
        return -1;
    j->make = true;
    return add(h, j);
}

int hasher_derive(struct hasher *h, uint64_t client, struct span password, const struct hasher_want *want, hasher_fn *fn, void *ctx)
{
    struct job *j = job_new(h, client, password, want, fn, ctx);
    if (!j)
        return -1;
    j->derive = true;
    return add(h, j);
}
