/* The table of smtp_states.c. A row: what is said, and for each column of a role the letter of what comes of it. */
#ifndef TESTS_SMTP_STATES_H
#define TESTS_SMTP_STATES_H

/* A letter: the reply (two where the line was two), and the state behind it where that is another one. */
static const struct key {
    char letter;
    const char *codes, *after;
} keys[] = {
    {'.', "", ""}, {'o', "503 5.5.1", ""}, {'-', "502 5.5.1", ""}, {'a', "501 5.5.4", ""}, {'?', "500 5.5.1", ""}, {'B', "501 5.5.2", "ready"},
    {'b', "501 5.5.2", ""}, {'c', "500 5.5.2", ""}, {'C', "500 5.5.2", "ready"}, {'w', "500 5.5.2|250 2.0.0", ""},
    {'W', "500 5.5.2|250 2.0.0", "ready"}, {'k', "250 2.0.0", ""}, {'K', "250 2.0.0", "ready"}, {'L', "530 5.7.0", ""}, {'v', "252 2.5.0", ""},
    {'M', "250 2.1.0", "mail"}, {'P', "250 2.3.6", "mail"}, {'h', "214 2.0.0", ""}, {'A', "501 5.5.4", "closed"}, {'8', "553 5.6.7", ""},
    {'z', "504 5.5.4", ""}, {'p', "555 5.5.4", ""}, {'f', "501 5.1.3", ""}, {'s', "501 5.1.7", ""}, {'E', "250", "ready"}, {'e', "250", ""},
    {'!', "421 4.7.0", "closed"}, {'Q', "221 2.0.0", "closed"}, {'X', "552 5.3.4", "closed"}, {'x', "552 5.3.4", ""}, {'r', "250 2.1.5", ""},
    {'d', "550 5.7.0", ""}, {'3', "334", ""}, {'4', "334", "login-line"}, {'N', "535 5.7.8", "ready"}, {'n', "535 5.7.8", ""}, {'u', "550 5.1.1", ""},
    {'l', "538 5.7.11", ""}, {'g', "550 5.7.1", ""}, {'t', "450 4.2.1", ""}, {'T', "220 2.0.0", "hello"}, {'D', "554 5.5.1", ""},
    {'m', "553 5.1.4", ""}, {'H', "250 2.0.0", "chunks"}, {'>', "354", "data"}, {'R', "250 2.0.0", "closed"}, {'I', "235 2.7.0", ""},
    {'J', "235 2.7.0", "ready"}, {'*', "501 5.7.0", "ready"}, {'y', "459 4.7.1", ""}, {'q', "458 4.4.0", ""}, {'j', "253 2.0.0", ""},
    {'V', "220", "hello"}, {'U', "220", ""}, {'5', "452 4.3.1", ""},
    {'1', "503 5.5.1", "ready"}, {'2', "554 5.5.1", "ready"}, {'6', "452 4.3.1", "ready"},
};

