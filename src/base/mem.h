/* Allocation that never fails: out of memory ends the process, the supervisor restarts it.
 * Every size that came from outside met a named limit before it got here. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t n);             /* zeroed; mem_free() it */
void *mem_array(size_t count, size_t size); /* zeroed; the product is checked */
void *mem_resize(void *p, size_t n);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n); /* n bytes and a NUL */
void mem_free(void *address_of_pointer);    /* takes the address of the pointer, clears it; NULL inside is fine */

#endif
