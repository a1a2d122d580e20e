/* The parsed structure of one content at a time: clients ask for several parts of a message one after the other. */
#include "imap/impl.h"

#define READ_SIZE 32768

void structure_free(struct imap *s)
{
    mime_free(&s->structure.mime);
    s->structure.valid = false;
}

const struct mime_part *structure_of(struct imap *s, uint64_t content, struct imap_content *c)
{
    if (s->structure.valid && s->structure.content == content)
        return s->structure.root;
    if (s->structure.mime)
        mime_reset(s->structure.mime);
    else
        s->structure.mime = mime_new();
    s->structure.valid = false;
    struct span all = s->b->bytes(c);
    mime_feed(s->structure.mime, all);
    char piece[READ_SIZE];
    for (uint64_t at = 0; !all.p;) {
        ptrdiff_t n = s->b->read(c, at, piece, sizeof piece, &s->err);
        if (n < 0)
            return NULL;
        if (n == 0)
            break;
        mime_feed(s->structure.mime, span_make(piece, (size_t)n));
        at += (uint64_t)n;
    }
    s->structure.root = mime_end(s->structure.mime);
    s->structure.content = content;
    s->structure.valid = true;
    return s->structure.root;
}
