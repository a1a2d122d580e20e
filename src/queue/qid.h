/* Queue ids: numbers that only grow (microseconds since 1970, or one more than the last), and their text: 11 characters
 * whose order is the order of time. Messages and recipients share the counter. */
#ifndef QUEUE_QID_H
#define QUEUE_QID_H

#include "base/span.h"

#define QID_LENGTH 11
#define QID_MAX ((UINT64_C(1) << 55) - 1)

struct qid_text {
    char text[QID_LENGTH + 1];
};

struct qid_text qid_text(uint64_t id);
/* Letters in either case. False: not a queue id. */
bool qid_parse(struct span text, uint64_t *id);

/* The counter. Ids are taken in runs: a message and its recipients. */
struct qid_source {
    uint64_t last;
};
/* The first of `count` ids in a row; now_us is the wall clock. */
uint64_t qid_take(struct qid_source *s, int64_t now_us, uint64_t count);

#endif
