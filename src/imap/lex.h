/* Tokens of IMAP commands (RFC 3501 §9) over the text of one collected command. Each function takes its token off the
 * front, or leaves the text alone and says no. Spans point into the command or, where quoting had to be undone, into
 * the arena. */
#ifndef IMAP_LEX_H
#define IMAP_LEX_H

#include "base/arena.h"
#include "base/span.h"

struct lex {
    struct span rest;
    struct arena *arena;
};

bool lex_tag(struct lex *x, struct span *out);    /* 1*<any ASTRING-CHAR except "+"> */
bool lex_atom(struct lex *x, struct span *out);   /* 1*ATOM-CHAR */
bool lex_string(struct lex *x, struct span *out); /* quoted or literal */
bool lex_astring(struct lex *x, struct span *out);
bool lex_nstring(struct lex *x, struct span *out);      /* NIL: out->p is NULL */
bool lex_list_mailbox(struct lex *x, struct span *out); /* 1*list-char or a string */
bool lex_number(struct lex *x, uint32_t *out);
bool lex_number64(struct lex *x, uint64_t *out);
bool lex_char(struct lex *x, char c);
bool lex_sp(struct lex *x);
bool lex_word(struct lex *x, const char *word); /* that atom, without case */
bool lex_end(const struct lex *x);

#endif
