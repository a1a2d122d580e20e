/* The queue manager: what its parts share. A message's way through memory:
 *
 *   accept.c   a sender's transaction is heard, while the door is open (door.c),
 *   commit.c   and becomes a row, and a 250
 *   active.c   its recipients become part of the active set: at once, or read from the database when due (refill.c)
 *   expand.c   authd says who each recipient is: an account here, other addresses, a domain elsewhere
 *   work.c     the scheduler leases them to mda (local.c) or relay (remote.c); reports come back
 *   verdict.c  what became of each is decided,
 *   settle.c   and recorded, with a notification to the sender when they failed (notice.c)
 *   operator.c what operators see and do
 *   events.c   what history is told of all that
 *
 * Nothing here decides for good: routes are asked at each attempt, and a row on disk changes only in settle.c. */
#ifndef QMGR_QMGR_H
#define QMGR_QMGR_H

#include "admin/admin.h"
#include "base/map.h"
#include "base/sm.h"
#include "mail/address.h"
#include "queue/history.h"
#include "queue/queue.h"
#include "queue/retry.h"
#include "qmgr/rates.h"
#include "queue/sched.h"
#include "queue/turns.h"
#include "service/service.h"

#define ATTEMPT_RCPTS_MAX 100         /* recipients of one attempt (RFC5321:4.5.3.1.8) */
#define CONTENT_BYTES_MAX (64u << 20) /* contents kept in memory; above, they are read again for their attempt */
#define EXPANDING_MAX 4000 /* recipients being expanded that come from the database; also those of one message */
#define LOCAL_STARTS_KEPT 16
#define ASKED_MAX 256      /* recipients asked of authd at once: enough to keep it busy, and a short way for who is next */
#define DEPTH_MAX 10                  /* aliases of aliases; the same as the directory's */
#define WORKER_DEATHS_MAX 3           /* leases of a recipient that may end without report before it has to wait */

enum rcpt_state {
    RCPT_PICKED,    /* to be expanded */
    RCPT_EXPANDING, /* asked of authd */
    RCPT_QUEUED,    /* in its destination's queue, or leased: see its job */
    RCPT_STORED,    /* the mda has it; waits for the syncfs */
    RCPT_SETTLING,  /* its outcome is known and being recorded */
    RCPT_GONE,      /* not in memory any more: its row says what became of it */
};

/* What its row becomes. */
enum verdict {
    VERDICT_NONE,
    VERDICT_DELIVERED,
    VERDICT_RELAYED,
    VERDICT_EXPANDED,
    VERDICT_DEFERRED,  /* an attempt failed for now */
    VERDICT_POSTPONED, /* it was not attempted: its destination is down, full or suspended */
    VERDICT_PARKED,    /* its domain is held, or a section hold is for it */
    VERDICT_PICKUP,    /* it waits until its domain asks for it */
    VERDICT_HELD,      /* by an operator */
    VERDICT_RELEASED,  /* by an operator: due now */
    VERDICT_REMOVED,   /* by an operator: without a notification */
    VERDICT_ROUTED,    /* by an operator: another host takes it at its next attempt; its state and its time stay as they are */
    VERDICT_FAILED,
    VERDICT_REDIRECTED, /* by an operator: to another address */
    VERDICT_ADDED,      /* by an operator: a further recipient */
};

/* What an operator makes of a recipient. */
struct wish {
    enum verdict verdict; /* NONE; HELD, RELEASED, REMOVED, FAILED (back to its sender), REDIRECTED, ROUTED */
    int64_t by;           /* his uid + 1, 0: nobody's */
    struct span text;     /* FAILED: his reason; REDIRECTED: the address; ROUTED: the host, empty: none in particular */
};

typedef void settle_done_fn(void *ctx, bool ok);

struct qmgr;
struct message;
struct job;

