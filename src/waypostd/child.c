/* Programs as children: started with just their control channel, told what they need, reaped, restarted with a back-
 * off that grows with their deaths. State x event is in the table below and in the functions named on_… */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/sm.h"
#include "waypostd/supervisor.h"

#define CONTROL_FD 3
#define TALLY_MS 60000     /* deaths within this time count */
#define DEATHS_FREE 5      /* so many are answered at once */
#define RESTART_FIRST_MS 20
#define RESTART_MOST_MS 10000
#define KILL_AFTER_MS 2000 /* beyond the drain's own limit */
#define START_LIMIT_MS 60000 /* a program that is not ready by then hangs */

static const struct sm_state states[] = {
    [CHILD_IDLE] = {"stopped", SM_TO(CHILD_STARTING)},
    [CHILD_STARTING] = {"starting",
                        SM_TO(CHILD_READY) | SM_TO(CHILD_DRAINING) | SM_TO(CHILD_WAITING) | SM_TO(CHILD_IDLE)},
    [CHILD_READY] = {"ready", SM_TO(CHILD_DRAINING) | SM_TO(CHILD_WAITING) | SM_TO(CHILD_IDLE)},
    [CHILD_DRAINING] = {"draining", SM_TO(CHILD_IDLE) | SM_TO(CHILD_WAITING) | SM_TO(CHILD_STARTING)},
    [CHILD_WAITING] = {"waiting", SM_TO(CHILD_STARTING) | SM_TO(CHILD_IDLE)},
};

static void move(struct child *c, enum child_state to)
{
    sm_move(states, COUNT_OF(states), &c->state, to);
}

const char *child_state_name(const struct child *c)
{
    return states[c->state].name;
}

bool child_runs(const struct child *c)
{
    return c->pid > 0 && c->control;
}

void child_name(const struct child *c, char *out, size_t size)
{
    if (c->instance || conf_instances(c->sup->conf, c->role) > 1)
        snprintf(out, size, "%s %u", role_name(c->role), c->instance);
    else
        snprintf(out, size, "%s", role_name(c->role));
}

struct child *child_find(struct supervisor *s, enum role role, uint32_t instance)
{
    LIST_EACH(&s->children, l) {
        struct child *c = container_of(l, struct child, link);
        if (c->role == role && c->instance == instance)
            return c;
    }
    return NULL;
}

/* ---- the plan ---- */

static bool is_wanted(const struct conf *conf, enum role role)
{
    const struct sandbox_role *r = sandbox_role(role);
    if (!r || !r->user)
        return false;
    if (role == ROLE_JUDGE)
        return conf_judges(conf);
    if (role == ROLE_LOCAL)
        return conf->local_submission.enabled;
    if (role == ROLE_TOKEND)
        return conf_introspects(conf);
    if (!(CONF_FRONTS & FROM(role)))
        return true;
    for (size_t i = 0; i < conf->listen_count; i++)
        if (conf_listen_role(&conf->listen[i]) == role)
            return true;
    return false;
}

static void on_timer(void *ctx);

static void add_child(struct supervisor *s, enum role role, uint32_t instance)
{
    struct child *c = child_find(s, role, instance);
    if (c) {
        c->surplus = false;
        return;
    }
    c = mem_alloc(sizeof *c);
    *c = (struct child){.sup = s, .role = role, .instance = instance};
    c->timer = timer_new(s->loop, on_timer, c);
    list_add_tail(&s->children, &c->link);
}

void children_plan(struct supervisor *s, const struct conf *conf)
{
    LIST_EACH(&s->children, l)
        container_of(l, struct child, link)->surplus = true;
    for (unsigned role = 0; role < ROLE_COUNT; role++)
        for (unsigned i = 0; is_wanted(conf, (enum role)role) && i < conf_instances(conf, (enum role)role); i++)
            add_child(s, (enum role)role, i);
}

static void free_child(struct child *c)
{
    pairs_forget(c);
    chan_free(&c->control);
    timer_free(&c->timer);
    list_del(&c->link);
    mem_free(&c);
}

/* Those that no configuration asks for any more and that have no process. */
void children_retire(struct supervisor *s)
{
    LIST_EACH(&s->children, l) {
        struct child *c = container_of(l, struct child, link);
        if (c->surplus && c->state == CHILD_IDLE)
            free_child(c);
    }
}

void children_free(struct supervisor *s)
{
    LIST_EACH(&s->children, l)
        free_child(container_of(l, struct child, link));
}

/* ---- death ---- */

/* How long until the next start. */
static int64_t note_death(struct child *c)
{
    int64_t now = loop_now(c->sup->loop), wait = RESTART_FIRST_MS;
    unsigned recent = 1;
    for (unsigned i = 0; i < MIN_OF(c->death_count, (unsigned)DEATHS_KEPT); i++)
        recent += c->deaths[i] + TALLY_MS > now;
    c->deaths[c->death_count++ % DEATHS_KEPT] = now;
    for (unsigned i = DEATHS_FREE; i < recent && wait < RESTART_MOST_MS; i++)
        wait = wait == RESTART_FIRST_MS ? 250 : wait * 2;
    return MIN_OF(wait, (int64_t)RESTART_MOST_MS);
}

