/* RFC3986:3: addresses of services. */
#include <criterion/criterion.h>

#include "base/url.h"

static const struct {
    const char *text, *host;
    unsigned port;
    bool tls, is_address, is_loopback;
} good[] = {
    {"https://login.example.org/introspect", "login.example.org", 443, true, false, false},
    {"HTTPS://Login.example.org", "Login.example.org", 443, true, false, false},
    {"https://a.test:8443/x?y=z:1", "a.test", 8443, true, false, false},
    {"https://a.test?x=/:@", "a.test", 443, true, false, false},
    {"http://127.0.0.1:80/", "127.0.0.1", 80, false, true, true},
    {"http://127.4.5.6", "127.4.5.6", 80, false, true, true},
    {"http://localhost:1/", "localhost", 1, false, false, true},
    {"http://localhost.example.org/", "localhost.example.org", 80, false, false, false},
    {"https://[::1]:444/", "::1", 444, true, true, true},
    {"https://[2001:db8::1]", "2001:db8::1", 443, true, true, false},
    {"https://192.0.2.1:65535/", "192.0.2.1", 65535, true, true, false},
};

Test(url, good_ones)
{
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct url u;
        cr_assert(url_parse(span_of(good[i].text), &u), "%s", good[i].text);
        cr_expect(span_eqs(u.host, good[i].host), "%s", good[i].text);
        cr_expect_eq(u.port, good[i].port, "%s", good[i].text);
        cr_expect_eq(u.tls, good[i].tls, "%s", good[i].text);
        cr_expect_eq(u.is_address, good[i].is_address, "%s", good[i].text);
        cr_expect_eq(u.is_loopback, good[i].is_loopback, "%s", good[i].text);
    }
}

Test(url, bad_ones)
{
    static const char *const bad[] = {
        "", "https://", "https:///x", "ftp://a.test/", "a.test", "//a.test", "https://a.test:0/", "https://a.test:65536/",
        "https://a.test:/", "https://a.test:x/", "https://user@a.test/", "https://a:b@a.test/", "https://a.test/#x",
        "https://a.test/ x", "https://a..test/", "https://.a.test/", "https://-a.test/", "https://a.test./", "https://b\303\274cher.test/",
        "https://[::1/", "https://[]/", "https://[127.0.0.1]/", "https://[::1]x/", "https://127.1/", "https://2130706433/", "https://1.2.3.4.5/",
        "https://0x7f.1/x", "https://a.test\\@b.test/", "https://a%2etest/"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct url u;
        cr_expect(!url_parse(span_of(bad[i]), &u), "%s", bad[i]);
    }
    char text[URL_MAX + 2];
    struct url u;
    memset(text, 'a', sizeof text);
    memcpy(text, "https://a.test/", 15);
    cr_expect(url_parse(span_make(text, URL_MAX), &u));
    cr_expect(!url_parse(span_make(text, URL_MAX + 1), &u));
}
