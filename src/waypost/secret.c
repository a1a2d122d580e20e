/* Reading and making passwords. */
#include "waypost/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <termios.h>
#include <unistd.h>

#define SECRET_MAX 255
#define GENERATED 20 /* of 32 letters: 100 bits */

/* One line; what is behind it stays unread as far as the system allows: a byte at a time. */
static int read_line(int fd, struct buf *out, struct err *err)
{
    for (;;) {
        char c;
        ssize_t n = read(fd, &c, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "reading the password");
        if (n == 0 || c == '\n')
            break;
        if (out->n > SECRET_MAX)
            return err_set(err, "a password has %d bytes at most", SECRET_MAX);
        buf_addc(out, c);
    }
    if (out->n && out->p[out->n - 1] == '\r')
        out->n--;
    return out->n ? 0 : err_set(err, "the password is empty");
}

static int ask(int tty, const char *prompt, struct buf *out, struct err *err)
{
    struct termios was, silent;
    if (tcgetattr(tty, &was))
        return err_errno(err, "terminal");
    silent = was;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    if (tcsetattr(tty, TCSAFLUSH, &silent) || write(tty, prompt, strlen(prompt)) < 0)
        return err_errno(err, "terminal");
    int rc = read_line(tty, out, err);
    tcsetattr(tty, TCSAFLUSH, &was);
    return write(tty, "\n", 1) < 0 ? -1 : rc;
}

static int ask_twice(struct buf *out, struct err *err)
{
    struct buf again = {0};
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (tty < 0)
        return err_set(err, "no terminal to ask for the password: use --password-stdin or --generate");
    int rc = ask(tty, "Password: ", out, err) || ask(tty, "Again: ", &again, err) ? -1 : 0;
    if (rc == 0 && !span_eq(buf_span(out), buf_span(&again)))
        rc = err_set(err, "the two passwords differ");
    close(tty);
    buf_free(&again);
    return rc;
}

static int generate(struct buf *out, struct err *err)
{
    static const char letters[33] = "abcdefghijkmnpqrstuvwxyz23456789"; /* without l, o, 0, 1 */
    unsigned char random[GENERATED];
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return err_errno(err, "getrandom");
    for (size_t i = 0; i < sizeof(random); i++) {
        if (i && i % 5 == 0)
            buf_addc(out, '-');
        buf_addc(out, letters[random[i] & 31]);
    }
    return 0;
}

int secret_get(enum secret_from from, struct buf *out, struct err *err)
{
    switch (from) {
    case SECRET_STDIN: return read_line(STDIN_FILENO, out, err);
    case SECRET_GENERATE: return generate(out, err);
    default: return ask_twice(out, err);
    }
}
