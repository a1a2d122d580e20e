/* Every key of the configuration file, once. Structures, parser, wire form, manual page (doc/waypost.conf.5) and tests
 * are expanded from this table.
 *
 * A section is a list of K(member, "key", type, "default", least, most, roles, "what it means"):
 *   type     text, path, host (a domain name), words (a list), addresses (a list of IP addresses), hostport, secret_file, text_file,
 *            networks (ADDRESS/BITS; none), logins, patterns (* for any characters), field ("NAME: PATTERN"), number, size, time, flag, or one of the choices below
 *   default  as it would stand in the file; "" for an optional key; NULL for one that must be given
 *   least, most   for number, size (bytes), time (ms) and the length of a list
 *   roles    the programs that are told of it, FROM(ROLE_…) bits; the supervisor always knows */
#ifndef CONF_KEYS_H
#define CONF_KEYS_H

#include "ipc/role.h"

#define CONF_EVERYBODY FROM_ANY
#define CONF_FRONTS (FROM(ROLE_MX) | FROM(ROLE_SUBMISSION) | FROM(ROLE_IMAPD) | FROM(ROLE_POP3D))

#define CONF_ASK_DNS (FROM(ROLE_RELAY) | FROM(ROLE_JUDGE) | FROM(ROLE_TOKEND))
#define CONF_TOKENS (FROM(ROLE_AUTHD) | FROM(ROLE_TOKEND))

#define CONF_MS INT64_C(1)
#define CONF_SECOND (1000 * CONF_MS)
#define CONF_MINUTE (60 * CONF_SECOND)
#define CONF_HOUR (60 * CONF_MINUTE)
#define CONF_DAY (24 * CONF_HOUR)
#define CONF_KIB (UINT64_C(1) << 10)
#define CONF_MIB (UINT64_C(1) << 20)
#define CONF_GIB (UINT64_C(1) << 30)

#ifndef LOCALSTATEDIR
#define LOCALSTATEDIR "/var"
#endif
#ifndef RUNSTATEDIR
#define RUNSTATEDIR "/run"
#endif

/* ---- choices: C(ENUM, "word") ---- */
#define CONF_CHOICES_protocol(C) \
    C(PROTOCOL_SMTP, "smtp") C(PROTOCOL_SUBMISSION, "submission") C(PROTOCOL_IMAP, "imap") C(PROTOCOL_POP3, "pop3") \
    C(PROTOCOL_ODMR, "odmr")
#define CONF_CHOICES_tls_mode(C) C(TLS_NONE, "none") C(TLS_STARTTLS, "starttls") C(TLS_IMPLICIT, "implicit")
#define CONF_CHOICES_tls_version(C) C(TLS_1_2, "1.2") C(TLS_1_3, "1.3")
#define CONF_CHOICES_log_to(C) C(LOG_STDERR, "stderr") C(LOG_SYSLOG, "syslog") C(LOG_JOURNAL, "journal")
#define CONF_CHOICES_log_least(C) C(LOG_ERROR, "error") C(LOG_WARN, "warn") C(LOG_INFO, "info") C(LOG_DEBUG, "debug")
#define CONF_CHOICES_relay_tls(C) \
    C(RELAY_TLS_NEVER, "never") C(RELAY_TLS_MAY, "may") C(RELAY_TLS_MUST, "must") C(RELAY_TLS_IMPLICIT, "implicit")

#define CONF_CHOICES_asking(C) C(ASKING_OFF, "off") C(ASKING_AUTHENTICATED, "authenticated") C(ASKING_ON, "on")

/* what is done about a finding: each grade does what those before it do, too */
#define CONF_CHOICES_grade(C) \
    C(GRADE_OFF, "off") C(GRADE_LOG, "log") C(GRADE_HEADER, "header") C(GRADE_DEFER, "defer") C(GRADE_REJECT, "reject")

#define CONF_CHOICES_bare(C) C(BARE_REFUSE, "refuse") C(BARE_NORMALISE, "normalise")

#define CONF_CHOICE_TYPES(T) T(grade) T(bare) T(protocol) T(tls_mode) T(tls_version) T(log_to) T(log_least) T(relay_tls) T(asking)

/* ---- the keys outside of any section ---- */
#define CONF_KEYS_main(K) \
    K(hostname, "hostname", host, "", 0, 0, CONF_EVERYBODY, \
      "The name this server gives itself: in its greetings, in EHLO, in Received lines. Without it, the name " \
      "of the machine.") \
    K(state, "state", path, LOCALSTATEDIR "/lib/waypost", 0, 0, CONF_EVERYBODY, \
      "The folder that holds everything worth keeping: the directory, the queue and the mail.") \
    K(run, "run", path, RUNSTATEDIR "/waypost", 0, 0, 0, \
      "The folder of the operators' socket.") \
    K(log, "log", log_to, "stderr", 0, 0, CONF_EVERYBODY, \
      "Where log lines go: stderr, syslog (/dev/log), or journal (stderr as journald reads it).") \
    K(log_level, "log-level", log_least, "info", 0, 0, CONF_EVERYBODY, \
      "The least important lines that are written: error, warn, info or debug.") \
    K(stop_timeout, "stop-timeout", time, "30s", CONF_SECOND, CONF_HOUR, 0, \
      "How long a program may take to finish what is in flight when it is stopped or replaced.")