struct rcpt {
    struct queue_recipient r; /* as its row will be */
    struct message *msg;
    struct link link; /* in its message's `finished`, or the owner's list of its state */
    struct turns_entry turn; /* PICKED: in qmgr.picked */
    int state;        /* enum rcpt_state */
    enum verdict verdict;
    struct wish wish; /* for the time when its lease ends, or what is on its way is recorded */
    const struct queue_recipient *tried; /* with an operator's verdict: its row after the attempt that his wish waited for */
    settle_done_fn *done; /* called once it is recorded, or can't be; NULL: nobody waits */
    void *done_ctx;
    struct job *job;
    struct rcpt *job_next;
    unsigned deaths;
    bool expired;
    bool late; /* with expired or delayed: the time of DELIVERBY has passed (RFC 2852) */
    bool delayed;                     /* with VERDICT_DEFERRED: for so long now that the sender is to be told */
    bool tells;                       /* with VERDICT_RELAYED: the next host tells the sender what becomes of it */
    bool by_taken;                    /* likewise: it took the time of DELIVERBY over */
    struct queue_recipient *children; /* with VERDICT_EXPANDED and VERDICT_REDIRECTED */
    size_t child_count, child_cap;
    struct outcome *reported; /* by relay, in this lease */
    struct span tls;          /* how the host of its last attempt was reached: "TLSv1.3 …", empty in clear */
    int64_t took;             /* ms, of it */
    int64_t by;               /* uid + 1 of the operator whose verdict it is */
    uint8_t was;              /* enum queue_state of its row before the verdict */
    uint64_t ask;             /* the request at authd */
    uint64_t pull;            /* the reversed connection that it goes over (pull.c), 0: none */
    bool doubted;             /* the store has it, and a sync of the store failed since (local.c) */
    bool shown;               /* terminals have been asked (terminal.c) */
    bool on_demand;           /* its domain asks for its mail: tried for that only */
    bool relay;               /* expand said: elsewhere */
    uint32_t account;
    struct span detail, login, domain;
    struct span dest, hop; /* elsewhere: its destination; the host that was named for it, empty: its domain's MX */
    bool smarthost;        /* that host is the configuration's for all */
};

/* A message in memory, in one arena with its recipients. */
struct message {
    struct qmgr *q;
    struct queue_message m;
    struct arena arena;
    char *content; /* prefix then body; NULL: not in memory */
    size_t content_n;
    unsigned refs;         /* recipients in memory, leases, requests under way */
    unsigned expanding;    /* recipients that are to be expanded or being so: their attempt waits, so that it is one */
    struct link open_jobs; /* not started: more recipients may join */
    struct link finished;  /* recipients whose outcome is to be recorded */
    struct link settle;    /* in qmgr.settling */
    struct link loads;     /* jobs waiting for the content */
    struct link load;      /* in qmgr.loads */
    size_t load_bytes;     /* of a spooled one */
    bool loading, lost, unreadable; /* lost: the content can't be had, for good */
    int fd;                         /* its spool file, for reading; -1: not open */
    unsigned fd_users;
};

/* One attempt: recipients of one message for one destination; those of several domains where one host takes them. */
struct job {
    struct sched_job sched;
    struct message *msg;
    enum sched_class class;
    struct span name; /* of the destination */
    uint32_t generation; /* of the configuration that said so */
    struct rcpt *rcpts, **rcpts_end;
    unsigned count, left; /* left: without a report */
    struct link open;     /* in the message's open_jobs */
    struct link link;     /* in the list of its worker, or of those that wait for content */
    struct span said;     /* what its destination said first, or why it could not be reached */
    uint64_t lease;       /* 0: none */
    int64_t leased_at;
    uint64_t ask;   /* the deliver request */
    bool retriable; /* some recipient is to be tried again */
};

struct account_worker;
struct senders;
struct refill;
struct unsettled;
struct questions;

struct qmgr {
    struct service *service;
    struct loop *loop;
    struct queue *queue;
    struct history *history;
    struct queue_reader *refill_reader, *content_reader, *operator_reader;
    struct admin *admin;
    const struct conf *conf;
    struct sched sched;
    struct retry_times times;
    uint64_t random;
    uint64_t next_lease;
    bool draining, stopping;

    /* accept.c */
    struct link sender_list;
    unsigned accepting;

    /* door.c */
    bool open;
    bool broken; /* the database could not be written: the door opens again when it can */
    struct queue_request probe;
    bool probing;
    char closed_why[200];
    int64_t room_looked;
    struct timer *room_timer;

    /* active.c */
    struct idmap messages, rcpts; /* by id */
    size_t content_bytes;
    struct turns picked; /* recipients to be expanded */
    struct refill *refill;
    size_t expanding; /* picked ones and those asked of authd */
    size_t asked;     /* those asked of authd */
    bool backlog; /* the database has due recipients that are not in memory */

    /* work.c */
    struct defer pump;
    struct idmap jobs;  /* by lease */
    struct link leased; /* jobs, oldest lease first */
    struct timer *minute;
    struct idmap workers; /* local.c: account → struct account_worker */
    struct link stored;   /* recipients waiting for a syncfs */
    struct link syncing;
    struct link doubted; /* stored before a syncfs that failed: to be leased again */
    int64_t doubt_at;    /* when one failed last, on the loop's clock; 0: none has */
    struct timer *sync_timer;
    bool sync_running;
    struct link gathering; /* accounts whose jobs wait for others */
    struct timer *gather_timer;
    int64_t local_starts[LOCAL_STARTS_KEPT]; /* when the last jobs for accounts came, in a ring */
    unsigned local_start_at;

