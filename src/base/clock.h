/* The clocks, in milliseconds. Engines get the time as an argument; only programs and the loop ask here. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_wall(void); /* since 1970, may jump */
int64_t clock_mono(void); /* never jumps */

#endif
