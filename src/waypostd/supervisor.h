/* What the files of the supervisor share. It parses nothing from the network: its inputs are the configuration,
 * signals, exit statuses, the few messages that its own programs may send (ready, refused, certs_taken, pair_lost, log_lost), and a
 * fixed-size name from an operator. */
#ifndef WAYPOSTD_SUPERVISOR_H
#define WAYPOSTD_SUPERVISOR_H

#include <sys/types.h>

#include "admin/admin.h"
#include "base/list.h"
#include "conf/conf.h"
#include "ipc/chan.h"
#include "loop/loop.h"
#include "service/sandbox.h"

/* ---- one program that should run ---- */
enum child_state {
    CHILD_IDLE,     /* not started yet, or for good ended */
    CHILD_STARTING, /* started, not yet ready */
    CHILD_READY,
    CHILD_DRAINING, /* told to finish */
    CHILD_WAITING,  /* died; the next start is near */
};

#define DEATHS_KEPT 16

struct child {
    struct link link;
    struct supervisor *sup;
    enum role role;
    uint32_t instance;
    int state; /* enum child_state */
    pid_t pid; /* 0: none */
    struct chan *control;
    struct timer *timer; /* the next start, or the end of a drain's patience */
    int64_t started;     /* monotonic */
    unsigned restarts;
    int64_t deaths[DEATHS_KEPT]; /* the death tally: when the last ones were */
    unsigned death_count;
    uint32_t generation; /* of the configuration it runs with */
    uint32_t answered;   /* the generation it said ready to, in a reload */
    bool asked;          /* its answer to a reload is awaited */
    bool surplus;        /* not to be started again */
    char sandbox[SANDBOX_TEXT_MAX];
};

/* The pair of two children that may talk: how many ends each has had since it started. */
struct pair {
    struct link link;
    struct child *a, *b;
    uint32_t ends_a, ends_b;
    int64_t made;
    bool wanted; /* lost while its time has not come */
};

/* A bound listening socket; kept for as long as any generation wants that address and port. */
struct bound {
    struct link link;
    char address[64];
    unsigned port;
    int fd;
    bool keep; /* mark of a reload */
};

/* A certificate or key file as it was when it was last sent. */
struct seen_file {
    uint64_t device, inode;
    int64_t size, changed;
};

enum phase { PHASE_STARTING, PHASE_RUNNING, PHASE_STOPPING };

struct supervisor {
    struct loop *loop;
    const char *conf_file;
    const struct conf *conf, *next; /* next: while a reload asks around */
    uint32_t generation;
    bool as_root;
    int phase;
    int status; /* exit status */
    char *program_dir, *empty_dir;
    int lock_fd;
    int64_t started;
    struct link children, pairs, bounds;
    struct timer *pair_timer;
    /* certificates */
    struct timer *cert_timer;
    struct seen_file *seen, *seen_next; /* seen_next, chains_next: while a reload asks around */
    size_t seen_count, seen_next_count;
    struct chains *chains, *chains_next, *fresh; /* in use; fresh: renewed, while keyd has not taken it yet */
    uint32_t certs_round;
    /* reload */
    struct admin_call *reload_call; /* NULL: by signal */
    struct timer *reload_timer;
    struct buf reload_refusals;
    /* stopping */
    unsigned stop_stage;
    struct timer *stop_timer;
    int64_t stop_until;
    /* operators */
    struct door *door;
    struct local *local; /* local submission: its socket and the drop directory */
    struct admin *admin;
    /* -d: where the parent waits for our first word, and where our last words before it go */
    int parent_fd, terminal;
    bool log_kept; /* stderr is a file */
};

