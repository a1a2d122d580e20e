/* For tests of the IMAP engine: clients of one account, over a real store in a directory of its own. */
#ifndef TESTS_UNIT_IMAP_SUPPORT_H
#define TESTS_UNIT_IMAP_SUPPORT_H

#include "imap/engine.h"
#include "store/store.h"

struct client {
    struct imap *engine;
    struct store_watch watch;
    struct buf got; /* what came for the last say() */
    bool over, nudged;
};

extern struct store *account;
extern size_t piece;                /* how many bytes the engine gets at a time */
extern struct imap_backend backend; /* as the clients use it: tests may put their own functions in */
extern unsigned syncs;

void imap_set_up(void);
void imap_tear_down(void);

struct client *client_new(void);
void client_free(struct client **c);
/* Sends these bytes; returns everything that came back. */
const char *send_bytes(struct client *c, struct span bytes);
const char *say(struct client *c, const char *line); /* with CRLF behind */
/* "~" in the pattern stands for any bytes without a line end, "~~" for any at all. */
bool fits(const char *pattern, const char *text);
/* say(), and what came must fit. */
#define EXPECT(c, line, pattern)                                                                                       \
    do {                                                                                                               \
        const char *got_ = say(c, line);                                                                               \
        cr_assert(fits(pattern, got_), "%s\nwanted:\n%s\ngot:\n%s", line, pattern, got_);                              \
    } while (0)
/* APPENDs it to that mailbox. */
void put_message(struct client *c, const char *mailbox, const char *flags, const char *text);

#endif