static void log_death(const struct child *c, int status, int64_t wait)
{
    char name[48], how[48];
    bool signaled = WIFSIGNALED(status);
    child_name(c, name, sizeof name);
    if (signaled)
        snprintf(how, sizeof how, "SIG%s", sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "?");
    else
        snprintf(how, sizeof how, "%d", WEXITSTATUS(status));
    LOGE("service-died", KVT("service", name), KVU("pid", c->pid), KVT(signaled ? "signal" : "exit", how),
         KVU("uptime-ms", loop_now(c->sup->loop) - c->started), KVU("restarts", c->restarts),
         KVU("restart-in-ms", wait));
}

static void forget_process(struct child *c)
{
    c->pid = 0;
    chan_free(&c->control);
    c->sandbox[0] = 0;
    timer_stop(c->timer);
}

static void on_exit_status(struct child *c, int status)
{
    struct supervisor *s = c->sup;
    bool meant = c->state == CHILD_DRAINING, clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    bool last = c->surplus || s->phase == PHASE_STOPPING, asked = c->asked;
    int64_t wait = 0;
    if (!meant || !clean)
        wait = note_death(c);
    if (!meant || !clean)
        log_death(c, status, last ? -1 : wait);
    forget_process(c);
    c->asked = false;
    if (last) {
        move(c, CHILD_IDLE);
        if (c->surplus)
            free_child(c);
        supervisor_child_ended(s);
    } else {
        move(c, CHILD_WAITING);
        c->restarts++;
        timer_start(c->timer, wait);
    }
    if (asked)
        reload_child_gone(s);
    if (s->phase == PHASE_STARTING)
        children_start_next(s); /* the others need not wait for it */
}

void children_reap(struct supervisor *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        LIST_EACH(&s->children, l) {
            struct child *c = container_of(l, struct child, link);
            if (c->pid != pid)
                continue;
            on_exit_status(c, status);
            break;
        } /* else an orphan of the zygote's, which nobody waits for any more */
}

/* ---- what it says ---- */

static void on_ready(struct child *c, const struct msg_ready *m)
{
    char name[48];
    if (c->state != CHILD_STARTING) {
        reload_answer(c, m->generation, NULL);
        return;
    }
    snprintf(c->sandbox, sizeof c->sandbox, "%.*s", SPANV(m->sandbox));
    child_name(c, name, sizeof name);
    LOGI("service-ready", KVT("service", name), KVU("pid", c->pid), KVT("sandbox", c->sandbox),
         KVU("took-ms", loop_now(c->sup->loop) - c->started));
    timer_stop(c->timer);
    move(c, CHILD_READY);
    if (c->role == ROLE_KEYD)
        certs_keyd_ready(c->sup);
    if (c->sup->phase == PHASE_STARTING)
        children_start_next(c->sup);
}

static void on_refused(struct child *c, const struct msg_refused *m)
{
    char name[48], why[IPC_TEXT_MAX + 1];
    snprintf(why, sizeof why, "%.*s", SPANV(m->why));
    if (c->state != CHILD_STARTING) {
        reload_answer(c, m->generation, why);
        return;
    }
    child_name(c, name, sizeof name);
    LOGE("service-refused", KVT("service", name), KVT("why", why));
    if (c->sup->phase == PHASE_STARTING)
        supervisor_refused(c->sup, name, why);
}

static void on_certs_taken(struct child *c, const struct msg_certs_taken *m)
{
    char why[IPC_TEXT_MAX + 1];
    snprintf(why, sizeof why, "%.*s", SPANV(m->why));
    certs_taken(c, m->round, why);
}

static void on_msg(void *ctx, struct chan *ch, const struct msg *m, int fd)
{
    struct child *c = ctx;
    (void)ch;
    if (fd >= 0)
        close(fd); /* none of these carries one */
    switch (m->type) {
    case MSG_ready:
        on_ready(c, &m->ready);
        break;
    case MSG_refused:
        on_refused(c, &m->refused);
        break;
    case MSG_certs_taken:
        on_certs_taken(c, &m->certs_taken);
        break;
    case MSG_pair_lost:
        pair_lost(c, (enum role)m->pair_lost.role, m->pair_lost.instance, m->pair_lost.epoch);
        break;
    case MSG_log_lost:
        log_socket_connect();
        break;
    default:
        LOGE("control-message", KVT("service", role_name(c->role)), KVT("message", msg_info((unsigned)m->type)->name));
    }
}

/* Its end is closed: dead, or it broke the rules, which it does not survive. */
static void on_down(void *ctx, struct chan *ch)
{
    struct child *c = ctx;
    (void)ch;
    if (c->pid > 0 && c->state != CHILD_DRAINING)
        timer_start(c->timer, KILL_AFTER_MS);
}

static const struct chan_ops control_ops = {.on_msg = on_msg, .on_down = on_down};

/* ---- start ---- */

