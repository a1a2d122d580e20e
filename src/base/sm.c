#include "base/sm.h"

#include <stdio.h>
#include <stdlib.h>

void sm_move(const struct sm_state *states, size_t count, int *state, int next)
{
    if (*state < 0 || next < 0 || (size_t)*state >= count || (size_t)next >= count || !(states[*state].to & SM_TO(next))) {
        const char *from = *state >= 0 && (size_t)*state < count ? states[*state].name : "?";
        const char *to = next >= 0 && (size_t)next < count ? states[next].name : "?";
        fprintf(stderr, "state machine: no way from %s to %s\n", from, to);
        abort();
    }
    *state = next;
}
