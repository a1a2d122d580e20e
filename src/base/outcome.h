/* What became of mail: a value, not an error. A remote refusal is data that decides the reply, the queue's next step and the log line. */
#ifndef BASE_OUTCOME_H
#define BASE_OUTCOME_H

#include <stdint.h>

#include "base/buf.h"

enum outcome_kind {
    OUTCOME_DONE = 2,   /* accepted, delivered (first digit of the reply code and of the enhanced status, RFC 3463 §3.1) */
    OUTCOME_RETRY = 4,  /* may work later */
    OUTCOME_FAILED = 5, /* will not work */
};

struct outcome {
    uint8_t kind;     /* enum outcome_kind */
    uint16_t code;    /* SMTP reply code, 0 when there was none */
    uint16_t subject; /* enhanced status code kind.subject.detail, RFC 3463 */
    uint16_t detail;
    char text[400]; /* one line for people, UTF-8, no control characters */
};

/* Fills and returns it. `text` is cut to what fits, control characters become blanks. */
struct outcome outcome_make(enum outcome_kind kind, unsigned code, unsigned subject, unsigned detail, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
struct outcome outcome_text(enum outcome_kind kind, unsigned code, unsigned subject, unsigned detail, struct span text);
/* From a reply as a peer gave it: code, enhanced status if the text begins with one that agrees with the code, text. */
struct outcome outcome_from_reply(unsigned code, struct span text);
/* "5.1.1" */
void outcome_put_status(struct buf *out, unsigned kind, unsigned subject, unsigned detail);
/* "550 5.1.1 text"; code 0: "5.1.1 text". */
void outcome_put(struct buf *out, const struct outcome *o);

#endif
