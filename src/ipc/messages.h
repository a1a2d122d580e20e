/* Every message between programs, declared once. Structure, encoder, decoder, name, permission check, deadline, documentation
 * (doc/messages.md) and fuzz target are expanded from this list; see ipc/msg.h for what comes out.
 *
 * A field list is F_name(F), each field F(type, name, limit). Types: u8 u16 u32 u64 (little-endian on the wire, limit = the
 * largest value allowed, 0 for any), text (no NUL, at most `limit` bytes), blob (any bytes, at most `limit`).
 * A message is M(name, senders, descriptor, deadline, late): descriptor NOFD, FD (must come), MAYFD; deadline in ms for a request
 * (0: a statement or an answer, nobody waits); late = what the asker does when no answer came in time or the peer went away:
 *   DEFER  says 4xx at the door      REASK  asks again with its token    RETRY  the lease becomes a retry
 *   CLOSE  ends that session         NONE   nothing waits
 * Any message may answer a request: it then carries the request's id. */
#ifndef IPC_MESSAGES_H
#define IPC_MESSAGES_H

#include "ipc/role.h"

/* Limits that several messages share. */
#define IPC_FRAME_MAX 65536      /* one datagram, header included */
#define IPC_HOSTPORT_MAX 300
#define IPC_INLINE_MAX 49152     /* prefix and body together, when they travel in the frame */
#define IPC_PREFIX_MAX 16384     /* what we add in front of a message */
#define IPC_ADDRESS_MAX 1024     /* an address as given: local part 64 (RFC 5321 §4.5.3.1.1; more is accepted), domain 255, room for UTF-8 */
#define IPC_QID_MAX 32
#define IPC_TEXT_MAX 512
#define IPC_SIGN_MAX 256      /* RFC 8446 §4.4.3: at most 146 bytes; RFC 8422 §5.4: 201 */

/* ---- supervisor and its services (on the control channel, descriptor 3) ------------------------------------------------ */

/* One line of the checked configuration: section instance, key, canonical value. Numbers travel as numbers. line: where it stands, 0: nowhere. */
#define F_setting(F) F(u32, generation, 0) F(u16, section, 0) F(u16, instance, 0) F(u16, key, 0) F(u32, line, 0) F(u64, number, 0) F(text, value, 16384)
#define F_settings_end(F) F(u32, generation, 0) F(u32, count, 0)
/* A listening socket; `instance` names the `listen` section it belongs to. */
#define F_listener(F) F(u16, instance, 0) F(u16, address, 0)
/* A certificate chain (what=0), private key (what=1; keyd alone), trust file of the relay as a client or of tokend (what=2), the authorities of clients,
 * for the relay of servers (what=3), or keys of tokens' issuer (what=4), open for reading. Renewed ones come the same way, all of
 * them, and then certs_end. */
#define F_cert_file(F) F(u16, instance, 0) F(u8, what, 4)
/* Renewed certificates have all come: answered certs_taken, why empty when they are in use, else nothing has changed. keyd is told first, and
 * the fronts when it has the keys, so that nobody shows a chain that nobody can sign for. */
#define F_certs_end(F) F(u32, round, 0)
#define F_certs_taken(F) F(u32, round, 0) F(text, why, IPC_TEXT_MAX)
/* A directory or file the role may use, opened by the supervisor: 0 = the store's root (qmgr's syncfs), 1 = /dev/log's socket,
 * 2 = the listening socket of local submission (a stream). */
#define F_resource(F) F(u8, what, 8)
/* Our end of a fresh pair with that peer. The old pair, if any, is dead: every request open on it ends as GONE. */
#define F_peer_end(F) F(u8, role, ROLE_COUNT - 1) F(u32, instance, 0)
#define F_peer_gone(F) F(u8, role, ROLE_COUNT - 1) F(u32, instance, 0)
/* Everything a service starts with has been sent: warm up, lock yourself in, answer ready or refused. */
#define F_go(F) F(u8, as_root, 1) F(u32, uid, 0) F(u32, gid, 0) F(u32, instance, 0)
/* sandbox: what of it is in place, for people. */
#define F_ready(F) F(u32, generation, 0) F(text, sandbox, 80)
#define F_refused(F) F(u32, generation, 0) F(text, why, IPC_TEXT_MAX)
/* Reload: the settings of the new generation come first, then reload_ask; all ready → reload_switch to everybody, else reload_forget. */
#define F_reload_ask(F) F(u32, generation, 0)
#define F_reload_switch(F) F(u32, generation, 0)
#define F_reload_forget(F) F(u32, generation, 0)
/* Finish what is in flight, at most so long, then exit 0. */
#define F_drain(F) F(u32, ms, 0)
/* To smtpd-local: a file of the drop directory, open for reading and writing and locked, with its owner and name. What was queued of it is
 * truncated; the lock ends when it is closed. */
