/* Who may talk. A program knows its peer by the channel it came on, never by what it says. */
#ifndef IPC_ROLE_H
#define IPC_ROLE_H

#include <stdint.h>

/* The roles, in the order in which they are started. ROLES(R): R(NAME, name-in-logs) */
#define ROLES(R)                 \
    R(WAYPOSTD, "waypostd")      \
    R(ZYGOTE, "zygote")          \
    R(AUTHD, "authd")            \
    R(TALLYD, "tallyd")          \
    R(QMGR, "qmgr")              \
    R(RELAY, "relay")            \
    R(MDA, "mda")                \
    R(JUDGE, "policyd-judge")    \
    R(KEYD, "keyd")              \
    R(TOKEND, "tokend")          \
    R(MX, "smtpd-mx")            \
    R(SUBMISSION, "smtpd-submission") \
    R(LOCAL, "smtpd-local")      \
    R(IMAPD, "imapd")            \
    R(POP3D, "pop3d")            \
    R(ADMIN, "waypost")

enum role {
#define ROLE_ENUM(name, text) ROLE_##name,
    ROLES(ROLE_ENUM)
#undef ROLE_ENUM
        ROLE_COUNT
};

#define FROM(role) (UINT32_C(1) << (role))
#define FROM_SUPERVISOR FROM(ROLE_WAYPOSTD)
#define FROM_SERVICE (FROM_ANY & ~FROM(ROLE_WAYPOSTD) & ~FROM(ROLE_ADMIN) & ~FROM(ROLE_MDA))
#define FROM_PORTS (FROM(ROLE_MX) | FROM(ROLE_SUBMISSION)) /* smtpd that listens on TCP */
#define FROM_SMTPD (FROM_PORTS | FROM(ROLE_LOCAL))
#define FROM_LOGIN (FROM(ROLE_SUBMISSION) | FROM(ROLE_IMAPD) | FROM(ROLE_POP3D))
#define FROM_DOOR (FROM_PORTS | FROM_FRONT)
#define FROM_FRONT (FROM(ROLE_IMAPD) | FROM(ROLE_POP3D))
#define FROM_DOORS (FROM_PORTS | FROM_FRONT)
#define FROM_WORKER (FROM(ROLE_RELAY) | FROM(ROLE_MDA))
#define FROM_ANY ((UINT32_C(1) << ROLE_COUNT) - 1)

const char *role_name(enum role role);
/* The role with that name, or ROLE_COUNT. */
enum role role_by_name(const char *name);

#endif
