/* LIST, LSUB, names: dialogues with the IMAP engine. */
#include <criterion/criterion.h>

#include "imap_support.h"

TestSuite(imap_list, .init = imap_set_up, .fini = imap_tear_down);

Test(imap_list, a_new_account) /* RFC6154:2, RFC3348:3 */
{
    struct client *c = client_new();
    EXPECT(c, "1 LIST \"\" *",
           "* LIST (\\HasNoChildren) \"/\" INBOX\r\n* LIST (\\HasNoChildren \\Archive) \"/\" Archive\r\n* LIST "
           "(\\HasNoChildren \\Drafts) \"/\" Drafts\r\n"
           "* LIST (\\HasNoChildren \\Junk) \"/\" Junk\r\n* LIST (\\HasNoChildren \\Sent) \"/\" Sent\r\n* LIST "
           "(\\HasNoChildren \\Trash) \"/\" Trash\r\n1 OK Done\r\n");
    EXPECT(c, "2 LIST \"\" \"\"", "* LIST (\\Noselect) \"/\" \"\"\r\n2 OK Done\r\n"); /* RFC3501:6.3.8 */
    EXPECT(c, "3 LIST \"\" inbox", "* LIST (\\HasNoChildren) \"/\" INBOX\r\n3 OK Done\r\n");
    EXPECT(c, "4 LSUB \"\" T%", "* LSUB () \"/\" Trash\r\n4 OK Done\r\n");
    client_free(&c);
}

Test(imap_list, patterns)
{
    struct client *c = client_new();
    say(c, "c CREATE w/a/x");
    say(c, "c CREATE w/b");
    say(c, "c CREATE \"INBOX/sub dir\"");
    say(c, "c CREATE Entw&APw-rfe/");
    EXPECT(c, "1 LIST \"\" w", "* LIST (\\HasChildren) \"/\" w\r\n1 OK Done\r\n");
    EXPECT(c, "2 LIST \"\" w/%",
           "* LIST (\\HasChildren) \"/\" w/a\r\n* LIST (\\HasNoChildren) \"/\" w/b\r\n2 OK Done\r\n");
    EXPECT(c, "3 LIST w/ %", "* LIST (\\HasChildren) \"/\" w/a\r\n* LIST (\\HasNoChildren) \"/\" w/b\r\n3 OK Done\r\n");
    EXPECT(c, "4 LIST \"\" *x", "* LIST (\\HasNoChildren) \"/\" w/a/x\r\n4 OK Done\r\n");
    EXPECT(c, "5 LIST \"\" %/%/%", "* LIST (\\HasNoChildren) \"/\" w/a/x\r\n5 OK Done\r\n");
    EXPECT(c, "6 LIST \"\" inbox/*", "* LIST (\\HasNoChildren) \"/\" \"INBOX/sub dir\"\r\n6 OK Done\r\n");
    EXPECT(c, "7 LIST \"\" \"Entw&APw-%\"", "* LIST (\\HasNoChildren) \"/\" Entw&APw-rfe\r\n7 OK Done\r\n");
    EXPECT(c, "8 LIST \"\" &bad", "8 OK Done\r\n");
    EXPECT(c, "9 LIST \"\" *%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%*%z", "9 OK Done\r\n"); /* HAZARDS 23 */
    EXPECT(c, "10 LIST \"\"", "10 BAD ~\r\n");
    EXPECT(c, "11 LIST", "11 BAD ~\r\n");
    EXPECT(c, "12 LIST \"\" (w", "12 BAD ~\r\n");
    client_free(&c);
}

Test(imap_list, extended) /* RFC5258:3.1 RFC5258:3.2 RFC5258:3.4 RFC5258:3.5 RFC6154:2 */
{
    struct client *c = client_new();
    say(c, "c CREATE w/a/x");
    say(c, "c CREATE w/b");
    say(c, "c SUBSCRIBE w/a/x");
    say(c, "c SUBSCRIBE gone/away");
    EXPECT(c, "1 LIST (SPECIAL-USE) \"\" *",
           "* LIST (\\HasNoChildren \\Archive) \"/\" Archive\r\n~~* LIST (\\HasNoChildren \\Trash) \"/\" Trash\r\n1 OK "
           "Done\r\n");
    EXPECT(c, "2 LIST \"\" % RETURN (SPECIAL-USE CHILDREN)",
           "* LIST (\\HasNoChildren) \"/\" INBOX\r\n~~* LIST (\\HasChildren) \"/\" w\r\n2 OK Done\r\n");
    EXPECT(c, "3 LIST (SUBSCRIBED) \"\" (w/* g*)",
           "* LIST (\\HasNoChildren \\Subscribed) \"/\" w/a/x\r\n* LIST (\\Subscribed \\NonExistent) \"/\" "
           "gone/away\r\n3 OK Done\r\n");
    EXPECT(c, "4 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" w",
           "* LIST (\\HasChildren) \"/\" w (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n4 OK Done\r\n");
    EXPECT(c, "5 LIST \"\" w/* RETURN (SUBSCRIBED)",
           "~~w/a\r\n* LIST (\\HasNoChildren \\Subscribed) \"/\" w/a/x\r\n* LIST (\\HasNoChildren) \"/\" w/b\r\n5 OK "
           "Done\r\n");
    EXPECT(c, "6 LIST (RECURSIVEMATCH) \"\" *", "6 BAD ~\r\n");
    EXPECT(c, "7 LIST (BOGUS) \"\" *", "7 BAD ~\r\n");
    EXPECT(c, "8 LIST \"\" * RETURN (BOGUS)", "8 BAD ~\r\n");
    EXPECT(c, "9 LIST () \"\" \"\"", "9 OK Done\r\n");
    EXPECT(c, "10 LIST (REMOTE) \"\" w", "* LIST (\\HasChildren) \"/\" w\r\n10 OK Done\r\n");
    client_free(&c);
}

