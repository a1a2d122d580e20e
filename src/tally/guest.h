/* A front's side of the clients' limits: one question to tallyd when a client comes, one statement when it leaves, and one
 * question for every TALLY_ROOM messages (fewer where a limit is near, as tallyd says) and GUEST_FAULTS faults between, so that what
 * many long sessions do counts, and slows them, while they do it. Who
 * comes from an exempt network is neither asked about nor counted. tallyd away, late or flooded: the door stays open
 * (what each process limits by itself remains), and the log says so once. */
#ifndef TALLY_GUEST_H
#define TALLY_GUEST_H

#include <sys/socket.h>

#include "base/client.h"
#include "base/list.h"
#include "conf/conf.h"
#include "ipc/chan.h"
#include "tally/tally.h"

#define GUEST_FAULTS 10

/* What the guests of one program share. */
struct guests {
    struct chan *tallyd;
    enum conf_protocol protocol;
    struct link inside; /* those that tallyd counts */
    struct network *exempt;
    size_t exempt_count;
    uint64_t visits;
    bool silent; /* tallyd does not answer, and the log has been told */
};

struct guest;
/* refuse: with these words. slow: ms that each reply waits. */
typedef void guest_fn(struct guest *g, bool refuse, uint32_t slow, struct span why);
/* Of one that is inside. refuse: for the reason that `why` says it may hand in no further message for `wait` ms; 0: it is to leave. */
typedef void guest_pace_fn(struct guest *g, bool refuse, uint32_t slow, uint32_t wait, struct span why);

/* Embedded in a session, zeroed before it is used. */
struct guest {
    struct link link;
    struct guests *all;
    uint64_t client; /* 0: not counted */
    uint64_t visit;  /* its number here */
    uint64_t asked;  /* the question that is open */
    guest_fn *fn;
    guest_pace_fn *pace;
    uint32_t messages;        /* since tallyd was told last */
    uint32_t room;            /* how many there may be before it is told */
    uint32_t refused, errors; /* what tallyd knows of */
};

void guests_open(struct guests *all, struct chan *tallyd, enum conf_protocol protocol);
void guests_configure(struct guests *all, const struct conf *c);
void guests_free(struct guests *all);
/* A fresh tallyd (service_def.on_up): it is told of everyone inside. */
void guests_up(struct guests *all);

/* True: in. False: fn is called once, later, unless guest_leave() comes first. */
bool guest_come(struct guests *all, struct guest *g, const struct sockaddr_storage *peer, guest_fn *fn);
/* It hands in a message. pace: called later, perhaps, with what tallyd makes of that. */
void guest_message(struct guest *g, guest_pace_fn *pace);
/* Its wrong commands and refused recipients so far. The same. */
void guest_faults(struct guest *g, uint32_t errors, uint32_t refused, guest_pace_fn *pace);
/* Whether limits apply to it. */
bool guest_is_counted(const struct guest *g);
/* The end, also while the question is open, with all of its faults. Fine for one that never came. */
void guest_leave(struct guest *g, uint32_t errors, uint32_t refused);

#endif
