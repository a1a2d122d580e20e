/* waypost: the operators' command. It opens no database and reads no mail: every answer comes from the service that
 * owns the thing. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/util.h"
#include "waypost/carry.h"
#include "waypost/instance.h"
#include "waypost/secret.h"
#include "waypost/sendmail.h"
#include "waypost/terminal.h"
#include "waypost/top.h"

#define ARGS_MAX 64
#define CERTIFICATE_MAX 16000 /* bytes of a file with one */

struct cli {
    const char *config;
    bool json;
    int file;        /* goes with the command; -1: none */
    bool out_is_taken; /* standard output is that file */
    struct span args[ARGS_MAX];
    size_t nargs;
};

struct command {
    const char *name; /* one or two words */
    const char *args, *help;
    int (*run)(struct cli *cli, const struct command *c);
    const char *service;
    const char *remote; /* the service's name for it; NULL: the same */
    enum output_form form;
};

/* ---- asking a service ---- */

static void say_end(const struct cli *cli, int status, struct span message, size_t rows)
{
    struct buf text = {0};
    output_clean(&text, message, true);
    if (status != EXIT_DONE)
        fprintf(stderr, "waypost: %s\n", buf_cstr(&text));
    else if (message.n && !cli->json)
        fprintf(cli->out_is_taken ? stderr : stdout, "%s%s\n", rows ? "\n" : "", buf_cstr(&text));
    buf_free(&text);
}

static int converse(int fd, const struct command *c, const struct cli *cli, const char *secret, struct err *err)
{
    struct buf message = {0};
    struct output *o = output_new(cli->json ? OUTPUT_JSON : c->form, stdout);
    if (secret)
        output_extra(o, "password", secret);
    int status = client_send(fd, c->remote ? c->remote : c->name, cli->args, cli->nargs, cli->file, err);
    if (status == 0)
        status = client_read(fd, c->service, output_row, output_pause, o, &message, err);
    if (status == EXIT_DONE && secret && output_rows(o) == 0)
        output_row(o, &(struct client_row){NULL, 0});
    size_t rows = output_rows(o);
    if (output_end(&o) && status >= 0)
        status = err_set(err, "the output could not be written");
    if (status >= 0)
        say_end(cli, status, buf_span(&message), rows);
    buf_free(&message);
    return status;
}

/* secret: a password made here, shown with the answer. */
static int ask_and_wait(struct cli *cli, const struct command *c, const char *secret, bool until_ended)
{
    struct buf run = {0};
    struct err err;
    int status = -1, fd = -1, process = -1;
    if (instance_run_folder(cli->config, &run, &err) == 0) {
        fd = client_open(buf_cstr(&run), c->service, &err);
        if (fd >= 0 && until_ended)
            process = client_supervisor(fd);
        if (fd >= 0)
            status = converse(fd, c, cli, secret, &err);
    }
    if (status < 0) {
        fprintf(stderr, "waypost: %s\n", err.text);
        status = EXIT_FAILED;
    }
    if (fd >= 0)
        close(fd);
    if (status == EXIT_DONE)
        client_wait_end(process);
    buf_free(&run);
    return status;
}

static int ask(struct cli *cli, const struct command *c)
{
    return ask_and_wait(cli, c, NULL, false);
}

/* ---- commands with something of their own ---- */

/* People read what happened in words, programs each fact by its name. */
static int run_trace(struct cli *cli, const struct command *c)
{
    if (cli->json && cli->nargs < ARGS_MAX)
        cli->args[cli->nargs++] = SPAN("--fields");
    return ask(cli, c);
}

static int usage_of(const struct command *c)
{
    fprintf(stderr, "usage: waypost %s%s%s\n", c->name, *c->args ? " " : "", c->args);
    return EXIT_USAGE;
}

static int run_stop(struct cli *cli, const struct command *c)
{
    return cli->nargs ? usage_of(c) : ask_and_wait(cli, c, NULL, true);
}

static int run_plain(struct cli *cli, const struct command *c)
{
    return cli->nargs ? usage_of(c) : ask(cli, c);
}

