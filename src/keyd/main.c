/* keyd: holds the private keys and signs handshakes for the fronts. It parses no network, opens no file and knows no
 * SSL: keys come as descriptors from the supervisor, questions from the fronts, and what it signs must look like a TLS
 * server's part of a handshake (keys/check.c). Which role asks is known by the channel.
 *
 * Keys: the set in use; the next one, from the moment it was said ready for, so that no front is ahead of us; and for a
 * while those that were replaced, because sessions keep the chain that they began with. */
#include <openssl/crypto.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "keys/keys.h"
#include "net/pem.h"
#include "service/service.h"

#define REPLACED_MS (60 * INT64_C(60000)) /* longer than any session waits before its STARTTLS */
#define REPLACED_MAX 8
#ifndef WAYPOST_SANITIZE
#define LOCKED_HEAP (1 << 19) /* for what is secret in the keys, if the limit of locked memory allows */
#define LOCKED_LEAST 32
#endif

struct replaced {
    struct key_set *keys;
    int64_t until;
};

struct keyd {
    struct service *service;
    struct key_set *keys, *next;
    struct replaced replaced[REPLACED_MAX]; /* the latest first */
    unsigned replaced_n;
    struct timer *forget;
    unsigned jobs; /* on pool threads */
};

static struct keyd program;

/* ---- the keys ---- */

static int add_listener(struct keyd *k, struct key_set *set, const struct conf_listen *l, struct err *err)
{
    int chain_fd = service_cert_fd(k->service, l->index, 0), key_fd = service_cert_fd(k->service, l->index, 1);
    char *chain = NULL, *key = NULL;
    size_t chain_n = 0, key_n = 0;
    struct err why;
    if (chain_fd < 0 && key_fd < 0)
        return 0; /* no TLS there */
    int r = chain_fd < 0 || key_fd < 0 ? err_set(&why, "certificate or key did not come") : 0;
    if (r == 0)
        r = pem_read(chain_fd, &chain, &chain_n, &why);
    if (r == 0)
        r = pem_read(key_fd, &key, &key_n, &why);
    if (r == 0)
        r = key_set_add(set, span_make(chain, chain_n), span_make(key, key_n), conf_listen_role(l), &why);
    pem_free(&chain, chain_n);
    pem_free(&key, key_n);
    return r ? err_set(err, "listen \"%s\": %s", l->name, why.text) : 0;
}

static struct key_set *load(struct keyd *k, const struct conf *conf, struct err *err)
{
    struct key_set *set = key_set_new();
    for (size_t i = 0; i < conf->listen_count; i++)
        if (add_listener(k, set, &conf->listen[i], err)) {
            key_set_free(&set);
            break;
        }
    return set;
}

static void drop_last(struct keyd *k)
{
    key_set_free(&k->replaced[--k->replaced_n].keys);
}

static void wait_for_last(struct keyd *k)
{
    if (k->replaced_n)
        timer_start(k->forget, k->replaced[k->replaced_n - 1].until - loop_now(service_loop(k->service)));
}

static void on_forget(void *ctx)
{
    struct keyd *k = ctx;
    while (k->replaced_n && k->replaced[k->replaced_n - 1].until <= loop_now(service_loop(k->service)))
        drop_last(k);
    wait_for_last(k);
}

static void replace(struct keyd *k, struct key_set *fresh)
{
    if (k->replaced_n == REPLACED_MAX)
        drop_last(k);
    memmove(k->replaced + 1, k->replaced, k->replaced_n * sizeof *k->replaced);
    k->replaced[0] = (struct replaced){k->keys, loop_now(service_loop(k->service)) + REPLACED_MS};
    k->replaced_n++;
    k->keys = fresh;
    wait_for_last(k);
}

static EVP_PKEY *find(const struct keyd *k, struct span id, enum role role)
{
    EVP_PKEY *key = key_set_find(k->keys, id, role);
    if (!key && k->next)
        key = key_set_find(k->next, id, role);
    for (unsigned i = 0; !key && i < k->replaced_n; i++)
        key = key_set_find(k->replaced[i].keys, id, role);
    return key;
}

/* ---- signing ---- */

struct job {
    struct keyd *keyd;
    struct chan *chan;
    uint32_t epoch;
    uint64_t id;
    EVP_PKEY *key;
    uint16_t scheme;
    size_t content_n, signature_n;
    uint8_t content[IPC_SIGN_MAX], signature[SIGNER_SIGNATURE_MAX];
};

static void refuse(struct chan *c, uint32_t epoch, uint64_t id, const char *why)
{
    LOGE("not-signed", KVT("for", role_name(chan_peer(c))), KVT("why", why));
    chan_answer(c, epoch, id, &(struct msg){.type = MSG_sign_refused, .sign_refused = {.why = span_of(why)}}, -1);
}

