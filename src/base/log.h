/* One line for each event, `key=value` pairs, values quoted and escaped where they need it; the queue id is always `qid`.
 *
 *     LOGI("accepted", KVS("qid", qid), KVU("size", n));
 *
 * prints   2026-11-23T09:41:07.123Z info smtpd[812] accepted qid=6G2… size=4096
 * Lines of several programs that share one descriptor never mix: each write() has whole lines, and no more of them than a pipe takes as
 * one. A line leaves at once, but for those of a thread that gathers them. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/span.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_form { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_JOURNAL }; /* journal: a stderr that journald reads, with its <N> level prefix */

struct kv {
    const char *key;
    struct span text; /* used when text.p is not NULL */
    int64_t number;
};

#define KVS(k, s) ((struct kv){.key = (k), .text = (s)})
#define KVT(k, cstr) ((struct kv){.key = (k), .text = span_of(cstr)})
#define KVU(k, v) ((struct kv){.key = (k), .number = (int64_t)(v)})

#define LOG_AT(level, event, ...) log_event(level, event, (const struct kv[]){__VA_ARGS__ __VA_OPT__(, ){0}})
#define LOGE(event, ...) LOG_AT(LOG_LEVEL_ERROR, event __VA_OPT__(, ) __VA_ARGS__)
#define LOGW(event, ...) LOG_AT(LOG_LEVEL_WARN, event __VA_OPT__(, ) __VA_ARGS__)
#define LOGI(event, ...) LOG_AT(LOG_LEVEL_INFO, event __VA_OPT__(, ) __VA_ARGS__)
#define LOGD(event, ...) LOG_AT(LOG_LEVEL_DEBUG, event __VA_OPT__(, ) __VA_ARGS__)

/* `program` is kept, not copied. fd: where lines go; it stays the caller's. */
void log_open(const char *program, int fd, enum log_form form);
void log_set_level(enum log_level least);
enum log_level log_get_level(void);
/* Called when a line could not be written (a restarted syslogd): the owner may log_open() a fresh descriptor or connect the old one
 * again. The line is tried once more, then written to standard error. */
void log_on_lost(void (*fn)(void));
/* What this thread, which is one that waits in a loop, says from here on leaves with log_flush(), many lines in one write; a warning or an
 * error at once, with what was said before it, and so does everything before a fork, at the end of gathering and when a signal ends the
 * process. One thread of a process can gather, the first that asks; to others, and to syslog, it means nothing. */
void log_gather(bool on);
/* For who gathers: before it waits. Cheap when there is nothing. */
void log_flush(void);
/* kvs ends with a NULL key. */
void log_event(enum log_level level, const char *event, const struct kv *kvs);
/* Writes `value` as it stands in a log line: bare when plain, else quoted with \n, \r, \t, \", \\ and \xNN. At most 1,000 bytes of it. */
struct buf;
void log_value(struct buf *out, struct span value);

#endif
