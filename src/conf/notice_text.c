#include "conf/notice_text.h"

#include "base/buf.h"

#define HEAD_FAILED(late, dialogue)                                                        \
    "From: Mail Delivery System\n"                                                         \
    "Leads-To: (which leads to {address})\n"                                               \
    "Said: {server} said: {answer}\n"                                                      \
    "Tried: It was tried {attempts} times, without success. The last answer was:\n"        \
    dialogue                                                                               \
    "Late: " late "\n"                                                                     \
    "Unknown: no reason is known\n"                                                        \
    "More: and {count} more, who are all named in the next part of this message.\n\n"
#define DIALOGUE "Dialogue: What was said there:\n"
#define HEAD_GOOD                            \
    "From: Mail Delivery System\n"           \
    "Leads-To: (which leads to {address})\n" \
    "More: and {count} more, who are all named in the next part of this message.\n\n"
#define YOURS                                  \
    "This is the mail server of {host}.\n\n"   \
    "Your message of {date}\n"                 \
    "  \"{subject}\"\n"
#define END "\nOur reference: {reference}\n"

#define HEAD_HELD                                                       \
    "From: Mail Delivery System\n"                                      \
    "Messages-Hour: more messages in an hour than {count}\n"            \
    "Recipients-Hour: more recipients in an hour than {count}\n"        \
    "Messages-Day: more messages in a day than {count}\n"               \
    "Recipients-Day: more recipients in a day than {count}\n"           \
    "New-Recipients-Day: more new recipients in a day than {count}\n\n" \
    "This is the mail server of {host}.\n\n"

static const struct {
    const char *name, *text;
} kinds[NOTICE_KINDS] = {
    [NOTICE_FAILED] =
        {"failed", "Subject: Your message could not be delivered\n" HEAD_FAILED(
                       "You asked for it back when it is not delivered by a certain time, which has passed.", DIALOGUE) YOURS
         "could not be delivered to:\n\n{recipients}\n\n"
         "Nothing more will be tried. Please check the address. If it is right, write to the\n"
         "recipient in another way, or to the postmaster of the domain, and pass on the\nreason above.\n" END},
    [NOTICE_DELAYED] =
        {"delayed", "Subject: Your message is delayed\n" HEAD_FAILED("The time by which you wanted it delivered has passed.", "") YOURS
         "could not be delivered yet to:\n\n{recipients}\n\n"
         "It is being tried further; there is nothing that you need to do.\n"
         "It is tried until {until}; then it comes back to you.\n" END},
    [NOTICE_EXPANDED] =
        {"expanded", "Subject: Your message was passed on\n" HEAD_GOOD YOURS
         "was passed on to all behind:\n\n{recipients}\n\n"
         "You will hear of those only if one of them can't be reached and you asked to be told.\n" END},
    [NOTICE_RELAYED] =
        {"relayed", "Subject: Your message was passed on\n" HEAD_GOOD YOURS
         "was taken by the next server for:\n\n{recipients}\n\n"
         "That server does not tell whether it was delivered.\n" END},
    [NOTICE_DELIVERED] =
        {"delivered", "Subject: Your message was delivered\n" HEAD_GOOD YOURS "was delivered to:\n\n{recipients}\n" END},
    [NOTICE_DOUBLE_BOUNCE] =
        {"double-bounce", "Subject: A notification could not be delivered\n" HEAD_FAILED("Its time has passed.", DIALOGUE)
         "This is the mail server of {host}.\n\n"
         "A notification that we sent on {date}\n"
         "  \"{subject}\"\n"
         "could not be delivered to:\n\n{recipients}\n\n"
         "It tells what became of a message from that address; what it says follows below. Most often the\n"
         "address is forged, and there is nothing to do. If it belongs to one of your users, mend it.\n" END},
    [NOTICE_ACCOUNT_HELD] =
        {"account-held", "Subject: The mail that you send is being held\n" HEAD_HELD
         "From your account {account} more was sent than is allowed:\n{reason}.\n"
         "What passed that limit, and all that is sent from now on, is held here. Nothing is lost, and nothing\nmore leaves.\n\n"
         "If it was you: write to nobody again, and ask your postmaster to release your mail.\n\n"
         "If it was not you, somebody else knows your password. Change it now, and have all app passwords removed\n"
         "that you do not need; then tell your postmaster that the held mail is not yours, so that it is deleted.\n\n"
         "Your postmaster: {postmaster}\n"},
    [NOTICE_ACCOUNT_HELD_OPERATOR] =
        {"account-held-operator", "Subject: An account sends too much: its mail is held\n" HEAD_HELD
         "The account {account} has sent more than it may:\n{reason}.\n"
         "The message that passed the limit came from {client}.\n"
         "It is held, and so is all that the account sends from now on; its owner has been told. If the password\n"
         "is stolen, change it before you release anything.\n\n"
         "  waypost account held list\n"
         "  waypost queue list --state limited\n"
         "  waypost account held release {account}\n"
         "  waypost account held discard {account} --yes\n"},
};