static int run_start(struct cli *cli, const struct command *c)
{
    bool detach = cli->nargs == 1 && span_eqs(cli->args[0], "-d");
    return cli->nargs && !detach ? usage_of(c) : instance_start(cli->config, detach);
}

static int run_check(struct cli *cli, const struct command *c)
{
    if (cli->nargs)
        return usage_of(c);
    if (!cli->json)
        return instance_check(cli->config, NULL);
    struct output *o = output_new(OUTPUT_JSON, stdout);
    int status = instance_check(cli->config, o);
    return output_end(&o) ? EXIT_FAILED : status;
}

/* Takes the options about the password out of the arguments. False: an unknown one. */
static bool password_options(struct cli *cli, enum secret_from *from)
{
    size_t kept = 0;
    *from = SECRET_TTY;
    for (size_t i = 0; i < cli->nargs; i++) {
        if (span_eqs(cli->args[i], "--password-stdin"))
            *from = SECRET_STDIN;
        else if (span_eqs(cli->args[i], "--generate"))
            *from = SECRET_GENERATE;
        else if (span_starts(cli->args[i], SPAN("-")))
            return false;
        else
            cli->args[kept++] = cli->args[i];
    }
    cli->nargs = kept;
    return true;
}

static int run_password(struct cli *cli, const struct command *c)
{
    enum secret_from from;
    struct buf secret = {0};
    struct err err;
    if (!password_options(cli, &from) || cli->nargs != 1)
        return usage_of(c);
    if (secret_get(from, &secret, &err)) {
        fprintf(stderr, "waypost: %s\n", err.text);
        buf_free(&secret);
        return EXIT_USAGE;
    }
    const char *text = buf_cstr(&secret);
    cli->args[cli->nargs++] = buf_span(&secret);
    int status = ask_and_wait(cli, c, from == SECRET_GENERATE ? text : NULL, false);
    explicit_bzero(secret.p, secret.n);
    buf_free(&secret);
    return status;
}

static bool is_fingerprint(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!strchr("0123456789abcdefABCDEF:", s.p[i]))
            return false;
    return s.n > 0;
}

/* The last argument is a fingerprint, or a file whose content is sent instead. */
static int run_certificate(struct cli *cli, const struct command *c)
{
    static char content[CERTIFICATE_MAX + 1];
    char path[4096];
    if (cli->nargs != 2)
        return usage_of(c);
    struct span last = cli->args[1];
    if (is_fingerprint(last) || last.n >= sizeof path)
        return ask(cli, c);
    memcpy(path, last.p, last.n);
    path[last.n] = 0;
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(content, 1, sizeof content, f) : 0;
    if (!f || ferror(f) || n > CERTIFICATE_MAX) {
        fprintf(stderr, "waypost: %s: %s\n", path, n > CERTIFICATE_MAX ? "too large for a certificate" : strerror(errno));
        if (f)
            fclose(f);
        return EXIT_USAGE;
    }
    fclose(f);
    cli->args[1] = span_make(content, n);
    return ask(cli, c);
}

/* Rows go to `row` as they come, until one of us has enough. */
static int stream(struct cli *cli, const struct command *c, client_row_fn *row, void *ctx)
{
    struct buf run = {0}, message = {0};
    struct err err;
    int status = -1, fd = -1;
    if (instance_run_folder(cli->config, &run, &err) == 0 && (fd = client_open(buf_cstr(&run), c->service, &err)) >= 0 &&
        (status = client_send(fd, c->name, cli->args, cli->nargs, -1, &err)) == 0)
        status = client_read(fd, c->service, row, NULL, ctx, &message, &err);
    if (status < 0)
        fprintf(stderr, "waypost: %s\n", err.text);
    else
        say_end(cli, status, buf_span(&message), 0);
    if (fd >= 0)
        close(fd);
    buf_free(&run);
    buf_free(&message);
    return status < 0 ? EXIT_FAILED : status;
}