    struct rates rates; /* events.c */

    struct buf routing; /* route.c: what the configuration says of it */

    /* dests.c */
    struct timer *dest_timer;
    struct link probes; /* operators' attempts */

    /* content.c */
    struct link loads;
    bool load_running;

    /* settle.c */
    struct link settling;
    struct defer settle;
    struct link unsettled; /* requests that failed, to be repeated */
    struct timer *unsettled_timer;
    unsigned settles; /* under way */
    struct link notices; /* that are being written to their files */
    unsigned spooling;   /* how many */

    /* pull.c */
    struct link pulls;
    unsigned pull_count;
    uint64_t next_pull;

    struct limits *limits; /* limits.c */

    /* operator.c */
    struct operator_jobs *operators;
    struct questions *questions; /* question.c; NULL: none yet */
    char *dir;                   /* the queue's folder */
};

static inline struct qid_text msg_qid(const struct message *m)
{
    return qid_text(m->m.id);
}
/* The reverse-path that counts for a recipient. */
static inline struct span rcpt_sender(const struct rcpt *r)
{
    return r->r.sender.p ? r->r.sender : r->msg->m.sender;
}

/* ---- program.c ---- */
extern const struct service_def qmgr_program; /* without its state, a struct qmgr */
int64_t qmgr_wall(const struct qmgr *q);
uint64_t qmgr_random(struct qmgr *q);
void qmgr_configure(struct qmgr *q); /* from service_conf() */
void qmgr_quiet(struct qmgr *q);     /* something ended: a drain may be over */

/* ---- policy.c ---- */
/* The domain of an address, canonical where it is a name: as destinations and sections of the configuration have it. */
struct span canonical_domain(struct span address, char room[ADDRESS_DOMAIN_MAX + 1]);
bool policy_on_demand(const struct qmgr *q, struct span address); /* its domain asks for its mail */
struct sched_rule policy_rule(void *qmgr, enum sched_class class, struct span name);
/* The wait after an attempt that failed for now, by its response and the count of attempts (as in the row). */
int64_t policy_wait(struct qmgr *q, const struct queue_recipient *r);
bool policy_is_soon(const struct qmgr *q, const struct queue_recipient *r); /* that wait is one of retry-soon */

/* ---- door.c ---- */
void door_init(struct qmgr *q);
void door_free(struct qmgr *q);
/* The disk is full, or the database can't write. */
void door_close(struct qmgr *q, const char *why);
bool door_open(struct qmgr *q);
/* The answer to who comes while it is closed. */
struct outcome door_why(const struct qmgr *q);

/* ---- accept.c ---- */
void accept_message(struct qmgr *q, struct chan *from, const struct msg *m);
/* The peer's channel went down, or has a fresh pair: what it did not commit is dropped. gone: the channel itself is
 * about to be freed. */
void accept_peer_changed(struct qmgr *q, struct chan *c, bool gone);
void accept_free(struct qmgr *q);
void accept_tell_senders(struct qmgr *q); /* whether the door is open */

/* ---- active.c ---- */
struct message *message_new(struct qmgr *q, uint64_t id);
/* Keeps a copy of the content that is in the frame. */
void message_keep_content(struct message *m, struct span prefix, struct span body);
void message_drop_content(struct message *m);
void message_ref(struct message *m);
void message_unref(struct message *m); /* the last one frees it */
struct rcpt *rcpt_new(struct message *m);
/* Takes it into the active set, while there is room and if it is not there; what has no room waits in the database. Room is
 * shared as in the scheduler: whoever comes later finds some. */
void activate(struct qmgr *q, struct rcpt *r);
void rcpt_pick(struct rcpt *r); /* to be expanded in its turn */
size_t active_free_room(const struct qmgr *q); /* without what is kept for newcomers */
bool active_room(const struct qmgr *q);
/* It has left memory. */
void rcpt_gone(struct rcpt *r);
void rcpt_move(struct rcpt *r, enum rcpt_state next);
/* A message and a recipient copied from rows, for the active set. */
struct message *message_from_row(struct qmgr *q, const struct queue_message *row);
struct rcpt *rcpt_from_row(struct message *m, const struct queue_recipient *row);
void active_free(struct qmgr *q);

/* ---- refill.c ---- */
void refill_init(struct qmgr *q);
void refill_free(struct qmgr *q);
void refill_at(struct qmgr *q, int64_t wall); /* something will be due then */
void refill_soon(struct qmgr *q);             /* there is room, or something is due */
void refill_rest(struct qmgr *q);             /* nobody waits for his turn any more: what had no room beside them has some */
bool refill_running(const struct qmgr *q);
void refill_note_gone(struct qmgr *q, uint64_t rcpt);