static const char *const places[NOTICE_PLACES] = {
    [NOTICE_RECIPIENTS] = "recipients", [NOTICE_HOST] = "host",           [NOTICE_SENDER] = "sender",
    [NOTICE_DATE] = "date",             [NOTICE_DAY] = "day",             [NOTICE_TIME] = "time",
    [NOTICE_UNTIL] = "until",           [NOTICE_UNTIL_DAY] = "until-day", [NOTICE_UNTIL_TIME] = "until-time",
    [NOTICE_SUBJECT_LINE] = "subject",  [NOTICE_REFERENCE] = "reference", [NOTICE_ADDRESS] = "address",
    [NOTICE_SERVER] = "server",         [NOTICE_ANSWER] = "answer",       [NOTICE_ATTEMPTS] = "attempts",
    [NOTICE_COUNT] = "count",           [NOTICE_ACCOUNT] = "account",     [NOTICE_REASON] = "reason",
    [NOTICE_POSTMASTER] = "postmaster", [NOTICE_CLIENT] = "client",
};

#define P(place) (UINT32_C(1) << NOTICE_##place)
#define IN_BODY \
    (P(HOST) | P(SENDER) | P(DATE) | P(DAY) | P(TIME) | P(UNTIL) | P(UNTIL_DAY) | P(UNTIL_TIME) | P(SUBJECT_LINE) | P(REFERENCE))

#define IN_HELD (P(HOST) | P(ACCOUNT) | P(REASON) | P(POSTMASTER) | P(CLIENT))

static bool is_report(enum notice_kind kind)
{
    return kind <= NOTICE_DOUBLE_BOUNCE;
}

/* Of its body and subject. */
static uint32_t places_of(enum notice_kind kind)
{
    return is_report(kind) ? IN_BODY : IN_HELD;
}

enum { OF_ALL, OF_REPORTS, OF_HELD };
static const struct {
    const char *name;
    uint32_t places;
    int of;
} phrases[NOTICE_PHRASES] = {
    [NOTICE_SUBJECT] = {"Subject", 0, OF_ALL},
    [NOTICE_FROM] = {"From", 0, OF_ALL},
    [NOTICE_LEADS_TO] = {"Leads-To", P(ADDRESS), OF_REPORTS},
    [NOTICE_SAID] = {"Said", P(SERVER) | P(ANSWER), OF_REPORTS},
    [NOTICE_TRIED] = {"Tried", P(ATTEMPTS), OF_REPORTS},
    [NOTICE_DIALOGUE] = {"Dialogue", 0, OF_REPORTS},
    [NOTICE_LATE] = {"Late", 0, OF_REPORTS},
    [NOTICE_UNKNOWN] = {"Unknown", 0, OF_REPORTS},
    [NOTICE_MORE] = {"More", P(COUNT), OF_REPORTS},
    [NOTICE_MESSAGES_HOUR] = {"Messages-Hour", P(COUNT), OF_HELD},
    [NOTICE_RECIPIENTS_HOUR] = {"Recipients-Hour", P(COUNT), OF_HELD},
    [NOTICE_MESSAGES_DAY] = {"Messages-Day", P(COUNT), OF_HELD},
    [NOTICE_RECIPIENTS_DAY] = {"Recipients-Day", P(COUNT), OF_HELD},
    [NOTICE_NEW_DAY] = {"New-Recipients-Day", P(COUNT), OF_HELD},
};

