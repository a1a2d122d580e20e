/* smtpd: receives mail, in two roles of one program: `smtpd-mx` (from other servers) and `smtpd-submission` (from our
 * users). It holds connections and nothing else: who is welcome is asked of authd, what was accepted belongs to qmgr.
 * See doc/architecture.md. */
#ifndef SMTPD_SMTPD_H
#define SMTPD_SMTPD_H

#include <sys/socket.h>

#include "base/list.h"
#include "base/map.h"
#include "keys/asker.h"
#include "net/listener.h"
#include "net/stream.h"
#include "net/tls.h"
#include "service/service.h"
#include "smtp/pace.h"
#include "smtp/server.h"
#include "tally/guest.h"

/* The settings that a session began with, and keeps. */
struct house {
    unsigned refs;
    const struct conf *conf;
    struct smtp_server_config smtp;
    struct tls_ctx *tls; /* NULL: no TLS here */
    bool implicit;
    bool check_from; /* From and Sender are to be the account's */
    bool hide_client; /* Received says nothing of the client */
    struct smtp_watched watched[CONF_HOLDS_MAX]; /* headers that sections hold ask for … */
    const char *marks[CONF_HOLDS_MAX];           /* … and which sections */
};

struct port {
    struct smtpd *d;
    struct listener *listener;
    struct house *house;
    uint16_t index; /* of its `listen` section */
};

struct smtpd {
    struct service *service;
    struct loop *loop;
    bool submission;
    bool local; /* role smtpd-local: no port, no authd */
    struct local *users; /* local.c */
    struct drops *drops; /* drop.c */
    struct asker asker; /* of keyd: it has the private keys */
    struct chan *authd, *qmgr, *judge; /* judge: of role smtpd-mx alone */
    struct map welcome; /* recipients that are welcome until authd says rcpt_forget: the addresses as clients wrote them */
    struct smtp_server_door door;
    struct port *ports;
    size_t port_count;
    struct gate gate;
    struct guests guests;
    unsigned slowed; /* sessions whose replies are being delayed */
    size_t held;     /* bytes that the sessions hold for their clients */
    struct link sessions;
    size_t session_count;
    struct link spare; /* sessions to use again */
    unsigned spare_count;
    uint64_t next_id;
    struct link stalled; /* sessions whose message waits for qmgr to be there */
    struct timer *stall_timer;
    char hostname[256];
    int64_t zone_checked;
    int zone;
};

/* A request to authd on behalf of a session. */
struct question {
    struct link link;
    struct session *s;
    unsigned index; /* of the recipient */
    unsigned tries;
    uint64_t id; /* 0: not asked */
    bool held;   /* names.c has to know more before it is asked */
};

/* What is known of the client itself, names.c. */
struct manners {
    uint64_t client_id, helo_id; /* questions to policyd that are open */
    char *client;                /* a name of its address; NULL */
    uint8_t client_kind, helo_kind;
    uint8_t client_tries, helo_tries;
    uint8_t helo_flaw; /* enum smtp_helo_kind, 0: none */
    bool exempt, early, client_known, helo_known;
    bool holding, holding_commit; /* the content waits for an answer: its end, or room for it */
};

struct authors_ask;
struct spool;

struct session {
    struct link link;
    struct smtpd *d;
    struct stream *stream; /* NULL: the client is gone, an answer of qmgr is awaited */
    struct house *house;
    struct smtp_server *smtp;
    struct sockaddr_storage peer;
    char remote[64];
    char name[256];               /* its name as a trusted front told it; empty: not told */
    struct sockaddr_storage front; /* who is connected: another than the peer behind XCLIENT */
    uint64_t id; /* names the login session and the transaction to authd and qmgr */
    int64_t timeout;
    size_t memory; /* of smtpd's `held` */
    unsigned door; /* the step that it is at (door.c); 0: inside */
    struct guest guest;
    uint32_t slow;      /* ms that each reply waits, as tallyd said at the door */
    uint32_t pace_slow; /* likewise, of the messages since */
    uint32_t account_slow; /* likewise, as qmgr said of its account */
    struct timer *hold; /* while one waits; made when first wanted */
    bool held, slowed, prompt; /* prompt: what comes next does not wait */
    bool login_begun, paused, choked, closing, greeted, shaking, eof, pausing;
    struct smtp_pace pace;
    bool local;    /* a program of this machine, run by uid */
    uint32_t uid;
    struct drop *drop; /* a file of the drop directory speaks */
    struct manners names;
    struct question login; /* login, sender, or a name */
    struct question first; /* the first recipient in flight; further ones are allocated */
    struct link questions; /* those */
    /* the message on its way to qmgr */
    struct link stall;
    int64_t stalled_at;
    uint64_t txn, commit_id;
    unsigned commit_tries;
    char token[16];
    struct buf prefix;
    struct spool *spool;
    /* turn.c */
    uint64_t turn_id;
    int turn_fd;           /* our end of the reversed connection, until it is granted; 0: none */
    struct stream *turned; /* the same, afterwards: bytes are carried */
    struct authors_ask *authors; /* while authd is asked about them */
    bool authors_good;           /* of this message */
    bool add_sender;             /* it has several authors and no Sender field */
};

