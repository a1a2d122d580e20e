#include <criterion/criterion.h>
#include <limits.h>
#include <pthread.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"

static int ends[2]; /* what is written at once to [1] is one record at [0] */
static char got[65536];

static void setup(void)
{
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    log_open("test", ends[1], LOG_TO_STDERR);
}

static void teardown(void)
{
    log_gather(false);
    log_open("test", 2, LOG_TO_STDERR);
    close(ends[0]);
    close(ends[1]);
}

TestSuite(log, .init = setup, .fini = teardown, .timeout = 60);

/* The next record, of which nothing waits for; "" when there is none. */
static const char *record(void)
{
    ssize_t n = recv(ends[0], got, sizeof got - 1, MSG_DONTWAIT);
    got[n < 0 ? 0 : n] = '\0';
    return got;
}

static bool looks_like(const char *text, const char *pattern)
{
    regex_t r;
    cr_assert_eq(regcomp(&r, pattern, REG_EXTENDED | REG_NOSUB | REG_NEWLINE), 0);
    bool yes = regexec(&r, text, 0, NULL, 0) == 0;
    regfree(&r);
    return yes;
}

#define WHEN "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "

Test(log, the_form_of_a_line)
{
    char want[200];
    snprintf(want, sizeof want, "^" WHEN "info test\\[%ld\\] said a=-9223372036854775808 b=0 c=9223372036854775807 d=\"\" e=\"x y\"$",
             (long)getpid());
    for (int gathered = 0; gathered < 2; gathered++) {
        log_gather(gathered);
        LOGI("said", KVU("a", INT64_MIN), KVU("b", 0), KVU("c", INT64_MAX), KVT("d", ""), KVT("e", "x y"));
        log_flush();
        cr_assert(looks_like(record(), want), "%s", got);
    }
    log_gather(false);
    log_open("test", ends[1], LOG_TO_JOURNAL);
    LOGW("said");
    snprintf(want, sizeof want, "^<4>warn test\\[%ld\\] said$", (long)getpid());
    cr_assert(looks_like(record(), want), "%s", got);
    log_open("test", ends[1], LOG_TO_SYSLOG);
    log_gather(true);
    LOGI("said");
    snprintf(want, sizeof want, "^<22>[A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8} waypost-test\\[%ld\\]: said$", (long)getpid());
    cr_assert(looks_like(record(), want), "a datagram each: %s", got);
}

Test(log, a_line_leaves_at_once)
{
    LOGI("one");
    cr_assert(looks_like(record(), " one$"));
    LOGI("two");
    cr_assert(looks_like(record(), " two$"));
}

Test(log, gathered_lines_leave_together_and_in_order)
{
    log_gather(true);
    LOGI("one");
    LOGI("two");
    cr_assert_str_empty(record());
    log_flush();
    cr_assert(looks_like(record(), " one$") && strstr(strstr(got, " one\n"), " two\n"), "%s", got);
    log_flush();
    cr_assert_str_empty(record());
    LOGI("three");
    log_gather(false);
    cr_assert(looks_like(record(), " three$"));
    LOGI("four");
    cr_assert(looks_like(record(), " four$"));
}

Test(log, trouble_leaves_at_once_with_what_was_said_before)
{
    log_gather(true);
    LOGI("one");
    LOGW("two");
    cr_assert(looks_like(record(), " one$") && strstr(strstr(got, " one\n"), "warn ") && strstr(got, " two\n"), "%s", got);
    LOGI("three");
    LOGE("four");
    cr_assert(looks_like(record(), " three$") && strstr(got, " four\n"));
    LOGI("five");
    log_open("other", ends[1], LOG_TO_STDERR);
    cr_assert(looks_like(record(), " test\\[[0-9]+\\] five$"), "what was said before goes where it was to go: %s", got);
}

