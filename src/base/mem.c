#include "base/mem.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL 1024

static void *checked(void *p)
{
    if (!p) {
        fputs("out of memory\n", stderr);
        abort();
    }
    return p;
}

/* A small one is likely to be a used one that is at hand in the C library's cache of each thread, which calloc() of glibc passes by. */
void *mem_alloc(size_t n)
{
    return n && n <= SMALL ? memset(checked(malloc(n)), 0, n) : checked(calloc(1, n ? n : 1));
}

void *mem_array(size_t count, size_t size)
{
    return checked(calloc(count ? count : 1, size ? size : 1));
}

void *mem_resize(void *p, size_t n)
{
    return checked(realloc(p, n ? n : 1));
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

char *mem_strndup(const char *s, size_t n)
{
    if (n == SIZE_MAX)
        abort();
    char *p = checked(malloc(n + 1));
    if (n)
        memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

void mem_free(void *address_of_pointer)
{
    void *p;
    memcpy(&p, address_of_pointer, sizeof p);
    free(p);
    p = NULL;
    memcpy(address_of_pointer, &p, sizeof p);
}
