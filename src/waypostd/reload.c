/* Reload in two phases: every program that can follow gets the new settings and is asked; when all said ready there is
 * one switch, when one refused nothing has changed. Programs whose settings can't be followed are drained and started
 * anew after the switch. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "waypostd/supervisor.h"

#define ANSWER_MS 15000

static void report(struct supervisor *s, enum admin_status status, const char *text)
{
    if (status == ADMIN_DONE)
        LOGI("reloaded", KVU("generation", s->conf->generation), KVT("changes", text));
    else
        LOGE("reload-refused", KVT("why", text));
    if (s->reload_call)
        admin_end(s->reload_call, status, "%s", text);
    s->reload_call = NULL;
    notify_systemd("READY=1");
}

static void say(void *ctx, const struct msg *m)
{
    chan_say(((struct child *)ctx)->control, m, -1);
}

static bool follows(const struct child *c)
{
    return c->state == CHILD_READY && child_runs(c) && !c->surplus &&
           !conf_needs_restart(c->sup->conf, c->sup->next, c->role);
}

static int ask(struct child *c, struct err *err)
{
    if (conf_send(c->sup->next, c->role, say, c, err))
        return -1;
    sockets_send(c, c->sup->next);
    certs_send(c, c->sup->next);
    chan_say(c->control, &(struct msg){.type = MSG_reload_ask, .reload_ask = {.generation = c->sup->next->generation}},
             -1);
    c->asked = true;
    return 0;
}

/* ---- the end of it ---- */

static void forget(struct supervisor *s)
{
    struct msg m = {.type = MSG_reload_forget, .reload_forget = {.generation = s->next->generation}};
    LIST_EACH(&s->children, l) {
        struct child *c = container_of(l, struct child, link);
        c->asked = false;
        if (child_runs(c))
            chan_say(c->control, &m, -1);
    }
    conf_unref(&s->next);
    certs_forget(s);
    children_plan(s, s->conf);
    sockets_trim(s, s->conf);
    local_trim(s);
}

static void follow(struct child *c, int64_t patience)
{
    uint32_t generation = c->sup->conf->generation;
    if (c->surplus) {
        child_drain(c, patience);
    } else if (child_runs(c) && c->answered == generation) {
        log_socket_send(c);
        chan_say(c->control, &(struct msg){.type = MSG_reload_switch, .reload_switch = {.generation = generation}}, -1);
        c->generation = generation;
    } else if (child_runs(c)) {
        child_drain(c, patience); /* and started anew with what is now */
    } else if (c->state == CHILD_IDLE) {
        child_start(c);
    }
}

static void switch_over(struct supervisor *s)
{
    const struct conf *old = s->conf;
    struct buf changes = {0};
    conf_changes(s->conf, s->next, &changes);
    s->conf = s->next;
    s->next = NULL;
    certs_switch(s);
    supervisor_open_log(s);
    LIST_EACH(&s->children, l)
        follow(container_of(l, struct child, link), s->conf->stop_timeout);
    children_retire(s);
    sockets_trim(s, s->conf);
    local_trim(s);
    report(s, ADMIN_DONE, changes.n ? buf_cstr(&changes) : "nothing changed");
    buf_free(&changes);
    conf_unref(&old);
}

static void finish_when_answered(struct supervisor *s)
{
    LIST_EACH(&s->children, l)
        if (container_of(l, struct child, link)->asked)
            return;
    timer_stop(s->reload_timer);
    if (s->reload_refusals.n == 0) {
        switch_over(s);
        return;
    }
    forget(s);
    report(s, ADMIN_FAILED, buf_cstr(&s->reload_refusals));
}

void reload_answer(struct child *c, uint32_t generation, const char *refused)
{
    struct supervisor *s = c->sup;
    char name[48];
    if (!s->next || !c->asked || s->next->generation != generation)
        return;
    c->asked = false;
    c->answered = generation;
    child_name(c, name, sizeof name);
    if (refused)
        buf_printf(&s->reload_refusals, "%s%s: %s", s->reload_refusals.n ? "; " : "", name, refused);
    finish_when_answered(s);
}

/* One died while it was asked: it starts anew with whatever holds then. */
void reload_child_gone(struct supervisor *s)
{
    if (s->next)
        finish_when_answered(s);
}

void reload_cancel(struct supervisor *s)
{
    if (!s->next)
        return;
    timer_stop(s->reload_timer);
    forget(s);
    report(s, ADMIN_LATER, "waypost is stopping");
}

static void on_timer(void *ctx)
{
    struct supervisor *s = ctx;
    char name[48];
    LIST_EACH(&s->children, l) {
        struct child *c = container_of(l, struct child, link);
        if (!c->asked)
            continue;
        child_name(c, name, sizeof name);
        buf_printf(&s->reload_refusals, "%s%s: no answer in time", s->reload_refusals.n ? "; " : "", name);
        c->asked = false;
    }
    finish_when_answered(s);
}

/* ---- the beginning ---- */

static void tell_reloading(void)
{
    struct timespec t;
    char text[80];
    clock_gettime(CLOCK_MONOTONIC, &t);
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000);
    notify_systemd(text);
}

static int ask_around(struct supervisor *s, struct err *err)
{
    const char *fixed = conf_fixed_differs(s->conf, s->next);
    if (fixed)
        return err_set(err, "\"%s\" can't change while waypost runs; run: waypost stop, then waypost start", fixed);
    if (sockets_bind(s, s->next, err) || local_open(s, s->next, err))
        return -1;
    children_plan(s, s->next);
    certs_prepare(s);
    LIST_EACH(&s->children, l) {
        struct child *c = container_of(l, struct child, link);
        c->asked = false;
        c->answered = 0;
        if (follows(c) && ask(c, err))
            return -1;
    }
    return 0;
}

void reload_begin(struct supervisor *s, struct admin_call *call)
{
    struct conf_errors errors = {0};
    struct err err;
    if (s->phase != PHASE_RUNNING || s->next) {
        LOGW("reload-not-now");
        if (call)
            admin_end(call, ADMIN_LATER, s->next ? "a reload is under way already" : "waypost is starting or stopping");
        return;
    }
    tell_reloading();
    s->reload_call = call;
    buf_clear(&s->reload_refusals);
    if (!s->reload_timer)
        s->reload_timer = timer_new(s->loop, on_timer, s);
    s->next = conf_load(s->conf_file, ++s->generation, &errors);
    if (!s->next) {
        report(s, ADMIN_FAILED, buf_cstr(&errors.text));
    } else if (ask_around(s, &err)) {
        forget(s);
        report(s, ADMIN_FAILED, err.text);
    } else {
        timer_start(s->reload_timer, ANSWER_MS);
        finish_when_answered(s);
    }
    conf_errors_free(&errors);
}

void reload_free(struct supervisor *s)
{
    conf_unref(&s->next);
    timer_free(&s->reload_timer);
    buf_free(&s->reload_refusals);
}