#define CONF_KEYS_listen(K) \
    K(protocol, "protocol", protocol, NULL, 0, 0, CONF_FRONTS | FROM(ROLE_KEYD), \
      "What is spoken there: smtp (mail from other servers), submission (mail of our users), imap, pop3, or odmr " \
      "(on-demand mail relay for customers' hosts, RFC 2645; its port is 366).") \
    K(address, "address", addresses, "0.0.0.0 ::", 1, 16, CONF_FRONTS, \
      "The addresses to listen on.") \
    K(port, "port", number, NULL, 1, 65535, CONF_FRONTS, \
      "The port to listen on.") \
    K(tls, "tls", tls_mode, "starttls", 0, 0, CONF_FRONTS, \
      "none, starttls (offered inside the protocol), or implicit (from the first byte).") \
    K(certificate, "certificate", path, "", 0, 0, 0, \
      "The certificate chain of this listener, PEM. Without it, the one of the tls section.") \
    K(key, "key", path, "", 0, 0, 0, \
      "The private key of that certificate, PEM.") \
    K(check_from, "check-from", flag, "yes", 0, 0, FROM(ROLE_SUBMISSION), \
      "Who submits a message may name only addresses of its account in From and Sender, too, not only as the " \
      "reverse-path: its own, its aliases, its catch-all, delegated ones. A message whose header can't be right is refused, too: without From, " \
      "with a field twice that may stand once, 8-bit without SMTPUTF8. No is for accounts that resend what others wrote.") \
    K(hide_client, "hide-client", flag, "no", 0, 0, FROM(ROLE_SUBMISSION), \
      "Of what is submitted there, the Received field says neither the client's address nor the name that it gave itself " \
      "(\"from unknown\"): recipients need not learn where the author is. The log and the queue have both.") \
    K(client_ca, "client-ca", path, "", 0, 0, CONF_FRONTS, \
      "Certificates of authorities, PEM. Clients are asked for a certificate of one of them; who shows one may log in with " \
      "EXTERNAL as the account that it belongs to ('waypost account certificate add', or certificate-names of the " \
      "accounts section). Who shows none logs in as elsewhere.") \
    K(plaintext_login, "plaintext-login", flag, "no", 0, 0, CONF_FRONTS, \
      "Allow logins without TLS. Only on a listener whose addresses are all loopback ones.") \
    K(proxy, "proxy", flag, "no", 0, 0, CONF_FRONTS, \
      "Connections come from a load balancer and begin with a header of the PROXY protocol (version 1 or 2), before " \
      "TLS too; the client that it names counts as the peer. Needs proxy-from.") \
    K(proxy_from, "proxy-from", networks, "", 0, 64, CONF_FRONTS, \
      "The balancers: connections from elsewhere are closed.")

#define CONF_KEYS_tls(K) \
    K(certificate, "certificate", path, "", 0, 0, 0, \
      "The certificate chain of every listener that names none of its own, PEM.") \
    K(key, "key", path, "", 0, 0, 0, \
      "The private key of that certificate, PEM.") \
    K(min_version, "min-version", tls_version, "1.2", 0, 0, CONF_FRONTS, \
      "The oldest version of TLS that clients may speak: 1.2 or 1.3.")

