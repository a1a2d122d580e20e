/* One connection to another server: a stream, the sending engine on top of it, and the clock. It serves one user at a time (an attempt, or
 * the pool while nobody needs it). */
#ifndef RELAY_SESSION_H
#define RELAY_SESSION_H

#include "net/tls.h"
#include "smtp/client.h"
#include "loop/loop.h"

struct session;

struct session_ops {
    void (*on_ready)(void *ctx);
    void (*on_rcpt)(void *ctx, size_t index, const struct outcome *o);
    void (*on_content)(void *ctx); /* there is room for content: at first, and again after session_content() returned false */
    void (*on_done)(void *ctx);
    /* The session is over: session_free() it. tls_failed: the TLS handshake did not come about. */
    void (*on_over)(void *ctx, enum smtp_client_stage at, const struct outcome *why, bool tls_failed);
};

struct session_options {
    struct smtp_client_options smtp;
    struct tls_ctx *tls;      /* for STARTTLS or implicit TLS */
    const char *server_name;  /* for SNI, and for the check when the context verifies */
    const char *remote;       /* host[address], for people */
};

#define SESSION_REMOTE_MAX 321 /* with its NUL */

/* Takes the connected socket over. */
struct session *session_new(struct loop *l, int fd, const struct session_options *o, const struct session_ops *ops, void *ctx);
void session_free(struct session **s); /* closes now; allowed inside its callbacks */
void session_use(struct session *s, const struct session_ops *ops, void *ctx); /* another user from here on */

void session_mail(struct session *s, const struct smtp_client_mail *m);
/* False: full, wait for on_content. */
bool session_content(struct session *s, struct span chunk, bool last);
void session_quit(struct session *s); /* when ready: says QUIT; on_over with kind DONE follows */

struct smtp_client *session_client(struct session *s); /* to look at, not to drive */
const char *session_remote(const struct session *s);
const char *session_tls_text(const struct session *s);
unsigned session_messages(const struct session *s); /* transactions begun */

#endif
