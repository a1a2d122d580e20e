/* What the readers' fronts (imapd, pop3d) have in common: listeners and TLS, the conversation with authd, handing
 * the session to its account's process, and then carrying bytes. The state before login is a pure engine of the
 * protocol's own, called through front_protocol; from the login on the front reads nothing that it carries.
 *
 * Security: runs with its own uid in an empty root; holds connections, its listeners' certificates and
 * channels to authd and to keyd, which signs for them. It cannot name an account: authd passes the session on to whoever it proved to be. */
#ifndef FRONT_FRONT_H
#define FRONT_FRONT_H

#include <sys/socket.h>

#include "base/buf.h"
#include "base/list.h"
#include "front/login.h"
#include "keys/asker.h"
#include "net/listener.h"
#include "net/stream.h"
#include "net/tls.h"
#include "service/service.h"
#include "tally/guest.h"

/* The numbers of F_auth_begin's `protocol`. */
enum front_number { FRONT_IMAP = 2, FRONT_POP3 = 3 };

/* What the engine needs to know of its surroundings. */
struct front_place {
    bool tls;             /* the connection is protected */
    bool starttls;        /* it could be: STARTTLS (STLS) is offered here */
    bool login_in_clear;  /* logins without TLS are allowed */
    unsigned mechanisms;  /* enum sasl_can bits as configured */
    struct span hostname;
};

struct front_limits {
    uint32_t max_connections, max_each, max_login_failures; /* max_each: of one client */
    int64_t login_timeout, idle_timeout; /* ms */
};

/* Supplied by the program. An engine is pure: bytes in, replies out, and at most one action for each call. */
struct front_protocol {
    enum front_number number;
    enum conf_protocol conf;
    struct front_limits (*limits)(const struct conf *c);
    void *(*open)(const struct front_place *p, struct buf *out); /* writes the greeting */
    void (*close)(void **engine);
    /* Takes one command off `in`: returns bytes used (0: not a whole one yet). */
    size_t (*input)(void *engine, struct span in, struct buf *out, struct login_action *a);
    void (*secured)(void *engine, bool certified); /* TLS is up, after STARTTLS; with a client's certificate */
    void (*challenge)(void *engine, struct span challenge, struct buf *out);
    /* the login that is under way failed: its tagged answer */
    void (*refused)(void *engine, enum login_refusal why, struct buf *out);
    struct span (*tag)(void *engine); /* of the login under way: the account's process answers it */
    /* The last words before we close. */
    void (*bye)(void *engine, enum login_bye why, struct buf *out);
};

struct front;
struct front_session;

/* The settings of the sessions that came through a listener; those that began with it keep it. */
struct front_house {
    unsigned refs;
    struct front_limits limits;
    struct tls_ctx *tls;
    enum conf_tls_mode mode;
    bool login_in_clear;
};

struct front_door {
    struct front *front;
    struct listener *listener;
    struct front_house *house;
    uint16_t index; /* of its `listen` section */
};

struct front {
    const struct front_protocol *protocol;
    struct service *service;
    struct loop *loop;
    struct chan *authd;
    struct asker asker; /* of keyd: it has the private keys */
    struct front_door *doors;
    size_t door_count;
    struct gate gate;
    struct guests guests;
    struct link sessions;
    size_t count;
    uint64_t next_id;
    char hostname[256];
};

/* ---- the program's side ---- */
/* Fills the service definition of a front; `start` is the program's own and calls front_start(). */
void front_def(struct service_def *def, struct front *f, enum role role, const char *name,
               int (*start)(struct service *s, struct err *err));
int front_start(struct front *f, const struct front_protocol *p, struct err *err);

/* ---- inside the library ---- */
/* doors.c */
int doors_open(struct front *f, struct err *err);
void doors_close(struct front *f);
int doors_try(struct front *f, const struct conf *next, struct err *err);
int doors_certs(struct front *f, struct err *err);
void house_unref(struct front_house **h);
/* session.c */
void front_session_open(struct front_door *d, int fd, const struct sockaddr_storage *peer);
/* who has not logged in is told; others end when their account's process says so */
void front_sessions_drain(struct front *f);
void front_sessions_free(struct front *f);

#endif
