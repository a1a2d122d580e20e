/* Any bytes as an address, and as a SASL response: no crash, and what is an address is the same one when it is written
 * again. */
#include <stdlib.h>

#include "auth/sasl.h"
#include "mail/address.h"

static void try_address(struct span text)
{
    struct address_key a, b;
    struct buf again = {0};
    if (!address_key(text, &a))
        return;
    address_put(&again, address_key_local(&a), address_key_domain(&a));
    if (!address_key(buf_span(&again), &b) || !span_eq(address_key_span(&a), address_key_span(&b)))
        abort();
    buf_free(&again);
}

static void try_sasl(struct span text)
{
    static const char *const mechanisms[] = {"PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "EXTERNAL"};
    for (size_t i = 0; i < COUNT_OF(mechanisms); i++) {
        struct sasl_result r;
        struct sasl *s = sasl_begin(span_of(mechanisms[i]), &text, &r);
        if (r.next == SASL_CREDENTIALS)
            sasl_credentials(s, &(struct scram_verifier){.iterations = 4096}, true, &r);
        if (r.next == SASL_CHALLENGE)
            sasl_step(s, text, &r);
        if (r.next == SASL_VERIFY && (r.user.n == 0 || r.password.n == 0))
            abort();
        sasl_free(&s);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_make(data, size);
    try_address(text);
    try_sasl(text);
    return 0;
}
