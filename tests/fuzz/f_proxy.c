/* PROXY headers: a header is the same however it is cut, and nothing behind it matters. */
#include <stdlib.h>

#include "net/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header h, again;
    size_t used, n;
    struct span in = span_make(data, size);
    enum proxy_result whole = proxy_parse(in, &h, &used);
    if (used > size || (whole == PROXY_DONE && used == 0))
        abort();
    if (h.known && (whole != PROXY_DONE || (h.source.ss_family != AF_INET && h.source.ss_family != AF_INET6)))
        abort();
    if (whole == PROXY_MORE && size >= PROXY_V2_MAX)
        abort();
    for (size_t cut = 0; cut < size && cut < PROXY_V2_MAX; cut++) {
        enum proxy_result r = proxy_parse(span_sub(in, 0, cut), &again, &n);
        if (whole == PROXY_DONE && cut < used && r != PROXY_MORE)
            abort();
        if (whole == PROXY_DONE && cut >= used && (r != PROXY_DONE || n != used))
            abort();
        if (whole == PROXY_MORE && r != PROXY_MORE)
            abort();
    }
    return 0;
}
