/* See https.h. libcurl tells which descriptors and which timer it wants, the loop watches them. */
#include "net/https.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/mem.h"

#define IDLE_MAX 8 /* connections kept for the next call */

struct https {
    struct loop *loop;
    CURLM *multi;
    struct timer *timer;
    struct defer later; /* what has ended is told at the end of the turn */
    struct link calls;
    struct buf ca;
};

struct https_call {
    struct link link;
    struct https *https;
    CURL *easy;
    struct curl_slist *headers, *resolve;
    struct buf body;
    size_t body_max;
    bool too_large;
    char error[CURL_ERROR_SIZE];
    https_fn *fn;
    void *ctx;
};

/* A descriptor that libcurl wants watched. */
struct watched {
    struct https *https;
    struct io *io;
    int fd;
};

static void must(bool good)
{
    if (!good)
        abort(); /* out of memory, or an option that configure should have missed */
}

void https_warm(void)
{
    must(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    CURL *e = curl_easy_init();
    must(e != NULL);
    curl_easy_cleanup(e);
}

/* ---- the loop ---- */

static void step(struct https *h, curl_socket_t fd, int events)
{
    int running;
    must(curl_multi_socket_action(h->multi, fd, events, &running) == CURLM_OK);
    loop_defer(h->loop, &h->later);
}

static void on_timer(void *ctx)
{
    step(ctx, CURL_SOCKET_TIMEOUT, 0);
}

static int want_timer(CURLM *m, long ms, void *ctx)
{
    struct https *h = ctx;
    (void)m;
    if (ms < 0)
        timer_stop(h->timer);
    else
        timer_start(h->timer, ms);
    return 0;
}

static void on_io(void *ctx, unsigned events)
{
    struct watched *w = ctx;
    step(w->https, w->fd, ((events & IO_READ) ? CURL_CSELECT_IN : 0) | ((events & IO_WRITE) ? CURL_CSELECT_OUT : 0));
}

static int want_socket(CURL *e, curl_socket_t fd, int what, void *ctx, void *mine)
{
    struct https *h = ctx;
    struct watched *w = mine;
    (void)e;
    if (what == CURL_POLL_REMOVE) {
        if (w) {
            io_free(&w->io);
            mem_free(&w);
            curl_multi_assign(h->multi, fd, NULL);
        }
        return 0;
    }
    if (!w) {
        w = mem_alloc(sizeof *w);
        *w = (struct watched){.https = h, .fd = fd};
        w->io = io_new(h->loop, fd, on_io, w);
        if (!w->io) {
            mem_free(&w);
            return -1;
        }
        curl_multi_assign(h->multi, fd, w);
    }
    io_want(w->io, ((what & CURL_POLL_IN) ? IO_READ : 0u) | ((what & CURL_POLL_OUT) ? IO_WRITE : 0u));
    return 0;
}

/* ---- calls ---- */

static void call_free(struct https_call *c)
{
    list_del(&c->link);
    curl_multi_remove_handle(c->https->multi, c->easy);
    curl_easy_cleanup(c->easy);
    curl_slist_free_all(c->headers);
    curl_slist_free_all(c->resolve);
    buf_free(&c->body);
    mem_free(&c);
}

void https_forget(struct https_call **c)
{
    if (*c)
        call_free(*c);
    *c = NULL;
}

static void ended(struct https_call *c, CURLcode r)
{
    long status = 0;
    const char *why = NULL;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    if (c->too_large)
        why = "the answer is too large";
    else if (r != CURLE_OK)
        why = c->error[0] ? c->error : curl_easy_strerror(r);
    list_del(&c->link); /* nobody forgets it from inside fn */
    list_init(&c->link);
    c->fn(c->ctx, (unsigned)status, buf_span(&c->body), why);
    call_free(c);
}

static void tell_ended(void *ctx)
{
    struct https *h = ctx;
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
        char *c;
        CURLcode r = m->data.result;
        if (m->msg == CURLMSG_DONE && curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c) == CURLE_OK)
            ended((struct https_call *)(void *)c, r);
    }
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
    struct https_call *c = ctx;
    c->too_large = c->body.n + size * n > c->body_max;
    if (c->too_large)
        return 0;
    buf_add(&c->body, span_make(p, size * n));
    return size * n;
}