#define CONF_KEYS_smtp(K) \
    K(instances, "instances", number, "1", 1, 16, 0, \
      "How many processes serve each of the two roles, smtp and submission.") \
    K(max_message_size, "max-message-size", size, "50M", 64 * CONF_KIB, 2 * CONF_GIB, CONF_EVERYBODY, \
      "The largest message that is accepted, announced by SIZE (RFC 1870); also the largest IMAP APPEND.") \
    K(max_recipients, "max-recipients", number, "1000", 100, 100000, FROM_SMTPD, \
      "Recipients of one message (RFC 5321 section 4.5.3.1.8).") \
    K(max_refused, "max-refused", number, "100", 1, 100000, FROM_SMTPD, \
      "Refused recipients after which a session is closed.") \
    K(max_command_line, "max-command-line", number, "2048", 1200, 65536, FROM_SMTPD, \
      "Bytes of a command line (RFC 5321 section 4.5.3.1.4).") \
    K(max_text_line, "max-text-line", number, "16384", 1000, 1048576, FROM_SMTPD, \
      "Bytes of a line of content that are accepted. RFC 5321 section 4.5.3.1.6 asks for 1000; real mail has " \
      "longer ones.") \
    K(max_header, "max-header", size, "256K", 16 * CONF_KIB, 4 * CONF_MIB, FROM_SMTPD, \
      "Bytes of a message's header section.") \
    K(max_errors, "max-errors", number, "20", 1, 1000, FROM_SMTPD, \
      "Wrong commands, and senders and contents refused for good, after which a session is closed. Of NOOP, RSET, HELP, HELO, EHLO " \
      "and of VRFY and EXPN that are off, those beyond 100 since the last accepted message count, too.") \
    K(max_login_failures, "max-login-failures", number, "3", 1, 100, FROM(ROLE_SUBMISSION), \
      "Failed logins that a session may have; one more ends it.") \
    K(max_transactions, "max-transactions", number, "1000", 1, 1000000, FROM_SMTPD, \
      "Messages of one session.") \
    K(max_connections, "max-connections", number, "1000", 1, 50000, FROM_SMTPD, \
      "Sessions that each process serves at a time.") \
    K(max_connections_per_client, "max-connections-per-client", number, "250", 1, 50000, FROM_SMTPD | FROM(ROLE_TALLYD), \
      "Sessions that one client (an IPv4 address or an IPv6 /64) may have at a time, over all processes; those of " \
      "limits.exempt are counted by each process for itself.") \
    K(max_memory, "max-memory", size, "256M", CONF_MIB, 1024 * CONF_GIB, FROM_SMTPD, \
      "How much memory the sessions of each process may hold for what clients have sent: senders, recipients, content that is " \
      "not yet on disk. Beyond it further messages and recipients are refused for now (452 4.3.1), until there is room; " \
      "what was accepted so far goes on.") \
    K(command_timeout, "command-timeout", time, "5m", CONF_SECOND, CONF_HOUR, FROM_SMTPD, \
      "How long a client may be silent between commands (RFC 5321 section 4.5.3.2.7).") \
    K(data_timeout, "data-timeout", time, "5m", CONF_SECOND, CONF_HOUR, FROM_SMTPD, \
      "How long a client may be silent within a message's content.") \
    K(data_least, "data-least", size, "1K", 0, CONF_MIB, FROM_SMTPD, \
      "How much of a message's content has to come in each data-timeout: a client that sends single bytes is told 421. As a " \
      "command has to be whole within command-timeout.") \
    K(bare_line_ends, "bare-line-ends", bare, "refuse", 0, 0, FROM_SMTPD, \
      "What becomes of a message with CR or LF alone: refuse (554), or normalise: each becomes CRLF. Either way only " \
      "CRLF.CRLF ends a message.") \
    K(send_commands, "send-commands", flag, "no", 0, 0, FROM_SMTPD | FROM(ROLE_AUTHD), \
      "Serve SEND, SOML and SAML (RFC 821 section 3.4): messages to the terminals where `waypost terminal` runs, instead of or " \
      "beside the mailbox.") \
    K(etrn, "etrn", flag, "no", 0, 0, FROM_SMTPD, \
      "Serve ETRN (RFC 1985): what waits for a domain is tried now, for those whom the domain's section entitles (pull-by, " \
      "pull-from).") \
    K(xclient_from, "xclient-from", networks, "", 0, 64, FROM_SMTPD, \
      "Fronts (mail proxies) that may say by XCLIENT for which client they speak; announced to them alone.") \
    K(vrfy, "vrfy", asking, "off", 0, 0, FROM_SMTPD | FROM(ROLE_AUTHD), \
      "Who may ask by VRFY whether an address exists: nobody (off: 252 for every one), clients that have logged in " \
      "(authenticated), or everybody (on).") \
    K(expn, "expn", asking, "off", 0, 0, FROM_SMTPD | FROM(ROLE_AUTHD), \
      "Who may ask by EXPN for the members of an alias; off: 252 for every name.") \
    K(deliver_by_min, "deliver-by-min", time, "30s", 0, CONF_DAY, FROM_SMTPD, \
      "The least time that a sender may grant a message that is to be returned when it is not delivered by then " \
      "(DELIVERBY, RFC 2852); announced. 0 sets no minimum.") \
    K(future_release, "future-release", time, "30d", 0, 366 * CONF_DAY, FROM(ROLE_SUBMISSION), \
      "How long our users may have a message held before it leaves (FUTURERELEASE, RFC 4865); announced. 0 does not " \
      "offer it.") \
    K(priority_accounts, "priority-accounts", logins, "", 0, 64, FROM(ROLE_SUBMISSION) | FROM(ROLE_QMGR), \
      "Accounts (LOGIN@DOMAIN each) that may send with a priority above 0 (MT-PRIORITY, RFC 6710); for others such " \
      "a priority becomes 0. Everybody may send with a lower one.")

#define CONF_KEYS_door(K) \
    K(greet_pause, "greet-pause", time, "0", 0, CONF_MINUTE, FROM(ROLE_MX), \
      "How long a client waits for the greeting, on listeners without implicit TLS. Spam senders that do not wait give " \
      "themselves away (RFC 5321 section 4.3.1); everybody else waits, too. 0 greets at once.") \
    K(early_talker, "early-talker", grade, "reject", 0, 0, FROM(ROLE_MX), \
      "What is done about a client that speaks before the greeting: off, log, header (a line in " \
      "Authentication-Results), defer (450 for its recipients) or reject (554 and the end). Each does what those before " \
      "it do, too. Mail to postmaster is never kept out by this or the following checks, but for the 554.") \
    K(helo, "helo", grade, "log", 0, 0, FROM(ROLE_MX), \
      "What is done about a client whose EHLO is neither a host name nor an address in brackets, is one word, or is the " \
      "name or address of this server: off, log, header, defer (450) or reject (550). A name that DNS does not know or " \
      "that leads elsewhere, and somebody else's address in brackets, are marked by header at most: RFC 5321 section " \
      "4.1.4 forbids to refuse mail for that.") \
    K(reverse_dns, "reverse-dns", grade, "log", 0, 0, FROM(ROLE_MX), \
      "What is done about a client whose address has no name in DNS, or none that leads back to it: off, log, header " \
      "(iprev in Authentication-Results, for all clients), defer (450) or reject (550). When DNS does not answer, mail is " \
      "deferred at most. With off, no name is looked up for the Received line.")

#define CONF_KEYS_local_submission(K) \
    K(enabled, "enabled", flag, "yes", 0, 0, 0, \
      "Take mail from the programs of this machine: sendmail(1) and whoever speaks SMTP on the socket submit.sock of the " \
      "run folder. What is handed in while the server is stopped waits in the folder drop of the state folder.") \
    K(domain, "domain", host, "", 0, 0, FROM(ROLE_LOCAL), \
      "What is put behind an address without a domain, such as root. Without it, hostname.") \
    K(users, "users", text, "", 0, 0, FROM(ROLE_LOCAL), \
      "The users of this machine (names or numbers, with blanks between) who may do that, beside root and the owner of this " \
      "instance. " \
      "Without it, everybody may.")

