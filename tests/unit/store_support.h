/* What the tests of store/ share: a store of their own, and short ways to fill and ask it. */
#ifndef STORE_SUPPORT_H
#define STORE_SUPPORT_H

#include "store/store.h"

extern char dir[64];
extern struct err err;
extern struct store *st;

void open_store_as(const char *boot, int64_t now);
void open_store(void);
void reopen(void);
void set_up(void);
void tear_down(void);
uint64_t mailbox(const char *name);
struct store_mailbox status(const char *name);
int find_code(const char *name);
struct store_stage *stage(size_t size);
uint32_t append(const char *name, size_t size, uint32_t flags);
unsigned large_files(void);
bool deliver(const char *qid, uint64_t rcpt, size_t size);

#endif