/* Each write has whole lines, and is one for a pipe, whatever the lines' lengths. */
Test(log, lines_are_written_whole)
{
    enum { LINES = 500 };
    char text[6000];
    unsigned next = 0, records = 0;
    memset(text, 'x', sizeof text);
    log_gather(true);
    srand(3);
    for (unsigned i = 0; i < LINES; i++) {
        struct span some = span_make(text, (size_t)(rand() % 900));
        if (i % 100 == 99) /* longer than a pipe takes at once: alone */
            LOGI("line", KVU("n", i), KVS("a", span_make(text, 1000)), KVS("b", span_make(text, 1000)), KVS("c", span_make(text, 1000)),
                 KVS("d", span_make(text, 1000)), KVS("e", span_make(text, 1000)));
        else
            LOGI("line", KVU("n", i), KVS("text", some));
        if (i == LINES - 1)
            log_flush();
        while (*record()) {
            size_t n = strlen(got);
            unsigned lines = 0;
            cr_assert_eq(got[n - 1], '\n');
            for (char *at = got; *at; at = strchr(at, '\n') + 1, next++, lines++)
                cr_assert_eq(strtoul(strstr(at, " line n=") + 8, NULL, 10), next);
            cr_assert(n <= PIPE_BUF || lines == 1u, "%zu", n);
            records++;
        }
    }
    cr_assert_eq(next, LINES);
    cr_assert_lt(records, LINES / 4u);
}

static void *say_two(void *ctx)
{
    log_gather(true); /* somebody does already */
    LOGI("thread");
    LOGI("again");
    log_flush();
    return ctx;
}

Test(log, other_threads_do_not_gather)
{
    pthread_t t;
    log_gather(true);
    LOGI("one");
    cr_assert_eq(pthread_create(&t, NULL, say_two, NULL), 0);
    pthread_join(t, NULL);
    cr_assert(looks_like(record(), " thread$") && !strstr(got, " again\n"), "%s", got);
    cr_assert(looks_like(record(), " again$"));
    cr_assert_str_empty(record());
    log_flush();
    cr_assert(looks_like(record(), " one$"));
}

Test(log, a_child_says_nothing_twice)
{
    char want[100];
    int status;
    log_gather(true);
    LOGI("one");
    pid_t pid = fork();
    if (pid == 0) {
        log_flush();
        LOGI("child");
        log_gather(true);
        LOGI("gathered");
        log_gather(false);
        _exit(0);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    LOGI("two");
    log_flush();
    cr_assert(looks_like(record(), " one$"));
    snprintf(want, sizeof want, " test\\[%ld\\] child$", (long)pid);
    cr_assert(looks_like(record(), want), "%s", got);
    cr_assert(looks_like(record(), " gathered$"));
    cr_assert(looks_like(record(), " two$"));
    cr_assert_str_empty(record());
}

static void by_abort(void)
{
    abort();
}

static void by_trap(void)
{
    __builtin_trap();
}

static void by_signal(void)
{
    kill(getpid(), SIGSEGV);
    for (;;)
        pause();
}

static void *abort_elsewhere(void *ctx UNUSED)
{
    abort();
}

static void by_another_thread(void)
{
    pthread_t t;
    pthread_create(&t, NULL, abort_elsewhere, NULL);
    for (;;)
        pause();
}

/* What was said is what tells why, and the process ends by the signal it would have ended by. */
Test(log, a_crash_brings_out_what_was_said)
{
    static const struct {
        void (*end)(void);
        int signal;
    } cases[] = {{by_abort, SIGABRT}, {by_trap, SIGILL}, {by_signal, SIGSEGV}, {by_another_thread, SIGABRT}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            signal(cases[i].signal, SIG_DFL); /* the test's own */
            log_gather(true);
            LOGI("last");
            LOGI("words");
            cases[i].end();
        }
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == cases[i].signal, "%zu: %x", i, (unsigned)status);
        cr_assert(looks_like(record(), " last$") && strstr(got, " words\n"), "%zu: %s", i, got);
        cr_assert_str_empty(record());
    }
}