#define CONF_KEYS_imap(K) \
    K(instances, "instances", number, "2", 1, 16, 0, \
      "How many processes carry the IMAP connections.") \
    K(max_connections, "max-connections", number, "2000", 1, 50000, FROM(ROLE_IMAPD), \
      "Connections that each process carries at a time.") \
    K(max_connections_each, "max-connections-each", number, "1000", 1, 50000, FROM(ROLE_IMAPD) | FROM(ROLE_TALLYD), \
      "Connections of one client (an IPv4 address or an IPv6 /64) at a time, over all processes; those of limits.exempt " \
      "are counted by each process for itself.") \
    K(max_login_failures, "max-login-failures", number, "3", 1, 100, FROM(ROLE_IMAPD), \
      "Failed logins after which a connection is closed.") \
    K(login_timeout, "login-timeout", time, "3m", CONF_SECOND, CONF_HOUR, FROM(ROLE_IMAPD), \
      "How long a client may take to log in, whatever it says meanwhile. The time in which it waits for us does not count.") \
    K(idle_timeout, "idle-timeout", time, "31m", CONF_SECOND, 7 * CONF_DAY, FROM(ROLE_IMAPD) | FROM(ROLE_ZYGOTE), \
      "How long a client that has logged in may be silent; RFC 3501 section 5.4 asks for at least 30 minutes.")

#define CONF_KEYS_pop3(K) \
    K(instances, "instances", number, "1", 1, 16, 0, \
      "How many processes carry the POP3 connections.") \
    K(max_connections, "max-connections", number, "1000", 1, 50000, FROM(ROLE_POP3D), \
      "Connections that each process carries at a time.") \
    K(max_connections_each, "max-connections-each", number, "500", 1, 50000, FROM(ROLE_POP3D) | FROM(ROLE_TALLYD), \
      "Connections of one client (an IPv4 address or an IPv6 /64) at a time, over all processes; those of limits.exempt " \
      "are counted by each process for itself.") \
    K(max_login_failures, "max-login-failures", number, "3", 1, 100, FROM(ROLE_POP3D), \
      "Failed logins after which a connection is closed.") \
    K(login_timeout, "login-timeout", time, "3m", CONF_SECOND, CONF_HOUR, FROM(ROLE_POP3D), \
      "How long a client may take to log in, whatever it says meanwhile. The time in which it waits for us does not count.") \
    K(idle_timeout, "idle-timeout", time, "10m", CONF_SECOND, CONF_DAY, FROM(ROLE_POP3D) | FROM(ROLE_ZYGOTE), \
      "How long a client that has logged in may be silent; RFC 1939 section 3 asks for at least 10 minutes.")

#define CONF_KEYS_limits(K) \
    K(exempt, "exempt", networks, "127.0.0.0/8 ::1", 0, 64, CONF_FRONTS | FROM(ROLE_AUTHD) | FROM(ROLE_TALLYD), \
      "Who is neither counted nor slowed by this section nor checked by section door: networks of your own, ADDRESS or " \
      "ADDRESS/BITS, or none. A client of all others is an IPv4 address or an IPv6 /64. Up to half of a limit nothing happens, then replies are delayed " \
      "more and more, then the client is turned away with 421; a limit of 0 is none.") \
    K(connection_rate, "connection-rate", number, "600", 0, 1000000, FROM(ROLE_TALLYD), \
      "Connections of one client in rate-window: SMTP, IMAP and POP3 each for themselves.") \
    K(message_rate, "message-rate", number, "3000", 0, 1000000, FROM(ROLE_TALLYD), \
      "Messages of one client in rate-window; sessions tell of theirs twenty at a time, sooner where the limit is near, and when they end. " \
      "Beyond it open sessions are slowed and MAIL is put off (450) until there is room again.") \
    K(rate_window, "rate-window", time, "1m", CONF_SECOND, CONF_DAY, FROM(ROLE_TALLYD), \
      "The time that those two count for.") \
    K(refused_recipients, "refused-recipients", number, "1000", 0, 1000000, FROM(ROLE_TALLYD), \
      "Recipients refused to one client in window; sessions tell of them and of errors ten at a time, and when they end. Beyond it open sessions end, too.") \
    K(errors, "errors", number, "500", 0, 1000000, FROM(ROLE_TALLYD), \
      "Wrong commands of one client in window.") \
    K(failed_logins, "failed-logins", number, "100", 0, 1000000, FROM(ROLE_TALLYD), \
      "Failed logins of one client in window. Not held against a client that has logged in within 30 days: they may " \
      "be somebody else's behind the same address, and are slowed for each account.") \
    K(window, "window", time, "1h", CONF_SECOND, 30 * CONF_DAY, FROM(ROLE_TALLYD), \
      "The time that those three count for.") \
    K(tarpit, "tarpit", time, "5s", 0, CONF_MINUTE, FROM_SMTPD | FROM(ROLE_TALLYD) | FROM(ROLE_QMGR), \
      "The longest that a reply is delayed; 0 delays none.") \
    K(tarpit_sessions, "tarpit-sessions", number, "100", 0, 50000, FROM_SMTPD, \
      "Sessions of each process whose replies are being delayed, at most; further ones end with 421.") \
    K(clients, "clients", number, "100000", 1000, 10000000, FROM(ROLE_TALLYD), \
      "Clients that are remembered, some 150 bytes each.")

