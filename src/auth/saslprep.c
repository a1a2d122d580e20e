/* The tables are libidn's. ASCII, which is most of it, is not given to them: all but control characters stays as it is. */
#include "auth/saslprep.h"

#include <sodium.h>
#include <string.h>
#include <stringprep.h>

static bool is_plain(struct span in)
{
    for (size_t i = 0; i < in.n; i++)
        if ((unsigned char)in.p[i] < 0x20 || (unsigned char)in.p[i] > 0x7e)
            return false;
    return true;
}

bool saslprep(struct span in, char *out, size_t size, size_t *n)
{
    if (in.n == 0 || in.n >= size || memchr(in.p, 0, in.n))
        return false;
    memcpy(out, in.p, in.n);
    out[in.n] = 0;
    *n = in.n;
    if (is_plain(in))
        return true;
    bool good = span_is_utf8(in) && stringprep(out, size, STRINGPREP_NO_UNASSIGNED, stringprep_saslprep) == STRINGPREP_OK;
    *n = good ? strlen(out) : 0;
    if (*n == 0)
        sodium_memzero(out, size);
    return *n > 0;
}
