/* From the zygote's child to an account's process: descriptors closed, uid taken on, sandbox entered; then the worker
 * runs. HAZARDS 32: the account's folder is its own, and no link. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "service/sandbox.h"
#include "service/worker.h"
#include "zygote/zygote.h"

#define KEEP_MAX 8
#define RESOURCE_LOG 1
#define DIR_SIZE 4200

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Everything but standard error and these: the zygote's channels and those of other accounts are none of ours. */
static void close_others(int *keep, size_t n)
{
    unsigned from = 3;
    qsort(keep, n, sizeof(*keep), by_number);
    for (size_t i = 0; i < n; i++) {
        if (keep[i] < (int)from)
            continue;
        if (keep[i] > (int)from)
            close_range(from, (unsigned)keep[i] - 1, 0);
        from = (unsigned)keep[i] + 1;
    }
    close_range(from, ~0U, 0);
}

/* The log line says mda from here on. A lost log is not ours to ask for: the socket is one for all, and the queue's line
 * about the same message asks. */
static void own_log(struct zygote *z)
{
    const struct conf *c = service_conf(z->service);
    int syslog = service_resource(z->service, RESOURCE_LOG);
    log_on_lost(NULL);
    if (c->log == CONF_LOG_SYSLOG && syslog >= 0)
        log_open("mda", syslog, LOG_TO_SYSLOG);
    else
        log_open("mda", STDERR_FILENO, c->log == CONF_LOG_JOURNAL ? LOG_TO_JOURNAL : LOG_TO_STDERR);
}

static void close_the_rest(struct zygote *z, const struct child *c)
{
    int keep[KEEP_MAX];
    size_t n = 0;
    int log = service_resource(z->service, RESOURCE_LOG);
    keep[n++] = c->control_fd;
    keep[n++] = c->authd_fd;
    keep[n++] = c->qmgr_fd;
    if (log >= 0)
        keep[n++] = log;
    close_others(keep, n);
}

void child_run(struct zygote *z, struct child c)
{
    char dir[DIR_SIZE];
    struct err err;
    struct sandbox_level level;
    signal(SIGCHLD, SIG_DFL);
    prctl(PR_SET_NAME, "mda"); /* what ps and the kernel's log show */
    own_log(z);
    close_the_rest(z, &c);
    const struct conf *conf = service_conf(z->service);
    snprintf(dir, sizeof(dir), "%s/mail/%u", conf->state, c.account);
    if (sandbox_enter_worker(c.uid, service_as_root(z->service), dir, &level, &err)) {
        LOGE("mda-not-locked-in", KVU("account", c.account), KVT("why", err.text));
        _exit(1);
    }
    struct worker_start start = {.account = c.account,
                                 .uid = c.uid,
                                 .as_root = service_as_root(z->service),
                                 .login = c.login,
                                 .dir = dir,
                                 .boot_id = z->boot_id,
                                 .conf = conf,
                                 .control_fd = c.control_fd,
                                 .authd_fd = c.authd_fd,
                                 .qmgr_fd = c.qmgr_fd};
    _exit(worker_run(&start));
}