/* session.c */
void session_open(struct port *p, int fd, const struct sockaddr_storage *peer);
/* The same for a user of this machine. NULL: there are too many. */
struct session *session_open_local(struct port *p, int fd, uint32_t uid);
void session_begin(struct session *s); /* greets, or begins TLS */
/* The client is gone, or is sent away without a word: s may be gone, too. */
void session_end(struct session *s);
void session_finish(struct session *s); /* sends what waits, then it is over */
void session_poke(struct session *s); /* after an answer: goes on */
void session_drain(struct session *s);
/* The answer that a gone client's session waited for has come. */
void session_settled(struct session *s);
void sessions_free(struct smtpd *d);
uint64_t smtpd_id(struct smtpd *d); /* a number that this process uses once */

/* door.c: between accept and greeting */
void door_enter(struct session *s);
void door_go_on(struct session *s); /* the step that was waited for is done */
void door_time(struct session *s); /* its stream's time is over */
/* The client is sent away; s may be gone. */
void door_refuse(struct session *s, unsigned code, const char *status, const char *text);
void door_leave(struct session *s); /* the session ends, or is over otherwise */
bool door_input(struct session *s); /* something came: true: the engine is to have it now */

/* tarpit.c: replies that wait */
/* How long what is to be said now waits, ms. The session may be told to end instead. */
uint32_t tarpit_delay(struct session *s);
guest_pace_fn tarpit_pace; /* what tallyd makes of the messages of a session */
bool tarpit_room(const struct session *s); /* one more may wait */
void tarpit_wait(struct session *s, uint32_t ms, timer_fn *then);
void tarpit_leave(struct session *s);

/* names.c: the client itself, and policyd */
void names_begin(struct session *s); /* its address is known, or is another now (XCLIENT) */
void names_hello(struct session *s); /* it has named itself */
void names_end(struct session *s);
enum conf_grade names_early(struct session *s); /* it spoke before the greeting: what to do about it */
bool names_pending(const struct session *s, enum conf_grade grade);
bool names_hold(struct session *s, bool commits); /* true: commit() or spool_room() will be called later */
bool names_refuse(const struct session *s, struct span address, struct outcome *o); /* is that recipient refused? */
struct span names_client(const struct session *s);           /* its verified name, or empty */
void names_header(struct session *s, struct buf *out);
void names_policy(const struct session *s, struct buf *out); /* for people */

/* verdict.c: authd */
void ask_rcpt(struct session *s, const struct smtp_request *r);
void ask_who(struct session *s, const struct smtp_request *r);
void held_rcpts_go(struct session *s); /* names.c knows what it waited for */
void ask_sender(struct session *s, const struct smtp_request *r);
void ask_login(struct session *s, const struct smtp_request *r);
void ask_login_step(struct session *s, const struct smtp_request *r);
void ask_login_forget(struct session *s);
void welcome_forget(struct smtpd *d); /* it is asked about anew */
void questions_forget(struct session *s);

/* authors.c: From and Sender. True: nothing is to be done for now, what was wanted goes on with the answer or the
 * message was refused. */
bool authors_asked(struct session *s, enum smtp_want want);
void authors_drop(struct session *s);

/* commit.c: qmgr */
void commit(struct session *s);
void commit_send(struct session *s, bool spooled);
void commit_announce(struct session *s); /* msg_begin and msg_rcpt */
void commit_done(struct session *s, const struct outcome *o, struct span qid);
void commit_prefix(struct session *s);
void commit_abort(struct session *s);
bool commit_pending(const struct session *s);
void stalled_go(struct smtpd *d);

/* turn.c: ETRN and ATRN */
void ask_etrn(struct session *s, const struct smtp_request *r);
void ask_turn(struct session *s, const struct smtp_request *r);
size_t turn_data(struct session *s, struct span in);
bool turn_event(struct session *s, enum stream_event e); /* true: it was the reversed connection's */
void turn_drop(struct session *s);

/* spool.c: large content */
void spool_room(struct session *s);       /* the engine wants room */
void spool_commit(struct session *s);     /* the content is whole */
void spool_drop(struct session *s);       /* not wanted any more */
bool spool_busy(const struct session *s); /* a whole message is being written */

/* local.c: programs of this machine */
int local_warm(struct smtpd *d, const struct conf *c, struct err *err); /* while there is a user database */
int local_open(struct smtpd *d, struct err *err); /* also to follow a reload */
void local_close(struct smtpd *d);                /* nobody comes in any more */
void local_free(struct smtpd *d);
struct port *local_port(struct smtpd *d);
bool local_may(const struct smtpd *d, uint32_t uid);
void local_prefix(struct session *s, int64_t seconds, int zone);

/* drop.c: files of the drop directory. The session tells what becomes of them. */
void drop_take(struct smtpd *d, int fd, uint32_t uid, struct span name);
void drop_refused(struct drop *f, struct span reply); /* a command, or the message */
void drop_queued(struct drop *f);
void drop_session_over(struct drop *f);
void drops_free(struct smtpd *d);

/* port.c */
/* What sessions that no listener of the configuration concerns begin with. */
struct house *house_local(struct smtpd *d, const struct conf *conf);
int ports_open(struct smtpd *d, struct err *err);
void ports_close(struct smtpd *d);
int ports_try(struct smtpd *d, const struct conf *next, struct err *err); /* would they open? */
int ports_certs(struct smtpd *d, struct err *err);
void house_unref(struct house **h);

#endif
