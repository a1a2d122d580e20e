/* What happened to messages, kept beside the queue: one database for each day (UTC), history-YYYY-MM-DD.db, written
 * behind by a thread of its own without a sync, so that nobody ever waits for it. After a crash of the machine the last
 * seconds may be missing, or the day's file is set aside as damaged: no mail depends on it. Days go by unlink. */
#ifndef QUEUE_HISTORY_H
#define QUEUE_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/span.h"

/* Values are on disk: never renumbered. H(ENUM, value, "word") */
#define HISTORY_KINDS(H)        \
    H(ACCEPTED, 1, "accepted")  \
    H(DELIVERED, 2, "delivered") \
    H(RELAYED, 3, "relayed")    \
    H(EXPANDED, 4, "expanded")  \
    H(DEFERRED, 5, "deferred")  \
    H(FAILED, 6, "failed")      \
    H(EXPIRED, 7, "expired")    \
    H(PARKED, 8, "parked")      \
    H(PICKUP, 9, "pickup")      \
    H(HELD, 10, "held")         \
    H(RELEASED, 11, "released") \
    H(REMOVED, 12, "removed")   \
    H(TOLD, 13, "told")         \
    H(ROUTED, 14, "routed")       \
    H(REDIRECTED, 15, "redirected") \
    H(ADDED, 16, "added")

enum history_kind {
#define HISTORY_ENUM(name, value, word) HISTORY_##name = value,
    HISTORY_KINDS(HISTORY_ENUM)
#undef HISTORY_ENUM
};
const char *history_kind_name(unsigned kind); /* "unknown" for others */

/* The columns of an event, T for texts and N for numbers; an empty text and 0 stand for "nothing to say".
 *   recipient  its id          original   the address as its sender gave it      policy    what was found out at the door
 *   recipients how many        took       ms of the attempt                      attempts  how many there were
 *   status_    the reply: class, SMTP code, subject, detail (RFC 3463)           dialogue  how the attempt came to it
 *   next       of the schedule, ms since 1970       operator  uid + 1 of whom did it       related   the notification, or what it is about */
#define HISTORY_FIELDS(T, N) \
    N(recipient) T(sender) T(address) T(original) T(message_id) N(origin) N(account) T(client) T(helo) T(login) T(tls) T(policy) \
    N(size) N(recipients) T(host) N(took) N(attempts) N(status_class) N(code) N(subject) N(detail) T(reply) T(dialogue) \
    N(next) N(operator) N(related)

#define HISTORY_TEXT_MAX 1024 /* bytes of each text that are kept */

struct history_event {
    uint64_t message;
    int64_t time; /* ms since 1970 */
    enum history_kind kind;
#define HISTORY_TEXT(name) struct span name;
#define HISTORY_NUMBER(name) int64_t name;
    HISTORY_FIELDS(HISTORY_TEXT, HISTORY_NUMBER)
#undef HISTORY_TEXT
#undef HISTORY_NUMBER
};

struct history;
struct history_options {
    const char *dir; /* exists; the queue's folder */
    int64_t keep;    /* ms that a day's file stays after its day; 0: nothing is stored, and what is there goes */
    int64_t now;     /* ms since 1970 */
    size_t pending_max; /* bytes of events that wait to be written; 0: HISTORY_PENDING_MAX */
};
#define HISTORY_PENDING_MAX (8u << 20)

/* Starts the thread. */
int history_open(struct history **out, const struct history_options *o, struct err *err);
void history_close(struct history **h); /* writes what waits; NULL is fine */
/* As in the options, from now on; also tells the time, so that days go where nothing happens. */
void history_keep(struct history *h, int64_t keep, int64_t now);
/* Copies the event for the thread; never waits. What has no room is dropped, and counted in a log line. NULL is fine. */
void history_add(struct history *h, const struct history_event *e);
/* Any thread but the loop's: what was added before is written, or `ms` have passed. */
void history_flush(struct history *h, int64_t ms);
uint64_t history_dropped(struct history *h);

/* ---- files ---- */
#define HISTORY_NAME_MAX 32
#define HISTORY_DAY_MS INT64_C(86400000)
void history_name(int64_t day, char out[HISTORY_NAME_MAX]); /* day: since 1970 */
bool history_day_of(const char *name, int64_t *day);        /* "history-2026-11-24.db" */
/* The days with a file, the newest first; -1: the folder can't be read. */
int history_days(const char *dir, int64_t *days, size_t max, struct err *err);

#endif
