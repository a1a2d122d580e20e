#include "smtp/pace.h"

void smtp_pace_begin(struct smtp_pace *p, int64_t now)
{
    p->since = now;
    p->moved = 0;
}

bool smtp_pace_command(struct smtp_pace *p, int64_t now, bool whole, int64_t limit)
{
    if (whole)
        smtp_pace_begin(p, now);
    return now - p->since <= limit;
}

bool smtp_pace_content(struct smtp_pace *p, int64_t now, uint64_t bytes, int64_t limit, uint64_t least)
{
    p->moved += bytes;
    if (now - p->since <= limit)
        return true;
    bool good = p->moved >= least;
    smtp_pace_begin(p, now);
    return good;
}