static int run_terminal(struct cli *cli, const struct command *c)
{
    enum secret_from from;
    struct buf secret = {0};
    struct err err;
    size_t given = cli->nargs;
    if (!password_options(cli, &from) || cli->nargs != 1 || from == SECRET_GENERATE)
        return usage_of(c);
    if (given > 1 && secret_get(from, &secret, &err)) {
        fprintf(stderr, "waypost: %s\n", err.text);
        buf_free(&secret);
        return EXIT_USAGE;
    }
    if (secret.n)
        cli->args[cli->nargs++] = buf_span(&secret);
    int status = stream(cli, c, terminal_row, stdout);
    if (secret.p)
        explicit_bzero(secret.p, secret.n);
    buf_free(&secret);
    return status;
}

/* A content: as it is where no terminal is at the other end and that was asked for, else harmless. */
struct content {
    bool raw;
};

static void content_row(void *ctx, const struct client_row *row)
{
    const struct content *w = ctx;
    for (size_t i = 0; i < row->count; i++) {
        struct buf text = {0};
        if (w->raw)
            buf_add(&text, row->cells[i].value);
        else
            output_lines(&text, row->cells[i].value);
        fwrite(text.p, 1, text.n, stdout);
        buf_free(&text);
    }
}

static int show_content(struct cli *cli, const struct command *c, bool raw)
{
    struct content w = {.raw = raw && !isatty(STDOUT_FILENO)};
    int status = stream(cli, c, content_row, &w);
    if (status != EXIT_DONE || (fflush(stdout) == 0 && !ferror(stdout)))
        return status;
    fprintf(stderr, "waypost: the output could not be written\n");
    return EXIT_FAILED;
}

static int run_show(struct cli *cli, const struct command *c)
{
    bool content = false, raw = false;
    for (size_t i = 0; i < cli->nargs; i++) {
        raw |= span_eqs(cli->args[i], "--raw");
        content |= span_starts(cli->args[i], SPAN("--"));
    }
    return content && !cli->json ? show_content(cli, c, raw) : ask(cli, c);
}

static int run_top(struct cli *cli, const struct command *c)
{
    struct buf run = {0};
    struct err err;
    (void)c;
    if (cli->json || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        fprintf(stderr, "waypost: queue top draws on a terminal: for programs there is 'waypost --json queue stats'\n");
        return EXIT_USAGE;
    }
    int status = EXIT_FAILED;
    if (instance_run_folder(cli->config, &run, &err))
        fprintf(stderr, "waypost: %s\n", err.text);
    else
        status = top_show(buf_cstr(&run), cli->args, cli->nargs);
    buf_free(&run);
    return status;
}

/* ---- what is asked about first ---- */

struct how_much {
    uint64_t messages, recipients;
};

static void take_count(void *ctx, const struct client_row *row)
{
    struct how_much *h = ctx;
    for (size_t i = 0; i < row->count; i++) {
        if (span_eqs(row->cells[i].name, "messages"))
            h->messages = row->cells[i].number;
        if (span_eqs(row->cells[i].name, "recipients"))
            h->recipients = row->cells[i].number;
    }
}

/* The same command with --count. Below 0: it can't be asked; else the exit status. */
static int ask_how_much(const struct cli *cli, const struct command *c, struct how_much *h, struct buf *message, struct err *err)
{
    struct span args[ARGS_MAX];
    struct buf run = {0};
    int status = -1, fd = -1;
    memcpy(args, cli->args, cli->nargs * sizeof *args);
    args[cli->nargs] = SPAN("--count");
    if (instance_run_folder(cli->config, &run, err) == 0 && (fd = client_open(buf_cstr(&run), c->service, err)) >= 0 &&
        (status = client_send(fd, c->name, args, cli->nargs + 1, -1, err)) == 0)
        status = client_read(fd, c->service, take_count, NULL, h, message, err);
    if (fd >= 0)
        close(fd);
    buf_free(&run);
    return status;
}

static bool agreed(const struct command *c, const struct how_much *h)
{
    char line[16] = "";
    fprintf(stderr, "%s: %llu recipient%s of %llu message%s. Do it? [y/N] ", strrchr(c->name, ' ') + 1, (unsigned long long)h->recipients,
            h->recipients == 1 ? "" : "s", (unsigned long long)h->messages, h->messages == 1 ? "" : "s");
    return fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y');
}

