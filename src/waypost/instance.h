/* Which instance of Waypost is meant, and what the command does without asking it: start and check. */
#ifndef WAYPOST_INSTANCE_H
#define WAYPOST_INSTANCE_H

#include "waypost/output.h"

#define EXIT_DONE 0
#define EXIT_FAILED 1
#define EXIT_USAGE 2
#define EXIT_NO_SUCH 3
#define EXIT_LATER 4

/* -c FILE, else $WAYPOST_CONFIG, else the built-in path. */
const char *instance_config(const char *option);
/* Appends the folder of the admin socket. A file with mistakes still names its folder when that line can be found;
 * otherwise the mistakes are in err. */
int instance_run_folder(const char *config, struct buf *out, struct err *err);
/* Every mistake of the file. The exit code. */
int instance_check(const char *config, struct output *o);
/* Becomes the supervisor; returns only when that failed. */
int instance_start(const char *config, bool detach);

#endif
