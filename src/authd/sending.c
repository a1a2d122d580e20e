/* The operators' commands about what accounts may send. qmgr counts (src/qmgr/limits.c). */
#include "authd/authd.h"

static const char *const names[SENDING_LIMITS] = SENDING_NAMES;

struct change {
    enum sending_limit kind;
    int64_t most; /* -1: as elsewhere */
};

static bool read_change(struct span name, struct span value, struct change *c)
{
    uint64_t n;
    int kind = 0;
    while (kind < SENDING_LIMITS && !span_ieqs(name, names[kind]))
        kind++;
    if (kind == SENDING_LIMITS)
        return false;
    c->kind = (enum sending_limit)kind;
    c->most = span_ieqs(value, "default") ? -1 : 0;
    if (c->most < 0 || span_ieqs(value, "none"))
        return true;
    if (!span_u64(value, SENDING_MOST, &n) || n == 0)
        return false;
    c->most = (int64_t)n;
    return true;
}

/* Pairs of name and value: all of them are right, or none is done. */
static bool read_changes(struct admin_call *call, const struct span *args, size_t nargs, struct change *list)
{
    bool good = nargs % 2 == 0;
    for (size_t i = 0; good && i < nargs; i += 2)
        good = read_change(args[i], args[i + 1], &list[i / 2]);
    if (!good)
        admin_end(call, ADMIN_USAGE, "a limit is messages-hour, recipients-hour, messages-day, recipients-day or "
                                     "new-recipients-day with a number, none or default");
    return good;
}

static void end(struct admin_call *call, enum dir_result r, const struct err *err)
{
    admin_end(call, r == DIR_OK ? ADMIN_DONE : r == DIR_MISSING ? ADMIN_NO_SUCH : r == DIR_USAGE ? ADMIN_USAGE : ADMIN_FAILED, "%s",
              r == DIR_OK ? "the limits hold from now on" : err->text);
}

static void show(struct authd *a, struct admin_call *call, uint32_t account)
{
    static const char *const from_names[] = {
        [SENDING_BY_DEFAULT] = "configuration", [SENDING_BY_DOMAIN] = "domain", [SENDING_BY_ACCOUNT] = "account"};
    uint32_t most[SENDING_LIMITS];
    enum sending_from from[SENDING_LIMITS];
    struct err err;
    if (directory_sending(a->directory, account, most, from, &err)) {
        admin_end(call, ADMIN_FAILED, "%s", err.text);
        return;
    }
    for (int i = 0; i < SENDING_LIMITS; i++) {
        admin_text(call, "limit", span_of(names[i]));
        admin_number(call, "most", most[i]);
        admin_text(call, "from", span_of(from_names[from[i]]));
        admin_row(call);
    }
    admin_end(call, ADMIN_DONE, "%s", "");
}

void account_limit(void *ctx, struct admin_call *call, const struct span *args, size_t nargs)
{
    struct authd *a = ctx;
    struct change list[SENDING_ARGS / 2];
    struct account acc;
    struct err err;
    if (!read_changes(call, args + 1, nargs - 1, list))
        return;
    enum dir_result r = directory_account_named(a->directory, args[0], &acc, &err);
    if (r == DIR_OK && nargs == 1) {
        show(a, call, acc.id);
        return;
    }
    for (size_t i = 0; r == DIR_OK && i < (nargs - 1) / 2; i++)
        r = directory_account_sending_set(a->directory, acc.id, list[i].kind, list[i].most, &err);
    end(call, r, &err);
}

void domain_limit(void *ctx, struct admin_call *call, const struct span *args, size_t nargs)
{
    struct authd *a = ctx;
    struct change list[SENDING_ARGS / 2];
    struct err err;
    enum dir_result r = DIR_OK;
    if (!read_changes(call, args + 1, nargs - 1, list))
        return;
    for (size_t i = 0; r == DIR_OK && i < (nargs - 1) / 2; i++)
        r = directory_domain_sending_set(a->directory, args[0], list[i].kind, list[i].most, &err);
    end(call, r, &err);
}
