/* What the three parts of an attempt share: attempt.c (reports, the transaction), reach.c (the way to a host), intake.c (qmgr's side). */
#ifndef RELAY_ATTEMPT_H
#define RELAY_ATTEMPT_H

#include "mail/recode.h"
#include "relay/relay.h"
#include "relay/route.h"

enum attempt_state { ATTEMPT_COLLECT, ATTEMPT_WAIT, ATTEMPT_ROUTE, ATTEMPT_DIAL, ATTEMPT_SESSION, ATTEMPT_END };

enum rcpt_state { RCPT_OPEN, RCPT_AGAIN /* the host takes it after the others */, RCPT_REPORTED };

struct rcpt {
    uint64_t id;
    struct span address;
    struct smtp_client_notify notify;
    enum rcpt_state state;
};

struct attempt {
    struct relay *relay;
    struct link in_list;
    int state;
    uint64_t lease;
    uint64_t pull; /* the reversed connection that it goes over, 0: none */
    bool stale; /* its qmgr is gone */
    struct arena arena;
    struct span qid, domain, sender, key, envid;
    uint8_t ret, tls_need, by_mode; /* as in the message `attempt` */
    int64_t deliver_by;
    int priority;
    struct span via;   /* HOST[:PORT] as qmgr knows it; empty: the MX of its domain */
    bool smarthost;    /* the configuration's takes it */
    bool outdated;     /* the smarthost that it is for is not that of our configuration */
    bool routed;       /* another host that was named for it does */
    bool body_8bit, binary, smtputf8;
    struct recode *recode; /* the content in another encoding, for this host; NULL: as it is */
    struct buf recoded;
    uint32_t header_bytes;
    struct rcpt *rcpts;
    size_t rcpt_count, rcpt_cap;
    struct content content;

    const struct conf *conf; /* of its whole life */
    int64_t began;
    struct timer *deadline;
    struct route *route;
    struct dial *dial;
    const struct route_host *host; /* NULL on a kept connection */
    size_t address;                /* of the host, being tried */
    unsigned tries;
    struct session *session;
    bool kept;  /* the session was in the pool */
    bool clear; /* no TLS any more at this address: its handshake failed */
    bool spoke; /* a session became ready */
    bool by;    /* the host takes the time of DELIVERBY over */
    bool strict; /* REQUIRETLS, and not given up: policy.h */
    bool tells; /* the host offers DSN: what happens behind it, it tells the sender itself */
    struct outcome why; /* of the hosts so far: what may work later outweighs; kind 0: none */
    struct outcome again; /* what the host said to RCPT_AGAIN ones */
    size_t *order;        /* the recipients of the transaction */
    size_t order_count, taken, refused, later, taken_now;
    char remote[SESSION_REMOTE_MAX], tls_text[101];
    struct buf hosts; /* what the hosts before this one said, or why they could not be reached, for people */
    struct buf said;  /* in the session that is over */
};

#define ATTEMPT_HOSTS_BYTES 400 /* of the hosts before */
#define ATTEMPT_DIALOGUE_BYTES 900

/* Its host is not found by MX: our own setting, or an operator's word. */
static inline bool attempt_is_named(const struct attempt *a)
{
    return a->smarthost || a->routed;
}

void attempt_move(struct attempt *a, enum attempt_state next);
void attempt_free(struct attempt *a);
void attempt_start_reversed(struct attempt *a); /* it has the session, which is ready */
/* Everybody has an outcome (or gets `rest`): the reports, and the connection to the pool when it is fit for more. The attempt is gone. */
void attempt_finish(struct attempt *a, const struct outcome *rest);
void attempt_note_host(struct attempt *a, const struct outcome *why); /* this host would not */
void attempt_leave_host(struct attempt *a, const struct outcome *why); /* likewise, and it is noted already */
void attempt_mail(struct attempt *a);                                 /* on a session that is ready */
extern const struct session_ops attempt_session_ops;

/* The address a->address of this host and those behind it, else the next host; which begins with the route itself. */
void reach_next_address(struct attempt *a);
void reach_next_host(struct attempt *a);

#endif