#define F_drop_file(F) F(u32, uid, 0) F(text, name, 255)
/* An operator's connection for this service, with the caller's uid. */
#define F_admin_peer(F) F(u32, uid, 0)
/* That channel went down, by a bad frame or because the peer died: please a fresh pair (an mda asks the zygote). epoch: how many ends of it we have had, so that
 * the supervisor knows whether a fresh one is on its way already. It takes its time when this repeats. */
#define F_pair_lost(F) F(u8, role, ROLE_COUNT - 1) F(u32, instance, 0) F(u32, epoch, 0)
/* The service could not write its log: please connect resource 1 again, which is the same socket for all. */
#define F_log_lost(F)

/* Answer to a request whose descriptor got lost, because the one asked has no room for a further one: nothing was done. */
#define F_no_descriptor(F)

/* ---- authd: who is who -------------------------------------------------------------------------------------------------- */

/* terminal, here and in msg_begin: 1 SEND, 2 SOML, 3 SAML (RFC 821 §3.4), 0 MAIL. */
/* Is this recipient welcome? session: the login session (0: none). Answer: verdict. */
#define F_rcpt_check(F) F(u64, session, 0) F(text, address, IPC_ADDRESS_MAX) F(text, sender, IPC_ADDRESS_MAX) F(u64, size, 0) F(u8, terminal, 3)
/* May that session use this reverse-path? Asked by smtpd(submission) at MAIL, and by qmgr at commit (with the front's instance). */
#define F_sender_check(F) F(u32, instance, 0) F(u64, session, 0) F(text, sender, IPC_ADDRESS_MAX)
/* kind: 2 welcome, 4 later, 5 refused, with the reply; account, login: whose session it is (sender_check); relayed: the recipient is not ours;
 * keep: to smtpd(mx), that recipient is welcome whoever asks and whatever the size, until rcpt_forget. The rest are the limits of what the account may send (to qmgr), 0 for none. */
#define F_verdict(F) F(u8, kind, 5) F(u16, code, 599) F(u16, subject, 999) F(u16, detail, 999) F(u8, relayed, 1) F(u8, keep, 1) F(u32, account, 0) F(text, login, 320) F(text, why, IPC_TEXT_MAX) \
    F(u32, messages_hour, 0) F(u32, recipients_hour, 0) F(u32, messages_day, 0) F(u32, recipients_day, 0) F(u32, new_day, 0)
/* The directory or the configuration has changed: no verdict may be kept any more. */
#define F_rcpt_forget(F)
/* VRFY (what 0) and EXPN (1) of smtpd: who is that? Answer: who. Allowed by the settings, or by the session's login. */
#define F_who_ask(F) F(u64, session, 0) F(u8, what, 1) F(text, name, IPC_ADDRESS_MAX)
/* kind: as in verdict. members: addresses, a line feed behind each; with kind 5: what the name could mean. */
#define F_who(F) F(u8, kind, 5) F(u16, code, 599) F(u16, subject, 999) F(u16, detail, 999) F(text, why, IPC_TEXT_MAX) F(text, members, 16384)
/* qmgr to authd: shows the beginning of a message on the terminals of that account. Answer: terminal_shown, on how many. */
#define F_terminal_show(F) F(u32, account, 0) F(text, content, 32000)
#define F_terminal_shown(F) F(u32, count, 0)
/* qmgr to authd: for which of these domains may that session have the mail? what 0, ETRN: a node name, "@" before it for all below;
 * 1, ATRN: names with commas between, or empty for all of the account. instance: of the front. Answer: pull_may. */
#define F_pull_ask(F) F(u32, instance, 0) F(u64, session, 0) F(u8, what, 1) F(text, remote, 64) F(text, names, 4096)
/* names: with blanks between. */
#define F_pull_may(F) F(u8, kind, 5) F(u16, code, 599) F(u16, subject, 999) F(u16, detail, 999) F(text, why, IPC_TEXT_MAX) F(text, names, 4096)
/* Who receives mail for this address now? Answers: expand_item for each target (answer flag set, same id), then expand_end, which
 * may hold one target more: where there is only one, that is the whole answer. */
