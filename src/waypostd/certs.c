/* Certificates and keys: read and watched here, used elsewhere. keyd gets the keys, the fronts the chains, and always
 * keyd first: a front must never show a chain whose key keyd doesn't have.
 *
 * Therefore a chain is copied once, when keyd is given its key, and every front that starts later gets that copy, not
 * what the file says by then. A renewal goes in two steps: keyd takes the new pairs, or refuses them and nothing has
 * changed; then the fronts get the chains. In a reload keyd has them before it says ready, the fronts use them at the
 * switch. A keyd that starts anew gets what the files say then, and the fronts their chains when it is ready. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "waypostd/supervisor.h"

#define CERT_LOOK_MS 10000     /* how often certificates are looked at */
#define CERT_SETTLE_MS 1500    /* chain and key are written one after the other */
#define CHAIN_MAX (1u << 20)   /* more is refused by whoever reads it */

enum { CERT_CHAIN, CERT_KEY, CERT_TRUST, CERT_CLIENTS, CERT_SYSTEM = CERT_CLIENTS, CERT_TOKENS };

/* The chains of a configuration's listeners, as they were at one moment: one sealed memory file for each section. */
struct chains {
    size_t n;
    int fds[];
};

/* ---- copies ---- */

static int copy(int from, int to)
{
    static char part[65536];
    size_t all = 0;
    ssize_t n;
    while ((n = read(from, part, sizeof part)) > 0 && all <= CHAIN_MAX) {
        if (write(to, part, (size_t)n) != n)
            return -1;
        all += (size_t)n;
    }
    return n < 0 ? -1 : 0;
}

/* -1: it can't be read, which is logged. */
static int copy_chain(const char *path)
{
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = from < 0 ? -1 : memfd_create("chain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (to < 0 || copy(from, to) || fcntl(to, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)) {
        LOGE("certificate", KVT("file", path), KVT("why", strerror(errno)));
        if (to >= 0)
            close(to);
        to = -1;
    }
    if (from >= 0)
        close(from);
    return to;
}

static struct chains *chains_read(const struct conf *conf)
{
    struct chains *c = mem_alloc(sizeof *c + conf->listen_count * sizeof *c->fds);
    c->n = conf->listen_count;
    for (size_t i = 0; i < c->n; i++) {
        const char *path = conf_listen_certificate(conf, &conf->listen[i]);
        c->fds[i] = *path ? copy_chain(path) : -1;
    }
    return c;
}

static void chains_free(struct chains **c)
{
    for (size_t i = 0; *c && i < (*c)->n; i++)
        if ((*c)->fds[i] >= 0)
            close((*c)->fds[i]);
    mem_free(c);
}

/* ---- sending ---- */

static void send_one(struct child *c, int fd, unsigned instance, unsigned what)
{
    struct msg m = {.type = MSG_cert_file, .cert_file = {.instance = (uint16_t)instance, .what = (uint8_t)what}};
    if (fd >= 0)
        chan_say(c->control, &m, fd);
}

static void send_file(struct child *c, const char *path, unsigned instance, unsigned what)
{
    if (!*path)
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        LOGE("certificate", KVT("file", path), KVT("why", strerror(errno)));
        return;
    }
    send_one(c, fd, instance, what);
    close(fd);
}

/* The system's bundle need not be there; without it, nothing that requires TLS is relayed. */
static void send_trust(struct child *c, const struct conf *conf)
{
    if (access(conf->relay.trust_file, F_OK) == 0)
        send_file(c, conf->relay.trust_file, 0, CERT_SYSTEM);
    else
        LOGW("no-trust-file", KVT("file", conf->relay.trust_file));
}

static void send_set(struct child *c, const struct conf *conf, const struct chains *chains)
{
    bool keeps_keys = c->role == ROLE_KEYD;
    for (size_t i = 0; i < conf->listen_count; i++) {
        const struct conf_listen *l = &conf->listen[i];
        if (keeps_keys || conf_listen_role(l) == c->role)
            send_one(c, chains->fds[i], l->index, CERT_CHAIN);
        if (keeps_keys)
            send_file(c, conf_listen_key(conf, l), l->index, CERT_KEY);
        if (conf_listen_role(l) == c->role)
            send_file(c, l->client_ca, l->index, CERT_CLIENTS);
    }
    if (c->role == ROLE_AUTHD)
        send_file(c, conf->oauth.keys, 0, CERT_TOKENS);
    if (c->role == ROLE_TOKEND)
        send_file(c, conf->oauth.introspection_ca, 0, CERT_TRUST);
    if (c->role == ROLE_RELAY) {
        send_file(c, conf->relay.ca_file, 0, CERT_TRUST);
        send_trust(c, conf);
    }
}