static void answer(struct chan *c, uint32_t epoch, uint64_t id, const uint8_t *signature, size_t n)
{
    struct msg m = {.type = MSG_sign_made, .sign_made = {.signature = span_make(signature, n)}};
    if (n)
        chan_answer(c, epoch, id, &m, -1);
    else
        refuse(c, epoch, id, "the library could not sign");
}

static void run(void *ctx)
{
    struct job *j = ctx;
    j->signature_n = keys_sign(j->key, j->scheme, span_make(j->content, j->content_n), j->signature);
}

static void done(void *ctx)
{
    struct job *j = ctx;
    struct keyd *k = j->keyd;
    answer(j->chan, j->epoch, j->id, j->signature, j->signature_n);
    EVP_PKEY_free(j->key);
    mem_free(&j);
    if (--k->jobs == 0 && service_draining(k->service))
        service_done(k->service);
}

/* RSA takes twenty times as long as the rest of the work for it. */
static void sign_on_a_thread(struct keyd *k, struct chan *from, uint64_t id, EVP_PKEY *key, const struct msg_sign *m)
{
    struct job *j = mem_alloc(sizeof *j);
    *j = (struct job){.keyd = k, .chan = from, .epoch = chan_epoch(from), .id = id, .key = key, .scheme = m->scheme};
    EVP_PKEY_up_ref(key);
    j->content_n = m->content.n;
    memcpy(j->content, m->content.p, m->content.n);
    k->jobs++;
    loop_work(service_loop(k->service), run, done, j);
}

static void sign(struct keyd *k, struct chan *from, uint64_t id, const struct msg_sign *m)
{
    uint8_t signature[SIGNER_SIGNATURE_MAX];
    EVP_PKEY *key = find(k, m->key, chan_peer(from));
    const char *why = key ? keys_refusal(key, m->scheme, m->content) : "no such key for this program";
    if (why)
        refuse(from, chan_epoch(from), id, why);
    else if (keys_slow(key))
        sign_on_a_thread(k, from, id, key, m);
    else
        answer(from, chan_epoch(from), id, signature, keys_sign(key, m->scheme, m->content, signature));
}

static void on_msg(struct service *s, struct chan *from, const struct msg *m, int fd)
{
    if (fd >= 0)
        close(fd);
    if (m->type == MSG_sign && m->id && !m->answer)
        sign(service_state(s), from, m->id, &m->sign);
    else
        LOGW("unexpected-message", KVT("from", role_name(chan_peer(from))),
             KVT("message", msg_info((unsigned)m->type)->name));
}

/* ---- the life ---- */

/* Nobody else of our uid may look into us, and nothing of us goes to a disk. Where the limit of locked memory is too
 * small the keys live in ordinary memory. */
static void hide(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#ifndef WAYPOST_SANITIZE /* the leak check does not look into that heap and takes what it points to for lost */
    CRYPTO_secure_malloc_init(LOCKED_HEAP, LOCKED_LEAST);
#endif
}

static int warm(struct service *s, struct err *err)
{
    struct keyd *k = service_state(s);
    k->service = s;
    hide();
    loop_threads(keys_threads());
    OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CRYPTO_STRINGS | OPENSSL_INIT_LOAD_CONFIG, NULL);
    k->keys = load(k, service_conf(s), err);
    return k->keys ? 0 : -1;
}

static int start(struct service *s, struct err *err UNUSED)
{
    struct keyd *k = service_state(s);
    k->forget = timer_new(service_loop(s), on_forget, k);
    return 0;
}

static int can_reload(struct service *s, const struct conf *next, struct err *why)
{
    struct keyd *k = service_state(s);
    key_set_free(&k->next);
    k->next = load(k, next, why);
    return k->next ? 0 : -1;
}

static void reloaded(struct service *s)
{
    struct keyd *k = service_state(s);
    replace(k, k->next);
    k->next = NULL;
}

static void forgotten(struct service *s)
{
    key_set_free(&((struct keyd *)service_state(s))->next);
}

static int on_certs(struct service *s, struct err *err)
{
    struct keyd *k = service_state(s);
    struct key_set *fresh = load(k, service_conf(s), err);
    if (!fresh)
        return -1;
    replace(k, fresh);
    return 0;
}

static void drain(struct service *s)
{
    struct keyd *k = service_state(s);
    if (k->jobs == 0)
        service_done(s);
}

static void stop(struct service *s)
{
    struct keyd *k = service_state(s);
    timer_free(&k->forget);
    key_set_free(&k->keys);
    key_set_free(&k->next);
    while (k->replaced_n)
        drop_last(k);
}

int main(int argc, char **argv)
{
    static const struct service_def def = {.role = ROLE_KEYD,
                                           .name = "keyd",
                                           .warm = warm,
                                           .start = start,
                                           .on_msg = on_msg,
                                           .can_reload = can_reload,
                                           .reloaded = reloaded,
                                           .forgotten = forgotten,
                                           .on_certs = on_certs,
                                           .drain = drain,
                                           .stop = stop,
                                           .state = &program};
    return service_main(&def, argc, argv);
}
