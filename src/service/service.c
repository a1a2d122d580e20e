/* The skeleton of every daemon. All that it hears comes from the supervisor on descriptor 3, and from the peers whose
 * channels came there.
 *
 * Start: settings, listeners, certificates, peers → go → warm → sandbox → start → ready. Then the loop. The end of the
 * control channel is our end: a supervisor that died takes its programs with it, and the next one starts them anew. */
#include "service/service.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "service/handed.h"
#include "service/sandbox.h"

#define CONTROL_FD 3
#define RESOURCES 9
#define RESOURCE_LOG 1
#define INSTANCES_MAX 64
#define STATUS_MISUSED 64   /* started by hand */
#define STATUS_REFUSED 65   /* the supervisor has our reason */

struct peer {
    struct link link;
    struct service *service;
    struct chan *chan;
};

struct service {
    const struct service_def *def;
    enum role role;
    uint32_t instance;
    struct loop *loop;
    struct chan *control;
    const struct conf *conf, *next;
    struct conf_receiver *receiver;
    struct handed handed, next_handed; /* of this generation, and of the one that a reload brings */
    struct link peers;
    int resources[RESOURCES];
    struct msg_go go;
    struct wake *log_lost;
    struct timer *drain_limit;
    bool started, ready_later, ready_said, draining;
    bool asking; /* inside can_reload: certificates are the next generation's */
    bool hasty;  /* ended with work in flight */
    bool lost;   /* a listener or certificate came without its descriptor, since the last question whether all is well */
    char sandbox[SANDBOX_TEXT_MAX];
};

static struct service *the_service; /* for the log's callback, which has no context */

/* ---- what a program asks ---- */

struct loop *service_loop(struct service *s)
{
    return s->loop;
}

const struct conf *service_conf(struct service *s)
{
    return s->conf;
}

enum role service_role(struct service *s)
{
    return s->role;
}

uint32_t service_instance(struct service *s)
{
    return s->instance;
}

bool service_as_root(struct service *s)
{
    return s->go.as_root;
}

void *service_state(struct service *s)
{
    return s->def->state;
}

size_t service_listeners(struct service *s, const struct service_listener **list)
{
    *list = s->handed.list;
    return s->handed.count;
}

int service_resource(struct service *s, unsigned what)
{
    return what < RESOURCES ? s->resources[what] : -1;
}

int service_cert_fd(struct service *s, unsigned instance, unsigned what)
{
    return handed_cert_fd(s->asking ? &s->next_handed : &s->handed, instance, what);
}

bool service_draining(struct service *s)
{
    return s->draining;
}

/* ---- logging ---- */

static void ask_for_log(void *ctx)
{
    struct service *s = ctx;
    if (s->control)
        chan_say(s->control, &(struct msg){.type = MSG_log_lost}, -1);
}

static void on_log_lost(void)
{
    if (the_service && the_service->log_lost)
        wake_up(the_service->log_lost);
}

static void open_log(struct service *s)
{
    static const enum log_form forms[] = {
        [CONF_LOG_STDERR] = LOG_TO_STDERR, [CONF_LOG_SYSLOG] = LOG_TO_SYSLOG, [CONF_LOG_JOURNAL] = LOG_TO_JOURNAL};
    static const enum log_level levels[] = {[CONF_LOG_ERROR] = LOG_LEVEL_ERROR,
                                            [CONF_LOG_WARN] = LOG_LEVEL_WARN,
                                            [CONF_LOG_INFO] = LOG_LEVEL_INFO,
                                            [CONF_LOG_DEBUG] = LOG_LEVEL_DEBUG};
    bool syslog = s->conf->log == CONF_LOG_SYSLOG && s->resources[RESOURCE_LOG] >= 0;
    log_open(s->def->name, syslog ? s->resources[RESOURCE_LOG] : STDERR_FILENO,
             syslog                            ? LOG_TO_SYSLOG
             : s->conf->log == CONF_LOG_SYSLOG ? LOG_TO_STDERR
                                               : forms[s->conf->log]);
    log_set_level(levels[s->conf->log_level]);
}

