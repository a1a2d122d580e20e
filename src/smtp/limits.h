/* The sizes of RFC 5321 §4.5.3.1 and of its extensions, for both sides of the protocol. */
#ifndef SMTP_LIMITS_H
#define SMTP_LIMITS_H

#define SMTP_LOCAL_MAX 256        /* octets of a local part: RFC5321:4.5.3.1.1 demands 64, real ones are longer */
#define SMTP_DOMAIN_MAX 255       /* RFC5321:4.5.3.1.2 */
#define SMTP_COMMAND_LINE_MIN 512 /* with CRLF, RFC5321:4.5.3.1.4; parameters add to it, so settings start above */
#define SMTP_REPLY_LINE_MAX 512   /* with CRLF, RFC5321:4.5.3.1.5 */
#define SMTP_TEXT_LINE 1000       /* with CRLF, RFC5321:4.5.3.1.6: what everybody must take, and the most we send */
#define SMTP_RECIPIENTS_MIN 100   /* RFC5321:4.5.3.1.8 */
#define SMTP_AUTH_LINE_MAX 12288  /* with CRLF, RFC4954:4 */
#define SMTP_HOPS_MAX 100         /* Received lines before a message counts as looping, RFC5321:6.3 */
#define SMTP_PARAMS_MAX 16        /* parameters of one MAIL or RCPT */

#endif
