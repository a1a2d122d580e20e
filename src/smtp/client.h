/* The sending side of SMTP (RFC 5321): a pure engine for one session. Bytes of the peer go in by smtp_client_feed(),
 * bytes for the peer are appended to `out`, what happens is told by callbacks. No socket, no clock: whoever drives it
 * moves bytes, makes TLS, and watches smtp_client_timeout(). The peer is hostile: every line, reply and count has a
 * limit; what breaks a rule ends the session.
 *
 * The life of a session: greeting, EHLO (or HELO), STARTTLS when wanted, AUTH when wanted, then on_ready. From on_ready
 * a transaction may begin; it ends with on_done, and on_ready comes again when the session can take another one.
 * on_failed comes at most once and ends all: recipients that have no outcome yet share its reason, unless the driver
 * tries them at another host.
 *
 * Standards: RFC 5321, 1870 (SIZE), 2034 (enhanced status codes), 2920 (PIPELINING), 3030 (BINARYMIME), 3207 (STARTTLS), 3461 (DSN), 4954
 * (AUTH), 6152 (8BITMIME), 6531 (SMTPUTF8), 8689 (REQUIRETLS), 2852 (DELIVERBY), 6710 (MT-PRIORITY). */
#ifndef SMTP_CLIENT_H
#define SMTP_CLIENT_H

#include "base/buf.h"
#include "base/outcome.h"
#include "smtp/dsn.h"

#define SMTP_CLIENT_LINE_MAX 4096    /* a reply line; RFC5321:4.5.3.1.5 says 512 */
#define SMTP_CLIENT_LINES_MAX 128    /* lines of one reply */
#define SMTP_CLIENT_TEXT_MAX 8192    /* of a reply's text; what is over is not kept */
#define SMTP_CLIENT_WINDOW 100       /* commands sent ahead of their replies (RFC 2920) */

struct smtp_client;

enum smtp_client_tls {
    SMTP_CLIENT_CLEAR, /* no TLS, even if offered */
    SMTP_CLIENT_MAY,   /* STARTTLS when offered */
    SMTP_CLIENT_MUST,  /* STARTTLS, or the session fails */
    SMTP_CLIENT_IS_TLS, /* the connection began with TLS */
};

/* Where a session broke, so that the driver knows what else to try. */
enum smtp_client_stage {
    SMTP_STAGE_GREETING, /* no 220: another host */
    SMTP_STAGE_HELLO,    /* EHLO and HELO refused: another host */
    SMTP_STAGE_TLS,      /* STARTTLS refused or impossible: in clear, if the policy allows */
    SMTP_STAGE_AUTH,
    SMTP_STAGE_IDLE, /* between transactions */
    SMTP_STAGE_MAIL, /* in a transaction, no recipient answered yet */
    SMTP_STAGE_RCPT,
    SMTP_STAGE_CONTENT, /* the content is under way, its final dot is not sent */
    SMTP_STAGE_DOT,     /* the final dot is sent, its reply not seen: the message may have been taken */
};

struct smtp_client_ops {
    void (*on_ready)(void *ctx);
    /* 220 to STARTTLS: make TLS, then call smtp_client_tls_up(). */
    void (*on_start_tls)(void *ctx);
    /* At most once for each recipient of the transaction, in any order; exactly once before on_done. */
    void (*on_rcpt)(void *ctx, size_t index, const struct outcome *o);
    /* 354 came: give the content by smtp_client_content(), bounded by what `out` may hold. */
    void (*on_content)(void *ctx);
    void (*on_done)(void *ctx); /* every recipient has its outcome */
    /* The session is over: close the connection (smtp_client_quit() was not needed). why is for the host as a whole. */
    void (*on_failed)(void *ctx, enum smtp_client_stage at, const struct outcome *why);
    void (*on_quit)(void *ctx); /* QUIT was answered: close */
};

struct smtp_client_options {
    struct span helo; /* our name; copied */
    enum smtp_client_tls tls;
    struct span user, password; /* AUTH when user is not empty; copied, wiped at the end */
    bool auth_in_clear;         /* allow AUTH without TLS */
    int64_t timeout_max;        /* ms, when shorter than what RFC 5321 grants; 0: none */
};

/* What a recipient asks of notifications; given to peers that offer DSN. */
struct smtp_client_notify {
    uint8_t notify; /* enum smtp_notify bits */
    struct span orcpt;
};

