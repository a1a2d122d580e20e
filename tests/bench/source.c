/* A load for many recipients, whose own cost is small: smtp-source sends to one recipient, so many take a process each.
 *
 *     source [-L] SESSIONS COUNT SIZE RECIPIENTS ADDRESS PORT DOMAIN
 *
 * COUNT messages of about SIZE octets to u1@DOMAIN … uRECIPIENTS@DOMAIN in turn, each over a connection of its own, SESSIONS at a time. -L: LMTP.
 * Ends when the last one was acknowledged, with status 1 and the answer when one was not. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SESSIONS_MAX 1000
#define LINE 512

/* What was said, and what is answered. */
enum said { NOTHING, HELLO, SENDER, RECIPIENT, DATA, CONTENT, END };

struct session {
    int fd;
    enum said said;
    char in[LINE];
    size_t in_n;
    const char *out; /* what is left to be written */
    size_t out_n;
    bool waits; /* for room to write it */
    char line[LINE];
};

static struct session sessions[SESSIONS_MAX];
static struct sockaddr_in to;
static const char *domain, *hello = "EHLO client.bench.test\r\n";
static char *content;
static size_t content_n;
static unsigned long left, open_sessions, recipients, next_recipient;
static int poller;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "source: %s: %s\n", what, why);
    exit(1);
}

static unsigned long number(const char *text, unsigned long most)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (!*text || *end || n < 1 || n > most)
        die(text, "not a number that can be taken");
    return n;
}

static void make_content(size_t size)
{
    static const char header[] = "From: <sender@bench.test>\r\nTo: <somebody@bench.test>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
                                 "Message-ID: <1@client.bench.test>\r\nSubject: load\r\n\r\n";
    size_t n = sizeof header - 1;
    content = malloc(size + sizeof header + 100);
    if (!content)
        die("content", "out of memory");
    memcpy(content, header, n);
    while (n < size) {
        memset(content + n, 'X', 78);
        memcpy(content + n + 78, "\r\n", 2);
        n += 80;
    }
    memcpy(content + n, ".\r\n", 3);
    content_n = n + 3;
}

static void connect_next(struct session *s)
{
    int one = 1;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
    if (left == 0)
        return;
    left--;
    open_sessions++;
    *s = (struct session){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&to, sizeof to))
        die("connect", strerror(errno));
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &e))
        die("epoll_ctl", strerror(errno));
}

static void put_out(struct session *s)
{
    while (s->out_n) {
        ssize_t n = send(s->fd, s->out, s->out_n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            die("write", strerror(errno));
        s->out += n;
        s->out_n -= (size_t)n;
    }
    bool waits = s->out_n > 0;
    struct epoll_event e = {.events = waits ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = s};
    if (waits != s->waits && epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &e))
        die("epoll_ctl", strerror(errno));
    s->waits = waits;
}

static void say(struct session *s, const char *text, size_t n)
{
    s->out = text;
    s->out_n = n;
    put_out(s);
}

static void say_next(struct session *s)
{
    switch (s->said++) {
    case NOTHING:
        say(s, hello, strlen(hello));
        break;
    case HELLO:
        say(s, "MAIL FROM:<sender@bench.test>\r\n", 31);
        break;
    case SENDER:
        snprintf(s->line, sizeof s->line, "RCPT TO:<u%lu@%s>\r\n", next_recipient++ % recipients + 1, domain);
        say(s, s->line, strlen(s->line));
        break;
    case RECIPIENT:
        say(s, "DATA\r\n", 6);
        break;
    case DATA:
        say(s, content, content_n);
        break;
    case CONTENT:
        say(s, "QUIT\r\n", 6);
        break;
    case END:
        close(s->fd);
        open_sessions--;
        connect_next(s);
    }
}

/* The last line of a reply, whatever its first ones say (RFC5321:4.2.1). */
static void take_line(struct session *s, const char *line, size_t n)
{
    if (n < 4 || line[0] > '3' || line[0] < '2')
        die("refused", line);
    if (line[3] != '-')
        say_next(s);
}

static void take_in(struct session *s)
{
    char *nl;
    ssize_t n = recv(s->fd, s->in + s->in_n, sizeof s->in - 1 - s->in_n, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        die("read", n ? strerror(errno) : "the connection ended");
    s->in_n += (size_t)n;
    s->in[s->in_n] = 0;
    while ((nl = memchr(s->in, '\n', s->in_n)) != NULL) {
        char line[LINE];
        size_t used = (size_t)(nl + 1 - s->in);
        memcpy(line, s->in, used);
        line[used - 1] = 0;
        s->in_n -= used;
        memmove(s->in, nl + 1, s->in_n);
        take_line(s, line, used);
    }
    if (s->in_n == sizeof s->in - 1)
        die("reply", "its line is too long");
}

static void run(unsigned long count)
{
    struct epoll_event events[64];
    for (unsigned long i = 0; i < count; i++)
        connect_next(&sessions[i]);
    while (open_sessions) {
        int n = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < n; i++) {
            struct session *s = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                put_out(s);
            if (events[i].events & ~(unsigned)EPOLLOUT)
                take_in(s);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "-L")) {
        hello = "LHLO client.bench.test\r\n";
        argv++, argc--;
    }
    if (argc != 8)
        die("usage", "source [-L] SESSIONS COUNT SIZE RECIPIENTS ADDRESS PORT DOMAIN");
    unsigned long at_a_time = number(argv[1], SESSIONS_MAX);
    left = number(argv[2], 100000000);
    make_content(number(argv[3], 100000000));
    recipients = number(argv[4], 100000000);
    to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)number(argv[6], 65535))};
    if (inet_pton(AF_INET, argv[5], &to.sin_addr) != 1)
        die(argv[5], "not an IPv4 address");
    domain = argv[7];
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        die("epoll_create1", strerror(errno));
    run(at_a_time);
    return 0;
}
