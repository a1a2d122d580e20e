/* The one table of who may do what: each role's program, system user, folder, system calls and channels. The
 * supervisor starts programs and makes pairs by it, each program locks itself in by it, contrib/make-users and the
 * tests read it. */
#include "service/sandbox.h"

#include <stddef.h>

#define BASE SANDBOX_CALLS_BASE
#define FILES (SANDBOX_CALLS_BASE | SANDBOX_CALLS_FILES)
#define DIAL (SANDBOX_CALLS_BASE | SANDBOX_CALLS_DIAL)
#define FORK (SANDBOX_CALLS_BASE | SANDBOX_CALLS_FILES | SANDBOX_CALLS_FORK)

#define ROW(role, program, user, group, dir, mode, shared, calls, channels) \
    [ROLE_##role] = {ROLE_##role, program, user, group, dir, mode, shared, calls, channels},

/* A role without a folder gets an empty root when run as root. */
static const struct sandbox_role roles[ROLE_COUNT] = {
    /*  role        program     system user           its group       folder       mode   shared calls */
    ROW(WAYPOSTD,   "waypostd", NULL,                 NULL,           NULL,        0,     false, 0, 0)
    ROW(ZYGOTE,     "zygote",   "waypost-zygote",     "waypost-mail", "mail",      01771, true,  FORK,
        FROM(ROLE_AUTHD) | FROM(ROLE_QMGR))
    ROW(AUTHD,      "authd",    "waypost-authd",      NULL,           "directory", 0700,  false, FILES,
        FROM(ROLE_ZYGOTE) | FROM(ROLE_QMGR) | FROM(ROLE_TALLYD) | FROM(ROLE_TOKEND) | FROM_PORTS | FROM_FRONT)
    ROW(TALLYD,     "tallyd",   "waypost-tallyd",     NULL,           "tally",     0700,  false, FILES,
        FROM(ROLE_AUTHD) | FROM_PORTS | FROM_FRONT)
    ROW(QMGR,       "qmgr",     "waypost-qmgr",       NULL,           "queue",     0700,  false, FILES,
        FROM(ROLE_AUTHD) | FROM(ROLE_ZYGOTE) | FROM(ROLE_RELAY) | FROM_SMTPD)
    ROW(RELAY,      "relay",    "waypost-relay",      NULL,           NULL,        0,     false, DIAL,
        FROM(ROLE_QMGR))
    ROW(MDA,        "zygote",   NULL,                 NULL,           NULL,        0,     false, FILES,
        FROM(ROLE_AUTHD) | FROM(ROLE_QMGR) | FROM(ROLE_ZYGOTE))
    ROW(JUDGE,      "policyd",  "waypost-judge",      NULL,           NULL,        0,     false, DIAL,
        FROM(ROLE_MX))
    ROW(KEYD,       "keyd",     "waypost-keyd",       NULL,           NULL,        0,     false, BASE,
        FROM_DOOR)
    ROW(TOKEND,     "tokend",   "waypost-token",      NULL,           NULL,        0,     false, DIAL,
        FROM(ROLE_AUTHD))
    ROW(MX,         "smtpd",    "waypost-mx",         NULL,           NULL,        0,     false, BASE,
        FROM(ROLE_AUTHD) | FROM(ROLE_QMGR) | FROM(ROLE_JUDGE) | FROM(ROLE_TALLYD) | FROM(ROLE_KEYD))
    ROW(SUBMISSION, "smtpd",    "waypost-submission", NULL,           NULL,        0,     false, BASE,
        FROM(ROLE_AUTHD) | FROM(ROLE_QMGR) | FROM(ROLE_TALLYD) | FROM(ROLE_KEYD))
    ROW(LOCAL,      "smtpd",    "waypost-local",      NULL,           NULL,        0,     false, BASE,
        FROM(ROLE_QMGR))
    ROW(IMAPD,      "imapd",    "waypost-imapd",      NULL,           NULL,        0,     false, BASE,
        FROM(ROLE_AUTHD) | FROM(ROLE_TALLYD) | FROM(ROLE_KEYD))
    ROW(POP3D,      "pop3d",    "waypost-pop3d",      NULL,           NULL,        0,     false, BASE,
        FROM(ROLE_AUTHD) | FROM(ROLE_TALLYD) | FROM(ROLE_KEYD))
};

const struct sandbox_role *sandbox_role(enum role role)
{
    return (unsigned)role < ROLE_COUNT && roles[role].program ? &roles[role] : NULL;
}
