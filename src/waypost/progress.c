#include "waypost/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "waypost/output.h"

static bool shown;

/* With a comma between thousands: they are read while they change. */
static void put_number(struct buf *out, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            buf_addc(out, ',');
        buf_addc(out, digits[i]);
    }
}

void progress_text(const struct msg_adm_progress *p, struct buf *out)
{
    put_number(out, p->done);
    if (p->total) {
        buf_adds(out, " of ");
        put_number(out, p->total);
    }
    buf_addc(out, ' ');
    output_clean(out, p->text, false);
    if (p->total)
        buf_printf(out, " (%u%%)", p->done >= p->total ? 100u : (unsigned)((double)p->done / (double)p->total * 100));
}

void progress_show(const struct msg_adm_progress *p)
{
    struct buf line = {0};
    if (!isatty(STDERR_FILENO))
        return;
    progress_text(p, &line);
    fprintf(stderr, "\r%s\x1b[K", buf_cstr(&line));
    fflush(stderr);
    shown = true;
    buf_free(&line);
}

void progress_clear(void)
{
    if (!shown)
        return;
    fputs("\r\x1b[K", stderr);
    fflush(stderr);
    shown = false;
}
