#include "ipc/describe.h"

#include "ipc/msg.h"

static const char *const late_names[] = {
    [MSG_LATE_NONE] = "-", [MSG_LATE_DEFER] = "4xx at the door", [MSG_LATE_REASK] = "asks again with its token",
    [MSG_LATE_RETRY] = "the lease becomes a retry", [MSG_LATE_CLOSE] = "ends that session"};
static const char *const fd_names[] = {[MSG_NOFD] = "", [MSG_FD] = " **+ descriptor**", [MSG_MAYFD] = " (+ descriptor)"};

static void put_senders(struct buf *out, uint32_t senders)
{
    const char *comma = "";
    for (unsigned r = 0; r < ROLE_COUNT; r++)
        if (senders & FROM(r)) {
            buf_printf(out, "%s%s", comma, role_name((enum role)r));
            comma = ", ";
        }
}

#define FIELD_TEXT(type_, name_, limit_) {#type_, #name_, (limit_)},
#define FIELDS_OF(name, senders, fd, deadline, late) \
    static const struct field fields_##name[] = {F_##name(FIELD_TEXT){NULL, NULL, 0}};

struct field {
    const char *type, *name;
    uint64_t limit;
};

MESSAGES(FIELDS_OF)

static void put_fields(struct buf *out, const struct field *f)
{
    for (const char *comma = ""; f->name; f++, comma = ", ") {
        buf_printf(out, "%s`%s` %s", comma, f->name, f->type);
        if (f->limit)
            buf_printf(out, " ≤ %llu", (unsigned long long)f->limit);
    }
}

void ipc_describe(struct buf *out)
{
    static const struct field *const fields[MSG__COUNT] = {
#define FIELDS_AT(name, senders, fd, deadline, late) [MSG_##name] = fields_##name,
        MESSAGES(FIELDS_AT)
#undef FIELDS_AT
    };
    buf_adds(out, "# Messages between programs\n\n"
                  "Written by `ipc_describe()` from the one list in `src/ipc/messages.h`; a unit test compares. A frame is one datagram of at most\n"
                  "65,536 bytes with at most one descriptor: u16 type, u8 flags (1: answer), u8 zero, u64 id, then the fields, little-endian; text and\n"
                  "blob have a u32 length in front, text holds no NUL. A frame from a role that is not among its senders closes the channel.\n\n"
                  "| message | from | fields | deadline | late, or peer gone |\n|---|---|---|---|---|\n");
    for (unsigned t = MSG_none + 1; t < MSG__COUNT; t++) {
        const struct msg_info *info = msg_info(t);
        buf_printf(out, "| `%s`%s | ", info->name, fd_names[info->fd]);
        put_senders(out, info->senders);
        buf_adds(out, " | ");
        put_fields(out, fields[t]);
        if (info->deadline)
            buf_printf(out, " | %u s | %s |\n", info->deadline / 1000, late_names[info->late]);
        else
            buf_adds(out, " | | |\n");
    }
}
