/* authd: who is who. One thread owns the directory and every session's login; password hashes are made on pool threads.
 */
#ifndef AUTHD_AUTHD_H
#define AUTHD_AUTHD_H

#include "admin/admin.h"
#include "auth/directory.h"
#include "base/map.h"
#include "service/service.h"

struct hasher;
struct logins;
struct token_keys;
struct workers;

struct authd {
    struct service *service;
    struct directory *directory;
    struct hasher *hasher;
    struct logins *logins;
    struct workers *workers;
    struct admin *admin;
    struct token_keys *token_keys; /* NULL: no tokens are taken */
    struct idmap keepers;          /* channels of smtpd(mx) that keep verdicts, by instance */
};

/* Where an answer goes; a channel that changed meanwhile takes none. */
struct reply_to {
    struct chan *chan;
    uint32_t epoch;
    uint64_t id;
};
static inline struct reply_to reply_to(struct chan *c, const struct msg *m)
{
    return (struct reply_to){c, chan_epoch(c), m->id};
}
static inline void reply(const struct reply_to *to, const struct msg *m)
{
    chan_answer(to->chan, to->epoch, to->id, m, -1);
}

/* ---- what the peers say (dispatch.c) ---- */
void authd_message(struct authd *a, struct chan *from, const struct msg *m, int fd);
void authd_peer_changed(struct authd *a, struct chan *c);

/* ---- addresses (answers.c) ---- */
void answer_rcpt_check(struct authd *a, struct chan *from, const struct msg *m);
void answers_forget(struct authd *a); /* what was told to be kept holds no more */
void answer_sender_check(struct authd *a, struct chan *from, const struct msg *m);
void answer_who(struct authd *a, struct chan *from, const struct msg *m); /* who.c */
void answer_pull(struct authd *a, struct chan *from, const struct msg *m); /* pull.c */
void answer_expand(struct authd *a, struct chan *from, const struct msg *m);

/* ---- the operators' commands (commands.c) ---- */
struct admin *commands_new(struct authd *a);
void account_quota(void *ctx, struct admin_call *c, const struct span *args, size_t nargs); /* quota.c */
void domain_quota(void *ctx, struct admin_call *c, const struct span *args, size_t nargs);
#define SENDING_ARGS (2 * SENDING_LIMITS)
void account_limit(void *ctx, struct admin_call *c, const struct span *args, size_t nargs); /* sending.c */
void domain_limit(void *ctx, struct admin_call *c, const struct span *args, size_t nargs);

#endif
