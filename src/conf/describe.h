/* The manual page of the configuration file, from the table of keys. */
#ifndef CONF_DESCRIBE_H
#define CONF_DESCRIBE_H

#include "base/buf.h"

void conf_describe(struct buf *out);

#endif