#define F_expand(F) F(text, address, IPC_ADDRESS_MAX) F(u8, depth, 255)
/* kind: 1 an account here (account, mailbox detail), 2 another address (ask again, depth + 1), 3 elsewhere (relay by domain). */
#define F_expand_item(F) F(u8, kind, 3) F(u32, account, 0) F(text, address, IPC_ADDRESS_MAX) F(text, detail, 255)
/* With items: kind 2. None: kind 4 or 5 and why. held: 1 the domain is held by its configuration, 2 its mail waits for ATRN or ETRN.
 * item: 0, or the last target's kind, and what expand_item has to say of it. */
#define F_expand_end(F) F(u8, kind, 5) F(u16, subject, 999) F(u16, detail, 999) F(u8, held, 2) F(u32, count, 0) F(text, why, IPC_TEXT_MAX) \
    F(u8, item, 3) F(u32, account, 0) F(text, address, IPC_ADDRESS_MAX) F(text, mailbox_detail, 255)

/* A login begins. session: chosen by the front, unique on its channel. exporter, end_point: what names its TLS session (RFC 9266, RFC 5929),
 * empty where there is no such thing. certificate: SHA-256 of the client's, when it
 * showed one that verifies, and names: the mail addresses in it, a line end between (EXTERNAL only). Answers: auth_challenge or auth_result. */
#define F_auth_begin(F) F(u64, session, 0) F(u8, protocol, 4) F(text, mechanism, 32) F(text, remote, 64) F(u8, tls, 1) F(u8, has_initial, 1) F(blob, initial, 12288) F(blob, exporter, 64) F(blob, end_point, 64) \
    F(blob, certificate, 32) F(text, names, 2048)
#define F_auth_step(F) F(u64, session, 0) F(blob, response, 12288)
#define F_auth_challenge(F) F(blob, challenge, 12288)
/* kind: 2 in (login is the account's canonical address), 4 later, 5 no. code/subject/detail are for SMTP. */
#define F_auth_result(F) F(u8, kind, 5) F(u16, subject, 999) F(u16, detail, 999) F(text, login, 320) F(text, why, IPC_TEXT_MAX)
/* The client cancelled, or the session ended: authd forgets it. */
#define F_auth_forget(F) F(u64, session, 0)
/* The session proved who it is and wants its mailbox: the descriptor is the far end of its byte stream. Only then will authd pass it
 * on. tag: the IMAP tag to answer; text: what the front already read behind the login; remote, tls: for the log and STATUS. */
#define F_attach(F) F(u64, session, 0) F(u8, protocol, 4) F(text, tag, 256) F(text, remote, 64) F(u8, tls, 1) F(blob, early, 32768)
/* authd to mda: the same without a session: the account is the process itself. Answer: attached. */
#define F_attach_mda(F) F(u8, protocol, 4) F(text, login, 320) F(text, tag, 256) F(text, remote, 64) F(u8, tls, 1) F(blob, early, 32768)
/* kind 2: the mda has the stream and will answer the tag. Otherwise the front answers. */
#define F_attached(F) F(u8, kind, 5) F(text, why, IPC_TEXT_MAX)

/* ---- policyd: what DNS says of a client ---------------------------------------------------------------------------------- */

/* smtpd-mx to policyd: the names of that address, and whether one leads back to it. Answer: named. No answer in time counts as one of kind 0. */
#define F_client_names(F) F(text, address, 64)
/* Does the name that a client gave in EHLO exist, and does it lead to that address? Answer: named. */
#define F_helo_names(F) F(text, name, 255) F(text, address, 64)
/* kind: 0 not known now, 1 no such name, 2 there is one and it leads elsewhere, 3 both ways. name: of the client, as far as there is one. */
#define F_named(F) F(u8, kind, 3) F(text, name, 255)

/* ---- mda processes ------------------------------------------------------------------------------------------------------- */

