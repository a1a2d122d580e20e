/* Finding the configuration, checking it, starting the supervisor that stands beside this program. */
#include "waypost/instance.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "conf/conf.h"
#include "keys/keys.h"
#include "net/pem.h"

const char *instance_config(const char *option)
{
    if (option)
        return option;
    const char *env = getenv("WAYPOST_CONFIG");
    return env && *env ? env : SYSCONFDIR "/waypost/waypost.conf";
}

static int read_file(const char *path, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "%s", path);
    ssize_t n;
    while ((n = read(fd, buf_room(out, 65536), 65536)) > 0 && out->n <= CONF_FILE_MAX)
        out->n += (size_t)n;
    if (n < 0)
        err_errno(err, "%s", path);
    close(fd);
    return n < 0 ? -1 : 0;
}

/* ---- the run folder ---- */

/* The next word or one of ; { } of a configuration file, comments left out. */
static struct span next_token(struct span *s)
{
    for (;;) {
        *s = span_trim(*s);
        if (s->n == 0 || s->p[0] != '#')
            break;
        span_cut(s, '\n');
    }
    size_t n = 0;
    while (n < s->n && !strchr(" \t\r\n;{}#", s->p[n]))
        n++;
    struct span word = span_sub(*s, 0, n ? n : MIN_OF(s->n, (size_t)1));
    *s = span_from(*s, word.n);
    return word;
}

/* `run FOLDER;` outside of any section. */
static struct span find_run(struct span text)
{
    int depth = 0;
    bool first = true;
    struct span word;
    while ((word = next_token(&text)).n) {
        if (first && depth == 0 && span_eqs(word, "run"))
            return next_token(&text);
        depth += span_eqs(word, "{") ? 1 : span_eqs(word, "}") ? -1 : 0;
        first = span_eqs(word, ";") || span_eqs(word, "{") || span_eqs(word, "}");
    }
    return SPAN_NONE;
}

static int run_despite_mistakes(const char *config, struct span text, struct buf *out)
{
    struct span run = find_run(text), folder = span_of(config);
    if (run.n == 0 || run.p[0] == '"')
        return -1;
    ptrdiff_t slash = span_rfind(folder, '/');
    if (run.p[0] != '/') {
        buf_add(out, slash < 0 ? SPAN(".") : span_sub(folder, 0, (size_t)slash));
        buf_addc(out, '/');
    }
    buf_add(out, run);
    return 0;
}

int instance_run_folder(const char *config, struct buf *out, struct err *err)
{
    struct buf text = {0};
    struct conf_errors errors = {0};
    int rc = read_file(config, &text, err);
    if (rc == 0) {
        const struct conf *c = conf_parse(config, buf_span(&text), 1, &errors);
        if (c)
            buf_adds(out, c->run);
        else if (run_despite_mistakes(config, buf_span(&text), out))
            rc = err_set(err, "%.*s", SPANV(span_trim(buf_span(&errors.text))));
        conf_unref(&c);
    }
    conf_errors_free(&errors);
    buf_free(&text);
    return rc;
}

/* ---- check ---- */

static void say_error(struct output *o, struct span line)
{
    struct row_cell cell = {.name = SPAN("error"), .value = line};
    output_row(o, &(struct client_row){&cell, 1});
}

static int read_pem(const char *path, char **pem, size_t *n, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "%s", path);
    int rc = pem_read(fd, pem, n, err);
    close(fd);
    return rc;
}

/* As keyd will judge them. */
static int judge_pair(const char *certificate, const char *key, struct err *err)
{
    char *chain = NULL, *secret = NULL;
    size_t chain_n = 0, secret_n = 0;
    struct key_set *set = key_set_new();
    int rc = read_pem(certificate, &chain, &chain_n, err) || read_pem(key, &secret, &secret_n, err) ||
             key_set_add(set, span_make(chain, chain_n), span_make(secret, secret_n), ROLE_SUBMISSION, err);
    pem_free(&chain, chain_n);
    pem_free(&secret, secret_n);
    key_set_free(&set);
    return rc ? -1 : 0;
}

int instance_check(const char *config, struct output *o)
{
    struct conf_errors errors = {0};
    const struct conf *c = conf_load_pairs(config, 1, &errors, judge_pair);
    struct span text = buf_span(&errors.text);
    bool good = c != NULL;
    while (text.n) {
        struct span line = span_cut(&text, '\n');
        if (o)
            say_error(o, line);
        else
            fprintf(stderr, "%.*s\n", SPANV(line));
    }
    if (good && !o)
        printf("%s: no mistakes\n", config);
    conf_unref(&c);
    conf_errors_free(&errors);
    return good ? EXIT_DONE : EXIT_FAILED;
}

/* ---- start ---- */

static void run_supervisor(const char *path, const char *config, bool detach)
{
    const char *argv[] = {"waypostd", "-c", config, detach ? "-d" : NULL, NULL};
    execv(path, (char *const *)argv);
}

int instance_start(const char *config, bool detach)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - sizeof("waypostd"));
    if (n > 0) {
        path[n] = 0;
        char *slash = strrchr(path, '/');
        memcpy(slash + 1, "waypostd", sizeof("waypostd"));
        run_supervisor(path, config, detach);
    }
    run_supervisor(PKGLIBEXECDIR "/waypostd", config, detach);
    perror("waypost: cannot start " PKGLIBEXECDIR "/waypostd");
    return EXIT_FAILED;
}
