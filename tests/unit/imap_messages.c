/* Dialogues with the IMAP engine: selecting, storing, copying, expunging, idling; what one session sees of another. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "imap_support.h"

TestSuite(imap, .init = imap_set_up, .fini = imap_tear_down);

#define MAIL "Subject: hello\r\nFrom: a@b.test\r\n\r\nbody\r\n"

static void fill(struct client *c, int n)
{
    for (int i = 0; i < n; i++)
        put_message(c, "INBOX", "", MAIL);
}

static void empty_inbox(struct client *c)
{
    EXPECT(c, "s SELECT inbox",
           "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n"
           "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)] ~\r\n"
           "* 0 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY ~] ~\r\n* OK [UIDNEXT 1] ~\r\ns OK [READ-WRITE] Opened\r\n");
}

Test(imap, login_answer_and_small_commands)
{
    struct client *c = client_new();
    cr_expect(fits("in OK [CAPABILITY IMAP4rev1 LITERAL+ ID IDLE NAMESPACE UIDPLUS UNSELECT MOVE CHILDREN "
                   "LIST-EXTENDED SPECIAL-USE] ~\r\n",
                   buf_cstr(&c->got)),
              "%s", buf_cstr(&c->got));
    EXPECT(c, "1 noop", "1 OK Done\r\n");
    EXPECT(c, "2 Capability", "* CAPABILITY IMAP4rev1 ~\r\n2 OK Done\r\n");
    EXPECT(c, "3 NAMESPACE", "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n3 OK Done\r\n"); /* RFC2342:5 */
    EXPECT(c, "4 ID (\"name\" \"x\" \"version\" NIL)",
           "* ID (\"name\" \"Waypost\")\r\n4 OK Done\r\n"); /* RFC2971:3.3 */
    EXPECT(c, "5 ID NIL", "* ID (~)\r\n5 OK Done\r\n");
    EXPECT(c, "6 ID", "6 BAD ~\r\n");
    EXPECT(c, "7 FETCH 1 FLAGS", "7 BAD No mailbox is selected\r\n");
    EXPECT(c, "8 XYZZY", "8 BAD ~\r\n");
    EXPECT(c, "9 UID NOOP", "9 BAD ~\r\n");
    EXPECT(c, "10 NOOP x", "10 BAD ~\r\n");
    EXPECT(c, "(", "* BAD ~\r\n");
    EXPECT(c, "11 LOGOUT", "* BYE ~\r\n11 OK Logged out\r\n"); /* RFC3501:6.1.3 */
    cr_expect(c->over);
    client_free(&c);
}

Test(imap, bad_commands_end_the_session_in_the_end)
{
    struct client *c = client_new();
    for (int i = 1; i < IMAP_ERRORS_MAX; i++)
        EXPECT(c, "x BOGUS", "x BAD ~\r\n");
    EXPECT(c, "x BOGUS", "x BAD ~\r\n* BYE ~\r\n");
    cr_expect(c->over);
    client_free(&c);
}

Test(imap, select_append_fetch_store_expunge_in_any_pieces)
{
    static const size_t pieces[] = {SIZE_MAX, 1, 7};
    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        struct client *c = client_new();
        piece = pieces[i];
        empty_inbox(c);
        EXPECT(c, "1 APPEND INBOX (\\Seen word) \" 1-Feb-2020 01:02:03 +0100\" {40+}\r\n" MAIL,
               "* 1 EXISTS\r\n* 1 RECENT\r\n1 OK [APPENDUID ~ 1] Appended\r\n");
        EXPECT(c, "2 FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE UID)",
               "* FLAGS (~ word)\r\n* OK [PERMANENTFLAGS (~ word \\*)] ~\r\n"
               "* 1 FETCH (FLAGS (\\Seen word \\Recent) INTERNALDATE \" 1-Feb-2020 00:02:03 +0000\" RFC822.SIZE 40 UID "
               "1)\r\n2 OK Fetched\r\n");
        EXPECT(c, "3 STORE 1 +FLAGS (\\Deleted)",
               "* 1 FETCH (FLAGS (\\Deleted \\Seen word \\Recent))\r\n3 OK Stored\r\n");
        EXPECT(c, "4 EXPUNGE", "* 1 EXPUNGE\r\n4 OK Expunged\r\n");
        EXPECT(c, "5 DELETE INBOX", "5 NO [CANNOT] ~\r\n");
        client_free(&c);
        imap_tear_down();
        imap_set_up();
    }
    piece = SIZE_MAX;
}

