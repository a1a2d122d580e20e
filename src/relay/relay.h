/* The relay's shared state, and what an attempt needs of it. */
#ifndef RELAY_RELAY_H
#define RELAY_RELAY_H

#include "base/list.h"
#include "base/map.h"
#include "net/dns.h"
#include "net/tls.h"
#include "relay/content.h"
#include "relay/pool.h"
#include "service/service.h"

#define RELAY_ATTEMPTS_MAX 8192 /* attempts held, running or not */
#define RELAY_RCPTS_MAX 10000   /* of one attempt */
#define RELAY_IDLE_MAX 100      /* connections kept for reuse */
#define RELAY_TRIES_MAX 30      /* addresses that one attempt tries */

struct relay {
    struct service *service;
    struct loop *loop;
    struct dns_texts *texts;
    struct dns *dns;
    struct tls_ctx *tls;          /* opportunistic */
    struct tls_ctx *tls_verified; /* for the smarthost, when the configuration names authorities; else NULL */
    struct tls_ctx *tls_trusted;  /* for REQUIRETLS; made when it is first needed: relay_trusted() */
    struct pool pool;
    struct idmap attempts;                       /* by lease: those of the present qmgr */
    struct link collecting, waiting, running;
    struct link reversed; /* reversed.c */
    size_t reversed_count;
    size_t held, running_count;
    struct defer run; /* starts waiting attempts */
    bool draining;
    char own[256];
    char room[CONTENT_CHUNK];
};

/* Verifies certificates by the authorities of trust-file; NULL: there are none. */
struct tls_ctx *relay_trusted(struct relay *r);

void attempt_on_begin(struct relay *r, const struct msg_attempt *m);
void attempt_on_rcpt(struct relay *r, const struct msg_attempt_rcpt *m);
void attempt_on_go(struct relay *r, const struct msg_attempt_go *m, int fd); /* fd is taken over */
void attempt_run_waiting(void *relay);
/* qmgr went away: whatever could still be taken back is; the others finish and their reports are dropped. */
void attempt_qmgr_gone(struct relay *r);
void attempt_drop_unstarted(struct relay *r); /* no reports: their leases end with us */
void attempt_drop_all(struct relay *r);

#endif
