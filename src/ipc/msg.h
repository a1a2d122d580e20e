/* What the list of ipc/messages.h expands to: `enum msg_type`, `struct msg_NAME` for each message, `struct msg` that holds one of
 * them, and its encoder and decoder. Decoders return, they never exit: a bad frame is answered MSG_BAD and closes that channel.
 *
 * Wire form: u16 type, u8 flags (1: answer), u8 zero, u64 id; then the fields in order; text and blob with a u32 length in front.
 * Nothing may follow the last field. */
#ifndef IPC_MSG_H
#define IPC_MSG_H

#include "base/buf.h"
#include "base/err.h"
#include "ipc/messages.h"

enum msg_type {
    MSG_none,
#define MSG_ENUM(name, senders, fd, deadline, late) MSG_##name,
    MESSAGES(MSG_ENUM)
#undef MSG_ENUM
        MSG__COUNT
};

enum msg_fd_rule { MSG_NOFD, MSG_FD, MSG_MAYFD };
enum msg_late { MSG_LATE_NONE, MSG_LATE_DEFER, MSG_LATE_REASK, MSG_LATE_RETRY, MSG_LATE_CLOSE };

typedef uint8_t msg_field_u8;
typedef uint16_t msg_field_u16;
typedef uint32_t msg_field_u32;
typedef uint64_t msg_field_u64;
typedef struct span msg_field_text;
typedef struct span msg_field_blob;

#define MSG_MEMBER(type_, name_, limit_) msg_field_##type_ name_;
#define MSG_STRUCT(name, senders, fd, deadline, late) \
    struct msg_##name {                               \
        F_##name(MSG_MEMBER) char end_[0];            \
    };
MESSAGES(MSG_STRUCT)
#undef MSG_STRUCT
#undef MSG_MEMBER

struct msg {
    enum msg_type type;
    bool answer; /* id is the request's it answers */
    uint64_t id; /* 0: a statement */
    union {
#define MSG_UNION(name, senders, fd, deadline, late) struct msg_##name name;
        MESSAGES(MSG_UNION)
#undef MSG_UNION
    };
};

struct msg_info {
    const char *name;
    uint32_t senders; /* FROM(role) bits */
    enum msg_fd_rule fd;
    unsigned deadline; /* ms */
    enum msg_late late;
};

/* A field `priority`: 0 to 9 as they are, -1 to -9 as 10 to 18. */
static inline uint8_t msg_priority_put(int priority)
{
    return (uint8_t)(priority < 0 ? 9 - priority : priority);
}
static inline int8_t msg_priority_get(uint8_t field)
{
    return (int8_t)(field > 9 ? 9 - (int)field : (int)field);
}

/* NULL for a type that does not exist. */
const struct msg_info *msg_info(unsigned type);
/* Appends the frame. -1: a field is over its limit, or the frame over IPC_FRAME_MAX; nothing was appended. */
int msg_encode(const struct msg *m, struct buf *out, struct err *err);
/* Spans of `m` point into `frame`. sender: the role at the other end; has_fd: whether a descriptor came along. -1: not a frame that
 * this role may send. */
int msg_decode(struct span frame, enum role sender, bool has_fd, struct msg *m, struct err *err);

#endif