/* ---- peers ---- */

static void on_peer_msg(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    struct peer *p = ctx;
    if (p->service->def->on_msg)
        p->service->def->on_msg(p->service, c, m, fd);
    else if (fd >= 0)
        close(fd);
}

static void on_peer_up(void *ctx, struct chan *c)
{
    struct peer *p = ctx;
    if (p->service->started && p->service->def->on_up)
        p->service->def->on_up(p->service, c);
}

/* Whether the peer died or a frame was bad, the supervisor knows what to do: nothing more, or a fresh pair. */
static void on_peer_down(void *ctx, struct chan *c)
{
    struct peer *p = ctx;
    if (p->service->control)
        chan_say(
            p->service->control,
            &(struct msg){
                .type = MSG_pair_lost,
                .pair_lost = {.role = (uint8_t)chan_peer(c), .instance = chan_instance(c), .epoch = chan_epoch(c)}},
            -1);
    if (p->service->started && p->service->def->on_down)
        p->service->def->on_down(p->service, c);
}

static void on_peer_room(void *ctx, struct chan *c)
{
    struct peer *p = ctx;
    if (p->service->def->on_room)
        p->service->def->on_room(p->service, c);
}

static const struct chan_ops peer_ops = {.on_msg = on_peer_msg, .on_down = on_peer_down, .on_up = on_peer_up, .on_room = on_peer_room};

static struct peer *find_peer(struct service *s, enum role role, uint32_t instance)
{
    LIST_EACH(&s->peers, l) {
        struct peer *p = container_of(l, struct peer, link);
        if (chan_peer(p->chan) == role && chan_instance(p->chan) == instance)
            return p;
    }
    return NULL;
}

static struct peer *make_peer(struct service *s, enum role role, uint32_t instance)
{
    struct peer *p = find_peer(s, role, instance);
    if (p)
        return p;
    p = mem_alloc(sizeof *p);
    p->service = s;
    p->chan = chan_new(s->loop, -1, role, instance, &peer_ops, p);
    list_add_tail(&s->peers, &p->link);
    return p;
}

struct chan *service_chan(struct service *s, enum role peer, uint32_t instance)
{
    if (!(sandbox_role(s->role)->channels & FROM(peer)) || instance >= INSTANCES_MAX)
        abort(); /* no such pair in the table */
    return make_peer(s, peer, instance)->chan;
}

/* ---- certificates, listeners, resources ---- */

/* -1: some of what was handed to us since the last call got lost. */
static int all_came(struct service *s, struct err *why)
{
    bool lost = s->lost;
    s->lost = false;
    return lost ? err_set(why, "%s has no descriptor left: raise LimitNOFILE or lower max-connections", s->def->name) : 0;
}

static void take_certs(struct service *s, uint32_t round)
{
    struct err why = {""};
    if (all_came(s, &why) || (s->started && s->def->on_certs && s->def->on_certs(s, &why)))
        LOGE("certificate", KVT("why", why.text));
    struct msg m = {.type = MSG_certs_taken, .certs_taken = {.round = round, .why = span_of(why.text)}};
    chan_say(s->control, &m, -1);
}

static void take_resource(struct service *s, unsigned what, int fd)
{
    if (s->resources[what] >= 0)
        close(s->resources[what]);
    s->resources[what] = fd;
    if (what == RESOURCE_LOG && s->conf)
        open_log(s);
}

/* ---- reload ---- */

static void answer_reload(struct service *s, uint32_t generation)
{
    struct err why = {"these settings have not come"};
    bool good = s->next && s->next->generation == generation && !s->draining;
    s->asking = true;
    good = all_came(s, &why) == 0 && good && !(s->def->can_reload && s->def->can_reload(s, s->next, &why));
    s->asking = false;
    struct msg m =
        good ? (struct msg){.type = MSG_ready, .ready = {.generation = generation, .sandbox = span_of(s->sandbox)}}
             : (struct msg){.type = MSG_refused, .refused = {.generation = generation, .why = span_of(why.text)}};
    chan_say(s->control, &m, -1);
}

