/* Whether the queue takes mail: not without room on its disk, nor while its database can't be written. What closes it is looked at again
 * until it is over. */
#include <stdio.h>

#include "base/log.h"
#include "qmgr/qmgr.h"

#define ROOM_LOOK_MS 250
#define ROOM_AGAIN_MS 1000

struct outcome door_why(const struct qmgr *q)
{
    return outcome_make(OUTCOME_RETRY, 452, 3, 1, "%s",
                        q->open ? "Insufficient system storage, try again later" : q->closed_why);
}

static void set_door(struct qmgr *q, bool open, const char *why)
{
    if (q->open == open)
        return;
    q->open = open;
    snprintf(q->closed_why, sizeof q->closed_why, "%s", why);
    if (open)
        LOGI("queue-open");
    else
        LOGE("queue-closed", KVT("why", why));
    accept_tell_senders(q);
    if (!open)
        timer_start(q->room_timer, ROOM_AGAIN_MS);
}

/* That there is room says nothing about a database that could not be written. */
void door_close(struct qmgr *q, const char *why)
{
    q->broken = true;
    set_door(q, false, why);
}

static void look_for_room(struct qmgr *q)
{
    uint64_t bytes, files;
    q->room_looked = loop_now(q->loop);
    if (queue_room(q->queue, &bytes, &files))
        return;
    if (bytes < q->conf->queue.min_free)
        set_door(q, false, "Insufficient system storage, try again later");
    else if (files < q->conf->queue.min_free_files)
        set_door(q, false, "No more files can be made here, try again later");
    else if (!q->broken)
        set_door(q, true, "");
}

static void look_again(struct qmgr *q)
{
    look_for_room(q);
    if (!q->open)
        timer_start(q->room_timer, ROOM_AGAIN_MS);
}

static void on_probed(struct queue_request *r)
{
    struct qmgr *q = container_of(r, struct qmgr, probe);
    q->probing = false;
    q->broken = r->fail != QUEUE_OK;
    if (!q->stopping)
        look_again(q);
}

static void on_room_timer(void *ctx)
{
    struct qmgr *q = ctx;
    if (!q->broken) {
        look_again(q);
    } else if (!q->probing) {
        q->probing = true;
        q->probe.done = on_probed;
        queue_probe(q->queue, &q->probe);
    }
}

void door_init(struct qmgr *q)
{
    q->open = true;
    q->room_timer = timer_new(q->loop, on_room_timer, q);
    look_for_room(q);
}

bool door_open(struct qmgr *q)
{
    if (q->open && loop_now(q->loop) - q->room_looked > ROOM_LOOK_MS)
        look_for_room(q);
    return q->open;
}

void door_free(struct qmgr *q)
{
    timer_free(&q->room_timer);
}