/* authd to zygote: fork one. Answer: mda_started, after both ends have gone out (to authd as mda_end, to qmgr as mda_end). */
#define F_mda_fork(F) F(u32, account, 0) F(u32, uid, 0) F(text, login, 320)
#define F_mda_started(F) F(u32, account, 0) F(u8, kind, 5) F(text, why, IPC_TEXT_MAX)
#define F_mda_end(F) F(u32, account, 0)
#define F_mda_gone(F) F(u32, account, 0)
/* qmgr to authd: see that this account's mda runs. Answer: mda_started. */
#define F_mda_want(F) F(u32, account, 0)
/* mda to authd: nothing to do here; may I go? Answer: mda_leave (go=1: yes, no attach is on its way and none will come). */
#define F_mda_idle(F) F(u32, sessions, 0)
#define F_mda_leave(F) F(u8, go, 1)
/* mda to authd: what the account uses (on crossing a mark). */
#define F_usage(F) F(u64, bytes, 0) F(u64, messages, 0)
/* authd to mda: how much the account may hold, 0 for no limit. Comes first on each pair, and when it changes; nothing is delivered before. */
#define F_quota(F) F(u64, bytes, 0)
/* authd to mda, when the account is disabled or removed: end its sessions; purge=1: delete the store, then leave. Answer: mda_leave. */
#define F_mda_evict(F) F(u8, purge, 1)

/* ---- tallyd: limits of clients ---------------------------------------------------------------------------------------------- */

/* A client (client_key() of base/client.h) is at the door of that protocol (as listen sections count them). It counts as being there
 * from then on, unless it is refused, until a client_note says gone with the same visit: a number that the front uses once. Answer:
 * client_verdict; without one in time the door stays open. */
#define F_client_ask(F) F(u64, client, 0) F(u64, visit, 0) F(u8, protocol, 3)
/* It is inside and has done so much since it was told of last. Answer: client_verdict; without one it goes on as before. */
#define F_client_more(F) F(u64, client, 0) F(u64, visit, 0) F(u8, protocol, 3) F(u32, messages, 0) F(u32, refused, 0) F(u32, errors, 0)
/* kind: 2 in, and each reply waits `slow` ms; 5 refused with these words: that connection, or with `wait` the messages of one that is inside
 * for so many ms. room: the messages after which it is to be told of again. */
#define F_client_verdict(F) F(u8, kind, 5) F(u32, slow, 600000) F(u32, wait, 0) F(u32, room, 0) F(text, why, IPC_TEXT_MAX)
/* What a client did since the last note. came: it is there already, nobody was asked; gone: it has left. From authd (visit 0): failed
 * logins, and whether it has logged in. */
#define F_client_note(F) F(u64, client, 0) F(u64, visit, 0) F(u8, protocol, 3) F(u8, came, 1) F(u8, gone, 1) F(u32, messages, 0) F(u32, refused, 0) \
    F(u32, errors, 0) F(u32, failed_logins, 0) F(u8, trusted, 1)
/* tallyd to authd: an operator lifts what is held against that client. */
#define F_client_forget(F) F(u64, client, 0)

/* ---- into the queue ------------------------------------------------------------------------------------------------------ */

/* One transaction of a sender: msg_begin, msg_rcpt for each recipient, then msg_commit (a request). txn: chosen by the sender, unique
 * on its channel. Nothing is remembered of a transaction whose commit did not come; msg_abort drops it. Both are statements.
 * body_kind: 0 7bit, 1 8bit, 2 binary. tls: of the client, "TLSv1.3 CIPHER" or empty. tls_need: 0, 1 REQUIRETLS (RFC 8689), 2 TLS-Required: No.
 * deliver_by: ms since 1970, by_mode: 1 R, 2 N, +4 T (RFC 2852). hold_until: ms since 1970, hold: as it was asked for (RFC 4865).
 * priority: MT-PRIORITY (RFC 6710) as 0 to 9, -1 to -9 as 10 to 18. 0 everywhere: not asked for.
 * policy: for people, what was found out at the door and which settings decided. rcpt, notify, orcpt: what msg_rcpt would say of the first
 * recipient, who mostly is the only one; empty: all have their msg_rcpt. */
#define F_msg_begin(F) F(u64, txn, 0) F(u64, session, 0) F(text, sender, IPC_ADDRESS_MAX) F(text, helo, 255) F(text, remote, 64) \
    F(u8, body_kind, 2) F(u8, smtputf8, 1) F(text, envid, 100) F(u8, ret, 2) F(text, tls, 100) F(u8, tls_need, 2) \
    F(u64, deliver_by, 0) F(u8, by_mode, 7) F(u64, hold_until, 0) F(text, hold, 64) F(u8, priority, 18) F(u8, terminal, 3) \
    F(text, policy, 1000) F(text, rcpt, IPC_ADDRESS_MAX) F(u8, notify, 15) F(text, orcpt, 500)