static void forget_next(struct service *s)
{
    if (s->next && s->def->forgotten)
        s->def->forgotten(s);
    conf_unref(&s->next);
    handed_free(&s->next_handed);
}

static void switch_over(struct service *s)
{
    const struct conf *old = s->conf;
    struct handed gone;
    handed_init(&gone);
    handed_tie(&s->next_handed, s->next);
    handed_keep(&s->next_handed, &s->handed);
    handed_move(&gone, &s->handed);
    handed_move(&s->handed, &s->next_handed);
    s->conf = s->next;
    s->next = NULL;
    open_log(s);
    if (s->def->reloaded)
        s->def->reloaded(s);
    handed_free(&gone); /* the program has let go of them */
    conf_unref(&old);
}

/* ---- the end ---- */

void service_done(struct service *s)
{
    loop_stop(s->loop);
}

static void on_drain_limit(void *ctx)
{
    struct service *s = ctx;
    LOGW("drain-cut-short");
    s->hasty = true;
    service_done(s);
}

static void begin_drain(struct service *s, uint32_t ms)
{
    if (s->draining)
        return;
    s->draining = true;
    LOGD("draining", KVU("ms", ms));
    timer_start(s->drain_limit, ms);
    if (s->def->drain)
        s->def->drain(s);
    else
        service_done(s);
}

/* ---- what the supervisor says ---- */

static int take_settings(struct service *s, const struct msg *m, struct err *err)
{
    const struct conf *c = NULL;
    int r = conf_receive(s->receiver, m, &c, err);
    if (r <= 0)
        return r;
    if (!s->conf) {
        s->conf = c;
        return 0;
    }
    conf_unref(&s->next);
    s->next = c;
    return 0;
}

static int take_peer_end(struct service *s, const struct msg_peer_end *m, int fd, struct err *err)
{
    if (!(sandbox_role(s->role)->channels & FROM(m->role)) || m->instance >= INSTANCES_MAX) {
        close(fd);
        return err_set(err, "an end of a pair with role %u, which we have none with", m->role);
    }
    chan_connect(make_peer(s, (enum role)m->role, m->instance)->chan, fd);
    return 0;
}

/* 1: `go` came; -1: wrong, err says why. */
static int take_control(struct service *s, const struct msg *m, int fd, struct err *err)
{
    switch (m->type) {
    case MSG_setting:
    case MSG_settings_end:
        return take_settings(s, m, err);
    case MSG_listener:
        handed_listener(s->started ? &s->next_handed : &s->handed, &m->listener, fd);
        return 0;
    case MSG_cert_file:
        handed_cert(s->next ? &s->next_handed : &s->handed, &m->cert_file, fd);
        return 0;
    case MSG_resource:
        take_resource(s, m->resource.what, fd);
        return 0;
    case MSG_peer_end:
        return take_peer_end(s, &m->peer_end, fd, err);
    case MSG_peer_gone:
        return 0; /* its end of the pair is closed, which the channel notices itself */
    case MSG_go:
        s->go = m->go;
        return s->conf ? 1 : err_set(err, "go came before the settings");
    default:
        if (fd >= 0)
            close(fd);
        return err_set(err, "%s is out of place here", msg_info((unsigned)m->type)->name);
    }
}

static void take_running(struct service *s, const struct msg *m, int fd)
{
    struct err err;
    switch (m->type) {
    case MSG_reload_ask:
        answer_reload(s, m->reload_ask.generation);
        break;
    case MSG_reload_switch:
        if (s->next && s->next->generation == m->reload_switch.generation)
            switch_over(s);
        break;
    case MSG_reload_forget:
        forget_next(s);
        break;
    case MSG_certs_end:
        take_certs(s, m->certs_end.round);
        break;
    case MSG_drain:
        begin_drain(s, m->drain.ms);
        break;
    case MSG_admin_peer:
        if (s->def->on_admin)
            s->def->on_admin(s, fd, m->admin_peer.uid);
        else
            close(fd);
        break;
    case MSG_drop_file:
        if (s->def->on_told)
            s->def->on_told(s, m, fd);
        else
            close(fd);
        break;
    default:
        if (take_control(s, m, fd, &err) < 0)
            LOGE("control", KVT("why", err.text));
    }
}