#define CONF_KEYS_sending(K) \
    K(messages_hour, "messages-hour", number, "0", 0, 1000000000, FROM(ROLE_AUTHD), \
      "Messages that one account submits in an hour, unless it or its domain has a limit of its own (waypost account limit, " \
      "waypost domain limit). 0, here and below, is no limit. From half of a limit the replies to the account are delayed more " \
      "and more (tarpit of the section limits). What would pass a limit is accepted and held, as all that follows: nothing is " \
      "lost. The owner and notify are told once, and an operator releases or discards it: waypost account held.") \
    K(recipients_hour, "recipients-hour", number, "0", 0, 1000000000, FROM(ROLE_AUTHD), \
      "Recipients of its messages in an hour.") \
    K(messages_day, "messages-day", number, "0", 0, 1000000000, FROM(ROLE_AUTHD), \
      "Messages in a day.") \
    K(recipients_day, "recipients-day", number, "0", 0, 1000000000, FROM(ROLE_AUTHD), \
      "Recipients in a day.") \
    K(new_recipients_day, "new-recipients-day", number, "0", 0, 1000000000, FROM(ROLE_AUTHD), \
      "Recipients in a day that the account never wrote to before: a stolen password shows there first. Who it wrote to is " \
      "learnt from when this limit is set.") \
    K(remembered, "remembered", number, "200000", 1000, 100000000, FROM(ROLE_QMGR), \
      "How many recipients of all accounts are remembered, some 120 bytes each; an eighth of them for one account. Those that " \
      "were not written to for longest are forgotten first.") \
    K(notify, "notify", logins, "", 0, 1, FROM(ROLE_QMGR), \
      "The address that is told when an account's mail is held. Without it, postmaster of the account's domain.")

#define CONF_KEYS_queue(K) \
    K(commit_wait, "commit-wait", time, "2ms", 0, CONF_SECOND, FROM(ROLE_QMGR), \
      "How long a commit waits for others to share its disk write, while more than one session is in flight.") \
    K(retry_min, "retry-min", time, "5m", CONF_SECOND, CONF_DAY, FROM(ROLE_QMGR), \
      "The first wait after an attempt that failed for now.") \
    K(retry_max, "retry-max", time, "4h", CONF_SECOND, 7 * CONF_DAY, FROM(ROLE_QMGR), \
      "The longest wait between attempts; waits double up to it.") \
    K(retry, "retry", times, "", 0, 32, FROM(ROLE_QMGR), \
      "The waits after the first attempt, the second and so on, instead of doubling ones; the last holds for all that " \
      "follow.") \
    K(retry_soon, "retry-soon", times, "2m 5m 10m", 0, 32, FROM(ROLE_QMGR), \
      "The waits after replies of retry-soon-for, where they are shorter than the usual ones: greylisting is over sooner than " \
      "an outage. After the last of them the usual waits go on. Without values, such replies are like others.") \
    K(retry_soon_for, "retry-soon-for", replies, "421/4.7.* 450/4.7.* 451/4.7.* 450/4.2.0 451/4.2.0 450/none 451/none", 1, 32, FROM(ROLE_QMGR), \
      "The replies that retry-soon is for: code and enhanced status (RFC 3463), with * for any part; CODE/none is a reply " \
      "without a status, or with X.0.0. The default is what greylisting answers with.") \
    K(expire, "expire", time, "5d", CONF_SECOND, 30 * CONF_DAY, FROM(ROLE_QMGR), \
      "How long a message is tried before it is returned (RFC 5321 section 4.5.4.1).") \
    K(bounce_expire, "bounce-expire", time, "1d", CONF_SECOND, 30 * CONF_DAY, FROM(ROLE_QMGR), \
      "The same for messages with a null sender.") \
    K(delay_warning, "delay-warning", time, "4h", 0, 30 * CONF_DAY, FROM(ROLE_QMGR), \
      "A sender is told when a recipient was not reached for this long and is tried further: if it asked for that " \
      "(NOTIFY=DELAY of RFC 3461), or did not say and sent the message from here. 0 tells nobody.") \
    K(return_max, "return-max", size, "50K", 0, 16 * CONF_MIB, FROM(ROLE_QMGR), \
      "The largest message that comes back whole when its sender asked for that (RET=FULL of RFC 3461); of larger ones, and when it " \
      "did not ask, the header comes back.") \
    K(double_bounce_to, "double-bounce-to", logins, "", 0, 1, FROM(ROLE_QMGR), \
      "The address that is told when a notification could not be delivered, such as a postmaster's. What can't be delivered to that " \
      "address ends there. Without it, nobody is told.") \
    K(max_active, "max-active", number, "20000", 10, 1000000, FROM(ROLE_QMGR), \
      "Recipients that are held in memory for delivery.") \
    K(destination_concurrency, "destination-concurrency", number, "20", 1, 1000, FROM(ROLE_QMGR), \
      "Attempts under way to one destination, at most.") \
    K(history, "history", time, "7d", 0, 366 * CONF_DAY, FROM(ROLE_QMGR), \
      "How long it is kept what happened to a message after it has left the queue, for `waypost trace` and `waypost queue " \
      "why`: who sent it, each attempt, what became of it; no content. One file for each day in the queue's folder, deleted " \
      "this time and expire after its day. With no, nothing is kept.") \
    K(min_free, "min-free", size, "64M", 0, 1024 * CONF_GIB, FROM(ROLE_QMGR), \
      "Mail is refused for now when the queue's disk has less room than this.") \
    K(min_free_files, "min-free-files", number, "64", 0, 1000000000, FROM(ROLE_QMGR), \
      "The same for the files (inodes) that can still be made there, where its file system has a limit of them.")