/* Who sits at a terminal is shown how much it is, and asked. Elsewhere the server wants --yes, but for a single message. */
static int run_asked_about(struct cli *cli, const struct command *c)
{
    struct how_much h = {0};
    struct buf message = {0};
    struct err err;
    bool said = !isatty(STDIN_FILENO) || cli->nargs == 0 || cli->nargs + 2 > ARGS_MAX;
    for (size_t i = 0; i < cli->nargs; i++)
        said |= span_eqs(cli->args[i], "--yes") || span_eqs(cli->args[i], "--count");
    if (said)
        return ask(cli, c);
    int status = ask_how_much(cli, c, &h, &message, &err);
    if (status < 0) {
        fprintf(stderr, "waypost: %s\n", err.text);
        status = EXIT_FAILED;
    } else if (status != EXIT_DONE) {
        say_end(cli, status, buf_span(&message), 0);
    } else if (h.recipients == 0) {
        printf("0 recipients\n");
    } else if (agreed(c, &h)) {
        cli->args[cli->nargs++] = SPAN("--yes");
        status = ask(cli, c);
    } else {
        fprintf(stderr, "waypost: nothing was done\n");
    }
    buf_free(&message);
    return status;
}

/* FILE is made here, with our rights, and goes to the service as a descriptor. */
static int run_export(struct cli *cli, const struct command *c)
{
    char path[4096];
    bool moves = false;
    if (cli->nargs == 0 || cli->json)
        return usage_of(c);
    struct span file = cli->args[0];
    for (size_t i = 1; i < cli->nargs; i++) {
        cli->args[i - 1] = cli->args[i];
        moves |= span_eqs(cli->args[i], "--move");
    }
    cli->nargs--;
    cli->file = carry_make(file, path, sizeof path, &cli->out_is_taken);
    if (cli->file < 0)
        return EXIT_USAGE;
    int status = ask(cli, c);
    if (!cli->out_is_taken && status != EXIT_DONE && !moves)
        unlink(path); /* it has nothing that is not in the queue */
    close(cli->file);
    return status;
}

static int run_export_db(struct cli *cli, const struct command *c)
{
    return cli->nargs == 1 ? run_export(cli, c) : usage_of(c);
}

static int run_import(struct cli *cli, const struct command *c)
{
    if (cli->nargs != 1 || cli->json)
        return usage_of(c);
    cli->file = carry_open(cli->args[0]);
    if (cli->file < 0)
        return EXIT_USAGE;
    cli->nargs = 0;
    int status = ask(cli, c);
    close(cli->file);
    return status;
}

static int run_help(struct cli *cli, const struct command *c);

