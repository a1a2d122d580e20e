/* Paths and parameters: what is taken lies within the input, and what was found good is found good again by itself. */
#include <stdlib.h>

#include "smtp/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct span part, struct span whole)
{
    if (part.n && (part.p < whole.p || part.p + part.n > whole.p + whole.n))
        abort();
}

static void check(struct span in, unsigned allow)
{
    struct span rest = in;
    struct smtp_path p, again;
    if (smtp_path_take(&rest, allow, &p) != SMTP_PATH_OK) {
        if (rest.p != in.p || rest.n != in.n)
            abort();
        return;
    }
    within(p.address, in);
    within(p.local, p.address);
    within(p.domain, p.address);
    if (span_has_control(p.address) || (rest.n && rest.p[0] != ' '))
        abort();
    if (p.domain.n && smtp_mailbox_parse(p.address, allow, &again) != SMTP_PATH_OK)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct span in = span_make(data + 1, size - 1), params = in;
    struct smtp_param param;
    struct buf text = {0};
    check(in, data[0] & 7);
    while (smtp_param_take(&params, &param) > 0)
        within(param.keyword, in);
    smtp_xtext_decode(in, &text);
    buf_free(&text);
    return 0;
}