#define F_msg_rcpt(F) F(u64, txn, 0) F(text, address, IPC_ADDRESS_MAX) F(u8, notify, 15) F(text, orcpt, 500)
#define F_msg_abort(F) F(u64, txn, 0)
/* Content larger than IPC_INLINE_MAX: asks for the spool file. Answer: spool_file with a descriptor open for writing, or not_queued. */
#define F_spool_open(F) F(u64, txn, 0) F(u64, size_hint, 0)
#define F_spool_file(F) F(text, qid, IPC_QID_MAX)
/* token: 16 random bytes. header_bytes: length of the header section in prefix + body. With spooled=1 prefix and body are empty, the
 * file holds prefix then body and its writer has synced it. sessions: how many the sender has open, so that the queue knows whether it is
 * worth while to wait for others before it goes to the disk (0, 1: it never waits). eight_bit: it holds octets above 127, which msg_begin did not
 * know when spooled content had only begun to come. marks: the sections hold of the configuration whose header condition it meets, with blanks
 * between. Answers: queued or not_queued. */
#define F_msg_commit(F) F(u64, txn, 0) F(u32, sessions, 0) F(blob, token, 16) F(u64, size, 0) F(u32, header_bytes, 0) F(text, message_id, 998) F(u8, spooled, 1) \
    F(u8, eight_bit, 1) F(text, marks, 2700) F(blob, prefix, IPC_PREFIX_MAX) F(blob, body, IPC_INLINE_MAX)
/* slow: ms that the replies to this session wait from now on: its account comes near to what it may send. */
#define F_queued(F) F(text, qid, IPC_QID_MAX) F(u32, slow, 600000)
#define F_not_queued(F) F(u8, kind, 5) F(u16, code, 599) F(u16, subject, 999) F(u16, detail, 999) F(text, why, IPC_TEXT_MAX)
/* After qmgr came back: was this commit made? Answer: queued, or not_queued. */
#define F_token_ask(F) F(blob, token, 16)
/* qmgr to smtpd: whether it can take mail now (0: disk full or the like; MAIL is answered 452 4.3.1). */
#define F_queue_state(F) F(u8, open, 1) F(text, why, IPC_TEXT_MAX)

/* smtpd to qmgr: what 0, ETRN: make the mail for that node due; 1, ATRN: send the mail for these domains over the descriptor, the far end of
 * the session's bytes (a stream). session: its login, 0: none; names: as the client gave them. Answer: turned, with the reply. */
#define F_turn_ask(F) F(u64, session, 0) F(u8, what, 1) F(text, remote, 64) F(text, names, 4096)
#define F_turned(F) F(u8, kind, 5) F(u16, code, 599) F(u16, subject, 999) F(u16, detail, 999) F(text, why, IPC_TEXT_MAX)

/* ---- out of the queue ---------------------------------------------------------------------------------------------------- */

/* qmgr to relay: one attempt for one destination: attempt, attempt_rcpt for each recipient, attempt_go. Answers come as rcpt_report for
 * each recipient and one attempt_report, which alone is final. The content is in attempt_go, or its descriptor (read-only, prefix then body).
 * The facts are msg_begin's. route: HOST[:PORT] that takes it instead of the domain's MX; recipients may then be of several domains, and `domain` is
 * that of one. smarthost: it is that of the configuration. */
#define F_attempt(F) F(u64, lease, 0) F(text, qid, IPC_QID_MAX) F(text, domain, 255) F(text, sender, IPC_ADDRESS_MAX) F(u64, size, 0) F(u32, header_bytes, 0) F(u8, body_kind, 2) \
    F(u8, smtputf8, 1) F(text, envid, 100) F(u8, ret, 2) F(u8, tls_need, 2) F(u64, deliver_by, 0) F(u8, by_mode, 7) F(u8, priority, 18) F(u64, pull, 0) \
    F(text, route, IPC_HOSTPORT_MAX) F(u8, smarthost, 1)
/* qmgr to relay: a connection on which we are the client (ATRN); attempts with its number go over it. reversed_end: no more will come: QUIT. */
#define F_reversed(F) F(u64, pull, 0)
#define F_reversed_end(F) F(u64, pull, 0)
#define F_reversed_over(F) F(u64, pull, 0)
#define F_attempt_rcpt(F) F(u64, lease, 0) F(u64, rcpt, 0) F(text, address, IPC_ADDRESS_MAX) F(u8, notify, 15) F(text, orcpt, 500)
#define F_attempt_go(F) F(u64, lease, 0) F(blob, prefix, IPC_PREFIX_MAX) F(blob, body, IPC_INLINE_MAX)
/* remote, tls: the host that said so, as in attempt_report; empty when none did. tells: it took over what the sender asked of
 * notifications (RFC 3461 §5.2.1). by: and the time by which it is to be delivered (RFC 2852 §4.1.4). dialogue: for people, what was said
 * lately ("MAIL -> 250 ok | RCPT -> 550 5.1.1 no"), after what came of hosts that were tried before. */
