/* What is known of clients (base/client.h), in memory: levels that rise with what a client does and leak away with
 * time, sessions that are open, and what follows for the next connection. Pure: the caller has the clocks (milliseconds;
 * `now` never jumps, `wall` is since 1970) and keeps the rows.
 *
 * A level is a leaky bucket: it loses its limit once in its window. Up to half of a limit nothing happens, then
 * replies are delayed more and more, at the limit the client is turned away; a connection that was turned away adds
 * nothing, so that whoever keeps knocking gets in again at the rate that is allowed.
 *
 * Bounded: at most limits.clients are remembered besides those with open sessions. The ones unseen for longest are
 * forgotten first, those without anything worth remembering before the others, so that a crowd of new addresses
 * does not wash away what is known of the bad ones. */
#ifndef TALLY_TALLY_H
#define TALLY_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whose door: submission counts as smtp. */
enum tally_kind { TALLY_SMTP, TALLY_IMAP, TALLY_POP3, TALLY_KINDS };

enum tally_what {
    TALLY_CONNECTIONS, /* the first of TALLY_KINDS */
    TALLY_MESSAGES = TALLY_CONNECTIONS + TALLY_KINDS,
    TALLY_REFUSED, /* recipients */
    TALLY_ERRORS,  /* wrong commands */
    TALLY_LOGINS,  /* failed ones */
    TALLY_WHATS
};

#define TALLY_ROOM 20 /* the most messages that a session hands in before it is told of */
#define TALLY_TRUST_MS (INT64_C(30) * 24 * 3600 * 1000)

struct tally_limit {
    uint32_t most; /* 0: no limit */
    int64_t window;
};
struct tally_limits {
    struct tally_limit of[TALLY_WHATS];
    uint32_t sessions[TALLY_KINDS]; /* at a time; 0: no limit */
    uint32_t tarpit;                /* the longest delay of a reply, ms; 0: none is delayed */
    size_t clients;
};

struct tally;
struct tally *tally_new(const struct tally_limits *limits);
void tally_free(struct tally **t);
void tally_configure(struct tally *t, const struct tally_limits *limits);

struct tally_verdict {
    bool refuse;
    uint32_t slow;   /* ms; how long a reply waits */
    uint32_t wait;   /* ms; with refuse of one that is inside: until it may go on */
    uint32_t room;   /* messages after which it is to be told of again: fewer where the limit is near */
    const char *why; /* of a refusal, and of a delay: a sentence for the client; "" when there is neither */
};

/* A client is at the door. It counts as being there from now on unless it is refused. */
void tally_come(struct tally *t, uint64_t client, enum tally_kind kind, int64_t now, struct tally_verdict *v);
/* It is there already: nobody was asked when it came. */
void tally_here(struct tally *t, uint64_t client, enum tally_kind kind, int64_t now);
void tally_leave(struct tally *t, uint64_t client, enum tally_kind kind, int64_t now);
void tally_add(struct tally *t, uint64_t client, enum tally_what what, uint32_t n, int64_t now);
struct tally_done {
    uint32_t messages, refused, errors;
};
/* It is there and has done that since: what follows for it. Refused with a wait: its messages for so long; without: it is to leave. */
void tally_more(struct tally *t, uint64_t client, const struct tally_done *done, int64_t now, struct tally_verdict *v);
/* It logged in. For TALLY_TRUST_MS failed logins are not held against it here: they may be somebody else's behind the
 * same address. */
void tally_trust(struct tally *t, uint64_t client, int64_t now, int64_t wall);
/* As if it had never been seen (its open sessions stay). False: nothing was known. */
bool tally_forget(struct tally *t, uint64_t client, int64_t now);

/* ---- looking ---- */
struct tally_view {
    uint64_t client;
    double level[TALLY_WHATS];
    uint32_t here[TALLY_KINDS], turned_away;
    int64_t seen; /* how long ago, ms */
    int64_t trusted; /* wall; 0: never */
    struct tally_verdict verdict; /* of the next connection, whatever its kind */
};
/* False: nothing is known of it. */
bool tally_look(struct tally *t, uint64_t client, int64_t now, int64_t wall, struct tally_view *view);
size_t tally_count(const struct tally *t);
/* Their numbers, at most `max` of them; the array is the caller's (mem_free). */
uint64_t *tally_clients(const struct tally *t, size_t max, size_t *n);

/* ---- what is worth keeping ---- */
struct tally_row {
    uint64_t client;
    int64_t seen, trusted; /* wall */
    uint32_t turned_away;
    double level[TALLY_WHATS];
    bool gone; /* no longer worth it: delete what was kept */
};
/* Changed since they were taken last, at most `max`; 0: none. */
size_t tally_take_changed(struct tally *t, struct tally_row *rows, size_t max, int64_t now, int64_t wall);
bool tally_changed(const struct tally *t);
void tally_restore(struct tally *t, const struct tally_row *row, int64_t now, int64_t wall);

#endif
