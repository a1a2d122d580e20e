/* Commands, paths, parameters and content through the whole server engine: the first octet chooses the role, the settings and how the
 * input is cut. Whatever comes: every line said is a reply, memory stays bounded, and content that was committed has no
 * CR, LF or NUL by itself. */
#include <stdlib.h>

#include "../unit/smtp_owner.h"

#define BOUND (256 << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
    if (!good)
        abort();
}

static void check_replies(struct span sent)
{
    while (sent.n) {
        struct span line = span_cut(&sent, '\n');
        must(line.n >= 4 && line.n <= SMTP_REPLY_LINE_MAX && line.p[line.n - 1] == '\r');
        must(ascii_digit(line.p[0]) && ascii_digit(line.p[1]) && ascii_digit(line.p[2]) &&
             (line.p[3] == ' ' || line.p[3] == '-'));
        must(!span_has_control(span_sub(line, 0, line.n - 1)) && span_is_utf8(line)); /* UTF-8: VRFY ... SMTPUTF8 */
    }
}

static void check_content(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        must(s.p[i] != '\0');
        must(s.p[i] != '\n' || (i && s.p[i - 1] == '\r'));
        must(s.p[i] != '\r' || (i + 1 < s.n && s.p[i + 1] == '\n'));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > BOUND)
        return 0;
    struct smtp_owner o;
    unsigned mode = data[0];
    struct span in = span_make(data + 1, size - 1);
    smtp_owner_open(&o, mode & 1);
    o.config.auth_in_clear = mode & 2;
    o.config.content_high = mode & 4 ? 100 : 32768;
    if (mode & 32) { /* what settings and trust switch on */
        o.config.vrfy = o.config.expn = SMTP_ASKING_ON;
        o.config.etrn = o.config.send_commands = true;
        o.config.on_demand = mode & 64;
        o.entitled = true;
        smtp_server_trust(o.s);
    } else if (mode & 64) { /* programs of this machine */
        o.config.local = true;
        o.config.domain = SPAN("example.test");
    }
    o.config.normalise = mode & 128;
    size_t piece = mode & 8 ? 1 : mode & 16 ? 7 : in.n;
    for (size_t i = 0; i < in.n && !o.closed; i += piece)
        smtp_owner_feed(&o, span_sub(in, i, piece));
    check_replies(buf_span(&o.sent));
    if (!o.binary) /* RFC3030:3: there any octets may be */
        check_content(buf_span(&o.stored));
    smtp_owner_close(&o);
    return 0;
}