#define F_rcpt_report(F) F(u64, lease, 0) F(u64, rcpt, 0) F(u8, kind, 5) F(u16, code, 599) F(u16, subject, 999) F(u16, detail, 999) F(text, why, IPC_TEXT_MAX) \
    F(text, remote, 320) F(text, tls, 100) F(u8, tells, 1) F(u8, by, 1) F(text, dialogue, 1000)
/* remote: host[address] that answered; tls: "TLSv1.3 CIPHER" or empty; took: ms. unreached=1: no host could be talked to (counts for the destination).
 * outdated=1: nothing was tried, because the configuration that relay has does not name that smarthost. */
#define F_attempt_report(F) F(u64, lease, 0) F(u8, unreached, 1) F(u8, outdated, 1) F(text, remote, 320) F(text, tls, 100) F(u32, took, 0)

/* qmgr to mda: one recipient of one message. prefix+body inline, or the content's descriptor. delivered_to: for the header and the loop
 * check. Answer: delivered. A repeated (qid, rcpt) is answered "already there". */
#define F_deliver(F) F(u64, lease, 0) F(u64, rcpt, 0) F(text, qid, IPC_QID_MAX) F(text, sender, IPC_ADDRESS_MAX) F(text, delivered_to, IPC_ADDRESS_MAX) \
    F(text, detail, 255) F(u64, received, 0) F(u64, size, 0) F(u32, header_bytes, 0) F(u8, body_kind, 2) F(blob, prefix, IPC_PREFIX_MAX) F(blob, body, IPC_INLINE_MAX)
#define F_delivered(F) F(u64, lease, 0) F(u64, rcpt, 0) F(u8, kind, 5) F(u16, subject, 999) F(u16, detail, 999) F(u8, already, 1) F(text, why, IPC_TEXT_MAX)

/* ---- private keys ---------------------------------------------------------------------------------------------------------- */

/* A front to keyd: a handshake's signature. key: SHA-256 of the SubjectPublicKeyInfo; scheme: SignatureScheme (RFC 8446 §4.2.3); content: what is
 * to be signed, in full: keyd refuses what isn't a server's part of a handshake, and keys that are not of that role's listeners. */
#define F_sign(F) F(blob, key, 32) F(u16, scheme, 0) F(blob, content, IPC_SIGN_MAX)
#define F_sign_made(F) F(blob, signature, 1024)
#define F_sign_refused(F) F(text, why, IPC_TEXT_MAX)

/* ---- tokens of others ------------------------------------------------------------------------------------------------------ */

/* authd to tokend: what does the issuer say of that token (RFC 7662)? Answer: introspected. known=0: nobody could say, why (for the log) says
 * why not. issuer, audience, scope: are what the configuration asks for; account: the claim; expires: seconds since 1970, 0: not said. */
#define F_introspect(F) F(blob, token, 8192)
#define F_introspected(F) F(u8, known, 1) F(u8, active, 1) F(u8, issuer, 1) F(u8, audience, 1) F(u8, scope, 1) F(u8, early, 1) F(u8, verified, 1) \
    F(text, account, 320) F(u64, expires, 0) F(text, why, IPC_TEXT_MAX)

/* ---- operators ----------------------------------------------------------------------------------------------------------- */

/* waypost to a service: the arguments, one each, then the command, with the descriptor of a file where it is about one. */
#define F_adm_arg(F) F(text, value, 16384)
#define F_adm_go(F) F(text, command, 64)
/* Cells and ends of rows, as ipc/rows.h has them. */
#define F_adm_rows(F) F(blob, rows, 49152)
/* How far a long command is: done of total (0: unknown), in the unit that text names ("messages"). */
#define F_adm_progress(F) F(u64, done, 0) F(u64, total, 0) F(text, text, 200)
/* status: exit code for scripts (0 done, 1 failed, 2 usage, 3 no such thing, 4 try later). */
#define F_adm_end(F) F(u8, status, 255) F(text, message, 4096)

