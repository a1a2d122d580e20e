/* What a protocol's engine asks of its front before login, and what it is told. Pure data, so that engines need no
 * more than this. */
#ifndef FRONT_LOGIN_H
#define FRONT_LOGIN_H

#include <stdbool.h>

#include "base/span.h"

enum login_do {
    LOGIN_NOTHING,
    LOGIN_STARTTLS, /* the go-ahead is in the output: TLS from here on */
    LOGIN_BEGIN,    /* mechanism, initial */
    LOGIN_STEP,     /* initial holds the client's response to the challenge */
    LOGIN_CANCEL,   /* the client gave up the exchange (answered already) */
    LOGIN_CLOSE,    /* the session is over, its last words are in the output */
};

/* The spans live until the engine is called again. */
struct login_action {
    enum login_do what;
    struct span mechanism;
    bool has_initial;
    struct span initial; /* decoded */
    struct span user;    /* for the log; may be empty */
};

enum login_refusal { LOGIN_WRONG, LOGIN_LATER }; /* not who it says; we can't tell now */
enum login_bye { LOGIN_BYE_IDLE, LOGIN_BYE_STOPPING, LOGIN_BYE_FAILURES, LOGIN_BYE_FULL, LOGIN_BYE_GARBAGE };

#define LOGIN_RESPONSE_MAX 12288 /* decoded; RFC4954:4 speaks of 12288 bytes for the line */

#endif