struct https *https_new(struct loop *l, struct span ca_pem)
{
    struct https *h = mem_alloc(sizeof *h);
    h->loop = l;
    list_init(&h->calls);
    buf_add(&h->ca, ca_pem);
    h->timer = timer_new(l, on_timer, h);
    h->later = (struct defer){.fn = tell_ended, .ctx = h};
    h->multi = curl_multi_init();
    must(h->multi && curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, want_socket) == CURLM_OK &&
         curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h) == CURLM_OK &&
         curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, want_timer) == CURLM_OK &&
         curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h) == CURLM_OK &&
         curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_MAX) == CURLM_OK);
    return h;
}

void https_free(struct https **hp)
{
    struct https *h = *hp;
    if (!h)
        return;
    LIST_EACH(&h->calls, l)
    call_free(container_of(l, struct https_call, link));
    curl_multi_cleanup(h->multi); /* says which descriptors it lets go of */
    loop_defer_cancel(h->loop, &h->later);
    timer_free(&h->timer);
    buf_free(&h->ca);
    mem_free(hp);
}

static void add(struct curl_slist **list, const char *text)
{
    struct curl_slist *longer = curl_slist_append(*list, text);
    must(longer != NULL);
    *list = longer;
}

/* "host:port:address,[address]": what a look-up would have said. */
static void resolve(struct https_call *c, const struct https_post *p)
{
    struct buf line = {0};
    buf_printf(&line, "%s:%u:", p->host, p->port);
    for (size_t i = 0; i < p->address_count; i++) {
        const struct sockaddr_storage *a = &p->addresses[i];
        bool six = a->ss_family == AF_INET6;
        char text[INET6_ADDRSTRLEN] = "";
        inet_ntop(a->ss_family,
                  six ? (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr
                      : (const void *)&((const struct sockaddr_in *)a)->sin_addr,
                  text, sizeof text);
        buf_printf(&line, six ? "%s[%s]" : "%s%s", i ? "," : "", text);
    }
    add(&c->resolve, buf_cstr(&line));
    buf_free(&line);
}

#define SET(option, value) must(curl_easy_setopt(c->easy, option, value) == CURLE_OK)

/* Whom we trust, and that the peer is he. Without the path, libcurl would trust the system's folder, too. */
static void set_trust(struct https_call *c)
{
    struct https *h = c->https;
    struct curl_blob ca = {.data = h->ca.n ? h->ca.p : (char *)"\n", .len = h->ca.n ? h->ca.n : 1, .flags = CURL_BLOB_COPY};
    SET(CURLOPT_CAINFO, NULL);
    SET(CURLOPT_CAPATH, NULL);
    SET(CURLOPT_CAINFO_BLOB, &ca);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
}

static void set_bounds(struct https_call *c, const struct https_post *p)
{
    c->body_max = p->answer_max;
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TIMEOUT_MS, (long)p->timeout_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)p->timeout_ms);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, c);
    SET(CURLOPT_ERRORBUFFER, c->error);
}

struct https_call *https_post(struct https *h, const struct https_post *p, https_fn *fn, void *ctx)
{
    struct https_call *c = mem_alloc(sizeof *c);
    *c = (struct https_call){.https = h, .easy = curl_easy_init(), .fn = fn, .ctx = ctx};
    must(c->easy != NULL);
    list_add_tail(&h->calls, &c->link);
    set_trust(c);
    set_bounds(c, p);
    SET(CURLOPT_PRIVATE, (char *)c);
    SET(CURLOPT_URL, p->url);
    SET(CURLOPT_POSTFIELDSIZE, (long)p->form.n);
    SET(CURLOPT_COPYPOSTFIELDS, p->form.p ? p->form.p : "");
    SET(CURLOPT_USERAGENT, "Waypost");
    add(&c->headers, "Accept: application/json");
    add(&c->headers, "Expect:"); /* no round trip before the form */
    SET(CURLOPT_HTTPHEADER, c->headers);
    if (p->address_count) {
        resolve(c, p);
        SET(CURLOPT_RESOLVE, c->resolve);
    }
    if (*p->user) {
        SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        SET(CURLOPT_USERNAME, p->user);
        SET(CURLOPT_PASSWORD, p->password);
    }
    must(curl_multi_add_handle(h->multi, c->easy) == CURLM_OK);
    return c;
}

/* ---- forms ---- */

void https_encode(struct buf *out, struct span v)
{
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        if (ascii_alpha(c) || ascii_digit(c) || c == '-' || c == '.' || c == '_')
            buf_addc(out, c);
        else
            buf_printf(out, "%%%02X", (unsigned char)c);
    }
}

void https_form(struct buf *form, const char *name, struct span value)
{
    if (form->n)
        buf_addc(form, '&');
    buf_adds(form, name);
    buf_addc(form, '=');
    https_encode(form, value);
}