static const struct command commands[] = {
    {"start", "[-d]", "start the server, in the foreground or with -d in the background", run_start, NULL, NULL, 0},
    {"stop", "", "finish what is in flight and stop", run_stop, "waypostd", NULL, 0},
    {"reload", "", "read the configuration again, without ending a session", run_plain, "waypostd", NULL, 0},
    {"status", "", "the programs: process, user, uptime, restarts", run_plain, "waypostd", NULL, 0},
    {"check", "", "name every mistake in the configuration", run_check, NULL, NULL, 0},
    {"domain add", "DOMAIN", "serve a domain", ask, "authd", NULL, 0},
    {"domain remove", "DOMAIN", "serve it no longer; it must have no accounts and aliases", ask, "authd", NULL, 0},
    {"domain quota", "DOMAIN SIZE|none|default", "how much its accounts may hold, each; default: as the configuration", ask, "authd", NULL, 0},
    {"domain limit", "DOMAIN LIMIT NUMBER|none|default...", "what its accounts may send, each", ask, "authd", NULL, 0},
    {"domain list", "", "the domains served", ask, "authd", NULL, 0},
    {"account add", "ADDRESS [--password-stdin|--generate]", "make an account; asks for its password", run_password,
     "authd", NULL, 0},
    {"account passwd", "ADDRESS|ID [--password-stdin|--generate]", "change its password", run_password, "authd", NULL,
     0},
    {"account disable", "ADDRESS|ID", "refuse its logins and its mail, end its sessions", ask, "authd", NULL, 0},
    {"account enable", "ADDRESS|ID", "take that back; also brings a removed account back", ask, "authd", NULL, 0},
    {"account remove", "ADDRESS|ID [--purge]", "remove it and keep its mail; with --purge delete the mail, too", ask,
     "authd", NULL, 0},
    {"account quota", "ADDRESS|ID SIZE|none|default", "how much it may hold; default: as its domain, or the configuration", ask, "authd", NULL, 0},
    {"account limit", "ADDRESS|ID [LIMIT NUMBER|none|default...]",
     "what it may send: messages-hour, recipients-hour, messages-day, recipients-day, new-recipients-day; shows them without", ask, "authd", NULL, 0},
    {"account held list", "", "the accounts over such a limit, and how much of their mail is held", ask, "qmgr", NULL, 0},
    {"account held release", "ADDRESS|ID", "let that mail go; counting begins anew", ask, "qmgr", NULL, 0},
    {"account held discard", "ADDRESS|ID [--count|--yes]", "delete that mail; counting begins anew", run_asked_about, "qmgr", NULL, 0},
    {"account list", "[DOMAIN]", "the accounts, removed ones with mail too", ask, "authd", NULL, 0},
    {"account scram-sha-1 on", "ADDRESS|ID", "offer it SCRAM-SHA-1, too (old clients)", ask, "authd", NULL, 0},
    {"account scram-sha-1 off", "ADDRESS|ID", "and no longer", ask, "authd", NULL, 0},
    {"account certificate add", "ADDRESS|ID FILE|FINGERPRINT", "that client certificate logs in as it", run_certificate, "authd", NULL, 0},
    {"account certificate list", "ADDRESS|ID", "its client certificates and their last use", ask, "authd", NULL, 0},
    {"account certificate remove", "ADDRESS|ID FILE|FINGERPRINT", "and no longer", run_certificate, "authd", NULL, 0},
    {"account delegate add", "ADDRESS|ID ADDRESS|@DOMAIN", "let it write as that address", ask, "authd", NULL, 0},
    {"account delegate list", "ADDRESS|ID", "what else it may write as", ask, "authd", NULL, 0},
    {"account delegate remove", "ADDRESS|ID ADDRESS|@DOMAIN", "and no longer", ask, "authd", NULL, 0},
    {"account app-password add", "ADDRESS|ID NAME PROTOCOL...",
     "make a further password for smtp, imap, pop3 or several of them, and show it", ask, "authd", NULL, 0},
    {"account app-password list", "ADDRESS|ID", "its app passwords and their last use", ask, "authd", NULL, 0},
    {"account app-password remove", "ADDRESS|ID NAME", "revoke one", ask, "authd", NULL, 0},
    {"terminal", "ADDRESS [--password-stdin]", "show what is sent to the account's terminal (SEND, SOML, SAML) until interrupted",
     run_terminal, "authd", NULL, 0},
    {"alias add", "ALIAS TARGET...", "send mail for ALIAS (@DOMAIN: the catch-all) to the targets", ask, "authd", NULL,
     0},
    {"alias remove", "ALIAS [TARGET...]", "no longer to these targets, or to none at all", ask, "authd", NULL, 0},
    {"alias list", "[DOMAIN]", "the aliases and their targets", ask, "authd", NULL, 0},
    {"alias explain", "ADDRESS", "the same as address explain", ask, "authd", "address explain", 0},
    {"address explain", "ADDRESS", "whom mail for that address reaches, and by which rule", ask, "authd", NULL, 0},
    {"client list", "[--all]", "the clients that are slowed or turned away, and why", ask, "tallyd", NULL, 0},
    {"client show", "ADDRESS", "what is known of one", ask, "tallyd", NULL, OUTPUT_RECORDS},
    {"client forget", "ADDRESS", "lift what is held against it, its failed logins too", ask, "tallyd", NULL, 0},
    {"queue list", "[WHICH...] [--limit N] [--after PLACE]", "the recipients whose mail waits", ask, "qmgr", NULL, 0},
    {"queue show", "ID [--headers|--body|--raw]", "one message, its recipients and what happened so far; or its content", run_show, "qmgr", NULL, OUTPUT_RECORDS},
    {"queue why", "ID", "its whole life on one page: who sent it, why it waits, each attempt", ask, "qmgr", NULL, OUTPUT_RECORDS},
    {"queue retry", "WHICH...", "try it now", ask, "qmgr", NULL, 0},
    {"queue hold", "WHICH...", "keep it until it is released", ask, "qmgr", NULL, 0},
    {"queue release", "WHICH...", "let it go", ask, "qmgr", NULL, 0},
    {"queue remove", "WHICH... [--count|--yes]", "delete it; nobody is told", run_asked_about, "qmgr", NULL, 0},
    {"queue bounce", "WHICH... [--reason TEXT] [--count|--yes]", "back to its sender, with a notification", run_asked_about, "qmgr", NULL, 0},
    {"queue redirect", "WHICH... --to ADDRESS [--count|--yes]", "to another address", run_asked_about, "qmgr", NULL, 0},
    {"queue edit", "ID --add ADDRESS|--remove ADDRESS|--replace ADDRESS ADDRESS...", "change its recipients", ask, "qmgr", NULL, 0},
    {"queue flush", "[DEST]", "try all that waits, or what waits for one destination", ask, "qmgr", NULL, 0},
    {"queue route", "WHICH... HOST[:PORT]|none [--count|--yes]", "send it to that host instead of its domain's", run_asked_about, "qmgr", NULL, 0},
    {"queue stats", "[--by destination|domain|sender|state] [--limit N]", "the queue added up, and how much happens", ask, "qmgr", NULL, 0},
    {"queue top", "[--interval SECONDS]", "what it does now, on the terminal", run_top, "qmgr", NULL, 0},
    {"queue verify", "[--repair]", "check all that must be so in it, and mend what is safe", ask, "qmgr", NULL, 0},
    {"queue export --db", "FILE|-", "write what queue sql shows into a database, for sqlite3", run_export_db, "qmgr", NULL, 0},
    {"queue export", "FILE|- [--move [--wait TIME]] [WHICH...]", "write it into a file, for queue import; --move: then remove it here", run_export, "qmgr", NULL, 0},
    {"queue import", "FILE|-", "take over what another queue has written", run_import, "qmgr", NULL, 0},
    {"queue sql", "'SELECT ...' [--limit N]", "ask the queue and its history in SQL", ask, "qmgr", NULL, 0},
    {"queue suspend", "DEST [REASON...]", "the same as dest suspend", ask, "qmgr", NULL, 0},
    {"queue resume", "DEST", "the same as dest resume", ask, "qmgr", NULL, 0},
    {"trace", "ADDRESS|ID|MESSAGE-ID [--since TIME] [--limit N]", "what happened to that mail, the newest first", run_trace, "qmgr", NULL, 0},
    {"dest list", "[--state STATE]", "destinations in use, or that failed: their windows and states", ask, "qmgr", NULL, 0},
    {"dest show", "DEST", "one of them: a domain, HOST:PORT or account:ID", ask, "qmgr", NULL, OUTPUT_RECORDS},
    {"dest suspend", "DEST [REASON...]", "attempt nothing there until it is resumed", ask, "qmgr", NULL, 0},
    {"dest resume", "DEST", "take that back", ask, "qmgr", NULL, 0},
    {"dest probe", "DEST", "make one attempt there now, and say how it went", ask, "qmgr", NULL, OUTPUT_RECORDS},
    {"help", "", "this text", run_help, NULL, NULL, 0},
};

