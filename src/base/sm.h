/* Checked state tables: each state names its successors, a move along an edge that is not in the table is our bug and aborts.
 *
 *     static const struct sm_state states[] = {
 *         [IDLE] = {"idle", SM_TO(BUSY)},
 *         [BUSY] = {"busy", SM_TO(IDLE) | SM_TO(DONE)},
 *         [DONE] = {"done", 0},
 *     };
 *     sm_move(states, COUNT_OF(states), &x->state, BUSY); */
#ifndef BASE_SM_H
#define BASE_SM_H

#include <stddef.h>
#include <stdint.h>

struct sm_state {
    const char *name;
    uint64_t to; /* bit set of successors: at most 64 states */
};

#define SM_TO(s) (UINT64_C(1) << (s))

void sm_move(const struct sm_state *states, size_t count, int *state, int next);

#endif
