/* The names sendmail, mailq and newaliases. Mail goes to the server by run/submit.sock; when nobody takes it there for
 * now, into the drop directory, where the server finds it. Exit code 0 means one of both. */
#include "waypost/sendmail.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/random.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/conf.h"
#include "waypost/instance.h"

#define WITHOUT_CONF_MAX (50u << 20)

/* What the configuration says; when this user can't read it, what holds for one that says nothing. */
struct place {
    struct buf run, drop, domain, host;
    size_t message_max;
};

struct handing {
    struct sendmail_options o;
    struct place place;
    struct recipients to, sender;
    struct buf raw, lines, message, batch;
};

/* An exit code, said. */
static int fail(int code, const char *what, struct span why)
{
    struct buf text = {0};
    output_clean(&text, why, false);
    fprintf(stderr, "sendmail: %s%s%s\n", what, why.n ? ": " : "", buf_cstr(&text));
    buf_free(&text);
    return code;
}

/* ---- where ---- */

static void default_place(struct place *p)
{
    char host[256] = {0};
    if (gethostname(host, sizeof host - 1) || !*host)
        memcpy(host, "localhost", sizeof "localhost");
    buf_adds(&p->run, RUNSTATEDIR "/waypost");
    buf_adds(&p->drop, LOCALSTATEDIR "/lib/waypost/drop");
    buf_adds(&p->domain, host);
    buf_adds(&p->host, host);
    p->message_max = WITHOUT_CONF_MAX;
}

static void place_of(struct place *p, const struct conf *c)
{
    buf_adds(&p->run, c->run);
    buf_printf(&p->drop, "%s/drop", c->state);
    buf_adds(&p->host, c->hostname);
    buf_adds(&p->domain, *c->local_submission.domain ? c->local_submission.domain : c->hostname);
    p->message_max = c->smtp.max_message_size;
}

static int find_place(struct place *p, const char *config)
{
    struct conf_errors errors = {0};
    struct buf text = {0};
    int fd = open(config, O_RDONLY | O_CLOEXEC), status = EX_OK;
    ssize_t n = 0;
    if (fd < 0 && (errno == EACCES || errno == ENOENT)) {
        default_place(p);
        return EX_OK;
    }
    while (fd >= 0 && text.n <= CONF_FILE_MAX && (n = read(fd, buf_room(&text, 65536), 65536)) > 0)
        text.n += (size_t)n;
    const struct conf *c = fd < 0 || n < 0 ? NULL : conf_parse(config, buf_span(&text), 1, &errors);
    if (c)
        place_of(p, c);
    else
        status = fail(EX_CONFIG, config, span_trim(buf_span(&errors.text)));
    conf_unref(&c);
    conf_errors_free(&errors);
    buf_free(&text);
    if (fd >= 0)
        close(fd);
    return status;
}

/* ---- the message ---- */

static bool dot_came(struct span raw, size_t from)
{
    struct span new = span_from(raw, from > 4 ? from - 4 : 0);
    return span_starts(raw, SPAN(".\n")) || span_starts(raw, SPAN(".\r\n")) || span_search(new, SPAN("\n.\n")) >= 0 ||
           span_search(new, SPAN("\n.\r\n")) >= 0;
}