#define CONF_KEYS_notices(K) \
    K(failed, "failed", text_file, "", 0, 0, FROM(ROLE_QMGR), \
      "A file with the text that a sender reads whose message could not be delivered. Its first lines are \"Subject: ...\" and other " \
      "short texts, then come an empty line and the text, in UTF-8, with placeholders such as {recipients}. The folder etc/notices of the " \
      "source has all of them as they are without these keys, and in German: copy one, change it, and run waypost check. Placeholders of " \
      "the subject and the text: {host}, {sender}, {subject}, {reference}, {date}, {day} and {time} (when the message came), " \
      "{until}, {until-day} and {until-time} (how long it is tried); times are UTC. {recipients} has a line for itself. A line whose " \
      "placeholders are all empty is left out; {{ is a brace.") \
    K(delayed, "delayed", text_file, "", 0, 0, FROM(ROLE_QMGR), \
      "The same for a message that is delayed.") \
    K(delivered, "delivered", text_file, "", 0, 0, FROM(ROLE_QMGR), \
      "The same for a message that was delivered, for senders who asked to be told.") \
    K(relayed, "relayed", text_file, "", 0, 0, FROM(ROLE_QMGR), \
      "The same for a message that went to a server that does not tell more.") \
    K(expanded, "expanded", text_file, "", 0, 0, FROM(ROLE_QMGR), \
      "The same for a message to an alias with several members.") \
    K(double_bounce, "double-bounce", text_file, "", 0, 0, FROM(ROLE_QMGR), \
      "The same for a notification that could not be delivered (double-bounce-to of the section queue).") \
    K(account_held, "account-held", text_file, "", 0, 0, FROM(ROLE_QMGR), \
      "The same for what an account is told that has sent more than it may (section sending, `waypost account limit`). Placeholders of these two: " \
      "{host}, {account}, {reason}, {postmaster} (whom the operator's notice goes to) and {client} (where the message came from that passed the limit).") \
    K(account_held_operator, "account-held-operator", text_file, "", 0, 0, FROM(ROLE_QMGR), \
      "The same for what the operator is told then.") \
    K(language, "language", text, "", 0, 0, FROM(ROLE_QMGR), \
      "The language of these texts, as in Content-Language (RFC 3282): de, or pt-BR.")

#define CONF_KEYS_relay(K) \
    K(port, "port", number, "25", 1, 65535, FROM(ROLE_RELAY) | FROM(ROLE_QMGR), \
      "The port of other servers.") \
    K(tls, "tls", relay_tls, "may", 0, 0, FROM(ROLE_RELAY), \
      "never, may (when it is offered), must, or implicit (smarthost only: TLS from the first byte). A message that " \
      "says \"TLS-Required: No\" (RFC 8689) goes out as with may where must is set.") \
    K(smarthost, "smarthost", hostport, "", 0, 0, FROM(ROLE_RELAY) | FROM(ROLE_QMGR), \
      "HOST or HOST:PORT that takes all mail to others, instead of asking DNS for MX. It is one destination, HOST:PORT for " \
      "`waypost dest`: recipients of several domains share an attempt. Of the sections domain, that of HOST has its concurrency " \
      "and rate; retry remains the recipient's domain's.") \
    K(smarthost_user, "smarthost-user", text, "", 0, 0, FROM(ROLE_RELAY), \
      "The name to log in with there.") \
    K(smarthost_password, "smarthost-password-file", secret_file, "", 0, 0, FROM(ROLE_RELAY), \
      "A file whose first line is the password to log in with there.") \
    K(concurrency, "concurrency", number, "200", 1, 10000, FROM(ROLE_RELAY) | FROM(ROLE_QMGR), \
      "Connections to other servers at a time.") \
    K(connect_timeout, "connect-timeout", time, "30s", CONF_SECOND, CONF_HOUR, FROM(ROLE_RELAY), \
      "How long one address is tried before the next.") \
    K(reply_timeout, "reply-timeout", time, "10m", CONF_SECOND, CONF_HOUR, FROM(ROLE_RELAY), \
      "How long another server may take for one answer, when RFC 5321 section 4.5.3.2 grants more.") \
    K(reuse_time, "reuse-time", time, "5s", 0, 5 * CONF_MINUTE, FROM(ROLE_RELAY), \
      "How long a connection is kept after a message, for the next one to the same destination; 0 closes it at " \
      "once.") \
    K(reuse_messages, "reuse-messages", number, "100", 1, 100000, FROM(ROLE_RELAY), \
      "Messages sent over one connection.") \
    K(plaintext_login, "plaintext-login", flag, "no", 0, 0, FROM(ROLE_RELAY), \
      "Log in to the smarthost even without TLS.") \
    K(source, "source", addresses, "", 0, 2, FROM(ROLE_RELAY), \
      "The addresses to connect from: at most one of IPv4 and one of IPv6.") \
    K(ca_file, "ca-file", path, "", 0, 0, 0, \
      "Certificates of the authorities that a smarthost's certificate must come from, PEM. With it, the name " \
      "is checked too.") \
    K(trust_file, "trust-file", path, "/etc/ssl/certs/ca-certificates.crt", 0, 0, 0, \
      "Certificates of the authorities that other servers' certificates must come from when a message requires TLS " \
      "(REQUIRETLS, RFC 8689), PEM. Such a message goes only to hosts whose names DNSSEC proves (see trust-anchor) and " \
      "which offer REQUIRETLS, else it is returned.")

