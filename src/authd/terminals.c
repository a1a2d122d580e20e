/* Users' terminals (SEND, SOML, SAML): an account's owner runs `waypost terminal`, whose connection stays open here and
 * is given what comes. root and the instance's owner may open any; a member of the group waypost says the account's
 * password. Messages pass through as bytes: what is shown of them is the command's own work. */
#include "authd/terminals.h"

#include <unistd.h>

#include "authd/hasher.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

#define TERMINALS_MAX 32 /* in all: operators need connections, too */
#define EACH_MAX 8       /* of one account */

struct terminal {
    struct link link;
    struct authd *authd;
    struct admin_call *call;
    uint32_t account;
    char login[ACCOUNT_LOGIN_MAX + 1];
};

static struct link open_ones = LIST_INIT(open_ones);
static unsigned open_count;

static void drop(struct terminal *t)
{
    list_del(&t->link);
    open_count--;
    admin_end(t->call, ADMIN_DONE, "%s", "");
    LOGI("terminal-closed", KVT("account", t->login));
    mem_free(&t);
}

/* Those whose user has gone are noticed here. */
static unsigned count(uint32_t account)
{
    unsigned n = 0;
    LIST_EACH(&open_ones, l)
    {
        struct terminal *t = container_of(l, struct terminal, link);
        if (admin_gone(t->call))
            drop(t);
        else
            n += t->account == account;
    }
    return n;
}

bool terminal_is_open(uint32_t account)
{
    return open_count && count(account) > 0;
}

static void opened(struct authd *a, struct admin_call *c, const struct account *who)
{
    if (count(who->id) >= EACH_MAX || open_count >= TERMINALS_MAX) {
        admin_end(c, ADMIN_LATER, "too many terminals are open");
        return;
    }
    struct terminal *t = mem_alloc(sizeof *t);
    t->authd = a;
    t->call = c;
    t->account = who->id;
    memcpy(t->login, who->login, sizeof t->login);
    list_add_tail(&open_ones, &t->link);
    open_count++;
    LOGI("terminal-open", KVT("account", t->login), KVU("uid", admin_uid(c)));
    admin_text(c, "open", span_of(t->login));
    admin_row(c);
}

/* ---- who may ---- */

struct proof {
    struct authd *authd;
    struct admin_call *call;
    uint32_t id;
};

static void proven(void *ctx, bool ok, const char *hash, const hasher_scram *scram)
{
    struct proof *p = ctx;
    struct account who;
    struct err err;
    (void)hash;
    if (!scram) { /* it was not looked at */
        admin_end(p->call, ADMIN_LATER, "too many logins at the moment, try again");
    } else if (!ok) {
        LOGW("terminal-refused", KVU("uid", admin_uid(p->call)), KVU("account", p->id));
        admin_end(p->call, ADMIN_FAILED, "that is not the password of this account");
    } else if (directory_account_get(p->authd->directory, p->id, &who, &err) || who.state != ACCOUNT_ENABLED) {
        admin_end(p->call, ADMIN_FAILED, "the account is gone");
    } else {
        opened(p->authd, p->call, &who);
    }
    mem_free(&p);
}

/* The instance's owner, when it does not run as root, is who we run as. */
static bool is_trusted(uint32_t uid)
{
    return uid == 0 || uid == geteuid();
}

void terminal_command(void *ctx, struct admin_call *c, const struct span *args, size_t nargs)
{
    struct authd *a = ctx;
    struct account who;
    struct err err;
    enum dir_result r = directory_account_find(a->directory, args[0], &who, &err);
    bool trusted = is_trusted(admin_uid(c));
    if (trusted && (r || who.state != ACCOUNT_ENABLED)) {
        admin_end(c, ADMIN_NO_SUCH, "there is no enabled account of that address");
    } else if (trusted) {
        opened(a, c, &who);
    } else if (nargs < 2) {
        admin_end(c, ADMIN_USAGE, "only root and the instance's owner may do without the account's password: --password-stdin");
    } else {
        struct proof *p = mem_alloc(sizeof *p);
        *p = (struct proof){a, c, r ? 0 : who.id};
        /* for nobody's account the same work is done, and the answer is the same */
        if (hasher_check(a->hasher, 0, r || who.state != ACCOUNT_ENABLED ? NULL : who.hash, args[1], NULL, proven, p)) {
            mem_free(&p);
            admin_end(c, ADMIN_LATER, "too many logins at the moment, try again");
        }
    }
}

/* ---- from qmgr ---- */

void answer_terminal_show(struct authd *a, struct chan *from, const struct msg *m)
{
    struct reply_to to = reply_to(from, m);
    struct msg o = {.type = MSG_terminal_shown};
    (void)a;
    count(0);
    LIST_EACH(&open_ones, l)
    {
        struct terminal *t = container_of(l, struct terminal, link);
        if (t->account != m->terminal_show.account || !admin_room(t->call))
            continue;
        admin_text(t->call, "message", m->terminal_show.content);
        admin_row(t->call);
        o.terminal_shown.count++;
    }
    reply(&to, &o);
}

void terminals_close(void)
{
    LIST_EACH(&open_ones, l)
    drop(container_of(l, struct terminal, link));
}
