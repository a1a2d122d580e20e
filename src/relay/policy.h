/* What a message asks of TLS on its way (RFC 8689), over what the configuration says. */
#ifndef RELAY_POLICY_H
#define RELAY_POLICY_H

#include "relay/attempt.h"

/* What the attempt begins with: sets a->strict and a->key. */
void policy_begin(struct attempt *a);
/* REQUIRETLS could not be had anywhere. True: it may go without all the same (a notification), and the route begins anew. */
bool policy_relaxes(struct attempt *a);
enum smtp_client_tls policy_tls_mode(const struct attempt *a);
/* The context for a session with a->host; NULL: there is nothing to verify its certificate with, which was noted. */
struct tls_ctx *policy_tls(struct attempt *a);
/* Whether a session that failed while it set up TLS is tried again in clear. */
bool policy_may_clear(const struct attempt *a);
/* Whether this host may be dialled: its name must be authentic when TLS is required. False: it was noted. */
bool policy_host(struct attempt *a);
/* The session is ready. False: the host does not pass REQUIRETLS on, which was noted. */
bool policy_session(struct attempt *a);
/* Why a host failed, in the words of RFC8689:4.2.1 when it failed at what is required. */
void policy_note_over(struct attempt *a, const struct outcome *why, bool tls_failed);

#endif
