/* The receiving side of one SMTP session: bytes and answers in, replies and requests out. No socket, clock or database.
 *
 * The owner feeds what it has received to smtp_server_run() and carries out what that asks for, until it asks for
 * nothing; then it sends smtp_server_output(). Requests marked (answer) are answered by the function named beside them,
 * at once or later, and the owner runs the session again. RCPT requests may be answered in any order: replies leave in
 * the order of the commands (RFC2920:3.1).
 *
 * Standards: RFC 5321, 1870 (SIZE), 2034 + 3463 (enhanced codes), 2920 (PIPELINING), 3030 (CHUNKING, BINARYMIME), 3207 (STARTTLS),
 * 3461 (DSN), 4954 (AUTH), 6152 (8BITMIME), 6531 (SMTPUTF8), 9422 (LIMITS), 8689 (REQUIRETLS), 2852 (DELIVERBY), 4865
 * (FUTURERELEASE), 6710 (MT-PRIORITY). */
#ifndef SMTP_SERVER_H
#define SMTP_SERVER_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/outcome.h"
#include "smtp/data.h"
#include "smtp/dsn.h"
#include "smtp/path.h"
#include "smtp/xclient.h"

/* How a transaction began: MAIL, or one of RFC 821 §3.4. */
enum smtp_terminal { SMTP_MAIL, SMTP_SEND, SMTP_SOML, SMTP_SAML };

/* Who is answered. */
enum smtp_asking { SMTP_ASKING_OFF, SMTP_ASKING_AUTHENTICATED, SMTP_ASKING_ON };

/* What sessions share; outlives them. */
struct smtp_server_config {
    struct span hostname;
    bool submission;        /* RFC 6409: AUTH before MAIL, Bcc leaves */
    bool local;             /* programs of this machine: XTOKEN, addresses without a domain, any reverse-path; Bcc leaves */
    struct span domain;     /* local: what is put behind an address without one */
    bool starttls;          /* offered while there is no TLS */
    bool send_commands;     /* SEND, SOML, SAML */
    bool etrn;              /* RFC 1985 */
    bool on_demand;         /* RFC 2645: logins and ATRN, no mail in */
    bool auth_in_clear;     /* AUTH without TLS (loopback, by configuration) */
    unsigned mechanisms;    /* enum sasl_can bits as configured: what AUTH announces and accepts */
    bool normalise;         /* CR or LF alone in content becomes CRLF, instead of a refusal */
    struct span strip_results; /* leave Authentication-Results of that name out of what comes in (RFC8601:5); may be empty */
    uint64_t max_size;
    uint32_t max_command_line, max_text_line, max_header;
    unsigned max_recipients, max_refused; /* of one transaction; refused recipients of one session */
    unsigned max_errors, max_login_failures, max_transactions;
    uint32_t by_min;     /* seconds: the least that BY with mode R may grant (RFC 2852) */
    uint32_t hold_max;   /* seconds: the most that FUTURERELEASE may ask for; 0: it is not offered (RFC 4865) */
    const char *const *priority_logins; /* who may use positive priorities (RFC 6710) */
    size_t priority_login_count;
    const struct smtp_watched *watched; /* fields of headers to look out for: smtp_data.watch */
    size_t watched_count;
    size_t content_high; /* content waiting above this asks for room */
    enum smtp_asking vrfy, expn;
};

/* What the program knows right now, read by every session. */
struct smtp_server_door {
    bool queue_closed; /* MAIL is answered 452 */
    bool crowded;      /* the sessions hold as much memory as they may: MAIL and RCPT are answered 452 */
    bool draining;     /* a session ends after its transaction */
    int64_t wall;      /* ms since 1970 */
};

struct smtp_server;

