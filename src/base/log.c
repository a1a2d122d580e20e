#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"

#define VALUE_MAX 1000

static const struct {
    const char *name;
    int severity; /* RFC 5424 §6.2.1 */
} levels[] = {{"error", 3}, {"warn", 4}, {"info", 6}, {"debug", 7}};

enum { FACILITY_MAIL = 2 };

static struct {
    const char *program;
    int fd;
    enum log_form form;
    enum log_level least;
    void (*on_lost)(void);
} out = {.program = "waypost", .fd = 2, .least = LOG_LEVEL_INFO};

void log_open(const char *program, int fd, enum log_form form)
{
    out.program = program;
    out.fd = fd;
    out.form = form;
}

void log_set_level(enum log_level least)
{
    out.least = least;
}

enum log_level log_get_level(void)
{
    return out.least;
}

void log_on_lost(void (*fn)(void))
{
    out.on_lost = fn;
}

/* Characters beyond ASCII that end a line or command a terminal: U+0080 to U+009F, U+2028, U+2029. How many bytes; 0. */
static size_t commanding(struct span s, size_t i)
{
    const unsigned char *p = (const unsigned char *)s.p + i;
    if (s.n - i >= 2 && p[0] == 0xc2 && p[1] < 0xa0)
        return 2;
    return s.n - i >= 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9) ? 3 : 0;
}

static bool plain(struct span s)
{
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == '"' || s.p[i] == '\\' || s.p[i] == '=' || s.p[i] == 0x7f ||
            commanding(s, i))
            return false;
    return span_is_utf8(s);
}

void log_value(struct buf *b, struct span v)
{
    bool cut = v.n > VALUE_MAX;
    v = span_sub(v, 0, VALUE_MAX);
    if (plain(v) && !cut) {
        buf_add(b, v);
        return;
    }
    bool utf8 = span_is_utf8(v);
    buf_addc(b, '"');
    for (size_t i = 0; i < v.n; i++) {
        unsigned char c = (unsigned char)v.p[i];
        size_t odd = utf8 ? commanding(v, i) : 0;
        for (size_t k = 0; k < odd; k++)
            buf_printf(b, "\\x%02x", (unsigned char)v.p[i + k]);
        if (odd)
            i += odd - 1;
        else if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c == '\n')
            buf_adds(b, "\\n");
        else if (c == '\r')
            buf_adds(b, "\\r");
        else if (c == '\t')
            buf_adds(b, "\\t");
        else if (c < 0x20 || c == 0x7f || (c > 0x7f && !utf8))
            buf_printf(b, "\\x%02x", c);
        else
            buf_addc(b, (char)c);
    }
    buf_adds(b, cut ? "…\"" : "\"");
}

static void put_stamp(struct buf *b)
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    buf_printf(b, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
               tm.tm_min, tm.tm_sec, now.tv_nsec / 1000000);
}

static void put_syslog_head(struct buf *b, int severity)
{
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    buf_printf(b, "<%d>%s %2d %02d:%02d:%02d waypost-", FACILITY_MAIL * 8 + severity, months[tm.tm_mon], tm.tm_mday,
               tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static void write_line(struct buf *b)
{
    ssize_t r;
    if (out.form == LOG_TO_SYSLOG) {
        r = send(out.fd, b->p, b->n - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r < 0 && errno != EAGAIN && out.on_lost) {
            out.on_lost();
            r = send(out.fd, b->p, b->n - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        if (r < 0 && errno != EAGAIN)
            r = write(2, b->p, b->n);
        (void)r;
        return;
    }
    size_t done = 0;
    while (done < b->n) {
        r = write(out.fd, b->p + done, b->n - done);
        if (r > 0)
            done += (size_t)r;
        else if (r < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = out.fd, .events = POLLOUT};
            if (poll(&p, 1, 100) <= 0)
                return; /* nobody reads: a log must not stop the mail */
        } else if (r < 0 && errno == EINTR)
            continue;
        else
            return;
    }
}

void log_event(enum log_level level, const char *event, const struct kv *kvs)
{
    if (level > out.least)
        return;
    int saved = errno;
    struct buf b = {0};
    if (out.form == LOG_TO_SYSLOG)
        put_syslog_head(&b, levels[level].severity);
    else if (out.form == LOG_TO_JOURNAL)
        buf_printf(&b, "<%d>%s ", levels[level].severity, levels[level].name);
    else {
        put_stamp(&b);
        buf_printf(&b, "%s ", levels[level].name);
    }
    buf_printf(&b, "%s[%ld]%s %s", out.program, (long)getpid(), out.form == LOG_TO_SYSLOG ? ":" : "", event);
    for (; kvs->key; kvs++) {
        buf_printf(&b, " %s=", kvs->key);
        if (kvs->text.p)
            log_value(&b, kvs->text);
        else
            buf_printf(&b, "%lld", (long long)kvs->number);
    }
    buf_addc(&b, '\n');
    write_line(&b);
    buf_free(&b);
    errno = saved;
}