#define CONF_KEYS_dns(K) \
    K(server, "server", words, "", 0, 8, CONF_ASK_DNS, \
      "DNS servers to ask, ADDRESS or ADDRESS@PORT. Without it, those of /etc/resolv.conf.") \
    K(trust_anchor, "trust-anchor", path, "", 0, 0, CONF_ASK_DNS, \
      "A file with the trust anchors for DNSSEC, such as /usr/share/dns/root.key. Without it, answers are not " \
      "validated.") \
    K(local_zones, "local-zones", flag, "yes", 0, 0, CONF_ASK_DNS, \
      "Answer .test, localhost, private reverse zones and the like without asking any server.") \
    K(timeout, "timeout", time, "30s", CONF_SECOND, 10 * CONF_MINUTE, CONF_ASK_DNS, \
      "How long one lookup may take.")

#define CONF_KEYS_domain(K) \
    K(hold, "hold", flag, "no", 0, 0, FROM(ROLE_AUTHD) | FROM(ROLE_QMGR), \
      "Keep mail to recipients of this domain in the queue until hold is taken away. NAME, for this and the keys below, is a " \
      "domain, or *.example.org for all below example.org, or * for all. One section holds for a domain: its own, else that of " \
      "the longest pattern, else *.") \
    K(concurrency, "concurrency", number, "0", 0, 1000, FROM(ROLE_QMGR), \
      "Attempts under way to this domain, at most, when it is elsewhere and goes to its MX. 0: destination-concurrency of the section queue.") \
    K(rate, "rate", rate, "", 0, 1, FROM(ROLE_QMGR), \
      "How many attempts are made to this domain in a second, minute or hour, evenly spread: one message each, to up to " \
      "100 recipients.") \
    K(route, "route", hostport, "", 0, 0, FROM(ROLE_QMGR), \
      "HOST or HOST:PORT that takes the mail to this domain, when it is elsewhere, instead of its MX or the smarthost; without a " \
      "login, with TLS as relay.tls says (implicit counts as must). Like a smarthost it is a destination of its own.") \
    K(retry, "retry", times, "", 0, 32, FROM(ROLE_QMGR), \
      "The waits between attempts for recipients of this domain, like retry of the section queue.") \
    K(on_demand, "on-demand", flag, "no", 0, 0, FROM(ROLE_AUTHD) | FROM(ROLE_QMGR), \
      "A customer's domain (not one of ours): its mail is taken and waits, until the customer's host asks for it by ATRN " \
      "(RFC 2645, on a listener of protocol odmr) or ETRN (RFC 1985).") \
    K(pull_by, "pull-by", text, "", 0, 0, FROM(ROLE_AUTHD), \
      "The accounts that may ask for this domain's mail by ATRN, TURN and ETRN, with blanks between.") \
    K(pull_from, "pull-from", networks, "", 0, 64, FROM(ROLE_AUTHD), \
      "The networks whose clients may have what waits for this domain tried now, by ETRN.")

#define CONF_KEYS_hold(K) \
    K(sender, "sender", patterns, "", 0, 64, FROM(ROLE_QMGR), \
      "Mail that meets all conditions of such a section waits in the queue until an operator releases it ('waypost queue " \
      "release'), or the section is taken away or changed; `waypost queue why` says which section it was. NAME is yours to choose, of " \
      "letters, digits, dots, dashes and underscores. What is in the queue already is held at its next attempt. This key: the " \
      "reverse-path is one of these, without regard to case, * stands for any characters; <> is the null one.") \
    K(recipient, "recipient", patterns, "", 0, 64, FROM(ROLE_QMGR), \
      "The recipient's address is one of these; both an alias and what it leads to are looked at.") \
    K(domain, "domain", patterns, "", 0, 64, FROM(ROLE_QMGR), \
      "The recipient's domain is one of these.") \
    K(larger, "larger", size, "0", 0, 2 * CONF_GIB, FROM(ROLE_QMGR), \
      "The message is larger than this; 0 is no condition.") \
    K(header, "header", field, "", 0, 0, FROM_SMTPD | FROM(ROLE_QMGR), \
      "A field of the header section fits, such as \"Subject: *invoice*\" or \"Authentication-Results: *iprev=fail*\", unfolded and " \
      "without regard to case; also those that this server adds, such as what section door found. Looked at when the message comes " \
      "in, the first 1000 bytes of a field: mail that is in the queue already is not held by this.") \
    K(reason, "reason", text, "", 0, 0, FROM(ROLE_QMGR), \
      "Why, for operators.")