Test(imap, append_answers)
{
    struct client *c = client_new();
    EXPECT(c, "1 APPEND INBOX {40}", "+ ~\r\n");
    EXPECT(c, MAIL, "1 OK [APPENDUID ~ 1] Appended\r\n");      /* RFC4315:3 */
    EXPECT(c, "2 APPEND none {40}", "2 NO [TRYCREATE] ~\r\n"); /* RFC3501:6.3.11 */
    EXPECT(c, "3 APPEND none {40+}\r\n" MAIL, "3 NO [TRYCREATE] ~\r\n");
    EXPECT(c, "4 APPEND INBOX {1000001}", "4 NO [TOOBIG] ~\r\n");
    EXPECT(c, "5 APPEND INBOX {0}", "5 NO [CANNOT] ~\r\n");
    EXPECT(c, "6 APPEND INBOX {0+}\r\n", "6 NO [CANNOT] ~\r\n");
    EXPECT(c, "7 APPEND INBOX (\\Recent) {40}", "7 BAD ~\r\n");
    EXPECT(c, "8 APPEND INBOX \"1-Feb-2020\" {40}", "8 BAD ~\r\n");
    EXPECT(c, "9 APPEND INBOX {40+}\r\n" MAIL " {40+}\r\n" MAIL, "9 BAD ~\r\n");
    EXPECT(c, "10 APPEND {5}", "+ ~\r\n");
    EXPECT(c, "INBOX {40}", "+ ~\r\n");
    EXPECT(c, MAIL, "10 OK [APPENDUID ~ 2] Appended\r\n");
    EXPECT(c, "11 APPEND INBOX", "11 BAD ~\r\n");
    EXPECT(c, "12 APPEND \"a&b\" {40}", "12 NO [CANNOT] ~\r\n");
    EXPECT(c, "13 STATUS INBOX (MESSAGES UIDNEXT UNSEEN RECENT)",
           "* STATUS INBOX (MESSAGES 2 RECENT 2 UIDNEXT 3 UNSEEN 2)\r\n13 OK Done\r\n");
    EXPECT(c, "14 NOOP", "14 OK Done\r\n");
    client_free(&c);
}

Test(imap, append_keeps_every_byte)
{
    struct client *c = client_new();
    struct buf command = {0}, body = {0};
    for (int i = 0; i < 70000; i++)
        buf_addc(&body, (char)(i * 7)); /* NULs too; large enough for a file of its own */
    buf_printf(&command, "a APPEND INBOX {%zu+}\r\n", body.n);
    buf_add(&command, buf_span(&body));
    buf_adds(&command, "\r\nb SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\n");
    piece = 1000;
    send_bytes(c, buf_span(&command));
    piece = SIZE_MAX;
    for (size_t i = 0; i < body.n; i++)
        if (!body.p[i])
            body.p[i] = (char)0x80; /* RFC3501:9 CHAR8 */
    cr_expect_geq(span_search(buf_span(&c->got), buf_span(&body)), 0);
    cr_expect_geq(span_search(buf_span(&c->got), SPAN("c OK Fetched")), 0);
    buf_free(&command);
    buf_free(&body);
    client_free(&c);
}

Test(imap, pipelined_commands_run_in_order) /* HAZARDS 6 */
{
    struct client *c = client_new();
    EXPECT(c,
           "a APPEND INBOX {40+}\r\n" MAIL
           "\r\nb SELECT INBOX\r\nc STORE 1 +FLAGS.SILENT \\Deleted\r\nd EXPUNGE\r\ne FETCH 1 FLAGS\r\nf NOOP",
           "a OK ~\r\n~~b OK ~\r\nc OK Stored\r\n* 1 EXPUNGE\r\nd OK Expunged\r\ne BAD ~\r\nf OK Done\r\n");
    client_free(&c);
}

