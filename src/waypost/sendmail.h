/* sendmail, mailq and newaliases: the names by which other programs hand in mail. Exit codes are those of sysexits.h. */
#ifndef WAYPOST_SENDMAIL_H
#define WAYPOST_SENDMAIL_H

#include "base/err.h"
#include "mail/recipients.h"

enum sendmail_mode { SENDMAIL_SUBMIT, SENDMAIL_SMTP, SENDMAIL_LIST, SENDMAIL_ALIASES, SENDMAIL_RETRY };

struct sendmail_options {
    enum sendmail_mode mode;
    bool by_header;  /* -t */
    bool dots_stay;  /* -i: a line with a dot alone is text */
    bool verbose;    /* -v: the session goes to stderr */
    bool seven_bit;  /* -B 7BIT */
    const char *config, *sender, *name, *envid; /* NULL: not given */
    const char *notify, *ret;                   /* in capitals; NULL: not given */
    const char *which, *of;                     /* of -q: --all, --recipient, --sender or an id, and its value */
    char **rest;
    int rest_n;
};

/* False: err says what is wrong with the command line. Texts point into argv. */
bool sendmail_options(struct sendmail_options *o, int argc, char **argv, struct err *err);

/* ---- the message, in memory. Pure. ---- */

/* Appends lines with CRLF, without the line `From ` of a mailbox in front, up to a dot alone where that ends them. */
void sendmail_lines(struct span raw, bool dot_ends, struct buf *out);
/* The length of the lines that can be a header. */
size_t sendmail_header_length(struct span lines);
/* Appends the message: addresses of its header get the domain they lack, a missing From is put in front, and an empty
 * line where the text begins without one. */
void sendmail_complete(struct span lines, struct span from, struct span domain, struct buf *out);
/* Appends the value of From: the name quoted or encoded as it needs to be, so that it can't be anything else. */
void sendmail_from(struct span name, struct span address, struct buf *out);

struct sendmail_envelope {
    struct span sender, message, host;
    const struct recipients *to;
    const char *token; /* 32 hexadecimal digits: the message is queued once, however often it is handed in */
};
/* Appends what a client says in a session (RFC 2442 calls it batch SMTP); the place behind DATA's line. */
size_t sendmail_batch(const struct sendmail_options *o, const struct sendmail_envelope *e, struct buf *out);

/* ---- handing in ---- */

/* A socket to run/submit.sock; -1 and errno. */
int sendmail_connect(const char *run);
/* Says the batch, whose content begins at `content`. An exit code; EX_TEMPFAIL: nothing was taken, `why` says it. */
int sendmail_session(int fd, struct span batch, size_t content, bool verbose, struct buf *why);
/* Carries stdin to the server and its answers to stdout until the server has said all. */
int sendmail_pipe(int fd);
/* Leaves the batch in the folder, on disk, with that name. */
int sendmail_drop(const char *folder, const char *name, struct span batch, struct err *err);

/* The whole command; argv[0] is the name it was called by. */
int sendmail_main(int argc, char **argv);
/* Whether that is a name by which this command is called. */
bool sendmail_is_name(const char *path);

#endif
