#include "waypost/top.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "waypost/instance.h"
#include "waypost/output.h"

#define INTERVAL_S 2
#define INTERVAL_MAX_S 3600
#define CTRL_C 3

/* Another screen, without a cursor, lines that don't wrap; and back. */
#define BEGIN "\x1b[?1049h\x1b[?25l\x1b[?7l"
#define END "\x1b[?7h\x1b[?25h\x1b[?1049l"

/* ---- the terminal ---- */

static volatile sig_atomic_t ended, resized;

static void on_signal(int number)
{
    if (number == SIGWINCH)
        resized = 1;
    else
        ended = 1;
}

struct terminal {
    struct termios was;
    sigset_t mask; /* with which it is waited: signals come only then */
};

static int terminal_begin(struct terminal *t, struct err *err)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
    struct sigaction act = {.sa_handler = on_signal};
    struct termios raw;
    sigset_t ours;
    if (tcgetattr(STDIN_FILENO, &t->was))
        return err_errno(err, "the terminal");
    raw = t->was;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    sigemptyset(&ours);
    for (size_t i = 0; i < COUNT_OF(signals); i++) {
        sigaddset(&ours, signals[i]);
        sigaction(signals[i], &act, NULL);
    }
    sigprocmask(SIG_BLOCK, &ours, &t->mask);
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw))
        return err_errno(err, "the terminal");
    return 0;
}

static void terminal_end(const struct terminal *t)
{
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &t->was);
    sigprocmask(SIG_SETMASK, &t->mask, NULL);
}

/* False: it could not be written. */
static bool put_out(struct span s)
{
    while (s.n) {
        ssize_t n = write(STDOUT_FILENO, s.p, s.n);
        if (n < 0 && errno != EINTR)
            return false;
        s = span_from(s, n > 0 ? (size_t)n : 0);
    }
    return true;
}

/* Waits for a key or a signal. False: it is to end. */
static bool listen_for(const struct terminal *t, int64_t ms)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    char keys[64];
    if (ppoll(&p, 1, &left, &t->mask) > 0) {
        ssize_t n = read(STDIN_FILENO, keys, sizeof keys);
        ended |= n <= 0;
        for (ssize_t i = 0; i < n; i++)
            ended |= keys[i] == 'q' || keys[i] == 'Q' || keys[i] == CTRL_C;
    }
    return !ended;
}

/* ---- again and again ---- */

struct top {
    struct terminal terminal;
    const char *run;
    struct top_view view;
    struct buf note; /* the first line */
};

static bool on_pause(void *view)
{
    return listen_for(&container_of((struct top_view *)view, struct top, view)->terminal, 0);
}

static void put_note(struct top *t, int status, struct span message, const char *wrong)
{
    time_t now = time(NULL);
    struct tm tm = {0};
    char text[32];
    localtime_r(&now, &tm);
    strftime(text, sizeof text, "%H:%M:%S", &tm);
    buf_clear(&t->note);
    buf_printf(&t->note, "waypost queue   %s   q ends   ", text);
    if (status < 0)
        output_clean(&t->note, span_of(wrong), false);
    else
        output_clean(&t->note, message, false);
}

/* -1: no answer. */
static int sample(struct top *t, struct err *err)
{
    struct buf message = {0};
    int fd = client_open(t->run, "qmgr", err);
    int status = -1;
    top_view_free(&t->view);
    if (fd >= 0 && client_send(fd, "queue sample", NULL, 0, -1, err) == 0)
        status = client_read(fd, "qmgr", top_row, on_pause, &t->view, &message, err);
    if (fd >= 0)
        close(fd);
    put_note(t, status, buf_span(&message), err->text);
    buf_free(&message);
    return status;
}

static bool draw(const struct top *t)
{
    struct winsize size = {0};
    struct buf out = {0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_col == 0 || size.ws_row == 0)
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    top_draw(&t->view, buf_span(&t->note), size.ws_col, size.ws_row, &out);
    bool good = put_out(buf_span(&out));
    buf_free(&out);
    return good;
}

static bool wait_until(struct top *t, int64_t at)
{
    bool good = true;
    for (int64_t now; good && (now = clock_mono()) < at;) {
        good = listen_for(&t->terminal, at - now);
        if (good && resized) {
            resized = 0;
            good = draw(t);
        }
    }
    return good;
}

/* The first answer must come: else nothing runs here, or we may not ask. */
static int show(struct top *t, int64_t interval, struct err *err)
{
    int64_t next = clock_mono() + interval;
    if (sample(t, err) < 0)
        return ended ? 0 : -1;
    put_out(SPAN(BEGIN));
    while (draw(t) && wait_until(t, next)) {
        next = clock_mono() + interval;
        (void)sample(t, err);
        if (ended)
            break;
    }
    put_out(SPAN(END));
    return 0;
}

static bool take_interval(const struct span *args, size_t n, uint64_t *s)
{
    return n == 0 || (n == 2 && span_eqs(args[0], "--interval") && span_u64(args[1], INTERVAL_MAX_S, s) && *s > 0);
}

int top_show(const char *run, const struct span *args, size_t nargs)
{
    struct top t = {.run = run};
    struct err err = {""};
    uint64_t interval = INTERVAL_S;
    if (!take_interval(args, nargs, &interval)) {
        fprintf(stderr, "usage: waypost queue top [--interval SECONDS], 1 to %d\n", INTERVAL_MAX_S);
        return EXIT_USAGE;
    }
    int status = terminal_begin(&t.terminal, &err);
    if (status == 0) {
        status = show(&t, (int64_t)interval * 1000, &err);
        terminal_end(&t.terminal);
    }
    if (status)
        fprintf(stderr, "waypost: %s\n", err.text);
    top_view_free(&t.view);
    buf_free(&t.note);
    return status ? EXIT_FAILED : EXIT_DONE;
}
