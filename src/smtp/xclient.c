#include "smtp/xclient.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/util.h"
#include "smtp/path.h"

static bool is_unknown(struct span v)
{
    return span_ieqs(v, "[UNAVAILABLE]") || span_ieqs(v, "[TEMPUNAVAIL]");
}

static bool take_text(struct span v, char *out, size_t room)
{
    if (is_unknown(v)) {
        out[0] = '\0';
        return true;
    }
    if (v.n == 0 || v.n >= room || span_has_control(v) || !span_is_ascii(v) || span_find(v, ' ') >= 0)
        return false;
    memcpy(out, v.p, v.n);
    out[v.n] = '\0';
    return true;
}

static bool take_name(struct span v, struct smtp_xclient *out)
{
    return take_text(v, out->name, sizeof out->name) && (!out->name[0] || smtp_domain_valid(v, 0));
}

static bool take_addr(struct span v, struct smtp_xclient *out)
{
    char text[INET6_ADDRSTRLEN];
    bool six = span_istarts(v, SPAN("IPV6:"));
    if (is_unknown(v))
        return true;
    if (six)
        v = span_from(v, 5);
    if (v.n == 0 || v.n >= sizeof text || memchr(v.p, 0, v.n))
        return false;
    memcpy(text, v.p, v.n);
    text[v.n] = '\0';
    out->addr.ss_family = six ? AF_INET6 : AF_INET;
    if (!six)
        return inet_pton(AF_INET, text, &((struct sockaddr_in *)&out->addr)->sin_addr) == 1;
    struct in6_addr a;
    if (inet_pton(AF_INET6, text, &a) != 1)
        return false;
    if (IN6_IS_ADDR_V4MAPPED(&a)) { /* one client has one address, however it is written */
        out->addr.ss_family = AF_INET;
        memcpy(&((struct sockaddr_in *)&out->addr)->sin_addr, a.s6_addr + 12, 4);
        return true;
    }
    ((struct sockaddr_in6 *)&out->addr)->sin6_addr = a;
    return true;
}

static bool take_port(struct span v, struct smtp_xclient *out)
{
    uint64_t n = 0;
    if (!is_unknown(v) && (!span_u64(v, 65535, &n) || n == 0 || v.n > 5))
        return false;
    out->port = (uint16_t)n;
    return true;
}

static bool take_proto(struct span v, struct smtp_xclient *out)
{
    out->esmtp = span_ieqs(v, "ESMTP");
    return out->esmtp || span_ieqs(v, "SMTP");
}

static bool take_helo(struct span v, struct smtp_xclient *out)
{
    return take_text(v, out->helo, sizeof out->helo);
}

static const struct attribute {
    const char *name;
    size_t has;
    bool (*take)(struct span value, struct smtp_xclient *out);
} attributes[] = {
    {"NAME", offsetof(struct smtp_xclient, has_name), take_name},
    {"ADDR", offsetof(struct smtp_xclient, has_addr), take_addr},
    {"PORT", offsetof(struct smtp_xclient, has_port), take_port},
    {"PROTO", offsetof(struct smtp_xclient, has_proto), take_proto},
    {"HELO", offsetof(struct smtp_xclient, has_helo), take_helo},
};

static bool take_attribute(struct span word, struct smtp_xclient *out)
{
    ptrdiff_t eq = span_find(word, '=');
    struct buf value = {0};
    bool good = false;
    for (size_t i = 0; eq > 0 && i < COUNT_OF(attributes); i++) {
        bool *has = (bool *)((char *)out + attributes[i].has);
        if (!span_ieqs(span_sub(word, 0, (size_t)eq), attributes[i].name))
            continue;
        good = !*has && smtp_xtext_decode(span_from(word, (size_t)eq + 1), &value) == 0 &&
               attributes[i].take(buf_span(&value), out);
        *has = true;
    }
    buf_free(&value);
    return good;
}

bool smtp_xclient_parse(struct span arg, struct smtp_xclient *out)
{
    *out = (struct smtp_xclient){0};
    struct span word = span_word(&arg);
    if (word.n == 0)
        return false;
    for (; word.n; word = span_word(&arg))
        if (!take_attribute(word, out))
            return false;
    return true;
}
