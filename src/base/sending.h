/* The limits of what an account may send: the order that configuration, directory, messages and queue share. A limit of 0 is
 * none. */
#ifndef BASE_SENDING_H
#define BASE_SENDING_H

enum sending_limit {
    SENDING_MESSAGES_HOUR,
    SENDING_RECIPIENTS_HOUR,
    SENDING_MESSAGES_DAY,
    SENDING_RECIPIENTS_DAY,
    SENDING_NEW_DAY, /* recipients that it never wrote to before */
    SENDING_LIMITS
};

/* As in the configuration and in commands. */
#define SENDING_NAMES {"messages-hour", "recipients-hour", "messages-day", "recipients-day", "new-recipients-day"}
#define SENDING_MOST 1000000000u

#endif
