/* The real imapd and pop3d in one process with their test: the service skeleton is replaced by a few functions,
 * authd and the account's process by fakes that know one password. */
#ifndef UNIT_FRONT_SUPPORT_H
#define UNIT_FRONT_SUPPORT_H

#include "conf/conf.h"
#include "net_support.h"
#include "service/service.h"

int imapd_main(int argc, char **argv); /* src/imapd/main.c */
int pop3d_main(int argc, char **argv);

struct house {
    enum conf_protocol protocol;
    enum conf_tls_mode tls;
    bool plaintext_login;
    uint32_t max_connections, max_each, max_failures; /* 0: the default */
    int64_t login_timeout;
};

/* What the fakes saw. */
struct fakes {
    unsigned begins, steps, forgets, attaches;
    char user[200], mechanism[40], remote[70], tag[70];
    bool tls, has_initial;
    struct buf early;
    struct end mda; /* the stream that was attached */
    bool silent;    /* authd does not answer */
    bool no_mda;    /* attach is answered with "later" */
    bool mda_quiet; /* the account's process says nothing by itself */
};
extern struct fakes fakes;
extern struct loop *front_loop;
extern struct test_cert front_cert;

void front_up(const struct house *h);
void front_down(void);
void front_renew(const struct test_cert *c); /* a new certificate on disk */
void front_drain(void);
bool front_is_done(void);
void authd_gone(void);
void authd_back(void);

/* A client; its end's `got` holds what was not yet expected. */
struct end *client_new(void);
struct end *client_new_tls(void);
void client_tls(struct end *c); /* the handshake; fails the test when it fails */
void client_free(struct end **c);
void tell(struct end *c, const char *text);
/* Waits until the text came, and takes everything up to its end out of c->got. */
void expect(struct end *c, const char *text);
void expect_end(struct end *c);
void pass_time(int64_t ms);

#endif