Test(imap, one_sync_for_what_came_together)
{
    struct client *c = client_new();
    struct buf command = {0};
    syncs = 0;
    for (int i = 0; i < 50; i++)
        buf_adds(&command, "a APPEND INBOX {40+}\r\n" MAIL "\r\n");
    send_bytes(c, buf_span(&command));
    cr_expect_eq(syncs, 1);
    EXPECT(c, "b NOOP", "b OK Done\r\n");
    cr_expect_eq(syncs, 1);
    buf_free(&command);
    client_free(&c);
}

static int failing_sync(void *ctx, struct err *e)
{
    (void)ctx;
    return err_set(e, "the disk is gone");
}

Test(imap, nothing_is_promised_that_is_not_on_disk)
{
    struct client *c = client_new();
    backend.sync = failing_sync;
    EXPECT(c, "a CREATE x", "* BYE ~\r\n");
    cr_expect(c->over);
    client_free(&c);
}

Test(imap, literal_inside_a_name_is_not_syntax)
{
    struct client *c = client_new();
    EXPECT(c, "a CREATE {4+}\r\n{1+}", "a OK Made\r\n");
    EXPECT(c, "b LIST \"\" {4+}\r\n{1+}", "* LIST (\\HasNoChildren) \"/\" \"{1+}\"\r\nb OK Done\r\n");
    client_free(&c);
}

/* ---- two sessions (RFC3501:7.4.1) ---- */

Test(imap, sessions_see_each_other) /* RFC3501:7.2.6: FLAGS before a new keyword is used */
{
    struct client *a = client_new(), *b = client_new();
    fill(a, 3);
    say(a, "a SELECT INBOX");
    say(b, "b SELECT INBOX");
    put_message(b, "INBOX", "", MAIL);
    EXPECT(a, "a1 NOOP",
           "* 4 EXISTS\r\n* 3 RECENT\r\na1 OK Done\r\n"); /* b was first to know: the fourth is recent there */
    EXPECT(a, "a2 STORE 2 +FLAGS (\\Flagged new)",
           "* FLAGS (~ new)\r\n* OK ~\r\n* 2 FETCH (FLAGS (\\Flagged new \\Recent))\r\na2 OK Stored\r\n");
    EXPECT(b, "b1 NOOP", "* FLAGS (~ new)\r\n* OK ~\r\n* 2 FETCH (UID 2 FLAGS (\\Flagged new))\r\nb1 OK Done\r\n");
    EXPECT(a, "a3 STORE 1,3 +FLAGS.SILENT (\\Deleted)", "a3 OK Stored\r\n");
    EXPECT(a, "a4 EXPUNGE", "* 3 EXPUNGE\r\n* 1 EXPUNGE\r\na4 OK Expunged\r\n");
    /* no EXPUNGE while a FETCH, STORE or SEARCH with sequence numbers runs */
    EXPECT(b, "b2 FETCH 2 FLAGS", "* 2 FETCH (FLAGS (\\Flagged new))\r\nb2 OK Fetched\r\n");
    EXPECT(b, "b3 FETCH 1 FLAGS", "b3 NO [EXPUNGEISSUED] ~\r\n"); /* RFC5530:3 */
    EXPECT(b, "b4 SEARCH ALL", "* SEARCH 2 4\r\nb4 OK Searched\r\n");
    EXPECT(b, "b5 UID FETCH 1:* FLAGS", "~~* 3 EXPUNGE\r\n* 1 EXPUNGE\r\nb5 OK Fetched\r\n");
    EXPECT(b, "b6 FETCH 1:* UID", "* 1 FETCH (UID 2)\r\n* 2 FETCH (UID 4)\r\nb6 OK Fetched\r\n");
    client_free(&a);
    client_free(&b);
}

Test(imap, recent_is_told_to_one_session)
{
    struct client *a = client_new(), *b = client_new();
    fill(a, 2);
    EXPECT(a, "a EXAMINE INBOX", "~~* 2 RECENT\r\n~~a OK [READ-ONLY] ~\r\n"); /* RFC3501:6.3.2 */
    EXPECT(a, "a SELECT INBOX", "~~* 2 RECENT\r\n~~a OK [READ-WRITE] ~\r\n");
    EXPECT(b, "b SELECT INBOX", "~~* 0 RECENT\r\n~~b OK [READ-WRITE] ~\r\n");
    EXPECT(a, "a SEARCH RECENT", "* SEARCH 1 2\r\na OK ~\r\n");
    EXPECT(b, "b SEARCH RECENT", "* SEARCH\r\nb OK ~\r\n");
    EXPECT(b, "b SEARCH OLD", "* SEARCH 1 2\r\nb OK ~\r\n");
    client_free(&a);
    client_free(&b);
}

