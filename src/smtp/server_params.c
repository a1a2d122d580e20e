/* The parameters of MAIL: RFC 1870, 6152, 4954 §5, 6531, 3461, 8689, 2852, 4865, 6710. A parameter that EHLO did not
 * announce is refused (RFC5321:4.1.1.11). */
#include "smtp/server_impl.h"
#include "smtp/wishes.h"

static int param_size(struct smtp_server *s, struct span value)
{
    uint64_t n;
    if (value.n == 0 || value.n > 20 || !span_u64(value, UINT64_MAX, &n)) { /* RFC1870:5 */
        smtp_server_refuse(s, 501, "5.5.4", "SIZE is a number of octets");
        return -1;
    }
    if (n > s->config->max_size) { /* RFC1870:6.1 */
        smtp_server_refuse(s, 552, "5.3.4", "The message is larger than what is taken here");
        return -1;
    }
    s->txn.declared = n;
    return 0;
}

static int param_body(struct smtp_server *s, struct span value)
{
    s->txn.binary = span_ieqs(value, "BINARYMIME"); /* RFC3030:3 */
    if (!s->txn.binary && !span_ieqs(value, "7BIT") && !span_ieqs(value, "8BITMIME")) {
        smtp_server_refuse(s, 501, "5.5.4", "BODY is 7BIT, 8BITMIME or BINARYMIME");
        return -1;
    }
    s->txn.body_8bit = span_ieqs(value, "8BITMIME");
    return 0;
}

/* RFC4954:5: the value is checked for its form; as no client is trusted to vouch for another's identity, it counts as
 * "<>". */
static int param_auth(struct smtp_server *s, struct span value)
{
    struct smtp_path path;
    buf_clear(&s->scratch);
    bool good =
        value.n && smtp_xtext_decode(value, &s->scratch) == 0 &&
        (span_eqs(buf_span(&s->scratch), "<>") || smtp_mailbox_parse(buf_span(&s->scratch), 0, &path) == SMTP_PATH_OK);
    if (!good)
        smtp_server_refuse(s, 501, "5.5.4", "AUTH is a mailbox in xtext, or <>");
    return good ? 0 : -1;
}

/* RFC6531:3.4 */
static int param_smtputf8(struct smtp_server *s, struct span value)
{
    if (value.p) {
        smtp_server_refuse(s, 501, "5.5.4", "SMTPUTF8 has no value");
        return -1;
    }
    s->txn.smtputf8 = true;
    return 0;
}

/* RFC3461:4.3 */
static int param_ret(struct smtp_server *s, struct span value)
{
    if (smtp_ret_parse(value, &s->txn.ret))
        return 0;
    smtp_server_refuse(s, 501, "5.5.4", "RET is FULL or HDRS");
    return -1;
}

/* RFC3461:4.4 */
static int param_envid(struct smtp_server *s, struct span value)
{
    if (!smtp_envid_valid(value)) {
        smtp_server_refuse(s, 501, "5.5.4", "ENVID is xtext of 100 characters at most");
        return -1;
    }
    s->txn.envid = arena_dup(&s->arena, value);
    return 0;
}

/* RFC8689:2 */
bool smtp_server_serves_requiretls(const struct smtp_server *s)
{
    return s->tls;
}

static int param_requiretls(struct smtp_server *s, struct span value)
{
    if (value.p) {
        smtp_server_refuse(s, 501, "5.5.4", "REQUIRETLS has no value");
        return -1;
    }
    s->txn.requiretls = true;
    return 0;
}

/* RFC2852:4 */
static int param_by(struct smtp_server *s, struct span value)
{
    int64_t seconds;
    if (!smtp_by_parse(value, &seconds, &s->txn.by_mode)) {
        smtp_server_refuse(s, 501, "5.5.4", "BY is seconds;R or seconds;N, perhaps with a T; with R more than none");
        return -1;
    }
    if (s->txn.by_mode & SMTP_BY_RETURN && seconds < (int64_t)s->config->by_min) { /* RFC2852:3 */
        smtp_server_refuse(s, 555, "5.5.4", "That is less time than is accepted here, see DELIVERBY in EHLO");
        return -1;
    }
    s->txn.deliver_by = s->door->wall + seconds * 1000;
    return 0;
}

/* RFC4865:4.2 */
bool smtp_server_serves_hold(const struct smtp_server *s)
{
    return s->config->submission && s->config->hold_max;
}

static int hold(struct smtp_server *s, const char *how, struct span value, int64_t until)
{
    if (s->txn.hold_until) {
        smtp_server_refuse(s, 501, "5.5.4", "HOLDFOR or HOLDUNTIL, not both");
        return -1;
    }
    s->txn.hold_until = until;
    s->txn.hold = arena_printf(&s->arena, "%s;%.*s", how, SPANV(value));
    return 0;
}

static int param_hold_for(struct smtp_server *s, struct span value)
{
    uint32_t seconds;
    if (!smtp_hold_for_parse(value, &seconds) || seconds > s->config->hold_max) {
        smtp_server_refuse(s, 501, "5.5.4", "HOLDFOR is a number of seconds, up to that of FUTURERELEASE in EHLO");
        return -1;
    }
    return hold(s, "for", value, s->door->wall + (int64_t)seconds * 1000);
}

