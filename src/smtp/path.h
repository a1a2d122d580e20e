/* Reverse-path, forward-path and ESMTP parameters of MAIL and RCPT: the grammar of RFC 5321 §4.1.2. Pure; spans point
 * into the input. */
#ifndef SMTP_PATH_H
#define SMTP_PATH_H

#include "base/arena.h"
#include "base/buf.h"
#include "smtp/limits.h"

enum smtp_path_allow {
    SMTP_PATH_NULL = 1,       /* "<>" */
    SMTP_PATH_POSTMASTER = 2, /* "<Postmaster>" without a domain, RFC5321:4.5.1 */
    SMTP_PATH_UTF8 = 4,       /* RFC 6531: UTF-8 in both parts */
    SMTP_PATH_BARE = 8,       /* a local part alone, as programs of this machine write it */
};

enum smtp_path_result {
    SMTP_PATH_BAD, /* no such grammar */
    SMTP_PATH_OK,
    SMTP_PATH_TOO_LONG,  /* a part over its limit */
    SMTP_PATH_NOT_ASCII, /* would need SMTPUTF8 */
};

struct smtp_path {
    struct span address; /* "local@domain" as given, without brackets and source route; empty for "<>"; "postmaster"
                            without a domain */
    struct span local;   /* as given, with its quotes */
    struct span domain;  /* a literal has its brackets; empty for "<>", "<Postmaster>" and a bare local part */
};

/* Takes a path off the front of *s, with blanks before it. *s is untouched unless the result is SMTP_PATH_OK; then it
 * starts with what came behind the path, which is nothing or a blank. */
enum smtp_path_result smtp_path_take(struct span *s, unsigned allow, struct smtp_path *path);
/* Mailbox = Local-part "@" ( Domain / address-literal ), nothing else around it. */
enum smtp_path_result smtp_mailbox_parse(struct span s, unsigned allow, struct smtp_path *path);
/* Domain of RFC 5321 (letters, digits, hyphens; an underscore is tolerated; UTF-8 with SMTP_PATH_UTF8), or an
 * address-literal. */
bool smtp_domain_valid(struct span s, unsigned allow);
bool smtp_literal_valid(struct span s);

struct smtp_param {
    struct span keyword;
    struct span value; /* p is NULL when there was no "=" */
};

/* Takes the next parameter off *s: 1, 0 at the end, -1 when it is not in the grammar. */
int smtp_param_take(struct span *s, struct smtp_param *p);

/* xtext of RFC 3461 §4: appends what it stands for; -1 when it is none (nothing appended). */
int smtp_xtext_decode(struct span text, struct buf *out);
void smtp_xtext_encode(struct span bytes, struct buf *out);

#endif