/* ---- help ---- */

static void say_usage(FILE *to, const char *group)
{
    size_t n = strlen(group);
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        const struct command *c = &commands[i];
        if (n && (strncmp(c->name, group, n) != 0 || c->name[n] != ' '))
            continue;
        fprintf(to, "  waypost %s%s%s\n", c->name, *c->args ? " " : "", c->args);
        if (!n)
            fprintf(to, "        %s\n", c->help);
    }
}

static int run_help(struct cli *cli, const struct command *c)
{
    (void)cli;
    (void)c;
    printf("usage: waypost [-c FILE] [--json] COMMAND...\n\n");
    say_usage(stdout, "");
    printf("  waypost sendmail ...\n  waypost mailq ...\n  waypost newaliases\n        what these commands do, see sendmail(8)\n");
    printf("\n-c FILE   the configuration of the instance meant; else $WAYPOST_CONFIG, else\n"
           "          " SYSCONFDIR "/waypost/waypost.conf\n"
           "--json    the answer as one JSON array\n"
           "WHICH     ID, --sender ADDRESS, --recipient ADDRESS, --domain NAME, --state STATE, --older TIME,\n"
           "          --newer TIME, --larger SIZE, --smaller SIZE, or --all\n\n"
           "Exit status: 0 done, 1 failed, 2 wrong usage, 3 no such thing, 4 not possible now.\n");
    return EXIT_DONE;
}