static const struct row {
    struct span said;
    const char *cells[ROLES]; /* of the columns of MX, FULL, SUBMISSION, CUSTOMERS */
} rows[] = {
    /*                                                                      MX: chetumrnbydqzvw   FULL: cerb  SUBMISSION: ceufximrb  CUSTOMERS: ceuxi */
    /* who one is */
    {SPAN("HELO client.test\r\n"),                                                 {"EeeEeEEEEEe..eE", "EeEE", "EeeeBeEEE", "EeeBe"}},
    {SPAN("HELO\r\n"),                                                             {"aaaaaaaaaaa..aa", "aaaa", "aaaa3aaaa", "aaaNa"}},
    {SPAN("HELO two words\r\n"),                                                   {"aaaaaaaaaaa..aa", "aaaa", "aaaaBaaaa", "aaaBa"}},
    {SPAN("EHLO client.test\r\n"),                                                 {"EeeEeEEEEEe..eE", "EeEE", "EeeeBeEEE", "EeeBe"}},
    {SPAN("EHLO\r\n"),                                                             {"aaaaaaaaaaa..aa", "aaaa", "aaaa3aaaa", "aaaNa"}},
    {SPAN("LHLO client.test\r\n"),                                                 {"???????????..??", "????", "????B????", "???B?"}},
    /* a transaction */
    {SPAN("MAIL FROM:<x@remote.test>\r\n"),                                        {"oMMoMoooooM..5o", "oMoo", "oLLLBgooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test>\r\n"),                                   {"oMMoMoooooM..5o", "oMoo", "oLLLBMooo", "---B-"}},
    {SPAN("MAIL FROM:<>\r\n"),                                                     {"oMMoMoooooM..5o", "oMoo", "oLLLBMooo", "---B-"}},
    {SPAN("mail from:<alice@example.test> size=9 body=8bitmime\r\n"),              {"oMMoMoooooM..5o", "oMoo", "oLLLBMooo", "---B-"}},
    {SPAN("MAIL\r\n"),                                                             {"oaaoaoooooa..ao", "oaoo", "oaaa3aooo", "---N-"}},
    {SPAN("MAIL TO:<alice@example.test>\r\n"),                                     {"oaaoaoooooa..ao", "oaoo", "oaaaBaooo", "---B-"}},
    {SPAN("MAIL FROM:alice@example.test\r\n"),                                     {"ossosooooos..5o", "osoo", "oLLLBsooo", "---B-"}},
    {SPAN("MAIL FROM:<alice>\r\n"),                                                {"ossosooooos..5o", "osoo", "oLLLBsooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test> COLOUR=red\r\n"),                        {"oppopooooop..5o", "opoo", "oLLLBpooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test> SIZE=100001\r\n"),                       {"oxxoxooooox..5o", "oxoo", "oLLLBxooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test> SIZE=many\r\n"),                         {"oaaoaoooooa..5o", "oaoo", "oLLLBaooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test> SIZE=1 SIZE=1\r\n"),                     {"oaaoaoooooa..5o", "oaoo", "oLLLBaooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test> BODY=BINARYMIME\r\n"),                   {"oMMoMoooooM..5o", "oMoo", "oLLLBMooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test> RET=HDRS ENVID=a+2Bb\r\n"),              {"oMMoMoooooM..5o", "oMoo", "oLLLBMooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test> AUTH=<>\r\n"),                           {"oppopooooop..5o", "opoo", "oLLLBMooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test> REQUIRETLS\r\n"),                        {"oppoMooooop..5o", "opoo", "oLLLBMooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test> BY=120;R\r\n"),                          {"oMMoMoooooM..5o", "oMoo", "oLLLBMooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test> HOLDFOR=60\r\n"),                        {"oppopooooop..5o", "opoo", "oLLLBMooo", "---B-"}},
    {SPAN("MAIL FROM:<alice@example.test> MT-PRIORITY=3\r\n"),                     {"oppopooooop..5o", "opoo", "oLLLBPooo", "---B-"}},
    {SPAN("MAIL FROM:<\xc3\xa4" "@example.test>\r\n"),                             {"o88o8ooooo8..5o", "o8oo", "oLLLB8ooo", "---B-"}},
    {SPAN("MAIL FROM:<\xc3\xa4" "@example.test> SMTPUTF8\r\n"),                    {"oMMoMoooooM..5o", "oMoo", "oLLLBgooo", "---B-"}},
    /* its recipients */
    {SPAN("RCPT TO:<bob@example.test>\r\n"),                                       {"ooooorrroro..o5", "ooro", "ooooBorro", "---B-"}},
    {SPAN("RCPT TO:<nobody@example.test>\r\n"),                                    {"ooooouuuouo..o5", "oouo", "ooooBouuo", "---B-"}},
    {SPAN("RCPT TO:<later@example.test>\r\n"),                                     {"oooootttoto..o5", "ooto", "ooooBotto", "---B-"}},
    {SPAN("RCPT TO:<x@elsewhere.test>\r\n"),                                       {"ooooogggogo..o5", "oogo", "ooooBorro", "---B-"}},
    {SPAN("RCPT TO:<Postmaster>\r\n"),                                             {"ooooorrroro..o5", "ooro", "ooooBorro", "---B-"}},
    {SPAN("RCPT TO:<>\r\n"),                                                       {"ooooofffofo..of", "oofo", "ooooBoffo", "---B-"}},
    {SPAN("RCPT\r\n"),                                                             {"oooooaaaoao..oa", "ooao", "oooo3oaao", "---N-"}},
    {SPAN("RCPT FROM:<bob@example.test>\r\n"),                                     {"oooooaaaoao..oa", "ooao", "ooooBoaao", "---B-"}},
    {SPAN("RCPT TO:<bob@example.test> NOTIFY=NEVER ORCPT=rfc822;bob@example.test\r\n"), {"ooooorrroro..o5", "ooro", "ooooBorro", "---B-"}},
    {SPAN("RCPT TO:<bob@example.test> NOTIFY=SOON\r\n"),                           {"oooooaaaoao..oa", "ooao", "ooooBoaao", "---B-"}},
    {SPAN("RCPT TO:<bob@example.test> COLOUR=red\r\n"),                            {"ooooopppopo..op", "oopo", "ooooBoppo", "---B-"}},
    {SPAN("RCPT TO:<\xc3\xa4" "@example.test>\r\n"),                               {"ooooo888o8o..o8", "oo8o", "ooooBo88o", "---B-"}},
    /* its content */
    {SPAN("DATA\r\n"),                                                             {"oooooo>Dooo..o5", "oo>o", "oooo3oo>o", "---N-"}},
    {SPAN("DATA now\r\n"),                                                         {"oooooaaaaao..oa", "ooaa", "ooooBoaaa", "---B-"}},
    {SPAN("BDAT 3 LAST\r\nabc"),                                                   {"ooooo1K2KKo..o6", "ooKK", "ooooBo1KK", "---B-"}},
    {SPAN("BDAT 0 LAST\r\n"),                                                      {"ooooo1K2KKo..o6", "ooKK", "ooooBo1KK", "---B-"}},
    {SPAN("BDAT 4\r\nRSET"),                                                       {"ooooooHDkHo..o5", "ooHk", "ooooBooHk", "---B-"}},
    {SPAN("BDAT four\r\n"),                                                        {"AAAAAAAAAAA..AA", "AAAA", "AAAABAAAA", "---B-"}},
    {SPAN("BDAT\r\n"),                                                             {"AAAAAAAAAAA..AA", "AAAA", "AAAA3AAAA", "---N-"}},
    {SPAN("BDAT 9999999999 LAST\r\n"),                                             {"XXXXXXXXXXX..XX", "XXXX", "XXXXBXXXX", "---B-"}},
    /* anywhere */
    {SPAN("RSET\r\n"),                                                             {"kkkkkKKKKKk..kK", "kkKK", "kkkk3kKKK", "kkkNk"}},
    {SPAN("RSET now\r\n"),                                                         {"aaaaaaaaaaa..aa", "aaaa", "aaaaBaaaa", "aaaBa"}},
    {SPAN("NOOP\r\n"),                                                             {"kkkkkkkkkkk..kk", "kkkk", "kkkk3kkkk", "kkkNk"}},
    {SPAN("NOOP with words\r\n"),                                                  {"kkkkkkkkkkk..kk", "kkkk", "kkkkBkkkk", "kkkBk"}},
    {SPAN("HELP\r\n"),                                                             {"hhhhhhhhhhh..hh", "hhhh", "hhhh3hhhh", "hhhNh"}},
    {SPAN("HELP mail\r\n"),                                                        {"hhhhhhhhhhh..hh", "hhhh", "hhhhBhhhh", "zzzBz"}},
    {SPAN("HELP XYZZY\r\n"),                                                       {"zzzzzzzzzzz..zz", "zzzz", "zzzzBzzzz", "zzzBz"}},
    {SPAN("QUIT\r\n"),                                                             {"QQQQQQQQQQQ..QQ", "QQQQ", "QQQQ3QQQQ", "QQQNQ"}},
    {SPAN("QUIT now\r\n"),                                                         {"aaaaaaaaaaa..aa", "aaaa", "aaaaBaaaa", "aaaBa"}},
    /* questions */
    {SPAN("VRFY alice\r\n"),                                                       {"vvvvvvvvvvv..vv", "rrrr", "vvvvBvvvv", "---B-"}},
    {SPAN("VRFY bob\r\n"),                                                         {"vvvvvvvvvvv..vv", "mmmm", "vvvvBvvvv", "---B-"}},
    {SPAN("VRFY <nobody@example.test> SMTPUTF8\r\n"),                              {"vvvvvvvvvvv..vv", "uuuu", "vvvvBvvvv", "---B-"}},
    {SPAN("VRFY \xc3\xa4" "\r\n"),                                                 {"88888888888..88", "8888", "8888B8888", "---B-"}},
    {SPAN("VRFY a@b@c\r\n"),                                                       {"fffffffffff..ff", "ffff", "ffffBffff", "---B-"}},
    {SPAN("VRFY\r\n"),                                                             {"aaaaaaaaaaa..aa", "aaaa", "aaaa3aaaa", "---N-"}},
    {SPAN("EXPN list\r\n"),                                                        {"vvvvvvvvvvv..vv", "rrrr", "vvvvBvvvv", "---B-"}},
    {SPAN("EXPN nobody\r\n"),                                                      {"vvvvvvvvvvv..vv", "uuuu", "vvvvBvvvv", "---B-"}},
    {SPAN("EXPN\r\n"),                                                             {"aaaaaaaaaaa..aa", "aaaa", "aaaa3aaaa", "---N-"}},
    /* TLS and logins */
    {SPAN("STARTTLS\r\n"),                                                         {"oTToooooooT..To", "oToo", "oToo3oooo", "oToNo"}},
    {SPAN("STARTTLS now\r\n"),                                                     {"oaaoaoooooa..ao", "oaoo", "oaaaBaooo", "oaaBa"}},
    {SPAN("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM=\r\n"),          {"o--o-ooooo-..-o", "o-oo", "olIIBoooo", "olIBo"}},
    {SPAN("AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdAB3cm9uZw==\r\n"),                  {"o--o-ooooo-..-o", "o-oo", "olnnBoooo", "olnBo"}},
    {SPAN("AUTH PLAIN\r\n"),                                                       {"o--o-ooooo-..-o", "o-oo", "ol44Boooo", "ol4Bo"}},
    {SPAN("AUTH PLAIN =\r\n"),                                                     {"o--o-ooooo-..-o", "o-oo", "olnnBoooo", "olnBo"}},
    {SPAN("AUTH PLAIN !!!\r\n"),                                                   {"o--o-ooooo-..-o", "o-oo", "olbbBoooo", "olbBo"}},
    {SPAN("AUTH LOGIN\r\n"),                                                       {"o--o-ooooo-..-o", "o-oo", "ol44Boooo", "ol4Bo"}},
    {SPAN("AUTH CRAM-MD5\r\n"),                                                    {"o--o-ooooo-..-o", "o-oo", "olzzBoooo", "olzBo"}},
    {SPAN("AUTH\r\n"),                                                             {"oaaoaoooooa..ao", "oaoo", "oaaa3aooo", "oaaNa"}},
    {SPAN("AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQtd29yZHM=\r\n"),                     {"???????????..??", "????", "????3????", "???J?"}},
    {SPAN("*\r\n"),                                                                {"???????????..??", "????", "????*????", "???*?"}},
    /* mail that waits */
    {SPAN("ETRN customer.test\r\n"),                                               {"-----------..--", "jjoo", "----B----", "---B-"}},
    {SPAN("ETRN other.test\r\n"),                                                  {"-----------..--", "yyoo", "----B----", "---B-"}},
    {SPAN("ETRN #queue\r\n"),                                                      {"-----------..--", "qqoo", "----B----", "---B-"}},
    {SPAN("ETRN [192.0.2.1]\r\n"),                                                 {"-----------..--", "aaoo", "----B----", "---B-"}},
    {SPAN("ETRN\r\n"),                                                             {"-----------..--", "aaoo", "----3----", "---N-"}},
    {SPAN("ATRN customer.test\r\n"),                                               {"-----------..--", "----", "----B----", "LLLBR"}},
    {SPAN("ATRN other.test\r\n"),                                                  {"-----------..--", "----", "----B----", "LLLBg"}},
    {SPAN("ATRN a,,b\r\n"),                                                        {"-----------..--", "----", "----B----", "LLLBa"}},
    {SPAN("ATRN\r\n"),                                                             {"-----------..--", "----", "----3----", "LLLNR"}},
    {SPAN("TURN\r\n"),                                                             {"-----------..--", "----", "----3Rooo", "---N-"}},
    {SPAN("TURN now\r\n"),                                                         {"-----------..--", "----", "----Baooo", "---B-"}},
    /* terminals, fronts */
    {SPAN("SEND FROM:<x@remote.test>\r\n"),                                        {"-----------..--", "oMoo", "----B----", "---B-"}},
    {SPAN("SEND\r\n"),                                                             {"-----------..--", "oaoo", "----3----", "---N-"}},
    {SPAN("SOML FROM:<x@remote.test>\r\n"),                                        {"-----------..--", "oMoo", "----B----", "---B-"}},
    {SPAN("SAML FROM:<x@remote.test> SIZE=9\r\n"),                                 {"-----------..--", "oMoo", "----B----", "---B-"}},
    {SPAN("SAML TO:<x@remote.test>\r\n"),                                          {"-----------..--", "oaoo", "----B----", "---B-"}},
    {SPAN("XCLIENT NAME=mail.remote.test ADDR=192.0.2.9\r\n"),                     {"dddddoooood..do", "UVoo", "ddddBdooo", "---B-"}},
    {SPAN("XCLIENT LOGIN=alice\r\n"),                                              {"dddddoooood..do", "aaoo", "ddddBdooo", "---B-"}},
    {SPAN("XCLIENT\r\n"),                                                          {"aaaaaoooooa..ao", "aaoo", "aaaaBaooo", "---B-"}},
    /* what no command is */
    {SPAN("XYZZY\r\n"),                                                            {"???????????..??", "????", "????B????", "???B?"}},
    {SPAN("MAILFROM:<x@remote.test>\r\n"),                                         {"???????????..??", "????", "????B????", "???B?"}},
    {SPAN("\r\n"),                                                                 {"???????????..??", "????", "????3????", "???N?"}},
    {SPAN(" NOOP\r\n"),                                                            {"???????????..??", "????", "????B????", "???B?"}},
    {SPAN("NOOP\tx\r\n"),                                                          {"ccccccccccc..cc", "cccc", "ccccCcccc", "cccCc"}},
    {SPAN("NO\rOP\r\n"),                                                           {"ccccccccccc..cc", "cccc", "ccccCcccc", "cccCc"}},
    {SPAN("NOOP\nNOOP\r\n"),                                                       {"wwwwwwwwwww..ww", "wwww", "wwwwWwwww", "wwwWw"}},
    {SPAN("NOOP\0" "\r\n"),                                                        {"ccccccccccc..cc", "cccc", "ccccCcccc", "cccCc"}},
    {SPAN("GET / HTTP/1.1\r\n"),                                                   {"!!!!!!!!!!!..!!", "!!!!", "!!!!B!!!!", "!!!B!"}},
};

#endif