/* ---- expand.c ---- */
void expand_some(struct qmgr *q);   /* as many of the picked as authd's channel takes */
void expand_forget(struct rcpt *r); /* an operator took it */

/* ---- hold.c ---- */
/* Whether a section hold of the configuration holds it. why: which one. */
bool hold_wanted(const struct rcpt *r, struct outcome *why);
bool hold_applies(const struct qmgr *q, const struct queue_message *m, const struct queue_recipient *r, struct outcome *why);
/* The same, or its domain is held. */
bool hold_stands(const struct qmgr *q, const struct queue_message *m, const struct queue_recipient *r, struct outcome *why);
void hold_by_domain(struct outcome *why);

/* ---- work.c ---- */
void pump_soon(struct qmgr *q);
void pump_init(struct qmgr *q);
void pump_free(struct qmgr *q);
/* The recipient is known: puts it into its destination's queue. */
void work_queue(struct rcpt *r);
void work_again(struct rcpt *r); /* the same for one that was stored: its lease is repeated, in front of others */
void work_release_open(struct message *m); /* its recipients are all expanded: attempts may start */
uint64_t work_key(struct span text); /* a number for it, without case; above those of accounts */
uint64_t work_sender(const struct rcpt *r); /* whose turn it is: the account's, or the reverse-path's */
void job_lease(struct job *j);
/* The job is over: every recipient of it has been taken care of. */
void job_end(struct job *j, enum sched_result result);
/* True: its message is too late to be delivered, and the job is over. */
bool job_too_late(struct job *j);
/* It waits for its turn, and its recipients are looked at anew instead. */
void job_take_back(struct job *j);
/* True: the configuration names another host by now, and the job is over. */
bool job_misrouted(struct job *j);
/* The lease ended without a report: its recipients are tried again. */
void job_lost(struct job *j, const char *why);
struct job *job_by_lease(struct qmgr *q, uint64_t lease);
void job_drop_rcpt(struct rcpt *r); /* an operator took it out of a job that has not started */

/* ---- content.c ---- */
enum content { CONTENT_READY, CONTENT_COMING, CONTENT_LOST, CONTENT_UNREADABLE };
/* READY: in memory, or m->fd is open; content_done() when it was sent. COMING: the job is started again. */
enum content content_ready(struct job *j);
void content_done(struct message *m);
void content_trouble(struct job *j, enum content c); /* ends the job */
/* True: that much of the content is in memory, or can't be had; false: content_load() first, which settles the message again.
 */
bool content_is_here(const struct message *m, uint64_t bytes);
void content_load(struct message *m, uint64_t bytes);
void content_load_next(struct qmgr *q);

/* ---- local.c ---- */
void local_init(struct qmgr *q);
void local_start(struct job *j);
void local_mda_end(struct qmgr *q, uint32_t account, int fd);
void local_free(struct qmgr *q);
/* ---- terminal.c ---- */
/* True: the job is taken care of, or comes back to local_start(). */
bool terminal_takes(struct job *j);

/* ---- remote.c ---- */
bool remote_ready(struct qmgr *q);
void remote_start(struct job *j);
void remote_report(struct qmgr *q, const struct msg *m);
void remote_changed(struct qmgr *q);

/* ---- settle.c ---- */
void settle_init(struct qmgr *q);
void settle_free(struct qmgr *q);
/* What became of a recipient. o: the response (NULL: keep the last one); host: who gave it. */
void settle_rcpt(struct rcpt *r, enum verdict v, const struct outcome *o, struct span host);
/* Deferred by an outcome that may be of any kind: delivered, later, failed. */
void settle_outcome(struct rcpt *r, enum verdict done, const struct outcome *o, struct span host);
/* RFC2852:4.1.3: it was to be returned when it was not delivered by then. */
bool settle_too_late(const struct message *m);
/* Its attempt would come too late: it fails. */
void settle_late(struct rcpt *r);
/* Not attempted; tried again at `at` at the earliest. */
void settle_postpone(struct rcpt *r, int64_t at, const char *why);
/* It waits until its domain asks for it. o: what an attempt brought, NULL: there was none. */
void settle_pickup(struct rcpt *r, const struct outcome *o, struct span host);
/* Not attempted: it waits for its destination, and is looked at only to tell its sender of the delay and to give it up. */
void settle_park(struct rcpt *r, struct span destination, const char *why);
void settle_again(struct message *m);
/* Held from the start, with why: so it goes into the database with its message; and once it is there. */
void settle_note_domain(struct queue_recipient *r, struct arena *a); /* of its address, if it waits */
void settle_park_new(struct rcpt *r, const struct outcome *why);
void settle_parked_new(struct rcpt *r);
/* Its wish is carried out; false: it has none. */
bool settle_wish(struct rcpt *r);
/* Changes of operators. A recipient that is not in memory, as its row is now: until the change is recorded it is in
 * memory, so that nobody else takes the row up meanwhile. All of a message that change in one turn of the loop do so in
 * one transaction, with one notification. fn: told when it is on disk, or that it can't be written; NULL: it is tried
 * until it can. */
