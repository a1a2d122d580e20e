#include "queue/qid.h"

#include <stdlib.h>

#include "base/util.h"

/* Digits and letters without I, L, O and U: in ASCII order, and nobody misreads one for another. */
static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

struct qid_text qid_text(uint64_t id)
{
    struct qid_text t;
    for (int i = QID_LENGTH - 1; i >= 0; i--, id >>= 5)
        t.text[i] = digits[id & 31];
    t.text[QID_LENGTH] = '\0';
    return t;
}

bool qid_parse(struct span text, uint64_t *id)
{
    uint64_t n = 0;
    if (text.n != QID_LENGTH)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        const char *at = text.p[i] ? strchr(digits, ascii_upper(text.p[i])) : NULL;
        if (!at)
            return false;
        n = n << 5 | (uint64_t)(at - digits);
    }
    *id = n;
    return n != 0;
}

uint64_t qid_take(struct qid_source *s, int64_t now_us, uint64_t count)
{
    uint64_t first = MAX_OF(s->last + 1, now_us > 0 ? (uint64_t)now_us : 0);
    s->last = first + count - 1;
    if (s->last > QID_MAX)
        abort();
    return first;
}