/* What a message needs; spans are borrowed until on_done or on_failed. */
struct smtp_client_mail {
    struct span sender; /* without <>; empty: the null sender */
    const struct span *rcpts;
    size_t rcpt_count;
    const struct smtp_client_notify *notify; /* one for each recipient; NULL: nothing is asked */
    struct span envid;                       /* xtext, or empty */
    uint8_t ret;                             /* enum smtp_ret */
    uint64_t size;
    bool body_8bit; /* says BODY=8BITMIME; must only be set when the peer offers it: smtp_client_can() */
    bool binary;    /* says BODY=BINARYMIME and gives exactly `size` octets as they are, by BDAT; likewise, with CHUNKING */
    bool smtputf8;  /* says SMTPUTF8; likewise */
    bool requiretls; /* says REQUIRETLS; likewise */
    uint8_t by_mode; /* enum smtp_by; not 0: says BY with by_seconds; likewise */
    int64_t by_seconds;
    int priority; /* given to peers that offer MT-PRIORITY */
};

enum smtp_client_cap {
    SMTP_CAP_PIPELINING = 1,
    SMTP_CAP_SIZE = 2,
    SMTP_CAP_8BITMIME = 4,
    SMTP_CAP_STARTTLS = 8,
    SMTP_CAP_AUTH_PLAIN = 16,
    SMTP_CAP_AUTH_LOGIN = 32,
    SMTP_CAP_SMTPUTF8 = 64,
    SMTP_CAP_ENHANCED = 128,
    SMTP_CAP_DSN = 256,
    SMTP_CAP_REQUIRETLS = 512,
    SMTP_CAP_DELIVERBY = 1024,
    SMTP_CAP_MT_PRIORITY = 2048,
    SMTP_CAP_CHUNKING = 4096,
    SMTP_CAP_BINARYMIME = 8192
};

/* out stays the caller's and must outlive the client. */
struct smtp_client *smtp_client_new(const struct smtp_client_options *o, struct buf *out, const struct smtp_client_ops *ops, void *ctx);
void smtp_client_free(struct smtp_client **c); /* allowed inside a callback; no callback comes after */

/* Bytes from the peer; all of them are used. */
void smtp_client_feed(struct smtp_client *c, struct span in);
/* The peer closed, or the connection broke, or the time is over: on_failed (or on_quit) follows. */
void smtp_client_lost(struct smtp_client *c, const char *what);
void smtp_client_tls_up(struct smtp_client *c);

/* Only in on_ready, or later while nothing else was begun. At least one recipient. Recipients that can't be said on the wire fail at once. */
void smtp_client_mail(struct smtp_client *c, const struct smtp_client_mail *m);
/* Content between on_content and `last`: dots are stuffed, a stray CR or LF becomes a blank (HAZARDS 1), a missing last CRLF is added. */
void smtp_client_content(struct smtp_client *c, struct span chunk, bool last);
void smtp_client_quit(struct smtp_client *c); /* when ready; on_quit follows */

bool smtp_client_can(const struct smtp_client *c, enum smtp_client_cap cap);
uint64_t smtp_client_size_limit(const struct smtp_client *c); /* 0: none told */
uint64_t smtp_client_by_min(const struct smtp_client *c);     /* seconds, of DELIVERBY; 0: none told */
bool smtp_client_is_ready(const struct smtp_client *c);
enum smtp_client_stage smtp_client_stage(const struct smtp_client *c);
/* How long the peer may take for what is waited for now, ms (RFC5321:4.5.3.2); 0 while nothing is. */
int64_t smtp_client_timeout(const struct smtp_client *c);
/* Goes up with every reply and every piece of content: while it stands still, the time of smtp_client_timeout() runs. */
uint64_t smtp_client_progress(const struct smtp_client *c);
/* Appends the latest replies for people, "MAIL -> 250 ok | RCPT -> 550 5.1.1 no such user": 5 at most, each cut. index: of the recipient
 * whose reply to RCPT is to be among them while its transaction lasts; SIZE_MAX: of none. */
void smtp_client_dialogue(const struct smtp_client *c, size_t index, struct buf *out);
/* The name the peer gave in its greeting; empty before. */
struct span smtp_client_peer_name(const struct smtp_client *c);

#endif