/* ---- start.c: what is done once, before the loop ---- */
int start_lock(struct supervisor *s, struct err *err);   /* state folder ours alone; a second start is refused */
int start_folders(struct supervisor *s, struct err *err); /* state and run folders, with their owners */
int start_users(struct supervisor *s, struct err *err);  /* as root: all system users there */
/* A folder with that owner and mode, made when it is missing. */
int start_folder(const char *path, uid_t uid, gid_t gid, mode_t mode, struct err *err);
void start_limits(void);
/* uid and gid of a role as root. */
int start_ids(enum role role, uid_t *uid, gid_t *gid, struct err *err);

/* ---- child.c ---- */
struct child *child_find(struct supervisor *s, enum role role, uint32_t instance);
/* Makes the list of children that the configuration asks for; those it no longer asks for are marked surplus. */
void children_plan(struct supervisor *s, const struct conf *conf);
void child_start(struct child *c);
void child_drain(struct child *c, int64_t ms); /* then it is started again, unless surplus or we are stopping */
void child_kill(struct child *c);
bool child_runs(const struct child *c);
const char *child_state_name(const struct child *c);
void child_name(const struct child *c, char *out, size_t size); /* "imapd 1" */
void children_reap(struct supervisor *s);
void children_start_next(struct supervisor *s); /* the next one of the first start, or: all are ready */
void children_retire(struct supervisor *s);
void children_free(struct supervisor *s);

/* ---- pairs.c ---- */
void pairs_init(struct supervisor *s);
void pairs_for(struct child *c);     /* fresh pairs to all that run and that it may talk to */
void pair_lost(struct child *c, enum role role, uint32_t instance, uint32_t epoch);
void pairs_forget(struct child *c);
void pairs_free(struct supervisor *s);

/* ---- certs.c ---- */
void certs_watch(struct supervisor *s); /* reads the chains, remembers how the files look, and looks again in a while */
void certs_unwatch(struct supervisor *s);
void certs_send(struct child *c, const struct conf *conf); /* s->conf, or s->next after certs_prepare() */
void certs_taken(struct child *c, uint32_t round, const char *why);
void certs_keyd_ready(struct supervisor *s);
void certs_prepare(struct supervisor *s); /* for s->next; then one of these two */
void certs_switch(struct supervisor *s);
void certs_forget(struct supervisor *s);

/* ---- sockets.c: listeners, resources ---- */
int sockets_bind(struct supervisor *s, const struct conf *conf, struct err *err); /* binds what is not bound yet */
void sockets_trim(struct supervisor *s, const struct conf *conf); /* closes what that generation does not want */
void sockets_send(struct child *c, const struct conf *conf);
void sockets_free(struct supervisor *s);
/* A Unix socket, bound to that name in the folder in place of what is there: its descriptor, or -1. */
int socket_on_path(int type, const char *folder, const char *name, mode_t mode, struct err *err);
void resources_send(struct child *c);
void log_socket_send(struct child *c);
void log_socket_connect(void);
void supervisor_open_log(struct supervisor *s);

/* ---- reload.c ---- */
void reload_begin(struct supervisor *s, struct admin_call *call); /* call may be NULL */
void reload_answer(struct child *c, uint32_t generation, const char *refused);
void reload_child_gone(struct supervisor *s);
void reload_cancel(struct supervisor *s); /* we are stopping */
void reload_free(struct supervisor *s);

/* ---- door.c: the operators' socket ---- */
int door_open(struct supervisor *s, struct err *err);
void door_close(struct supervisor *s);

/* ---- local.c: local submission ---- */
int local_open(struct supervisor *s, const struct conf *conf, struct err *err); /* what that configuration wants and is not there */
void local_trim(struct supervisor *s);  /* what s->conf does not want */
int local_socket(struct supervisor *s); /* -1: none */
void local_free(struct supervisor *s);

/* ---- main.c ---- */
void supervisor_all_ready(struct supervisor *s);
void supervisor_refused(struct supervisor *s, const char *who, const char *why); /* at the first start: the end */
void supervisor_stop(struct supervisor *s);
void supervisor_child_ended(struct supervisor *s); /* while stopping: what is next? */
void notify_systemd(const char *text);

#endif
