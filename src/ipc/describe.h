/* The message list as a document: doc/messages.md is what this writes, and a unit test holds them together. */
#ifndef IPC_DESCRIBE_H
#define IPC_DESCRIBE_H

#include "base/buf.h"

void ipc_describe(struct buf *out); /* Markdown */

#endif
