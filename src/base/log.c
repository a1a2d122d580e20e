#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
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

/* What the thread that gathers has said and nobody has written yet. Whoever takes `n` away writes it: that thread, or the handler of a signal
 * that ends the process. What a SIGKILL takes along is what was said in one turn of the loop. */
static struct {
    char bytes[PIPE_BUF];
    atomic_size_t n;
    atomic_bool taken; /* by a thread */
    struct buf line;   /* its room is used again and again */
    long pid;
} held;
static _Thread_local bool gathers;

static void write_all(const char *p, size_t n);

void log_flush(void)
{
    size_t n = gathers ? atomic_exchange(&held.n, 0) : 0;
    if (n)
        write_all(held.bytes, n);
}

void log_open(const char *program, int fd, enum log_form form)
{
    log_flush();
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
    bool ascii = true;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c == 0x7f || (c > 0x7f && commanding(s, i)))
            return false;
        ascii = ascii && c < 0x80;
    }
    return s.n && (ascii || span_is_utf8(s));
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
    static _Thread_local struct {
        time_t second;
        char text[32];
    } last = {.second = -1};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != last.second) {
        struct tm tm;
        gmtime_r(&now.tv_sec, &tm);
        strftime(last.text, sizeof last.text, "%Y-%m-%dT%H:%M:%S.", &tm);
        last.second = now.tv_sec;
    }
    buf_adds(b, last.text);
    int ms = (int)(now.tv_nsec / 1000000);
    buf_add(b, span_make((char[]){(char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z', ' '}, 5));
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

static void write_datagram(const struct buf *b)
{
    ssize_t r = send(out.fd, b->p, b->n - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (r < 0 && errno != EAGAIN && out.on_lost) {
        out.on_lost();
        r = send(out.fd, b->p, b->n - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (r < 0 && errno != EAGAIN)
        r = write(2, b->p, b->n);
    (void)r;
}

static void write_all(const char *p, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t r = write(out.fd, p + done, n - done);
        if (r > 0)
            done += (size_t)r;
        else if (r < 0 && errno == EAGAIN) {
            struct pollfd ready = {.fd = out.fd, .events = POLLOUT};
            if (poll(&ready, 1, 100) <= 0)
                return; /* nobody reads: a log must not stop the mail */
        } else if (r < 0 && errno == EINTR)
            continue;
        else
            return;
    }
}

/* ---- gathering ---- */

static void hold(const struct buf *line, enum log_level level)
{
    size_t n = atomic_load(&held.n);
    if (line->n > sizeof held.bytes - n) {
        log_flush();
        n = 0;
    }
    if (line->n > sizeof held.bytes) {
        write_all(line->p, line->n);
        return;
    }
    memcpy(held.bytes + n, line->p, line->n);
    atomic_store(&held.n, n + line->n); /* the line is whole before it counts */
    if (level <= LOG_LEVEL_WARN)
        log_flush();
}

/* Of whichever thread the fault was. Nothing but write() and raise(), which a handler may call. A fault comes again when this returns, and
 * ends the process then; a signal that was sent does not (where a sandbox refuses raise(), as the zygote's does, there is the trap). */
static void on_fatal(int signo, siginfo_t *info, void *context UNUSED)
{
    size_t n = atomic_exchange(&held.n, 0);
    if (n && write(out.fd, held.bytes, n) < 0)
        n = 0; /* there is no other place for it */
    if (info->si_code <= 0 && raise(signo))
        __builtin_trap();
}

static void catch_fatal(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    const struct sigaction ours = {.sa_sigaction = on_fatal, .sa_flags = (int)(SA_SIGINFO | SA_RESETHAND | SA_NODEFER)};
    struct sigaction now;
    for (size_t i = 0; i < COUNT_OF(signals); i++)
        if (sigaction(signals[i], NULL, &now) == 0 && now.sa_handler == SIG_DFL) /* else a sanitizer's, which says more */
            sigaction(signals[i], &ours, NULL);
}

/* The parent has written it before, or writes it yet. */
static void forget_held(void)
{
    gathers = false;
    atomic_store(&held.n, 0);
    atomic_store(&held.taken, false);
}

void log_gather(bool on)
{
    static atomic_bool prepared;
    if (on == gathers || (on && atomic_exchange(&held.taken, true)))
        return;
    if (on) {
        if (!atomic_exchange(&prepared, true)) {
            pthread_atfork(log_flush, NULL, forget_held);
            catch_fatal();
        }
        held.pid = (long)getpid();
        gathers = true;
        return;
    }
    log_flush();
    buf_free(&held.line);
    forget_held();
}

/* ---- lines ---- */

static void put_head(struct buf *b, enum log_level level, const char *event)
{
    if (out.form == LOG_TO_SYSLOG) {
        put_syslog_head(b, levels[level].severity);
    } else if (out.form == LOG_TO_JOURNAL) {
        buf_addc(b, '<');
        buf_addn(b, levels[level].severity);
        buf_addc(b, '>');
    } else {
        put_stamp(b);
    }
    if (out.form != LOG_TO_SYSLOG) {
        buf_adds(b, levels[level].name);
        buf_addc(b, ' ');
    }
    buf_adds(b, out.program);
    buf_addc(b, '[');
    buf_addn(b, gathers ? held.pid : (long)getpid());
    buf_adds(b, out.form == LOG_TO_SYSLOG ? "]: " : "] ");
    buf_adds(b, event);
}

void log_event(enum log_level level, const char *event, const struct kv *kvs)
{
    if (level > out.least)
        return;
    int saved = errno;
    struct buf own = {0}, *b = gathers ? &held.line : &own;
    buf_clear(b);
    put_head(b, level, event);
    for (; kvs->key; kvs++) {
        buf_addc(b, ' ');
        buf_adds(b, kvs->key);
        buf_addc(b, '=');
        if (kvs->text.p)
            log_value(b, kvs->text);
        else
            buf_addn(b, kvs->number);
    }
    buf_addc(b, '\n');
    if (out.form == LOG_TO_SYSLOG)
        write_datagram(b);
    else if (gathers)
        hold(b, level);
    else
        write_all(b->p, b->n);
    buf_free(&own);
    errno = saved;
}