static struct seen_file look(const char *path)
{
    struct stat st;
    if (!*path || stat(path, &st))
        return (struct seen_file){0};
    return (struct seen_file){st.st_dev, st.st_ino, st.st_size,
                              (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000};
}

/* How all the files look now: chain, key and clients' authorities of each listener, the relay's trust files, the keys of
 * tokens' issuer, the authorities of its endpoint. Returns how many. */
static size_t look_at_all(const struct conf *conf, struct seen_file **out)
{
    size_t n = 0;
    *out = mem_array(conf->listen_count * 3 + 4, sizeof **out);
    for (size_t i = 0; i < conf->listen_count; i++) {
        (*out)[n++] = look(conf_listen_certificate(conf, &conf->listen[i]));
        (*out)[n++] = look(conf_listen_key(conf, &conf->listen[i]));
        (*out)[n++] = look(conf->listen[i].client_ca);
    }
    (*out)[n++] = look(conf->relay.ca_file);
    (*out)[n++] = look(conf->relay.trust_file);
    (*out)[n++] = look(conf->oauth.keys);
    (*out)[n++] = look(conf->oauth.introspection_ca);
    return n;
}

/* Something has changed since it was last looked at: it is remembered, and the chains are copied. */
static void take_changes(struct supervisor *s, struct seen_file *now, size_t n)
{
    mem_free(&s->seen);
    s->seen = now;
    s->seen_count = n;
    chains_free(&s->fresh);
    s->fresh = chains_read(s->conf);
}

static bool same(const struct supervisor *s, const struct seen_file *now, size_t n)
{
    return s->seen && n == s->seen_count && memcmp(now, s->seen, n * sizeof *now) == 0;
}

/* keyd starts: it reads the keys' files of now, so the chains must be of now, too. */
static void look_for_keyd(struct supervisor *s)
{
    struct seen_file *now;
    size_t n = look_at_all(s->conf, &now);
    if (same(s, now, n))
        mem_free(&now);
    else
        take_changes(s, now, n);
}

void certs_send(struct child *c, const struct conf *conf)
{
    struct supervisor *s = c->sup;
    if (conf == s->next) {
        send_set(c, conf, s->chains_next);
        return;
    }
    if (c->role == ROLE_KEYD)
        look_for_keyd(s);
    send_set(c, conf, c->role == ROLE_KEYD && s->fresh ? s->fresh : s->chains);
}

/* ---- a renewal ---- */

static void send_renewed(struct child *c, const struct chains *chains)
{
    send_set(c, c->sup->conf, chains);
    chan_say(c->control, &(struct msg){.type = MSG_certs_end, .certs_end = {.round = c->sup->certs_round}}, -1);
}

/* keyd has the keys of the fresh chains. */
static void give_to_fronts(struct supervisor *s)
{
    if (!s->fresh)
        return;
    LOGI("certificates-renewed");
    chains_free(&s->chains);
    s->chains = s->fresh;
    s->fresh = NULL;
    LIST_EACH(&s->children, l) {
        struct child *c = container_of(l, struct child, link);
        if (c->role != ROLE_KEYD && child_runs(c))
            send_renewed(c, s->chains);
    }
}

void certs_keyd_ready(struct supervisor *s)
{
    give_to_fronts(s);
}

void certs_taken(struct child *c, uint32_t round, const char *why)
{
    struct supervisor *s = c->sup;
    if (c->role != ROLE_KEYD || round != s->certs_round || !s->fresh)
        return;
    if (!*why) {
        give_to_fronts(s);
        return;
    }
    LOGE("certificates-not-renewed", KVT("why", why), KVT("note", "those from before stay in use"));
    chains_free(&s->fresh);
}

static bool recently(const struct seen_file *f, size_t n, int64_t now)
{
    for (size_t i = 0; i < n; i++)
        if (f[i].changed + CERT_SETTLE_MS > now && f[i].changed <= now)
            return true;
    return false;
}

static void on_cert_timer(void *ctx)
{
    struct supervisor *s = ctx;
    struct child *keyd = child_find(s, ROLE_KEYD, 0);
    struct seen_file *now;
    size_t n = look_at_all(s->conf, &now);
    int64_t wait = CERT_LOOK_MS;
    if (s->next) { /* a reload is under way: it sends them itself */
        mem_free(&now);
    } else if (same(s, now, n)) {
        mem_free(&now);
    } else if (recently(now, n, loop_wall(s->loop)) || !keyd || keyd->state != CHILD_READY) {
        mem_free(&now);
        wait = CERT_SETTLE_MS;
    } else {
        take_changes(s, now, n);
        s->certs_round++;
        send_renewed(keyd, s->fresh);
    }
    timer_start(s->cert_timer, wait);
}

/* ---- generations ---- */

void certs_watch(struct supervisor *s)
{
    s->cert_timer = timer_new(s->loop, on_cert_timer, s);
    s->seen_count = look_at_all(s->conf, &s->seen);
    s->chains = chains_read(s->conf);
    timer_start(s->cert_timer, CERT_LOOK_MS);
}

/* A renewal that was not through is given up: the reload brings what there is now, and when it is refused the timer
 * sees a change again. */
void certs_prepare(struct supervisor *s)
{
    if (s->fresh)
        mem_free(&s->seen);
    chains_free(&s->fresh);
    chains_free(&s->chains_next);
    s->chains_next = chains_read(s->next);
    mem_free(&s->seen_next);
    s->seen_next_count = look_at_all(s->next, &s->seen_next);
}

void certs_switch(struct supervisor *s)
{
    chains_free(&s->chains);
    s->chains = s->chains_next;
    s->chains_next = NULL;
    mem_free(&s->seen);
    s->seen = s->seen_next;
    s->seen_count = s->seen_next_count;
    s->seen_next = NULL;
}

void certs_forget(struct supervisor *s)
{
    chains_free(&s->chains_next);
    mem_free(&s->seen_next);
}

void certs_unwatch(struct supervisor *s)
{
    timer_free(&s->cert_timer);
    mem_free(&s->seen);
    mem_free(&s->seen_next);
    chains_free(&s->chains);
    chains_free(&s->chains_next);
    chains_free(&s->fresh);
}
