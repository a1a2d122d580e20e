#include "ipc/role.h"

#include <string.h>

static const char *const names[ROLE_COUNT] = {
#define ROLE_TEXT(name, text) [ROLE_##name] = text,
    ROLES(ROLE_TEXT)
#undef ROLE_TEXT
};

const char *role_name(enum role role)
{
    return (unsigned)role < ROLE_COUNT ? names[role] : "?";
}

enum role role_by_name(const char *name)
{
    for (unsigned i = 0; i < ROLE_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return (enum role)i;
    return ROLE_COUNT;
}