Test(imap_list, subscriptions) /* RFC3501:6.3.9 */
{
    struct client *c = client_new();
    say(c, "c CREATE w/a/x");
    EXPECT(c, "1 SUBSCRIBE w/a/x", "1 OK Done\r\n");
    EXPECT(c, "2 LSUB \"\" w/%", "* LSUB (\\Noselect) \"/\" w/a\r\n2 OK Done\r\n");
    EXPECT(c, "3 LSUB \"\" w/*", "* LSUB () \"/\" w/a/x\r\n3 OK Done\r\n");
    EXPECT(c, "4 DELETE w/a/x", "4 OK Deleted\r\n");
    EXPECT(c, "5 LSUB \"\" w/*", "* LSUB () \"/\" w/a/x\r\n5 OK Done\r\n");
    EXPECT(c, "6 UNSUBSCRIBE w/a/x", "6 OK Done\r\n");
    EXPECT(c, "7 LSUB \"\" w/*", "7 OK Done\r\n");
    client_free(&c);
}

Test(imap_list, names) /* HAZARDS 22, RFC5530:3 */
{
    struct client *c = client_new();
    static const char *const bad[] = {"&bad",   "a//b",  "..",           "a/../b",        "/x",         "\"\"",
                                      "\"a*\"", "\"%\"", "{3+}\r\na\tb", "{2+}\r\na\x80", "{2+}\r\na\r"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct buf line = {0};
        buf_printf(&line, "x CREATE %s", bad[i]);
        const char *got = say(c, buf_cstr(&line));
        cr_expect(fits("x NO [CANNOT] ~\r\n", got) || fits("x BAD ~\r\n", got), "%s: %s", bad[i], got);
        buf_free(&line);
    }
    EXPECT(c, "1 CREATE INBOX", "1 NO [ALREADYEXISTS] ~\r\n");
    EXPECT(c, "2 CREATE a/b", "2 OK Made\r\n");
    EXPECT(c, "3 CREATE a/b", "3 NO [ALREADYEXISTS] ~\r\n");
    EXPECT(c, "4 DELETE none", "4 NO [NONEXISTENT] ~\r\n");
    EXPECT(c, "5 RENAME a z", "5 OK Renamed\r\n");
    EXPECT(c, "6 LIST \"\" z/*", "* LIST (\\HasNoChildren) \"/\" z/b\r\n6 OK Done\r\n");
    EXPECT(c, "7 RENAME z/b INBOX", "7 NO [ALREADYEXISTS] ~\r\n");
    EXPECT(c, "8 RENAME none q", "8 NO [NONEXISTENT] ~\r\n");
    EXPECT(c, "9 DELETE z", "9 OK Deleted\r\n");
    EXPECT(c, "10 SELECT z", "10 NO [CANNOT] ~\r\n");
    EXPECT(c, "11 LIST \"\" z", "* LIST (\\Noselect \\HasChildren) \"/\" z\r\n11 OK Done\r\n");
    EXPECT(c, "12 STATUS z (MESSAGES)", "12 NO ~\r\n");
    EXPECT(c, "13 STATUS INBOX (BOGUS)", "13 BAD ~\r\n");
    EXPECT(c, "14 STATUS INBOX ()", "14 BAD ~\r\n");
    EXPECT(c, "15 CREATE a b", "15 BAD ~\r\n");
    client_free(&c);
}

Test(imap_list, inbox_can_be_renamed) /* RFC3501:6.3.5 */
{
    struct client *c = client_new();
    put_message(c, "INBOX", "", "Subject: x\r\n\r\ny\r\n");
    say(c, "s SELECT INBOX");
    EXPECT(c, "1 RENAME INBOX old", "* 1 EXPUNGE\r\n1 OK Renamed\r\n");
    EXPECT(c, "2 STATUS old (MESSAGES)", "* STATUS old (MESSAGES 1)\r\n2 OK Done\r\n");
    EXPECT(c, "3 STATUS INBOX (MESSAGES)", "* STATUS INBOX (MESSAGES 0)\r\n3 OK Done\r\n");
    client_free(&c);
}
