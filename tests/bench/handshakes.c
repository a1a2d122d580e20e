/* TLS handshakes a second with a front's code, the private key in the process or behind keyd's code in another one.
 *
 *     handshakes CHAIN KEY process|keyd SECONDS
 *
 * Three processes: 16 clients at a time that connect, shake hands and go; the server; and, for "keyd", one that checks
 * and signs as keyd does, over a channel. Prints handshakes a second, and the CPU time of server and signer for each,
 * in microseconds. */
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "keys/asker.h"
#include "keys/keys.h"
#include "net/listener.h"
#include "net/pem.h"
#include "net/stream.h"
#include "net/tls.h"

#define CLIENTS 16

static struct loop *loop;
static struct tls_ctx *tls;
static struct sockaddr_in address;
static unsigned made;

static void die(const char *why)
{
    fprintf(stderr, "handshakes: %s\n", why);
    exit(1);
}

/* ---- both sides of a connection ---- */

struct side {
    struct stream *s;
    bool client;
};

static void connect_again(struct side *x);

static size_t on_data(void *ctx UNUSED, struct span in)
{
    return in.n;
}

static void on_event(void *ctx, enum stream_event e)
{
    struct side *x = ctx;
    if (e == STREAM_TLS_UP && !x->client)
        made++;
    if (e == STREAM_TLS_UP && x->client)
        stream_finish(x->s);
    if (e == STREAM_EOF && !x->client)
        stream_finish(x->s);
    if (e != STREAM_FLUSHED && e != STREAM_ERROR)
        return;
    stream_free(&x->s);
    if (x->client)
        connect_again(x);
    else
        mem_free(&x);
}

static const struct stream_ops ops = {on_data, on_event};

static void connect_again(struct side *x)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)); /* no port waits */
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        exit(0); /* the server has ended */
    x->s = stream_new(loop, fd, &ops, x);
    stream_tls_client(x->s, tls, "bench.test");
}

static void on_connection(void *ctx UNUSED, int fd, const struct sockaddr_storage *peer UNUSED)
{
    struct side *x = mem_alloc(sizeof *x);
    x->s = stream_new(loop, fd, &ops, x);
    stream_tls_server(x->s, tls);
}

/* ---- the three processes ---- */

static void be_clients(void)
{
    static struct side sides[CLIENTS];
    loop = loop_new();
    tls = tls_client_new(SPAN_NONE, NULL);
    for (unsigned i = 0; i < CLIENTS; i++) {
        sides[i].client = true;
        connect_again(&sides[i]);
    }
    loop_run(loop);
    exit(0);
}

struct job {
    struct chan *chan;
    uint64_t id;
    EVP_PKEY *key;
    uint16_t scheme;
    size_t content_n, n;
    uint8_t content[IPC_SIGN_MAX], signature[SIGNER_SIGNATURE_MAX];
};

static struct key_set *keys;

static void run(void *ctx)
{
    struct job *j = ctx;
    j->n = keys_sign(j->key, j->scheme, span_make(j->content, j->content_n), j->signature);
}

static void done(void *ctx)
{
    struct job *j = ctx;
    struct msg m = {.type = MSG_sign_made, .sign_made = {.signature = span_make(j->signature, j->n)}};
    chan_answer(j->chan, chan_epoch(j->chan), j->id, &m, -1);
    mem_free(&j);
}

static void on_sign(void *ctx UNUSED, struct chan *c, const struct msg *m, int fd UNUSED)
{
    struct job *j = mem_alloc(sizeof *j);
    *j = (struct job){.chan = c, .id = m->id, .scheme = m->sign.scheme, .content_n = m->sign.content.n};
    memcpy(j->content, m->sign.content.p, j->content_n);
    j->key = key_set_find(keys, m->sign.key, ROLE_MX);
    if (!j->key || keys_refusal(j->key, j->scheme, m->sign.content))
        die("refused");
    if (keys_slow(j->key)) {
        loop_work(loop, run, done, j);
    } else {
        run(j);
        done(j);
    }
}

static void on_down(void *ctx UNUSED, struct chan *c UNUSED)
{
    exit(0);
}

static void be_keyd(int fd, struct span chain, struct span key)
{
    static const struct chan_ops chan_ops = {.on_msg = on_sign, .on_down = on_down};
    struct err err;
    loop_threads(keys_threads());
    loop = loop_new();
    keys = key_set_new();
    if (key_set_add(keys, chain, key, ROLE_MX, &err))
        die(err.text);
    chan_new(loop, fd, ROLE_MX, 0, &chan_ops, NULL);
    loop_run(loop);
    exit(0);
}

static struct span file(const char *path)
{
    struct err err;
    char *p = NULL;
    size_t n = 0;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || pem_read(fd, &p, &n, &err))
        die(path);
    close(fd);
    return span_make(p, n);
}

static double cpu(int who)
{
    struct rusage r;
    getrusage(who, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e6 + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static void stop(void *ctx UNUSED)
{
    loop_stop(loop);
}

int main(int argc, char **argv)
{
    static const struct chan_ops nothing = {.on_msg = NULL};
    static struct asker asker;
    int fds[2] = {-1, -1}, status;
    pid_t signer = 0;
    struct err err = {""};
    if (argc != 5)
        die("CHAIN KEY process|keyd SECONDS");
    bool remote = strcmp(argv[3], "keyd") == 0;
    struct span chain = file(argv[1]), key = file(argv[2]);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t n = sizeof address;
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listening, (struct sockaddr *)&address, n) || listen(listening, 1024) ||
        getsockname(listening, (struct sockaddr *)&address, &n))
        die("no port");
    if (remote && chan_pair(fds, &err))
        die(err.text);
    if (remote && (signer = fork()) == 0) {
        close(fds[0]);
        be_keyd(fds[1], chain, key);
    }
    pid_t clients = fork();
    if (clients == 0)
        be_clients();
    loop = loop_new();
    if (remote) {
        close(fds[1]);
        asker_init(&asker, loop, chan_new(loop, fds[0], ROLE_KEYD, 0, &nothing, NULL));
    }
    struct tls_server_options o = {.chain_pem = chain, .key_pem = key, .signer = remote ? &asker.signer : NULL};
    if (!(tls = tls_server_new(&o, &err)))
        die(err.text);
    listener_new(loop, listening, on_connection, NULL);
    timer_start(timer_new(loop, stop, NULL), atoll(argv[4]) * 1000);
    loop_run(loop);
    kill(clients, SIGKILL);
    waitpid(clients, &status, 0);
    double all = cpu(RUSAGE_SELF), before = cpu(RUSAGE_CHILDREN);
    if (remote) {
        kill(signer, SIGKILL);
        waitpid(signer, &status, 0);
        all += cpu(RUSAGE_CHILDREN) - before;
    }
    printf("%.0f %.0f\n", made / atof(argv[4]), made ? all / made : 0);
    return 0;
}
