/* The reader of what follows DATA or BDAT: finds the end of DATA, takes its transparency dots away, and learns on the
 * way what the queue must know. In the chunks of BDAT dots mean nothing, and the end is told by smtp_data_end(). There
 * is one reading of the end of DATA: CRLF "." CRLF (RFC5321:4.1.1.4). A bare CR or LF, a NUL, a line or content over
 * its limit are flaws: the reader goes on to the real end and gives nothing more out, the message is then refused as a
 * whole. Pure. */
#ifndef SMTP_DATA_H
#define SMTP_DATA_H

#include "base/buf.h"
#include "smtp/watch.h"

#define SMTP_MESSAGE_ID_MAX 998 /* RFC5322:2.1.1 */

enum smtp_data_flaw {
    SMTP_FLAW_BARE_CR = 1,
    SMTP_FLAW_BARE_LF = 2,
    SMTP_FLAW_NUL = 4,
    SMTP_FLAW_LINE = 8,    /* a line over its limit */
    SMTP_FLAW_SIZE = 16,   /* the content over its limit */
    SMTP_FLAW_HEADER = 32, /* the header section over its limit */
};

struct smtp_data_limits {
    uint64_t size;   /* octets of content */
    uint32_t line;   /* octets of a line, CRLF included */
    uint32_t header; /* octets of the header section */
    bool strip;      /* leave Bcc and Resent-Bcc fields out (RFC6409:8), Return-Path, which delivery alone writes (RFC5321:4.4),
                        and a Date or Message-ID that is none */
    bool chunked;    /* BDAT: no dots, no end in the content (RFC3030:2) */
    bool normalise;  /* CR or LF alone becomes CRLF instead of a flaw; it never ends DATA, nor begins a line with a dot to be taken away */
    struct span own; /* our name: leave Authentication-Results fields out that claim to be of it (RFC8601:5); may be empty */
    const struct smtp_watched *watched; /* fields to look out for */
    size_t watched_count;
    bool binary;     /* with it: behind the header section any octets, kept as they are (RFC3030:3) */
};

struct smtp_data {
    struct smtp_data_limits limits;
    int state;
    unsigned flaws; /* enum smtp_data_flaw bits */
    uint64_t size;  /* octets received: without transparency dots and without the end; what SIZE of RFC 1870 counts */
    uint64_t given; /* octets given out */
    uint32_t header_bytes; /* of what was given out: the header section, its last CRLF included, the empty line not;
                              known when !in_header */
    uint32_t line;         /* octets of this line so far */
    unsigned received;     /* Received fields */
    bool in_header, eight_bit;
    bool has_date, has_message_id, has_from;
    bool has_tls_required, take_tls; /* RFC8689:3; take_tls: the field being read is that */
    uint8_t tls_n;                   /* of its value, blanks left out */
    char tls[2];
    bool doubtful_end; /* the line before the end ended with CR CR LF: other servers read that differently */
    bool after_two_crs;
    /* the header field being read */
    uint8_t head_n;
    bool decided, drop, take_id;
    uint8_t judged;         /* which field that is looked at when it is whole; 0: none */
    uint64_t judged_begin;  /* `given` before it */
    char head[64];
    uint16_t id_n;
    struct smtp_watch watch; /* those of limits.watched that are there */
    char id[SMTP_MESSAGE_ID_MAX]; /* the first Message-ID, unfolded and trimmed at the end; smtp_data_message_id() */
};

void smtp_data_begin(struct smtp_data *d, const struct smtp_data_limits *limits);
/* Reads from `in`, appends content to `out`. True at the end of data; *used then ends just behind it. Otherwise all of
 * `in` was used. */
bool smtp_data_read(struct smtp_data *d, struct span in, size_t *used, struct buf *out);
/* chunked: the last chunk was read. A last line without its CRLF gets one; a CR alone at the end is a flaw. */
void smtp_data_end(struct smtp_data *d, struct buf *out);
struct span smtp_data_message_id(const struct smtp_data *d); /* empty when there was none */
bool smtp_data_tls_needless(const struct smtp_data *d);     /* the message says "TLS-Required: No" */

#endif