static void on_control(void *ctx, struct chan *c, const struct msg *m, int fd)
{
    (void)c;
    take_running(ctx, m, fd);
}

/* The supervisor makes another pair when it hears that one is lost; listeners and certificates are refused with the generation or
 * round that they belong to. The log stays as it is, operators and files of the drop directory are turned away by that their descriptor
 * was closed. */
static void on_control_lost(void *ctx, struct chan *c, const struct msg *m)
{
    struct service *s = ctx;
    struct peer *p = m->type == MSG_peer_end ? find_peer(s, (enum role)m->peer_end.role, m->peer_end.instance) : NULL;
    (void)c;
    if (p)
        chan_missed(p->chan);
    else if (m->type == MSG_listener || m->type == MSG_cert_file)
        s->lost = true;
}

static void on_control_down(void *ctx, struct chan *c)
{
    struct service *s = ctx;
    (void)c;
    if (!s->draining)
        LOGW("supervisor-gone");
    s->hasty = true;
    service_done(s);
}

static const struct chan_ops control_ops = {.on_msg = on_control, .on_down = on_control_down, .on_lost = on_control_lost};

/* ---- start ---- */

void service_ready_later(struct service *s)
{
    s->ready_later = true;
}

void service_ready(struct service *s)
{
    if (s->ready_said)
        return;
    s->ready_said = true;
    chan_say(
        s->control,
        &(struct msg){.type = MSG_ready, .ready = {.generation = s->conf->generation, .sandbox = span_of(s->sandbox)}},
        -1);
}

/* Reads until `go`. 0 done, -1 wrong, 1 the supervisor has gone. */
static int hear_start(struct service *s, struct err *err)
{
    struct buf in = {0};
    int r = 0;
    while (r == 0) {
        struct msg m;
        int fd = -1, got = chan_recv_now(CONTROL_FD, ROLE_WAYPOSTD, &in, &m, &fd, err);
        r = got == 0 ? 2 : got < 0 ? -1 : take_control(s, &m, fd, err);
    }
    buf_free(&in);
    return r == 1 ? 0 : r == 2 ? 1 : -1;
}

static int lock_in(struct service *s, struct err *err)
{
    const struct sandbox_role *r = sandbox_role(s->role);
    struct sandbox_level level;
    char dir[4200];
    snprintf(dir, sizeof dir, "%s/%s", s->conf->state, r->dir ? r->dir : "");
    struct sandbox_want want = {.role = s->role,
                                .as_root = s->go.as_root,
                                .uid = s->go.uid,
                                .gid = s->go.gid,
                                .dir = r->dir ? dir : NULL,
                                .uid_first = s->conf->accounts.uid_first,
                                .uid_last = s->conf->accounts.uid_last};
    if (sandbox_enter(&want, &level, err))
        return -1;
    sandbox_level_text(&level, s->sandbox);
    if (level.landlock_abi == 0)
        LOGW("sandbox", KVT("has", s->sandbox), KVT("note", "this kernel has no Landlock"));
    else
        LOGD("sandbox", KVT("has", s->sandbox));
    return 0;
}

/* Read once, while there are files. A fixed TZ keeps the C library from looking at the file again. */
static void warm_time_zone(void)
{
    setenv("TZ", ":/etc/localtime", 0);
    tzset();
}

/* A program that a message wakes does not push the sender of that message aside: the sender finishes its turn, with all it has to
 * say, and the other finds several messages at once instead of one (sched(7), SCHED_BATCH). Without it: a few per cent slower. */
