/* POP3 after login (the TRANSACTION and UPDATE states), pure: STAT LIST UIDL RETR TOP DELE RSET NOOP CAPA QUIT.
 * RFC1939:5 RFC1939:6 The maildrop is a list that stays as it is for the whole session; contents and the removal at
 * QUIT are asked of the owner. */
#ifndef POP3_SESSION_H
#define POP3_SESSION_H

#include "base/buf.h"
#include "base/err.h"

struct pop3_message {
    uint64_t size;
    uint32_t uid;
    bool deleted;
};

struct pop3_session_ops {
    /* Output. False: enough for now; pop3_transaction_more() when there is room again. What is given is always
     * taken. */
    bool (*write)(void *ctx, struct span bytes);
    /* Content of message i: opened, read from any offset (bytes read, 0 at the end, -1), closed. One is open at a
     * time. */
    int (*open)(void *ctx, size_t i, struct err *err);
    ptrdiff_t (*read)(void *ctx, uint64_t offset, void *to, size_t n);
    void (*close)(void *ctx);
    /* Removes the messages marked deleted, for good. Only QUIT does. RFC1939:6 */
    int (*update)(void *ctx, const struct pop3_message *list, size_t n, struct err *err);
};

struct pop3_transaction;

/* The list is taken over (mem_free'd at the end). Writes the +OK of the login. */
struct pop3_transaction *pop3_transaction_new(const struct pop3_session_ops *ops, void *ctx, struct pop3_message *list,
                                              size_t n, uint32_t uidvalidity);
void pop3_transaction_free(struct pop3_transaction **t);
/* Takes one line, or a part of one, off `in`; returns bytes used. 0: no whole line yet, or output comes first
 * (…_busy()). */
size_t pop3_transaction_input(struct pop3_transaction *t, struct span in);
void pop3_transaction_more(struct pop3_transaction *t); /* there is room for output again */
bool pop3_transaction_busy(const struct pop3_transaction *t); /* waits for room for output */
/* QUIT, too many errors, a content that broke: send what waits and close */
bool pop3_transaction_over(const struct pop3_transaction *t);
/* The session breaks off: nothing is removed. */
void pop3_put_bye(struct buf *out, const char *why);

#endif