static int param_hold_until(struct smtp_server *s, struct span value)
{
    int64_t seconds;
    if (!smtp_hold_until_parse(value, &seconds) || seconds <= 0 ||
        seconds > s->door->wall / 1000 + (int64_t)s->config->hold_max) {
        smtp_server_refuse(s, 501, "5.5.4", "HOLDUNTIL is a time of RFC 3339, up to that of FUTURERELEASE in EHLO");
        return -1;
    }
    return hold(s, "until", value, seconds * 1000);
}

/* RFC6710:3: positive priorities are for those alone who were given leave. */
bool smtp_server_serves_priority(const struct smtp_server *s)
{
    return s->config->submission;
}

static bool may_hurry(const struct smtp_server *s)
{
    for (size_t i = 0; i < s->config->priority_login_count; i++)
        if (span_ieqs(buf_span(&s->login), s->config->priority_logins[i]))
            return true;
    return false;
}

static int param_priority(struct smtp_server *s, struct span value)
{
    if (!smtp_priority_parse(value, &s->txn.priority)) {
        smtp_server_refuse(s, 501, "5.5.2", "MT-PRIORITY is a number from -9 to 9"); /* RFC6710:4.1 */
        return -1;
    }
    s->txn.lowered = s->txn.priority > 0 && !may_hurry(s);
    if (s->txn.lowered)
        s->txn.priority = 0;
    return 0;
}

/* Not of any RFC: a program of this machine that may have to say the same again, now or from the drop directory, names the
 * message by 16 bytes, so that it is queued once. */
static bool serves_token(const struct smtp_server *s)
{
    return s->config->local;
}

static int hex_value(char c)
{
    return ascii_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int param_token(struct smtp_server *s, struct span value)
{
    bool good = value.n == 2 * sizeof s->txn.token;
    for (size_t i = 0; good && i < sizeof s->txn.token; i++) {
        int high = hex_value(value.p[2 * i]), low = hex_value(value.p[2 * i + 1]);
        good = high >= 0 && low >= 0;
        s->txn.token[i] = good ? (char)(high << 4 | low) : 0;
    }
    s->txn.has_token = good;
    if (!good)
        smtp_server_refuse(s, 501, "5.5.4", "XTOKEN is 32 hexadecimal digits in lower case");
    return good ? 0 : -1;
}

static bool serves_auth(const struct smtp_server *s)
{
    return s->login.n || smtp_server_offers_auth(s);
}

static const struct mail_param {
    const char *keyword, *form;
    bool (*served)(const struct smtp_server *s); /* NULL: always */
    int (*take)(struct smtp_server *s, struct span value);
} mail_params[] = {
    {"SIZE", "SIZE=octets", NULL, param_size},
    {"BODY", "BODY=7BIT|8BITMIME|BINARYMIME", NULL, param_body},
    {"AUTH", "AUTH=address", serves_auth, param_auth},
    {"RET", "RET=FULL|HDRS", NULL, param_ret},
    {"ENVID", "ENVID=xtext", NULL, param_envid},
    {"SMTPUTF8", "SMTPUTF8", NULL, param_smtputf8},
    {"REQUIRETLS", "REQUIRETLS", smtp_server_serves_requiretls, param_requiretls},
    {"BY", "BY=seconds;R|N[T]", NULL, param_by},
    {"HOLDFOR", "HOLDFOR=seconds", smtp_server_serves_hold, param_hold_for},
    {"HOLDUNTIL", "HOLDUNTIL=time", smtp_server_serves_hold, param_hold_until},
    {"MT-PRIORITY", "MT-PRIORITY=number", smtp_server_serves_priority, param_priority},
    {"XTOKEN", "XTOKEN=hex", serves_token, param_token},
};

/* The index of that parameter, or -1. */
static int mail_param_find(const struct smtp_server *s, struct span keyword)
{
    for (size_t i = 0; i < COUNT_OF(mail_params); i++)
        if (span_ieqs(keyword, mail_params[i].keyword))
            return mail_params[i].served && !mail_params[i].served(s) ? -1 : (int)i;
    return -1;
}

void smtp_server_mail_forms(const struct smtp_server *s, struct buf *out)
{
    for (size_t i = 0; i < COUNT_OF(mail_params); i++)
        if (!mail_params[i].served || mail_params[i].served(s))
            buf_printf(out, " [%s]", mail_params[i].form);
}

int smtp_server_mail_params(struct smtp_server *s, struct span text)
{
    struct smtp_param p;
    unsigned seen = 0;
    int r;
    while ((r = smtp_param_take(&text, &p)) > 0) {
        int i = mail_param_find(s, p.keyword);
        if (i < 0) {
            smtp_server_refuse(s, 555, "5.5.4", "A parameter of MAIL that is not served here"); /* RFC5321:4.1.1.11 */
            return -1;
        }
        if (seen & 1u << i)
            break;
        seen |= 1u << i;
        if (mail_params[i].take(s, p.value))
            return -1;
    }
    if (r)
        smtp_server_refuse(s, 501, "5.5.4",
                           r < 0 ? "The parameters of MAIL make no sense" : "A parameter of MAIL came twice");
    if (r)
        return -1;
    if (s->txn.hold_until && s->txn.by_mode && s->txn.hold_until > s->txn.deliver_by) { /* RFC4865:5.2.2 */
        smtp_server_refuse(s, 501, "5.5.4", "The message would be held beyond the time that BY says");
        return -1;
    }
    return 0;
}
