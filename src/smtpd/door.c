/* What happens between accept and the greeting (with implicit TLS: the handshake): steps in their order, each of which
 * may take its time. A step says go on, or refuses the client with a reply; nothing else of a session runs meanwhile.
 *
 * A new step is one line of the table. Its begin() looks at the session and returns DOOR_ON when it has nothing to
 * wait for; DOOR_WAIT when door_go_on() or door_refuse() will be called later, on its own time limit; DOOR_OVER after
 * it called door_refuse() itself. cancel() (may be NULL) is called when the client leaves before that.
 *
 * Who speaks before the greeting on the port for servers is sent away by the engine at once; elsewhere the first bytes
 * stay with the kernel until the session begins. */
#include <stdio.h>

#include "base/log.h"
#include "smtpd/smtpd.h"

enum door_now { DOOR_ON, DOOR_WAIT, DOOR_OVER };

struct door_step {
    enum door_now (*begin)(struct session *s);
    void (*cancel)(struct session *s);
};

static bool is_for_servers(const struct session *s)
{
    return !s->d->submission && !s->house->implicit;
}

/* ---- quiet: HAZARDS 5: another server waits for the greeting; who has spoken before it is none ---- */

/* With grade reject what it said comes to door_input() in a moment. */
static enum door_now quiet_begin(struct session *s)
{
    if (!is_for_servers(s) || !stream_has_spoken(s->stream))
        return DOOR_ON;
    return names_early(s) == CONF_GRADE_REJECT ? DOOR_WAIT : DOOR_ON;
}

/* ---- pause: RFC5321:4.3.1: a sender waits for the greeting; this is how long ---- */

static enum door_now pause_begin(struct session *s)
{
    int64_t ms = s->house->conf->door.greet_pause;
    if (ms == 0 || !is_for_servers(s) || s->names.exempt)
        return DOOR_ON;
    stream_timeout(s->stream, ms); /* door_time() */
    s->pausing = true;
    return DOOR_WAIT;
}

static void pause_cancel(struct session *s)
{
    s->pausing = false;
    stream_timeout(s->stream, 0);
}

void door_time(struct session *s)
{
    if (!s->pausing)
        return;
    s->pausing = false;
    door_go_on(s);
}

/* ---- tally: what is known of this client ---- */

static void on_tally(struct guest *g, bool refuse, uint32_t slow, struct span why)
{
    struct session *s = container_of(g, struct session, guest);
    char text[IPC_TEXT_MAX + 1];
    s->slow = slow;
    if (refuse) {
        snprintf(text, sizeof text, "%.*s", SPANV(why));
        door_refuse(s, 421, "4.7.0", text);
    } else {
        door_go_on(s);
    }
}

static enum door_now tally_begin(struct session *s)
{
    return guest_come(&s->d->guests, &s->guest, &s->peer, on_tally) ? DOOR_ON : DOOR_WAIT;
}

static void tally_cancel(struct session *s)
{
    guest_leave(&s->guest, 0, 0);
}

/* ---- slow: the greeting is the first reply that waits ---- */

static void slow_over(void *ctx)
{
    struct session *s = ctx;
    s->prompt = true; /* it has waited */
    door_go_on(s);
}

static enum door_now slow_begin(struct session *s)
{
    uint32_t ms = tarpit_delay(s);
    if (ms == 0)
        return DOOR_ON;
    if (!s->slowed) {
        door_refuse(s, 421, "4.7.0", "Too many clients are being slowed down, try again later");
        return DOOR_OVER;
    }
    tarpit_wait(s, ms, slow_over);
    return DOOR_WAIT;
}

static void slow_cancel(struct session *s)
{
    timer_stop(s->hold);
}

/* ---- the steps, in their order ---- */

static const struct door_step steps[] = {
    {tally_begin, tally_cancel},
    {slow_begin, slow_cancel},
    {quiet_begin, NULL},
    {pause_begin, pause_cancel},
};

static void walk(struct session *s)
{
    while (s->door <= COUNT_OF(steps)) {
        enum door_now now = steps[s->door - 1].begin(s);
        if (now == DOOR_OVER)
            return;
        if (now == DOOR_WAIT) {
            if (!is_for_servers(s) && !s->paused)
                stream_pause(s->stream);
            s->paused = s->paused || !is_for_servers(s);
            return;
        }
        s->door++;
    }
    s->door = 0;
    if (s->paused)
        stream_resume(s->stream);
    s->paused = false;
    session_begin(s);
}

void door_enter(struct session *s)
{
    s->door = 1;
    walk(s);
}

void door_go_on(struct session *s)
{
    s->door++;
    walk(s);
}

void door_leave(struct session *s)
{
    unsigned at = s->door;
    s->door = 0;
    if (at && steps[at - 1].cancel)
        steps[at - 1].cancel(s);
}

/* With implicit TLS nothing can be said. */
void door_refuse(struct session *s, unsigned code, const char *status, const char *text)
{
    s->door = 0;
    if (s->house->implicit && !stream_is_tls(s->stream)) {
        LOGI("refused", KVT("client", s->remote), KVT("why", text));
        session_end(s);
        return;
    }
    smtp_server_turn_away(s->smtp, code, status, text);
    session_poke(s);
}

bool door_input(struct session *s)
{
    if (!is_for_servers(s))
        return false;
    if (names_early(s) != CONF_GRADE_REJECT) { /* its words wait for the greeting */
        stream_pause(s->stream);
        s->paused = true;
        return false;
    }
    door_leave(s);
    return true;
}
