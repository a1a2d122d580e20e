/* The files of `waypost queue export` and `import`: opened here, with the rights of who asks. "-" is standard output or input.
 * -1: why not is on stderr. */
#ifndef WAYPOST_CARRY_H
#define WAYPOST_CARRY_H

#include <stdbool.h>

#include "base/span.h"

/* A new file, its name in `path`, for its owner alone; its name is on disk. *is_output: it is standard output. */
int carry_make(struct span name, char *path, size_t size, bool *is_output);
int carry_open(struct span name);

#endif
