/* The tables of a store. A step that has been released is never changed: a new one is added. */
#include "base/util.h"
#include "store/internal.h"

static const char step_1[] =
    /* One row. boot, clean: the mark of doc/store-states.md. uidvalidity: the last value given. */
    "CREATE TABLE account(id INTEGER PRIMARY KEY CHECK(id = 1), boot TEXT NOT NULL, clean INTEGER NOT NULL,"
    " uidvalidity INTEGER NOT NULL, bytes INTEGER NOT NULL, messages INTEGER NOT NULL,"
    " next_content INTEGER NOT NULL);"

    "CREATE TABLE mailbox(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,"
    " noselect INTEGER NOT NULL, special INTEGER NOT NULL, uidvalidity INTEGER NOT NULL, uidnext INTEGER NOT NULL,"
    " recent_from INTEGER NOT NULL, messages INTEGER NOT NULL, unseen INTEGER NOT NULL, size INTEGER NOT NULL,"
    " modseq INTEGER NOT NULL, keywords INTEGER NOT NULL);"

    "CREATE TABLE keyword(mailbox INTEGER NOT NULL, name TEXT NOT NULL COLLATE NOCASE, bit INTEGER NOT NULL,"
    " PRIMARY KEY(mailbox, name)) WITHOUT ROWID;"

    "CREATE TABLE subscription(name TEXT PRIMARY KEY) WITHOUT ROWID;"

    /* Small rows, scanned for SELECT and FETCH FLAGS. */
    "CREATE TABLE message(mailbox INTEGER NOT NULL, uid INTEGER NOT NULL, flags INTEGER NOT NULL,"
    " keywords INTEGER NOT NULL, modseq INTEGER NOT NULL, size INTEGER NOT NULL, internaldate INTEGER NOT NULL,"
    " content INTEGER NOT NULL, PRIMARY KEY(mailbox, uid)) WITHOUT ROWID;"

    /* large: the bytes are a file; otherwise they are in `body`. */
    "CREATE TABLE content(id INTEGER PRIMARY KEY, refs INTEGER NOT NULL, size INTEGER NOT NULL,"
    " header INTEGER NOT NULL, large INTEGER NOT NULL, envelope TEXT, structure TEXT);"

    "CREATE TABLE body(content INTEGER PRIMARY KEY, bytes BLOB NOT NULL);"

    /* content: of a large one only, for settling. */
    "CREATE TABLE delivery(qid TEXT NOT NULL, rcpt INTEGER NOT NULL, content INTEGER NOT NULL, at INTEGER NOT NULL,"
    " PRIMARY KEY(qid, rcpt)) WITHOUT ROWID;";

const char *const store_schema[] = {step_1};
const unsigned store_schema_count = COUNT_OF(store_schema);