#define CONF_KEYS_accounts(K) \
    K(uid_first, "uid-first", number, "200000", 1000, 2000000000, FROM(ROLE_AUTHD) | FROM(ROLE_ZYGOTE), \
      "The first of the uids that accounts get, when run as root.") \
    K(uid_last, "uid-last", number, "299999", 1000, 2000000000, FROM(ROLE_AUTHD) | FROM(ROLE_ZYGOTE), \
      "The last of them.") \
    K(scram, "scram", flag, "no", 0, 0, CONF_FRONTS | FROM(ROLE_AUTHD), \
      "Keep what SCRAM-SHA-256 needs (RFC 7677) beside the hash of each account's password and of app passwords, and offer it. With no, " \
      "what was kept is deleted. Some clients then fail instead of using PLAIN: those of libsasl2 2.1 refuse 100000 " \
      "iterations, and neomutt with libgsasl chooses SCRAM-SHA-256-PLUS without a channel binding.") \
    K(scram_sha_1, "scram-sha-1", flag, "no", 0, 0, CONF_FRONTS | FROM(ROLE_AUTHD), \
      "Offer SCRAM-SHA-1 (RFC 5802), too, to the accounts that it is switched on for by 'waypost account scram-sha-1 " \
      "on ADDRESS': for clients that know no better. Needs scram. With no, what was kept for it is deleted.") \
    K(certificate_names, "certificate-names", flag, "no", 0, 0, FROM(ROLE_AUTHD), \
      "A client's certificate (client-ca of a listener) belongs to the account whose address is in its subjectAltName: " \
      "the authorities say who may log in as whom.") \
    K(quota, "quota", size, "0", 0, 1024 * 1024 * CONF_GIB, FROM(ROLE_AUTHD), \
      "How much mail an account may hold, when neither it nor its domain has a quota of its own (waypost account quota, " \
      "waypost domain quota). 0 is no limit. Mail for a full mailbox is refused for now (452 4.2.2) at RCPT, what is in the " \
      "queue already is tried again until it expires.") \
    K(idle_exit, "idle-exit", time, "60s", CONF_SECOND, CONF_DAY, FROM(ROLE_ZYGOTE), \
      "How long an account's process stays when it has nothing to do.")

#define CONF_KEYS_oauth(K) \
    K(keys, "keys", path, "", 0, 0, CONF_FRONTS | FROM(ROLE_AUTHD), \
      "Public keys of the issuer, PEM: RSA of 2048 bits or more (RS256) and P-256 (ES256). With it OAUTHBEARER (RFC " \
      "7628) and XOAUTH2 are offered over TLS: a JSON Web Token that one of these keys signed logs its account in.") \
    K(issuer, "issuer", text, "", 0, 0, CONF_TOKENS, \
      "What the claim iss of a token has to be. Must be given with keys; introspection may leave that claim out.") \
    K(audience, "audience", text, "", 0, 0, CONF_TOKENS, \
      "What the claim aud of a token has to name. Must be given with keys.") \
    K(claim, "claim", text, "email", 0, 0, CONF_TOKENS, \
      "The claim that is the account's address. An email whose email_verified is false does not count.") \
    K(scope, "scope", text, "", 0, 0, CONF_TOKENS, \
      "A scope that a token must have.") \
    K(discovery, "discovery", text, "", 0, 0, FROM(ROLE_AUTHD), \
      "The address of the issuer's OpenID configuration, told to clients whose token is refused.") \
    K(leeway, "leeway", time, "60s", 0, 10 * CONF_MINUTE, CONF_TOKENS, \
      "How far the issuer's clock may differ from ours.") \
    K(introspection, "introspection", text, "", 0, 0, CONF_FRONTS | CONF_TOKENS, \
      "The address (https) of the issuer's introspection endpoint (RFC 7662): with it OAUTHBEARER and XOAUTH2 are offered, " \
      "too, and the endpoint is asked what a token is, unless one of keys signed it. A good answer counts for a minute. " \
      "While the endpoint does not answer, such logins fail for now. Needs audience or scope. http is for a loopback " \
      "address only.") \
    K(introspection_client, "introspection-client", text, "", 0, 0, FROM(ROLE_TOKEND), \
      "The name of this server as a client of the issuer, for HTTP Basic authentication at that endpoint.") \
    K(introspection_secret, "introspection-secret-file", secret_file, "", 0, 0, FROM(ROLE_TOKEND), \
      "A file whose first line is that client's secret.") \
    K(introspection_ca, "introspection-ca", path, "/etc/ssl/certs/ca-certificates.crt", 0, 0, 0, \
      "Certificates of the authorities that the endpoint's certificate must come from, PEM.") \
    K(introspection_timeout, "introspection-timeout", time, "10s", CONF_SECOND, 15 * CONF_SECOND, FROM(ROLE_TOKEND), \
      "How long the endpoint may take for an answer.")

/* ---- the sections: S(id, "word", ONE or MANY (with a name)) ---- */
#define CONF_SECTIONS(S) \
    S(main, "", ONE)     \
    S(listen, "listen", MANY) \
    S(tls, "tls", ONE)   \
    S(smtp, "smtp", ONE) \
    S(door, "door", ONE) \
    S(imap, "imap", ONE) \
    S(pop3, "pop3", ONE) \
    S(limits, "limits", ONE) \
    S(sending, "sending", ONE) \
    S(queue, "queue", ONE) \
    S(notices, "notices", ONE) \
    S(relay, "relay", ONE) \
    S(dns, "dns", ONE)   \
    S(domain, "domain", MANY) \
    S(hold, "hold", MANY) \
    S(accounts, "accounts", ONE) \
    S(oauth, "oauth", ONE) \
    S(local_submission, "local-submission", ONE)

/* Keys that a running program can't follow: their programs are drained and started anew by a reload that changes them.
 * R(section, member) */
#define CONF_RESTARTS(R) \
    R(dns, trust_anchor) R(dns, server) R(dns, local_zones) R(accounts, uid_first) R(accounts, uid_last) \
    R(local_submission, users)
/* Keys that a reload can't change at all. */
#define CONF_FIXED(R) R(main, state) R(main, run)

#endif