static bool has_phrase(enum notice_kind kind, unsigned phrase)
{
    return phrases[phrase].of == OF_ALL || (phrases[phrase].of == OF_REPORTS) == is_report(kind);
}

struct span notice_text_built_in(enum notice_kind kind)
{
    return span_of(kinds[kind].text);
}

const char *notice_kind_name(enum notice_kind kind)
{
    return kinds[kind].name;
}

/* ---- pieces ---- */

static enum notice_place place_of(struct span name)
{
    for (size_t i = NOTICE_LITERAL + 1; i < NOTICE_PLACES; i++)
        if (span_eqs(name, places[i]))
            return (enum notice_place)i;
    return NOTICE_LITERAL;
}

bool notice_piece_next(struct span *rest, enum notice_place *place, struct span *literal)
{
    ptrdiff_t open = span_find(*rest, '{'), close = open == 0 ? span_find(*rest, '}') : -1;
    if (rest->n == 0)
        return false;
    *place = NOTICE_LITERAL;
    if (span_starts(*rest, SPAN("{{"))) {
        *literal = span_sub(*rest, 0, 1);
        *rest = span_from(*rest, 2);
    } else if (close > 0) {
        *place = place_of(span_sub(*rest, 1, (size_t)close - 1));
        *literal = span_sub(*rest, 0, (size_t)close + 1);
        *rest = span_from(*rest, (size_t)close + 1);
    } else { /* an open brace without its other half was refused */
        size_t n = open > 0 ? (size_t)open : rest->n;
        *literal = span_sub(*rest, 0, n);
        *rest = span_from(*rest, n);
    }
    return true;
}

bool notice_line_next(struct span *body, struct span *line)
{
    if (body->n == 0)
        return false;
    *line = span_cut(body, '\n');
    if (span_ends(*line, SPAN("\r")))
        line->n--;
    return true;
}

/* ---- reading ---- */

static int check_octets(struct span line, struct err *err)
{
    if (line.n > NOTICE_LINE_MAX)
        return err_set(err, "the line is longer than %d bytes, break it", NOTICE_LINE_MAX);
    if (!span_is_utf8(line))
        return err_set(err, "this is not UTF-8, save the file in that encoding");
    if (span_has_control(line))
        return err_set(err, "the line holds a control character, take it out");
    return 0;
}

static int unknown_place(struct span name, uint32_t allowed, struct err *err)
{
    struct buf all = {0};
    for (size_t i = NOTICE_LITERAL + 1; i < NOTICE_PLACES; i++)
        if (allowed & UINT32_C(1) << i)
            buf_printf(&all, "%s{%s}", all.n ? ", " : "", places[i]);
    if (all.n)
        err_set(err, "there is no %.*s here, write one of %s, or {{ for a brace", SPANV(name), buf_cstr(&all));
    else
        err_set(err, "there is no %.*s here, take it away, or write {{ for a brace", SPANV(name));
    buf_free(&all);
    return -1;
}

/* Whether each placeholder is one that may stand there. */
static int check_places(struct span text, uint32_t allowed, struct err *err)
{
    while (text.n) {
        struct span at = text, literal;
        enum notice_place place;
        notice_piece_next(&text, &place, &literal);
        if (place != NOTICE_LITERAL && !(allowed & UINT32_C(1) << place))
            return unknown_place(literal, allowed, err);
        if (place != NOTICE_LITERAL || at.p[0] != '{' || span_starts(at, SPAN("{{")))
            continue;
        return span_ends(literal, SPAN("}")) ? unknown_place(literal, allowed, err)
                                             : err_set(err, "a '{' has no '}' on its line, add it, or write {{ for a brace");
    }
    return 0;
}

