/* Command lines of POP3, before and after login: cut from the input, split into keyword and arguments. RFC 1939 §3,
 * RFC 2449 §4 */
#ifndef POP3_LINE_H
#define POP3_LINE_H

#include "base/buf.h"

#define POP3_LINE_MAX 255       /* octets of a command with its line end, RFC2449:4 */
/* of an AUTH command or a response to a challenge: base64 of 12288 octets and the command, RFC5034:4 */
#define POP3_AUTH_LINE_MAX 16600
#define POP3_ERRORS_MAX 10      /* wrong commands before the connection is closed */

struct pop3_lines {
    bool swallowing; /* the rest of a line that was too long goes unread */
};

enum pop3_line { POP3_LINE_MORE, POP3_LINE_WHOLE, POP3_LINE_LONG };

/* Takes a line off `in`: *used bytes of it. POP3_LINE_WHOLE: *line without its line end (a bare LF counts as one).
 * POP3_LINE_LONG: the end of a line of more than `max` octets was reached; *line is its beginning as far as it was
 * at hand. */
enum pop3_line pop3_take_line(struct pop3_lines *l, struct span in, size_t max, size_t *used, struct span *line);

/* A keyword and what follows its one blank; keywords have no case. */
struct pop3_command {
    struct span keyword, args;
};
struct pop3_command pop3_split(struct span line);
/* What may stand in a command: printable ASCII and blanks; UTF-8 and other octets in arguments. No control
 * characters. */
bool pop3_clean(struct span line);

/* ---- capabilities: one list for the front and for the account's process ---- */
enum pop3_when { POP3_NO_LOGIN_YET, POP3_BEFORE_LOGIN, POP3_AFTER_LOGIN }; /* the first: a login needs TLS first */
/* the whole answer to CAPA, RFC2449:5; mechanisms: a list with blanks */
void pop3_put_capabilities(struct buf *out, enum pop3_when when, bool starttls, struct span mechanisms);

#endif
