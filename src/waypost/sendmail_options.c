/* The command line of sendmail. Options end at the first argument that is none: what a script puts behind an address
 * can't become an option. */
#include <getopt.h>
#include <stdlib.h>

#include "base/util.h"
#include "waypost/sendmail.h"

static bool mode_of(struct sendmail_options *o, const char *value, struct err *err)
{
    static const struct {
        char letter;
        enum sendmail_mode mode;
    } modes[] = {{'m', SENDMAIL_SUBMIT}, {'s', SENDMAIL_SMTP}, {'p', SENDMAIL_LIST}, {'i', SENDMAIL_ALIASES}};
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        if (value[0] == modes[i].letter && value[1] == 0) {
            o->mode = modes[i].mode;
            return true;
        }
    }
    return err_set(err, "-b%s: m, s, p and i are possible", value) == 0;
}

static const char *capital(const char *value, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (span_ieqs(span_of(value), words[i]))
            return words[i];
    return NULL;
}

/* RFC3461:4.1: NEVER stands alone. */
static bool notify_of(struct sendmail_options *o, const char *value, struct err *err)
{
    static const char *const never[] = {"NEVER"}, *const words[] = {"SUCCESS", "FAILURE", "DELAY"};
    struct span rest = span_of(value);
    bool good = rest.n > 0;
    while (rest.n && good) {
        struct span word = span_cut(&rest, ',');
        good = false;
        for (size_t i = 0; i < COUNT_OF(words); i++)
            good |= span_ieqs(word, words[i]);
    }
    o->notify = value;
    if (good || capital(value, never, COUNT_OF(never)))
        return true;
    return err_set(err, "-N: never, or a list of success, failure and delay") == 0;
}

static bool ret_of(struct sendmail_options *o, const char *value, struct err *err)
{
    static const char *const words[] = {"FULL", "HDRS"};
    o->ret = capital(value, words, COUNT_OF(words));
    return o->ret || err_set(err, "-R: full or hdrs") == 0;
}

static bool body_of(struct sendmail_options *o, const char *value, struct err *err)
{
    static const char *const words[] = {"7BIT", "8BITMIME"};
    const char *word = capital(value, words, COUNT_OF(words));
    o->seven_bit = word == words[0];
    return word || err_set(err, "-B: 7BIT or 8BITMIME") == 0;
}

/* -q, -qf: all; -qRADDRESS, -qSADDRESS, -qIID. */
static bool queue_of(struct sendmail_options *o, int argc, char **argv, const char *value, struct err *err)
{
    char letter = value ? value[0] : 'f';
    o->mode = SENDMAIL_RETRY;
    o->of = value && value[0] ? value + 1 : "";
    if (letter == 'f' && *o->of == 0) {
        o->which = "--all";
        o->of = NULL;
        return true;
    }
    if (!strchr("RSI", letter) || letter == 0)
        return err_set(err, "-q%s: the server tries by itself what waits; possible are -q, -qR, -qS and -qI", value) == 0;
    if (*o->of == 0 && optind < argc)
        o->of = argv[optind++];
    if (*o->of == 0)
        return err_set(err, "-q%c needs a value", letter) == 0;
    o->which = letter == 'R' ? "--recipient" : letter == 'S' ? "--sender" : NULL;
    return true;
}

static bool one_option(struct sendmail_options *o, int c, int argc, char **argv, struct err *err)
{
    switch (c) {
    case 'b': return mode_of(o, optarg, err);
    case 'B': return body_of(o, optarg, err);
    case 'C': o->config = optarg; return true;
    case 'f':
    case 'r': o->sender = optarg; return true;
    case 'F': o->name = optarg; return true;
    case 'i': o->dots_stay = true; return true;
    case 'N': return notify_of(o, optarg, err);
    case 'o': o->dots_stay |= strcmp(optarg, "i") == 0; return true;
    case 'q': return queue_of(o, argc, argv, optarg, err);
    case 'R': return ret_of(o, optarg, err);
    case 't': o->by_header = true; return true;
    case 'v': o->verbose = true; return true;
    case 'V': o->envid = optarg; return true;
    case 'A':
    case 'e':
    case 'L':
    case 'm':
    case 'n':
    case 'O':
    case 'U': return true; /* how another sendmail would go about it; the manual page says so */
    default: return err_set(err, "an unknown option, or one without its value") == 0;
    }
}

bool sendmail_options(struct sendmail_options *o, int argc, char **argv, struct err *err)
{
    int c;
    *o = (struct sendmail_options){0};
    optind = 0; /* from the beginning */
    opterr = 0;
    while ((c = getopt(argc, argv, "+A:b:B:C:e:f:r:F:iL:mN:no:O:q::R:tUvV:")) != -1)
        if (!one_option(o, c, argc, argv, err))
            return false;
    o->rest = argv + optind;
    o->rest_n = argc - optind;
    return true;
}