static int take_phrase(struct span line, enum notice_kind kind, struct notice_text *out, uint32_t *seen, struct err *err)
{
    struct span value = line, name = span_cut(&value, ':');
    for (unsigned i = 0; i < NOTICE_PHRASES; i++) {
        if (!has_phrase(kind, i) || !span_ieqs(name, phrases[i].name) || span_find(line, ':') < 0)
            continue;
        if (*seen & 1u << i)
            return err_set(err, "%s: stands twice, take one of them away", phrases[i].name);
        *seen |= 1u << i;
        out->phrase[i] = span_trim(value);
        if (out->phrase[i].n == 0)
            return err_set(err, "%s: is empty, give a text or take the line away", phrases[i].name);
        return check_places(out->phrase[i], i == NOTICE_SUBJECT ? places_of(kind) : phrases[i].places, err);
    }
    struct buf all = {0};
    for (unsigned i = 0; i < NOTICE_PHRASES; i++)
        if (has_phrase(kind, i))
            buf_printf(&all, "%s%s:", i ? ", " : "", phrases[i].name);
    err_set(err, "above the first empty line stand texts such as \"Subject: …\"; begin this line with one of %s", buf_cstr(&all));
    buf_free(&all);
    return -1;
}

/* Up to the first empty line. */
static int read_phrases(struct span *text, enum notice_kind kind, struct notice_text *out, unsigned *line_number, struct err *err)
{
    struct span line;
    uint32_t seen = 0;
    while (notice_line_next(text, &line) && line.n) {
        ++*line_number;
        if (check_octets(line, err) || take_phrase(line, kind, out, &seen, err))
            return -1;
    }
    ++*line_number;
    return seen & 1u << NOTICE_SUBJECT ? 0 : err_set(err, "there is no \"Subject: …\" above the first empty line, begin with one");
}

static int check_body(struct span body, enum notice_kind kind, unsigned *line_number, struct err *err)
{
    struct span line;
    unsigned recipients = 0;
    for (; notice_line_next(&body, &line); ++*line_number) {
        if (check_octets(line, err))
            return -1;
        if (!is_report(kind)) {
            if (check_places(line, places_of(kind), err))
                return -1;
            continue;
        }
        if (span_eqs(span_trim(line), "{recipients}"))
            recipients++;
        else if (span_search(line, SPAN("{recipients}")) >= 0)
            return err_set(err, "{recipients} becomes several lines, put it on a line of its own");
        else if (check_places(line, places_of(kind), err))
            return -1;
        if (recipients > 1)
            return err_set(err, "{recipients} stands twice, take one of them away");
    }
    return recipients || !is_report(kind) ? 0 : err_set(err, "there is no line {recipients}, add one where they are to be named");
}

static int read_text(struct span text, enum notice_kind kind, struct notice_text *out, unsigned *line, struct err *err)
{
    *line = 1;
    if (text.n > NOTICE_TEXT_MAX)
        return err_set(err, "the text is larger than %u KiB, make it shorter", NOTICE_TEXT_MAX >> 10);
    if (span_starts(text, SPAN("\xef\xbb\xbf"))) /* editors put it there */
        text = span_from(text, 3);
    *line = 0;
    if (read_phrases(&text, kind, out, line, err)) {
        *line = MAX_OF(*line, 1u);
        return -1;
    }
    out->body = text;
    ++*line;
    return check_body(text, kind, line, err);
}

int notice_text_parse(struct span text, enum notice_kind kind, struct notice_text *out, unsigned *line, struct err *err)
{
    struct notice_text own = {0};
    struct err none;
    if (read_text(span_of(kinds[kind].text), kind, out, line, &none))
        return err_set(err, "the built-in text breaks its own rules"); /* a test looks at each */
    if (read_text(text, kind, &own, line, err))
        return -1;
    for (unsigned i = 0; i < NOTICE_PHRASES; i++)
        if (own.phrase[i].p)
            out->phrase[i] = own.phrase[i];
    out->body = own.body;
    return 0;
}