void settle_item(struct qmgr *q, const struct queue_item *i, const struct wish *w, settle_done_fn *fn, void *ctx);
/* A further recipient of a message, due now (RFC 4865: at its time). fn: false also when the message is gone. */
void settle_added(struct qmgr *q, const struct queue_message *row, struct span address, int64_t by, settle_done_fn *fn, void *ctx);
/* The same for one in memory: what has not started is taken out; what is under way ends first, and may end with a
 * delivery. False: it is too late for that. *coming: fn will be called; else its end is nobody's to wait for. */
bool settle_active(struct rcpt *r, const struct wish *w, settle_done_fn *fn, void *ctx, bool *coming);

/* ---- events.c ---- */
int events_open(struct qmgr *q, const char *dir, struct err *err);
void events_configure(struct qmgr *q);
/* A message is in the queue. about: of a notification, the message that it is about. */
void events_accepted(struct qmgr *q, const struct queue_message *m, size_t recipients, uint64_t about);
/* What became of a recipient: its verdict. */
void events_rcpt(struct qmgr *q, const struct rcpt *r);
/* It was held for its account's limits when it was accepted. */
void events_held(struct qmgr *q, uint64_t message, const struct queue_recipient *row, struct span sender);
void events_told(struct qmgr *q, const struct rcpt *r, uint64_t notice);

/* ---- notice.c ---- */
/* The notification for recipients of a message whose outcome is known, as a message of its own (not in the maps yet).
 */
/* How much of the content notice_make() wants in memory for those that are finished. */
uint64_t notice_needs(const struct message *m);
/* Writes a notice that is too large for a frame to its spool file, on a pool thread; then its content is no longer in memory.
 * done: once, later. */
typedef void notice_spooled_fn(void *ctx, bool good);
bool notice_is_large(const struct message *notice);
void notice_spool(struct message *notice, notice_spooled_fn *done, void *ctx);
#define NOTICE_RCPTS_MAX 1000 /* of one; there are as many as it takes to name all */
struct message *notice_make(struct message *m, const struct rcpt *const *about, size_t count, struct rcpt **to);
/* Whether the sender is to hear of what became of it (its verdict). */
bool notice_wanted(const struct rcpt *r);
/* What the targets of an alias inherit of its NOTIFY. */
uint8_t notice_inherited(uint8_t notify, size_t targets);
/* Whether an attempt that failed now, after `last`, is the first one behind the time when senders are told. */
/* Whether the sender is to be told that the time of DELIVERBY has passed with mode N. */
bool notice_late_due(const struct rcpt *r);
bool notice_delay_due(const struct rcpt *r, int64_t last, int64_t now);

/* ---- pull.c ---- */
void pull_begin(struct qmgr *q, struct chan *from, const struct msg *m, int fd); /* fd is taken over */
/* The reversed connection for that domain, one recipient more on it; 0: none. */
uint64_t pull_for(struct qmgr *q, struct span domain);
void pull_left(struct qmgr *q, uint64_t pull); /* a recipient of it has left memory */
void pull_over(struct qmgr *q, uint64_t pull); /* relay says so */
void pull_peer_changed(struct qmgr *q, struct chan *c);
void pulls_free(struct qmgr *q);

/* ---- limits.c: accounts that send more than they may ---- */
int limits_open(struct qmgr *q, const char *dir, struct err *err);
void limits_begin(struct qmgr *q); /* goes on with what a restart interrupted */
void limits_configure(struct qmgr *q);
bool limits_busy(const struct qmgr *q);
void limits_free(struct qmgr *q);

/* ---- operator.c ---- */
void operator_init(struct qmgr *q);
void operator_free(struct qmgr *q);
bool operator_running(const struct qmgr *q);
/* What the configuration has let wait, and does no longer, is due: after a reload, and after a start with another one. */
void operator_release_freed(struct qmgr *q);
void operator_note_gone(struct qmgr *q, uint64_t rcpt);

#endif
