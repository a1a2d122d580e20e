/* The texts of notifications (RFC 3464) that people read, and of what is told of an account that sends too much: one file for each kind, which an
 * operator changes or translates.
 *
 *     file   = *( phrase / "" ) "" body           lines in UTF-8, ended by LF or CRLF, 400 bytes each, 16 KiB in all
 *     phrase = NAME ": " TEXT                     NAME of notice_phrase_name(); one that is not there is the built-in one's
 *     body   = lines with {placeholders}; "{{" is a brace
 *
 * Which placeholders may stand where is checked here, and {recipients} has a line for itself in every body of a notification. A line of the body
 * whose placeholders are all empty is left out. Pure. */
#ifndef CONF_NOTICE_TEXT_H
#define CONF_NOTICE_TEXT_H

#include "base/err.h"
#include "base/span.h"

#define NOTICE_TEXT_MAX (16u << 10)
#define NOTICE_LINE_MAX 400

/* The first ones are the actions of RFC 3464 in the order of enum dsn_action. */
enum notice_kind {
    NOTICE_FAILED,
    NOTICE_DELAYED,
    NOTICE_EXPANDED,
    NOTICE_RELAYED,
    NOTICE_DELIVERED,
    NOTICE_DOUBLE_BOUNCE,
    NOTICE_ACCOUNT_HELD,          /* to the account that has sent more than it may */
    NOTICE_ACCOUNT_HELD_OPERATOR, /* to the operator */
    NOTICE_KINDS
};

enum notice_phrase {
    NOTICE_SUBJECT,
    NOTICE_FROM,     /* the name in front of the address */
    NOTICE_LEADS_TO, /* of a recipient: where its mail goes in the end */
    NOTICE_SAID,     /* another server's answer */
    NOTICE_TRIED,    /* it was given up after many attempts; the answer follows */
    NOTICE_DIALOGUE, /* in front of what was said in the attempt that failed */
    NOTICE_LATE,     /* the time of DELIVERBY (RFC 2852) has passed */
    NOTICE_UNKNOWN,  /* instead of an answer */
    NOTICE_MORE,     /* recipients that are named in the part for machines only */
    NOTICE_MESSAGES_HOUR, /* the reason why an account is held, in the order of enum sending_limit */
    NOTICE_RECIPIENTS_HOUR,
    NOTICE_MESSAGES_DAY,
    NOTICE_RECIPIENTS_DAY,
    NOTICE_NEW_DAY,
    NOTICE_PHRASES
};

enum notice_place {
    NOTICE_LITERAL,
    NOTICE_RECIPIENTS,
    NOTICE_HOST,
    NOTICE_SENDER,
    NOTICE_DATE, /* when the message came: as in its header, as 2027-01-15, as 08:00 */
    NOTICE_DAY,
    NOTICE_TIME,
    NOTICE_UNTIL, /* how long it is tried, likewise; empty when it is not tried any more */
    NOTICE_UNTIL_DAY,
    NOTICE_UNTIL_TIME,
    NOTICE_SUBJECT_LINE,
    NOTICE_REFERENCE,
    NOTICE_ADDRESS,
    NOTICE_SERVER,
    NOTICE_ANSWER,
    NOTICE_ATTEMPTS,
    NOTICE_COUNT,
    NOTICE_ACCOUNT,
    NOTICE_REASON,
    NOTICE_POSTMASTER,
    NOTICE_CLIENT, /* where the message came from that passed the limit; empty: that is not known */
    NOTICE_PLACES
};

struct notice_text {
    struct span phrase[NOTICE_PHRASES];
    struct span body;
};

/* Borrows from `text`. -1: *line is wrong, err says what and how to mend it. */
int notice_text_parse(struct span text, enum notice_kind kind, struct notice_text *out, unsigned *line, struct err *err);
/* What is said without a file, as the file would be; etc/notices has the same. */
struct span notice_text_built_in(enum notice_kind kind);
/* The name of its key in section notices, and of its file in etc/notices. */
const char *notice_kind_name(enum notice_kind kind);

/* The next line of a body, without its end. False: there is none. */
bool notice_line_next(struct span *body, struct span *line);
/* The next piece of a line or phrase that was checked: literal text, or a placeholder. False: there is none. */
bool notice_piece_next(struct span *rest, enum notice_place *place, struct span *literal);

#endif