static int read_text(struct handing *h)
{
    ssize_t n;
    bool ended = false;
    while (!ended && (n = read(STDIN_FILENO, buf_room(&h->raw, 65536), 65536)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(EX_IOERR, "the message can't be read", span_of(strerror(errno)));
        h->raw.n += (size_t)n;
        if (h->raw.n > h->place.message_max)
            return fail(EX_DATAERR, "the message is larger than smtp.max-message-size allows", SPAN_NONE);
        ended = !h->o.dots_stay && dot_came(buf_span(&h->raw), h->raw.n - (size_t)n);
    }
    sendmail_lines(buf_span(&h->raw), !h->o.dots_stay, &h->lines);
    buf_free(&h->raw);
    return EX_OK;
}

/* ---- from whom, to whom ---- */

static int find_sender(struct handing *h, struct span *user)
{
    const char *given = h->o.sender;
    struct buf wrong = {0};
    struct span address = given ? span_of(given) : *user;
    bool nobody = given && (!*given || strcmp(given, "<>") == 0), good = true;
    if (!nobody)
        good = !span_has_control(address) && recipients_add(&h->sender, address, buf_span(&h->place.domain), &wrong) &&
               h->sender.n == 1;
    buf_free(&wrong);
    return good ? EX_OK : fail(EX_USAGE, "that is no sender's address", address);
}

static int find_recipients(struct handing *h)
{
    struct buf wrong = {0};
    struct span domain = buf_span(&h->place.domain), lines = buf_span(&h->lines);
    bool good = true;
    for (int i = 0; i < h->o.rest_n && good; i++)
        good = recipients_add(&h->to, span_of(h->o.rest[i]), domain, &wrong);
    if (good && h->o.by_header)
        good = recipients_add_header(&h->to, span_sub(lines, 0, sendmail_header_length(lines)), domain, &wrong);
    int status = good ? EX_OK : fail(EX_DATAERR, "that is no address", buf_span(&wrong));
    buf_free(&wrong);
    recipients_unique(&h->to);
    if (good && h->to.n == 0)
        status = fail(h->o.by_header ? EX_DATAERR : EX_USAGE, "no recipient was given", SPAN_NONE);
    return status;
}

/* The name in the user database is what stands before its first comma; & is the login's name. */
static void real_name(const struct passwd *p, struct buf *out)
{
    const char *gecos = p && p->pw_gecos ? p->pw_gecos : "";
    for (; *gecos && *gecos != ','; gecos++) {
        if (*gecos == '&')
            buf_adds(out, p->pw_name);
        else
            buf_addc(out, *gecos);
    }
}

static int complete(struct handing *h, const struct passwd *p, struct span user)
{
    struct buf name = {0}, from = {0}, wrong = {0};
    struct span domain = buf_span(&h->place.domain);
    struct recipients author = {0};
    struct span address = h->sender.n ? h->sender.list[0] : SPAN_NONE;
    if (!address.n && recipients_add(&author, user, domain, &wrong) && author.n)
        address = author.list[0];
    if (h->o.name)
        buf_adds(&name, h->o.name);
    else
        real_name(p, &name);
    sendmail_from(buf_span(&name), address, &from);
    sendmail_complete(buf_span(&h->lines), buf_span(&from), domain, &h->message);
    recipients_free(&author);
    buf_free(&name);
    buf_free(&from);
    buf_free(&wrong);
    return EX_OK;
}

/* ---- handing in ---- */

static int drop(struct handing *h, const char *token, struct span why)
{
    struct err err;
    struct buf text = {0};
    if (sendmail_drop(buf_cstr(&h->place.drop), token, buf_span(&h->batch), &err) == 0) {
        if (h->o.verbose)
            fprintf(stderr, "kept for the server in %s\n", buf_cstr(&h->place.drop));
        return EX_OK;
    }
    buf_printf(&text, "%.*s; nor kept for it: %s", SPANV(why), err.text);
    int status = fail(EX_TEMPFAIL, "the message was not taken by the server", buf_span(&text));
    buf_free(&text);
    return status;
}

static int hand_in(struct handing *h)
{
    unsigned char random[16];
    char token[33];
    struct buf why = {0};
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return fail(EX_OSERR, "no random bytes", span_of(strerror(errno)));
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(token + 2 * i, 3, "%02x", random[i]);
    struct sendmail_envelope e = {.sender = h->sender.n ? h->sender.list[0] : SPAN_NONE, .message = buf_span(&h->message),
                                  .host = buf_span(&h->place.host), .to = &h->to, .token = token};
    size_t content = sendmail_batch(&h->o, &e, &h->batch);
    int fd = sendmail_connect(buf_cstr(&h->place.run)), status = EX_TEMPFAIL;
    if (fd < 0)
        buf_printf(&why, "%s/submit.sock: %s", buf_cstr(&h->place.run), strerror(errno));
    else
        status = sendmail_session(fd, buf_span(&h->batch), content, h->o.verbose, &why);
    if (fd >= 0)
        close(fd);
    if (status == EX_TEMPFAIL)
        status = drop(h, token, buf_span(&why));
    else if (status != EX_OK)
        fail(status, "the server refuses it", buf_span(&why));
    buf_free(&why);
    return status;
}

static int submit(struct handing *h)
{
    char number[32];
    const struct passwd *p = getpwuid(getuid());
    snprintf(number, sizeof number, "uid-%u", (unsigned)getuid());
    struct span user = p ? span_of(p->pw_name) : span_of(number);
    int status = find_sender(h, &user);
    if (status == EX_OK && !h->o.by_header)
        status = find_recipients(h);
    if (status == EX_OK)
        status = read_text(h);
    if (status == EX_OK && h->o.by_header)
        status = find_recipients(h);
    if (status == EX_OK)
        status = complete(h, p, user);
    return status == EX_OK ? hand_in(h) : status;
}

static int speak(struct handing *h)
{
    int fd = sendmail_connect(buf_cstr(&h->place.run));
    if (fd < 0) {
        printf("421 4.3.2 The server does not run\r\n");
        return EX_TEMPFAIL;
    }
    int status = sendmail_pipe(fd);
    close(fd);
    return status;
}

/* ---- the queue ---- */

static int converse(int fd, const struct sendmail_options *o, struct buf *message, struct err *err)
{
    bool list = o->mode == SENDMAIL_LIST;
    bool all = !list && o->which && strcmp(o->which, "--all") == 0;
    struct span args[2];
    size_t n = 0;
    if (!list && o->which && !all)
        args[n++] = span_of(o->which);
    if (!list && o->of)
        args[n++] = span_of(o->of);
    struct output *out = output_new(OUTPUT_TABLE, stdout);
    int status = client_send(fd, list ? "queue list" : all ? "queue flush" : "queue retry", args, n, -1, err);
    if (status == 0)
        status = client_read(fd, "qmgr", output_row, output_pause, out, message, err);
    if (list && status == EXIT_DONE && output_rows(out) == 0) {
        printf("Mail queue is empty\n");
        buf_clear(message);
    }
    if (output_end(&out) && status >= 0)
        status = err_set(err, "the output could not be written");
    return status;
}

static int ask(struct handing *h)
{
    static const int codes[] = {[EXIT_DONE] = EX_OK, [EXIT_FAILED] = EX_UNAVAILABLE, [EXIT_USAGE] = EX_USAGE,
                                [EXIT_NO_SUCH] = EX_OK, [EXIT_LATER] = EX_TEMPFAIL};
    struct buf message = {0};
    struct err err;
    int fd = client_open(buf_cstr(&h->place.run), "qmgr", &err);
    int status = fd < 0 ? -1 : converse(fd, &h->o, &message, &err);
    if (fd >= 0)
        close(fd);
    int code = status < 0 ? EX_UNAVAILABLE : status < (int)COUNT_OF(codes) ? codes[status] : EX_UNAVAILABLE;
    if (status < 0)
        fail(code, "the queue can't be asked", span_of(err.text));
    else if (status != EXIT_DONE)
        fail(code, "the queue", buf_span(&message));
    buf_free(&message);
    return code;
}

/* ---- the command ---- */

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool sendmail_is_name(const char *path)
{
    const char *name = name_of(path);
    return strcmp(name, "sendmail") == 0 || strcmp(name, "mailq") == 0 || strcmp(name, "newaliases") == 0;
}

static int run(struct handing *h)
{
    if (h->o.mode == SENDMAIL_ALIASES) {
        printf("Aliases take effect at once: 'waypost alias add' makes one\n");
        return EX_OK;
    }
    int status = find_place(&h->place, instance_config(h->o.config));
    if (status != EX_OK)
        return status;
    switch (h->o.mode) {
    case SENDMAIL_SMTP: return speak(h);
    case SENDMAIL_LIST:
    case SENDMAIL_RETRY: return ask(h);
    default: return submit(h);
    }
}

int sendmail_main(int argc, char **argv)
{
    struct handing h = {0};
    struct err err;
    const char *name = name_of(argv[0]);
    if (!sendmail_options(&h.o, argc, argv, &err))
        return fail(EX_USAGE, err.text, SPAN_NONE);
    if (strcmp(name, "mailq") == 0 && h.o.mode == SENDMAIL_SUBMIT)
        h.o.mode = SENDMAIL_LIST;
    if (strcmp(name, "newaliases") == 0)
        h.o.mode = SENDMAIL_ALIASES;
    int status = run(&h);
    struct buf *all[] = {&h.place.run, &h.place.drop, &h.place.domain, &h.place.host, &h.raw, &h.lines, &h.message, &h.batch};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        buf_free(all[i]);
    recipients_free(&h.to);
    recipients_free(&h.sender);
    if (fflush(stdout) && status == EX_OK)
        status = EX_IOERR;
    return status;
}
