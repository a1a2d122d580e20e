/* Replies that wait: to a client that tallyd says is to be slowed, and to one that makes errors or asks for wrong
 * recipients, more and more from half of what ends its session. Slowed sessions cost memory, so their number is
 * bounded. Exempt clients (limits.exempt) are not slowed. */
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
        ms = MAX_OF(ms, MAX_OF(s->slow, s->pace_slow));
    }
    if (tarpit_room(s))
        ms = MAX_OF(ms, s->account_slow);
    if (ms && !s->slowed && tarpit_room(s)) {
        s->slowed = true;
        s->d->slowed++;
    }
    return ms;
}

/* Past the limit it is slowed as much as before it, and its next messages are put off. */
void tarpit_pace(struct guest *g, uint32_t slow, uint32_t wait, struct span why)
{
    struct session *s = container_of(g, struct session, guest);
    s->pace_slow = wait ? (uint32_t)s->house->conf->limits.tarpit : slow;
    smtp_server_hold_back(s->smtp, wait ? loop_wall(s->d->loop) + wait : 0, why);
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
