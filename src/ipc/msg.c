#include "ipc/msg.h"

#include <endian.h>

#define HEADER 12

enum { FLAG_ANSWER = 1 };

static const struct msg_info infos[MSG__COUNT] = {
#define MSG_INFO(name_, senders_, fd_, deadline_, late_) \
    [MSG_##name_] = {#name_, (senders_), MSG_##fd_, (deadline_), MSG_LATE_##late_},
    MESSAGES(MSG_INFO)
#undef MSG_INFO
};

const struct msg_info *msg_info(unsigned type)
{
    return type > MSG_none && type < MSG__COUNT ? &infos[type] : NULL;
}

/* ---- encoding ---- */

static void put_le(struct buf *b, uint64_t v, size_t width)
{
    v = htole64(v);
    buf_add(b, span_make(&v, width));
}

static int put_number(struct buf *b, uint64_t v, size_t width, uint64_t limit)
{
    if (limit && v > limit)
        return -1;
    put_le(b, v, width);
    return 0;
}

static int put_bytes(struct buf *b, struct span s, size_t limit)
{
    if (s.n > limit)
        return -1;
    put_le(b, s.n, 4);
    buf_add(b, s);
    return 0;
}

static int put_u8(struct buf *b, uint8_t v, uint64_t limit)
{
    return put_number(b, v, 1, limit);
}

static int put_u16(struct buf *b, uint16_t v, uint64_t limit)
{
    return put_number(b, v, 2, limit);
}

static int put_u32(struct buf *b, uint32_t v, uint64_t limit)
{
    return put_number(b, v, 4, limit);
}

static int put_u64(struct buf *b, uint64_t v, uint64_t limit)
{
    return put_number(b, v, 8, limit);
}

static int put_text(struct buf *b, struct span s, size_t limit)
{
    return span_find(s, '\0') >= 0 ? -1 : put_bytes(b, s, limit);
}

static int put_blob(struct buf *b, struct span s, size_t limit)
{
    return put_bytes(b, s, limit);
}

/* Each put_NAME returns NULL, or the name of the field that is over its limit. */
#define PUT_FIELD(type_, name_, limit_)      \
    if (put_##type_(b, m->name_, (limit_)))  \
        return #name_;
#define PUT_MESSAGE(name, senders, fd, deadline, late)                                    \
    static const char *put_msg_##name(struct buf *b UNUSED, const struct msg_##name *m UNUSED) \
    {                                                                                     \
        F_##name(PUT_FIELD) return NULL;                                                  \
    }
MESSAGES(PUT_MESSAGE)
#undef PUT_MESSAGE
#undef PUT_FIELD

static const char *put_body(struct buf *b, const struct msg *m)
{
    switch (m->type) {
#define PUT_CASE(name, senders, fd, deadline, late) \
    case MSG_##name:                                \
        return put_msg_##name(b, &m->name);
        MESSAGES(PUT_CASE)
#undef PUT_CASE
    default:
        return "type";
    }
}

int msg_encode(const struct msg *m, struct buf *out, struct err *err)
{
    size_t start = out->n;
    put_le(out, (uint64_t)m->type, 2);
    put_le(out, m->answer ? FLAG_ANSWER : 0, 1);
    put_le(out, 0, 1);
    put_le(out, m->id, 8);
    const char *bad = put_body(out, m);
    if (!bad && out->n - start > IPC_FRAME_MAX)
        bad = "frame";
    if (bad) {
        out->n = start;
        const struct msg_info *info = msg_info((unsigned)m->type);
        return err_set(err, "message %s: %s is over its limit", info ? info->name : "?", bad);
    }
    return 0;
}

/* ---- decoding ---- */

struct reader {
    const unsigned char *p;
    size_t left;
};

static int get_le(struct reader *r, size_t width, uint64_t *out)
{
    uint64_t v = 0;
    if (r->left < width)
        return -1;
    memcpy(&v, r->p, width);
    r->p += width;
    r->left -= width;
    *out = le64toh(v);
    return 0;
}

static int get_number(struct reader *r, size_t width, uint64_t limit, uint64_t *out)
{
    return get_le(r, width, out) || (limit && *out > limit) ? -1 : 0;
}

#define GET_NUMBER(type_, width_)                                                            \
    static int get_##type_(struct reader *r, uint64_t limit, msg_field_##type_ *out)         \
    {                                                                                        \
        uint64_t v;                                                                          \
        if (get_number(r, width_, limit, &v))                                                \
            return -1;                                                                       \
        *out = (msg_field_##type_)v;                                                         \
        return 0;                                                                            \
    }
GET_NUMBER(u8, 1)
GET_NUMBER(u16, 2)
GET_NUMBER(u32, 4)
GET_NUMBER(u64, 8)
#undef GET_NUMBER

static int get_blob(struct reader *r, size_t limit, struct span *out)
{
    uint64_t n;
    if (get_le(r, 4, &n) || n > limit || n > r->left)
        return -1;
    *out = span_make(r->p, (size_t)n);
    r->p += n;
    r->left -= (size_t)n;
    return 0;
}

static int get_text(struct reader *r, size_t limit, struct span *out)
{
    return get_blob(r, limit, out) || span_find(*out, '\0') >= 0 ? -1 : 0;
}

#define GET_FIELD(type_, name_, limit_)      \
    if (get_##type_(r, (limit_), &m->name_)) \
        return #name_;
#define GET_MESSAGE(name, senders, fd, deadline, late)                                       \
    static const char *get_msg_##name(struct reader *r UNUSED, struct msg_##name *m UNUSED)  \
    {                                                                                        \
        F_##name(GET_FIELD) return NULL;                                                     \
    }
MESSAGES(GET_MESSAGE)
#undef GET_MESSAGE
#undef GET_FIELD

static const char *get_body(struct reader *r, struct msg *m)
{
    switch (m->type) {
#define GET_CASE(name, senders, fd, deadline, late) \
    case MSG_##name:                                \
        return get_msg_##name(r, &m->name);
        MESSAGES(GET_CASE)
#undef GET_CASE
    default:
        return "type";
    }
}

int msg_decode(struct span frame, enum role sender, bool has_fd, struct msg *m, struct err *err)
{
    struct reader r = {(const unsigned char *)frame.p, frame.n};
    uint64_t type, flags, zero, id;
    *m = (struct msg){0};
    if (frame.n > IPC_FRAME_MAX)
        return err_set(err, "frame of %zu bytes is over the limit", frame.n);
    if (get_le(&r, 2, &type) || get_le(&r, 1, &flags) || get_le(&r, 1, &zero) || get_le(&r, 8, &id))
        return err_set(err, "frame of %zu bytes is too short", frame.n);
    const struct msg_info *info = msg_info((unsigned)type);
    if (!info)
        return err_set(err, "unknown message type %u", (unsigned)type);
    if (flags > FLAG_ANSWER || zero || (flags && !id))
        return err_set(err, "message %s: bad flags", info->name);
    if (!(info->senders & FROM(sender)))
        return err_set(err, "message %s: not for %s to send", info->name, role_name(sender));
    if ((info->fd == MSG_FD && !has_fd) || (info->fd == MSG_NOFD && has_fd))
        return err_set(err, "message %s: descriptor %s", info->name, has_fd ? "not expected" : "missing");
    m->type = (enum msg_type)type;
    m->answer = flags == FLAG_ANSWER;
    m->id = id;
    const char *bad = get_body(&r, m);
    if (bad)
        return err_set(err, "message %s: bad field %s", info->name, bad);
    if (r.left)
        return err_set(err, "message %s: %zu bytes too many", info->name, r.left);
    return 0;
}