/* ---- the command line ---- */

static int unknown(const char *word)
{
    bool group = false;
    size_t n = strlen(word);
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        group |= strncmp(commands[i].name, word, n) == 0 && commands[i].name[n] == ' ';
    if (group) {
        fprintf(stderr, "usage:\n");
        say_usage(stderr, word);
    } else {
        fprintf(stderr, "waypost: there is no command '%s': 'waypost help' lists them\n", word);
    }
    return EXIT_USAGE;
}

/* How many of the arguments are the command's name; 0: it is not meant. */
static int matches(const struct command *c, int argc, char **argv)
{
    const char *rest = c->name;
    for (int words = 0; words < argc; words++) {
        size_t n = strlen(argv[words]);
        if (n == 0 || strncmp(rest, argv[words], n) != 0 || (rest[n] && rest[n] != ' '))
            return 0;
        if (!rest[n])
            return words + 1;
        rest += n + 1;
    }
    return 0;
}

static int dispatch(struct cli *cli, int argc, char **argv)
{
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        int words = matches(&commands[i], argc, argv);
        if (!words)
            continue;
        for (int a = words; a < argc; a++) {
            if (cli->nargs == ARGS_MAX - 1) {
                fprintf(stderr, "waypost: too many arguments, %d are possible\n", ARGS_MAX - 1);
                return EXIT_USAGE;
            }
            cli->args[cli->nargs++] = span_of(argv[a]);
        }
        return commands[i].run(cli, &commands[i]);
    }
    return unknown(argv[0]);
}

/* Takes --json out, wherever it stands. */
static int take_json(struct cli *cli, int argc, char **argv)
{
    int kept = 0;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            cli->json = true;
        else
            argv[kept++] = argv[i];
    }
    argv[kept] = NULL;
    return kept;
}

int main(int argc, char **argv)
{
    struct cli cli = {.file = -1};
    const char *config = NULL;
    signal(SIGPIPE, SIG_IGN);
    if (argc > 0 && sendmail_is_name(argv[0]))
        return sendmail_main(argc, argv);
    if (argc > 1 && strchr(argv[1], '/') == NULL && sendmail_is_name(argv[1]))
        return sendmail_main(argc - 1, argv + 1);
    argc = take_json(&cli, argc, argv);
    int at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0)
            return run_help(&cli, NULL);
        if (strcmp(argv[at], "--version") == 0) {
            printf("waypost %s\n", PACKAGE_VERSION);
            return EXIT_DONE;
        }
        if (strcmp(argv[at], "-c") != 0 || at + 1 == argc) {
            fprintf(stderr, "usage: waypost [-c FILE] [--json] COMMAND..., 'waypost help' lists the commands\n");
            return EXIT_USAGE;
        }
        config = argv[++at];
    }
    cli.config = instance_config(config);
    if (at == argc) {
        fprintf(stderr, "usage: waypost [-c FILE] [--json] COMMAND..., 'waypost help' lists the commands\n");
        return EXIT_USAGE;
    }
    return dispatch(&cli, argc - at, argv + at);
}