static void wake_politely(void)
{
    const struct sched_param none = {0};
    sched_setscheduler(0, SCHED_BATCH, &none);
}

static int prepare(struct service *s, struct err *err)
{
    wake_politely();
    warm_time_zone();
    handed_tie(&s->handed, s->conf);
    open_log(s);
    if (s->def->warm && s->def->warm(s, err))
        return -1;
    if (lock_in(s, err))
        return -1;
    s->log_lost = wake_new(s->loop, ask_for_log, s);
    the_service = s;
    log_on_lost(on_log_lost);
    s->drain_limit = timer_new(s->loop, on_drain_limit, s);
    s->control = chan_new(s->loop, CONTROL_FD, ROLE_WAYPOSTD, 0, &control_ops, s);
    return s->def->start ? s->def->start(s, err) : 0;
}

static void tell_up(struct service *s)
{
    s->started = true;
    LIST_EACH(&s->peers, l) {
        struct peer *p = container_of(l, struct peer, link);
        if (chan_is_up(p->chan))
            on_peer_up(p, p->chan);
    }
}

static void refuse(struct service *s, const struct err *err)
{
    struct msg m = {.type = MSG_refused,
                    .refused = {.generation = s->conf ? s->conf->generation : 0, .why = span_of(err->text)}};
    struct err ignored;
    LOGE("start-refused", KVT("why", err->text));
    chan_send_now(CONTROL_FD, &m, -1, &ignored);
}

static void free_peers(struct service *s)
{
    LIST_EACH(&s->peers, l) {
        struct peer *p = container_of(l, struct peer, link);
        chan_free(&p->chan);
        list_del(&p->link);
        mem_free(&p);
    }
}

static void free_all(struct service *s)
{
    log_on_lost(NULL);
    the_service = NULL;
    free_peers(s);
    if (s->control)
        chan_flush(s->control);
    chan_free(&s->control);
    wake_free(&s->log_lost);
    timer_free(&s->drain_limit);
    handed_free(&s->handed);
    forget_next(s);
    conf_unref(&s->conf);
    conf_receiver_free(&s->receiver);
}

static int run(struct service *s)
{
    struct err err = {""};
    int heard = hear_start(s, &err);
    if (heard > 0)
        return 0;
    if (heard < 0 || prepare(s, &err)) {
        refuse(s, &err);
        return STATUS_REFUSED;
    }
    tell_up(s);
    if (!s->ready_later)
        service_ready(s);
    loop_run(s->loop);
    if (s->def->stop)
        s->def->stop(s);
    return 0;
}

static bool is_control_socket(void)
{
    struct stat st;
    return fstat(CONTROL_FD, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void set_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    /* what a terminal or a service manager sends to the whole group is the supervisor's to answer: it drains us in
     * order */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
}

int service_main(const struct service_def *def, int argc, char **argv)
{
    struct service s = {.def = def,
                        .role = argc > 1 ? role_by_name(argv[1]) : ROLE_COUNT,
                        .resources = {-1, -1, -1, -1, -1, -1, -1, -1, -1}};
    uint64_t instance = 0;
    if (argc != 3 || !sandbox_role(s.role) || !span_u64(span_of(argv[2]), INSTANCES_MAX - 1, &instance) ||
        !is_control_socket()) {
        fprintf(stderr, "%s: this program is started by waypostd; run: waypost start\n", def->name);
        return STATUS_MISUSED;
    }
    set_signals();
    s.instance = (uint32_t)instance;
    log_open(def->name, STDERR_FILENO, LOG_TO_STDERR);
    list_init(&s.peers);
    handed_init(&s.handed);
    handed_init(&s.next_handed);
    s.receiver = conf_receiver_new();
    s.loop = loop_new();
    int status = run(&s);
    if (status == STATUS_REFUSED || s.hasty)
        _exit(status); /* not all is tidy: what was in flight stays where it is */
    free_all(&s);
    loop_free(&s.loop);
    return status;
}
