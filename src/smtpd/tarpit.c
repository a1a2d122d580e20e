/* Replies that wait: to a client that tallyd says is to be slowed, and to one that makes errors or asks for wrong
 * recipients, more and more from half of what ends its session. Slowed sessions cost memory, so their number is
 * bounded. Exempt clients (limits.exempt) are not slowed. */
#include <stdio.h>

#include "smtpd/smtpd.h"

static uint32_t grown(unsigned n, unsigned most, int64_t longest)
{
    return n * 2 > most ? (uint32_t)(longest * (n * 2 - most) / MAX_OF(most, 1u)) : 0;
}

bool tarpit_room(const struct session *s)
{
    return s->slowed || s->d->slowed < s->house->conf->limits.tarpit_sessions;
}

uint32_t tarpit_delay(struct session *s)
{
    const struct conf *c = s->house->conf;
    unsigned errors, refused;
    uint32_t ms = 0;
    if (guest_is_counted(&s->guest)) {
        smtp_server_faults(s->smtp, &errors, &refused);
        ms = MAX_OF(grown(errors, c->smtp.max_errors, c->limits.tarpit), grown(refused, c->smtp.max_refused, c->limits.tarpit));
        ms = MAX_OF(ms, s->slow);
    }
    if (tarpit_room(s)) /* without room these go on: at their limits they are put off, or held */
        ms = MAX_OF(ms, MAX_OF(s->account_slow, s->pace_slow));
    if (ms && !s->slowed && tarpit_room(s)) {
        s->slowed = true;
        s->d->slowed++;
    }
    return ms;
}

#define LEAVE_MS (INT64_C(3600) * 1000) /* no further message of one that should have left */

/* Past a limit it is slowed as much as before it. A message that is being handed in is taken; then nothing more is. */
void tarpit_pace(struct guest *g, bool refuse, uint32_t slow, uint32_t wait, struct span why)
{
    struct session *s = container_of(g, struct session, guest);
    char text[IPC_TEXT_MAX + 1];
    s->pace_slow = refuse ? (uint32_t)s->house->conf->limits.tarpit : slow;
    smtp_server_hold_back(s->smtp, refuse ? loop_wall(s->d->loop) + (wait ? wait : LEAVE_MS) : 0, why);
    if (!refuse || wait || s->shaking || s->door || s->closing || !smtp_server_between(s->smtp))
        return;
    snprintf(text, sizeof text, "%.*s", SPANV(why));
    smtp_server_shut(s->smtp, "4.7.0", text);
    session_poke(s);
}

void tarpit_wait(struct session *s, uint32_t ms, timer_fn *then)
{
    timer_free(&s->hold);
    s->hold = timer_new(s->d->loop, then, s);
    timer_start(s->hold, ms);
}

void tarpit_leave(struct session *s)
{
    timer_free(&s->hold);
    s->d->slowed -= s->slowed ? 1 : 0;
    s->slowed = s->held = false;
}