/* In the order in which they are asked for when there are several. */
enum smtp_want {
    SMTP_WANT_INPUT,        /* nothing: more input or an answer has to come */
    SMTP_WANT_ABORT,        /* what was taken for WANT_ROOM is not wanted: the transaction ended without a commit */
    SMTP_WANT_LOGIN_FORGET, /* that exchange, or that login, is over */
    SMTP_WANT_HELLO,        /* nothing to do: the client has named itself, smtp_server_helo() */
    SMTP_WANT_NOTE,   /* nothing to do: a command was refused, for the log: `address` is the verb, `data` the reply */
    SMTP_WANT_SENDER, /* may this login use `address`? (answer: smtp_server_sender) */
    SMTP_WANT_RCPT,   /* is `address` welcome? (answer: smtp_server_rcpt with `index`) */
    SMTP_WANT_ETRN, /* make mail for `address` due (answer: smtp_server_flushed) */
    SMTP_WANT_TURN, /* reverse for the domains in `data`, with commas between, or all (answer: smtp_server_turned) */
    SMTP_WANT_XCLIENT, /* another client: smtp_server_xclient(); then smtp_server_greet() as for a new session */
    SMTP_WANT_WHO,    /* who is `address`; with `expand`: its members (answer: smtp_server_who) */
    SMTP_WANT_LOGIN,  /* begin `mechanism` (answer: smtp_server_challenge or smtp_server_login) */
    SMTP_WANT_LOGIN_STEP, /* go on with `data` (answer: the same) */
    SMTP_WANT_TLS,        /* send the output, then begin TLS (answer: smtp_server_tls_up) */
    SMTP_WANT_ROOM,   /* much content: take it (smtp_server_take) or refuse it (smtp_server_no_room); nothing is read
                         until then */
    SMTP_WANT_COMMIT, /* the content is whole: store it (answer: smtp_server_committed) */
    SMTP_WANT_CLOSE,  /* send the output, then close; input is ignored from here on */
};

/* Spans live until the next call of any function here. */
struct smtp_request {
    unsigned index;
    struct span address, sender;
    uint64_t size; /* declared, 0 when not */
    struct span mechanism;
    bool has_data;
    struct span data;
    bool expand;
    struct span about; /* a note's: the recipient that was refused, or empty */
};

struct smtp_rcpt {
    struct span address;
    uint8_t state;     /* enum smtp_rcpt_state */
    uint8_t notify;    /* enum smtp_notify bits */
    struct span orcpt; /* as given: type;xtext, or empty */
    struct span reply; /* when another one has to be answered first */
};
enum smtp_rcpt_state { SMTP_RCPT_WAITING, SMTP_RCPT_WELCOME, SMTP_RCPT_REFUSED };

struct smtp_transaction {
    struct span sender;
    bool body_8bit; /* declared BODY=8BITMIME */
    bool binary;    /* declared BODY=BINARYMIME */
    bool smtputf8;  /* RFC 6531 */
    uint8_t ret;    /* enum smtp_ret */
    struct span envid; /* as given: xtext, or empty */
    bool requiretls;   /* RFC 8689 */
    uint8_t by_mode;   /* enum smtp_by bits; 0: BY was not given */
    uint8_t terminal;  /* enum smtp_terminal */
    int8_t priority;   /* RFC 6710 */
    bool lowered;      /* it is less than what was asked for */
    int64_t deliver_by, hold_until; /* ms since 1970; hold_until 0: not given */
    struct span hold;  /* "for;3600" or "until;TIME", or empty */
    bool has_token;    /* local: given by XTOKEN */
    char token[16];
    uint64_t declared;
    struct smtp_rcpt *rcpts;
    unsigned rcpt_count, welcome;
    bool excess; /* a recipient was put off for want of room */
    struct smtp_data data;
};

struct smtp_server *smtp_server_new(void);
/* Begins a session, keeping the memory of the last one. tls: it is active already (implicit TLS, greet when its
 * handshake is done). */
void smtp_server_open(struct smtp_server *s, const struct smtp_server_config *config,
                      const struct smtp_server_door *door, bool tls);
void smtp_server_free(struct smtp_server **s);