#define MESSAGES(M)                                                    \
    M(setting, FROM_SUPERVISOR, NOFD, 0, NONE)                         \
    M(settings_end, FROM_SUPERVISOR, NOFD, 0, NONE)                    \
    M(listener, FROM_SUPERVISOR, FD, 0, NONE)                          \
    M(cert_file, FROM_SUPERVISOR, FD, 0, NONE)                         \
    M(certs_end, FROM_SUPERVISOR, NOFD, 0, NONE)                       \
    M(certs_taken, FROM_SERVICE, NOFD, 0, NONE)                        \
    M(resource, FROM_SUPERVISOR, FD, 0, NONE)                          \
    M(peer_end, FROM_SUPERVISOR | FROM(ROLE_ZYGOTE), FD, 0, NONE)      \
    M(peer_gone, FROM_SUPERVISOR | FROM(ROLE_ZYGOTE), NOFD, 0, NONE)   \
    M(go, FROM_SUPERVISOR, NOFD, 0, NONE)                              \
    M(ready, FROM_SERVICE, NOFD, 0, NONE)                              \
    M(refused, FROM_SERVICE, NOFD, 0, NONE)                            \
    M(reload_ask, FROM_SUPERVISOR, NOFD, 0, NONE)                      \
    M(reload_switch, FROM_SUPERVISOR, NOFD, 0, NONE)                   \
    M(reload_forget, FROM_SUPERVISOR, NOFD, 0, NONE)                   \
    M(drain, FROM_SUPERVISOR | FROM(ROLE_ZYGOTE), NOFD, 0, NONE)       \
    M(admin_peer, FROM_SUPERVISOR, FD, 0, NONE)                        \
    M(drop_file, FROM_SUPERVISOR, FD, 0, NONE)                         \
    M(pair_lost, FROM_SERVICE | FROM(ROLE_MDA), NOFD, 0, NONE)                          \
    M(log_lost, FROM_SERVICE, NOFD, 0, NONE)                           \
    M(no_descriptor, FROM_ANY & ~FROM(ROLE_ADMIN), NOFD, 0, NONE)      \
    M(rcpt_check, FROM_PORTS, NOFD, 10000, DEFER)                      \
    M(sender_check, FROM(ROLE_SUBMISSION) | FROM(ROLE_QMGR), NOFD, 10000, DEFER) \
    M(verdict, FROM(ROLE_AUTHD), NOFD, 0, NONE)                        \
    M(rcpt_forget, FROM(ROLE_AUTHD), NOFD, 0, NONE)                    \
    M(who_ask, FROM_PORTS, NOFD, 10000, DEFER)                         \
    M(who, FROM(ROLE_AUTHD), NOFD, 0, NONE)                            \
    M(terminal_show, FROM(ROLE_QMGR), NOFD, 10000, DEFER)              \
    M(terminal_shown, FROM(ROLE_AUTHD), NOFD, 0, NONE)                 \
    M(pull_ask, FROM(ROLE_QMGR), NOFD, 10000, DEFER)                   \
    M(pull_may, FROM(ROLE_AUTHD), NOFD, 0, NONE)                       \
    M(expand, FROM(ROLE_QMGR), NOFD, 30000, RETRY)                     \
    M(expand_item, FROM(ROLE_AUTHD), NOFD, 0, NONE)                    \
    M(expand_end, FROM(ROLE_AUTHD), NOFD, 0, NONE)                     \
    M(auth_begin, FROM_LOGIN, NOFD, 30000, DEFER)                      \
    M(auth_step, FROM_LOGIN, NOFD, 30000, DEFER)                       \
    M(auth_challenge, FROM(ROLE_AUTHD), NOFD, 0, NONE)                 \
    M(auth_result, FROM(ROLE_AUTHD), NOFD, 0, NONE)                    \
    M(auth_forget, FROM_LOGIN, NOFD, 0, NONE)                          \
    M(attach, FROM_FRONT, FD, 30000, CLOSE)                            \
    M(attach_mda, FROM(ROLE_AUTHD), FD, 25000, CLOSE)                  \
    M(attached, FROM(ROLE_AUTHD) | FROM(ROLE_MDA), NOFD, 0, NONE)      \
    M(client_names, FROM(ROLE_MX), NOFD, 12000, DEFER)                 \
    M(helo_names, FROM(ROLE_MX), NOFD, 12000, DEFER)                   \
    M(named, FROM(ROLE_JUDGE), NOFD, 0, NONE)                          \
    M(mda_fork, FROM(ROLE_AUTHD), NOFD, 20000, RETRY)                  \
    M(mda_started, FROM(ROLE_ZYGOTE) | FROM(ROLE_AUTHD), NOFD, 0, NONE) \
    M(mda_end, FROM(ROLE_ZYGOTE), FD, 0, NONE)                         \
    M(mda_gone, FROM(ROLE_ZYGOTE), NOFD, 0, NONE)                      \
    M(mda_want, FROM(ROLE_QMGR), NOFD, 25000, RETRY)                   \
    M(mda_idle, FROM(ROLE_MDA), NOFD, 10000, NONE)                     \
    M(mda_leave, FROM(ROLE_AUTHD) | FROM(ROLE_MDA), NOFD, 0, NONE)     \
    M(usage, FROM(ROLE_MDA), NOFD, 0, NONE)                            \
    M(quota, FROM(ROLE_AUTHD), NOFD, 0, NONE)                          \
    M(mda_evict, FROM(ROLE_AUTHD), NOFD, 60000, NONE)                  \
    M(client_ask, FROM_DOORS, NOFD, 1000, NONE)                        \
    M(client_more, FROM_PORTS, NOFD, 1000, NONE)                       \
    M(client_verdict, FROM(ROLE_TALLYD), NOFD, 0, NONE)                \
    M(client_note, FROM_DOORS | FROM(ROLE_AUTHD), NOFD, 0, NONE)       \
    M(client_forget, FROM(ROLE_TALLYD), NOFD, 0, NONE)                 \
    M(msg_begin, FROM_SMTPD | FROM(ROLE_MDA), NOFD, 0, NONE)           \
    M(msg_rcpt, FROM_SMTPD | FROM(ROLE_MDA), NOFD, 0, NONE)            \
    M(msg_abort, FROM_SMTPD | FROM(ROLE_MDA), NOFD, 0, NONE)           \
    M(spool_open, FROM_SMTPD | FROM(ROLE_MDA), NOFD, 30000, DEFER)     \
    M(spool_file, FROM(ROLE_QMGR), FD, 0, NONE)                        \
    M(msg_commit, FROM_SMTPD | FROM(ROLE_MDA), NOFD, 60000, REASK)     \
    M(queued, FROM(ROLE_QMGR), NOFD, 0, NONE)                          \
    M(not_queued, FROM(ROLE_QMGR), NOFD, 0, NONE)                      \
    M(token_ask, FROM_SMTPD | FROM(ROLE_MDA), NOFD, 60000, DEFER)      \
    M(queue_state, FROM(ROLE_QMGR), NOFD, 0, NONE)                     \
    M(turn_ask, FROM_PORTS, MAYFD, 30000, DEFER)                       \
    M(turned, FROM(ROLE_QMGR), NOFD, 0, NONE)                          \
    M(reversed, FROM(ROLE_QMGR), FD, 0, NONE)                          \
    M(reversed_end, FROM(ROLE_QMGR), NOFD, 0, NONE)                    \
    M(reversed_over, FROM(ROLE_RELAY), NOFD, 0, NONE)                  \
    M(attempt, FROM(ROLE_QMGR), NOFD, 0, NONE)                         \
    M(attempt_rcpt, FROM(ROLE_QMGR), NOFD, 0, NONE)                    \
    M(attempt_go, FROM(ROLE_QMGR), MAYFD, 0, NONE)                     \
    M(rcpt_report, FROM(ROLE_RELAY), NOFD, 0, NONE)                    \
    M(attempt_report, FROM(ROLE_RELAY), NOFD, 0, NONE)                 \
    M(deliver, FROM(ROLE_QMGR), MAYFD, 300000, RETRY)                  \
    M(delivered, FROM(ROLE_MDA), NOFD, 0, NONE)                        \
    M(sign, FROM_DOOR, NOFD, 10000, CLOSE)                             \
    M(sign_made, FROM(ROLE_KEYD), NOFD, 0, NONE)                       \
    M(sign_refused, FROM(ROLE_KEYD), NOFD, 0, NONE)                    \
    M(introspect, FROM(ROLE_AUTHD), NOFD, 20000, DEFER)                \
    M(introspected, FROM(ROLE_TOKEND), NOFD, 0, NONE)                  \
    M(adm_arg, FROM(ROLE_ADMIN), NOFD, 0, NONE)                        \
    M(adm_go, FROM(ROLE_ADMIN), MAYFD, 0, NONE)                        \
    M(adm_rows, FROM_SERVICE | FROM_SUPERVISOR, NOFD, 0, NONE)         \
    M(adm_progress, FROM_SERVICE | FROM_SUPERVISOR, NOFD, 0, NONE)     \
    M(adm_end, FROM_SERVICE | FROM_SUPERVISOR, NOFD, 0, NONE)

#endif