Test(imap, idle)
{
    struct client *a = client_new(), *b = client_new();
    fill(b, 1);
    say(a, "a SELECT INBOX");
    EXPECT(a, "i IDLE", "+ Waiting\r\n"); /* RFC2177:3 */
    put_message(b, "INBOX", "\\Seen", MAIL);
    cr_expect(a->nudged);
    cr_expect(fits("* 2 EXISTS\r\n* 2 RECENT\r\n", send_bytes(a, SPAN(""))), "%s", buf_cstr(&a->got));
    say(b, "b SELECT INBOX");
    say(b, "b STORE 1 +FLAGS \\Deleted");
    cr_expect(fits("* 1 FETCH (UID 1 FLAGS (\\Deleted \\Recent))\r\n", send_bytes(a, SPAN(""))), "%s",
              buf_cstr(&a->got));
    say(b, "b EXPUNGE");
    cr_expect(fits("* 1 EXPUNGE\r\n", send_bytes(a, SPAN(""))), "%s", buf_cstr(&a->got));
    EXPECT(a, "done", "i OK Done\r\n");
    EXPECT(a, "i2 IDLE", "+ Waiting\r\n");
    EXPECT(a, "i3 NOOP", "i2 BAD ~\r\n");
    EXPECT(a, "i4 IDLE", "+ Waiting\r\n");
    EXPECT(a, "x {5}", "i4 BAD ~\r\n");
    client_free(&a);
    client_free(&b);
}

Test(imap, read_only_changes_nothing)
{
    struct client *c = client_new();
    fill(c, 1);
    say(c, "e EXAMINE INBOX");
    EXPECT(c, "1 STORE 1 +FLAGS \\Seen", "1 NO ~\r\n");
    EXPECT(c, "2 EXPUNGE", "2 NO ~\r\n");
    EXPECT(c, "3 MOVE 1 Trash", "3 NO ~\r\n");
    EXPECT(c, "4 FETCH 1 BODY[TEXT]", "* 1 FETCH (BODY[TEXT] {6}\r\nbody\r\n)\r\n4 OK Fetched\r\n");
    EXPECT(c, "5 SEARCH UNSEEN", "* SEARCH 1\r\n5 OK ~\r\n");
    EXPECT(c, "6 COPY 1 Trash", "6 OK [COPYUID ~ 1 1] Copied\r\n");
    EXPECT(c, "7 CLOSE", "7 OK Closed\r\n");
    client_free(&c);
}

Test(imap, copy_and_move)
{
    struct client *c = client_new();
    fill(c, 4);
    say(c, "s SELECT INBOX");
    say(c, "s STORE 2 +FLAGS (\\Flagged k)");
    EXPECT(c, "1 COPY 1:3 none", "1 NO [TRYCREATE] ~\r\n");                     /* RFC3501:6.4.7 */
    EXPECT(c, "2 COPY 1,3:4 Archive", "2 OK [COPYUID ~ 1,3:4 1:3] Copied\r\n"); /* RFC4315:3 */
    EXPECT(c, "3 UID COPY 99 Archive", "3 OK Copied\r\n");
    EXPECT(c, "4 UID MOVE 2 Archive", "* OK [COPYUID ~ 2 4] Moved\r\n* 2 EXPUNGE\r\n4 OK Moved\r\n"); /* RFC6851:4.3 */
    EXPECT(c, "5 MOVE 1:2 Archive", "* OK [COPYUID ~ 1,3 5:6] Moved\r\n* 2 EXPUNGE\r\n* 1 EXPUNGE\r\n5 OK Moved\r\n");
    EXPECT(c, "6 SELECT Archive", "* FLAGS (~ k)\r\n~~* 6 EXISTS\r\n~~6 OK ~\r\n");
    EXPECT(c, "7 FETCH 4 FLAGS", "* 4 FETCH (FLAGS (\\Flagged k~))\r\n7 OK ~\r\n");
    EXPECT(c, "8 COPY 1 Archive", "* 7 EXISTS\r\n* ~ RECENT\r\n8 OK [COPYUID ~ 1 7] Copied\r\n");
    EXPECT(c, "9 COPY 9 Archive", "9 BAD ~\r\n");
    client_free(&c);
}