static bool passes(const char *variable)
{
    static const char *const kept[] = {
        "TZ=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS=", "UV_THREADPOOL_SIZE="};
    for (size_t i = 0; i < COUNT_OF(kept); i++)
        if (strncmp(variable, kept[i], strlen(kept[i])) == 0)
            return true;
    return false;
}

static void make_environment(char *out[16])
{
    size_t n = 0;
    for (char **e = environ; *e && n < 15; e++)
        if (passes(*e))
            out[n++] = *e;
    out[n] = NULL;
}

static int spawn(struct child *c, int control, struct err *err)
{
    const struct sandbox_role *r = sandbox_role(c->role);
    char path[4200], instance[16], *env[16];
    char *argv[] = {(char *)r->program, (char *)role_name(c->role), instance, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t all, none;
    snprintf(path, sizeof path, "%s/%s", c->sup->program_dir, r->program);
    snprintf(instance, sizeof instance, "%u", c->instance);
    make_environment(env);
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addchdir_np(&actions, c->sup->empty_dir);
    posix_spawn_file_actions_adddup2(&actions, control, CONTROL_FD);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    int e = posix_spawn(&c->pid, path, &actions, &attr, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    if (e == 0)
        return 0;
    c->pid = 0;
    errno = e;
    return err_errno(err, "cannot start %s", path);
}

static void say(void *ctx, const struct msg *m)
{
    chan_say(((struct child *)ctx)->control, m, -1);
}

static int tell_all(struct child *c, struct err *err)
{
    struct supervisor *s = c->sup;
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (s->as_root && start_ids(c->role, &uid, &gid, err))
        return -1;
    if (conf_send(s->conf, c->role, say, c, err))
        return -1;
    c->generation = s->conf->generation;
    resources_send(c);
    sockets_send(c, s->conf);
    certs_send(c, s->conf);
    pairs_for(c);
    struct msg go = {.type = MSG_go, .go = {.as_root = s->as_root, .uid = uid, .gid = gid, .instance = c->instance}};
    chan_say(c->control, &go, -1);
    return 0;
}

static void failed_start(struct child *c, const struct err *err)
{
    char name[48];
    int64_t wait = note_death(c);
    child_name(c, name, sizeof name);
    LOGE("service-not-started", KVT("service", name), KVT("why", err->text), KVU("restart-in-ms", wait));
    if (c->pid > 0) {
        kill(c->pid, SIGKILL); /* reaped like any other death */
        return;
    }
    move(c, CHILD_WAITING);
    timer_start(c->timer, wait);
    if (c->sup->phase == PHASE_STARTING)
        supervisor_refused(c->sup, name, err->text);
}

void child_start(struct child *c)
{
    int fds[2], high;
    struct err err;
    move(c, CHILD_STARTING);
    c->started = loop_now(c->sup->loop);
    c->sandbox[0] = 0;
    if (chan_pair(fds, &err)) {
        failed_start(c, &err);
        return;
    }
    high = fcntl(fds[1], F_DUPFD_CLOEXEC, 10); /* not 3 itself, which dup2 would leave close-on-exec */
    close(fds[1]);
    int r = spawn(c, high, &err);
    close(high);
    if (r) {
        close(fds[0]);
        failed_start(c, &err);
        return;
    }
    c->control = chan_new(c->sup->loop, fds[0], c->role, c->instance, &control_ops, c);
    timer_start(c->timer, START_LIMIT_MS);
    if (tell_all(c, &err))
        failed_start(c, &err);
}

void children_start_next(struct supervisor *s)
{
    LIST_EACH(&s->children, l) {
        struct child *c = container_of(l, struct child, link);
        if (c->state == CHILD_STARTING)
            return;
        if (c->state == CHILD_IDLE) {
            child_start(c);
            return;
        }
    }
    LIST_EACH(&s->children, l)
        if (container_of(l, struct child, link)->state != CHILD_READY)
            return;
    supervisor_all_ready(s);
}

/* ---- the end ---- */

void child_kill(struct child *c)
{
    if (c->pid > 0)
        kill(c->pid, SIGKILL);
}

void child_drain(struct child *c, int64_t ms)
{
    if (c->state == CHILD_WAITING) {
        timer_stop(c->timer);
        move(c, CHILD_IDLE);
        return;
    }
    if (c->state != CHILD_READY && c->state != CHILD_STARTING)
        return;
    move(c, CHILD_DRAINING);
    chan_say(c->control, &(struct msg){.type = MSG_drain, .drain = {.ms = (uint32_t)ms}}, -1);
    timer_start(c->timer, ms + KILL_AFTER_MS);
}

/* One timer, told apart by the state: the next start is due; or the patience is over. */
static void on_timer(void *ctx)
{
    struct child *c = ctx;
    char name[48];
    if (c->state == CHILD_WAITING) {
        child_start(c);
        return;
    }
    if (c->pid <= 0)
        return;
    child_name(c, name, sizeof name);
    LOGE("service-killed", KVT("service", name), KVU("pid", c->pid), KVT("state", child_state_name(c)),
         KVT("why", "it did not answer in time"));
    child_kill(c);
}