/* Says the greeting. Input that comes before is answered 554 and the end (HAZARDS 5). */
void smtp_server_greet(struct smtp_server *s);
/* Instead of the greeting: why this client is not served (RFC5321:3.1), and the end. */
void smtp_server_turn_away(struct smtp_server *s, unsigned code, const char *status, const char *text);
/* Uses as much of `in` as it can now; *used says how much (also when something is asked for). Call again with the rest
 * until it returns SMTP_WANT_INPUT. */
enum smtp_want smtp_server_run(struct smtp_server *s, struct span in, size_t *used, struct smtp_request *request);
/* Replies to be sent; the owner sends and clears them. */
struct buf *smtp_server_output(struct smtp_server *s);

void smtp_server_sender(struct smtp_server *s, const struct outcome *o);
/* relayed: the address is not ours; welcome only from a login. */
void smtp_server_rcpt(struct smtp_server *s, unsigned index, const struct outcome *o, bool relayed);
void smtp_server_flushed(struct smtp_server *s, const struct outcome *o);
/* Done: behind the output the client is the server; the engine has nothing more to do. */
void smtp_server_turned(struct smtp_server *s, const struct outcome *o);
/* members: addresses with a line feed behind each; with a refusal they are what the name could mean. Without any, the
 * outcome is the reply. */
void smtp_server_who(struct smtp_server *s, const struct outcome *o, struct span members);
void smtp_server_challenge(struct smtp_server *s, struct span challenge);
void smtp_server_login(struct smtp_server *s, const struct outcome *o, struct span login);
void smtp_server_tls_up(struct smtp_server *s);
/* The client showed a certificate that verifies: EXTERNAL is offered. Before tls_up, or the greeting. */
void smtp_server_certified(struct smtp_server *s);
/* Swaps the content for an empty buffer of the owner's; reading goes on. */
void smtp_server_take(struct smtp_server *s, struct buf *content);
/* The rest of the content is read and dropped, then this is the reply. */
void smtp_server_no_room(struct smtp_server *s, const struct outcome *o);
void smtp_server_committed(struct smtp_server *s, const struct outcome *o);
/* No transaction begins before `until` (as door.wall): MAIL is answered 450 with that text, which is kept. Not an error of the client's. */
void smtp_server_hold_back(struct smtp_server *s, int64_t until, struct span text);
/* 421 and the end: nothing came for too long; for a reason of the owner's. */
void smtp_server_timed_out(struct smtp_server *s);
void smtp_server_shut(struct smtp_server *s, const char *status, const char *text);
/* The program drains, or nobody knows any more who has logged in: ends the session now when nothing is under way, else when its
 * transaction is over. */
void smtp_server_drain(struct smtp_server *s);

/* What is under way; NULL outside of a transaction. */
/* Bytes that the session holds for its client, beside what every session has. */
size_t smtp_server_held(const struct smtp_server *s);
const struct smtp_transaction *smtp_server_transaction(const struct smtp_server *s);
const struct buf *smtp_server_content(const struct smtp_server *s);
struct span smtp_server_helo(const struct smtp_server *s);
bool smtp_server_is_esmtp(const struct smtp_server *s);
/* Behind smtp_server_open(): that client may say XCLIENT. */
void smtp_server_trust(struct smtp_server *s);
const struct smtp_xclient *smtp_server_xclient(const struct smtp_server *s); /* what it said last */
struct span smtp_server_login_name(const struct smtp_server *s); /* empty: not logged in */
/* Wrong commands and refused recipients so far. */
void smtp_server_faults(const struct smtp_server *s, unsigned *errors, unsigned *refused);
void smtp_server_pardon(struct smtp_server *s); /* XCLIENT: they were another client's */
/* No content is coming, waited for or being stored: a 421 now has nobody send a message twice. */
bool smtp_server_between(const struct smtp_server *s);
bool smtp_server_blocked(const struct smtp_server *s);    /* waits for an answer and reads nothing until it came */
bool smtp_server_in_content(const struct smtp_server *s); /* reads what follows DATA or BDAT */
const char *smtp_server_state(const struct smtp_server *s);

#endif