Test(imap, expunge_close_unselect) /* RFC3501:6.4.2 */
{
    struct client *c = client_new();
    fill(c, 5);
    say(c, "s SELECT INBOX");
    say(c, "s STORE 1,2,4 +FLAGS.SILENT \\Deleted");
    EXPECT(c, "1 UID EXPUNGE 2:3", "* 2 EXPUNGE\r\n1 OK Expunged\r\n"); /* RFC4315:2.1 */
    EXPECT(c, "2 UNSELECT", "2 OK Closed\r\n");
    EXPECT(c, "3 SELECT INBOX", "~~* 4 EXISTS\r\n~~3 OK ~\r\n");
    EXPECT(c, "4 CLOSE", "4 OK Closed\r\n");
    EXPECT(c, "5 CHECK", "5 BAD ~\r\n");
    EXPECT(c, "6 SELECT INBOX", "~~* 2 EXISTS\r\n~~6 OK ~\r\n");
    EXPECT(c, "7 FETCH 1:* UID", "* 1 FETCH (UID 3)\r\n* 2 FETCH (UID 5)\r\n7 OK ~\r\n");
    EXPECT(c, "8 UID EXPUNGE", "8 BAD ~\r\n");
    EXPECT(c, "9 SELECT none", "9 NO [NONEXISTENT] ~\r\n");
    EXPECT(c, "10 CHECK", "10 BAD ~\r\n"); /* RFC3501:6.3.1: a failed SELECT leaves none selected */
    client_free(&c);
}

Test(imap, a_mailbox_that_goes_while_it_is_selected)
{
    struct client *a = client_new(), *b = client_new();
    say(a, "a CREATE box");
    put_message(a, "box", "", MAIL);
    put_message(a, "box", "", MAIL);
    say(a, "a SELECT box");
    EXPECT(b, "b DELETE box", "b OK ~\r\n");
    EXPECT(a, "1 FETCH 1:2 FLAGS", "1 NO [EXPUNGEISSUED] ~\r\n");
    EXPECT(a, "2 NOOP", "* 2 EXPUNGE\r\n* 1 EXPUNGE\r\n2 OK ~\r\n");
    EXPECT(a, "3 EXPUNGE", "3 ~\r\n");
    EXPECT(a, "4 CLOSE", "4 OK ~\r\n");
    client_free(&a);
    client_free(&b);
}

Test(imap, store_syntax)
{
    struct client *c = client_new();
    fill(c, 2);
    say(c, "s SELECT INBOX");
    EXPECT(c, "1 STORE 1 FLAGS \\Seen \\Flagged", "* 1 FETCH (FLAGS (\\Flagged \\Seen \\Recent))\r\n1 OK ~\r\n");
    EXPECT(c, "2 STORE 1 -FLAGS (\\Seen)", "* 1 FETCH (FLAGS (\\Flagged \\Recent))\r\n2 OK ~\r\n");
    EXPECT(c, "3 UID STORE 1 FLAGS ()", "* 1 FETCH (UID 1 FLAGS (\\Recent))\r\n3 OK ~\r\n");
    EXPECT(c, "4 STORE 1 -FLAGS unknown", "* 1 FETCH (FLAGS (\\Recent))\r\n4 OK ~\r\n");
    static const char *const bad[] = {"x STORE 1",
                                      "x STORE 1 FLAGS",
                                      "x STORE 1 +FLAGS (\\Recent)",
                                      "x STORE 1 FLAGS (a b",
                                      "x STORE 3 FLAGS (a)",
                                      "x STORE 0 FLAGS (a)",
                                      "x STORE 1:a FLAGS (a)",
                                      "x STORE 1 FLAGS (a) b",
                                      "x STORE 1 FLAGS (\"a\")",
                                      "x STORE 1, FLAGS a"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        EXPECT(c, bad[i], "x BAD ~\r\n");
    EXPECT(c, "5 UID STORE 77 +FLAGS \\Seen", "5 OK ~\r\n"); /* RFC3501:6.4.8 */
    client_free(&c);
}
