/* The decoder of frames between programs: any bytes from any role are a message or an error, and a message encodes to the same bytes. */
#include <stdlib.h>

#include "ipc/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct msg m;
    struct err err;
    struct span frame = span_make(data + 2, size - 2);
    if (msg_decode(frame, (enum role)(data[0] % ROLE_COUNT), data[1] & 1, &m, &err))
        return 0;
    struct buf again = {0};
    if (msg_encode(&m, &again, &err) || !span_eq(buf_span(&again), frame))
        abort();
    buf_free(&again);
    return 0;
}
