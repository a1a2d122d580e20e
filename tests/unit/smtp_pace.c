/* Slow clients, on a virtual clock. */
#include <criterion/criterion.h>

#include "loop/loop.h"
#include "smtp/pace.h"

#define MINUTE 60000

/* RFC5321:4.5.3.2: bytes alone keep nothing alive. */
Test(pace, a_command_has_to_become_whole)
{
    struct loop *l = loop_new_virtual(0);
    struct smtp_pace p;
    smtp_pace_begin(&p, loop_now(l));
    for (int i = 0; i < 5; i++) {
        loop_advance(l, MINUTE);
        cr_assert(smtp_pace_command(&p, loop_now(l), false, 5 * MINUTE), "minute %d", i);
    }
    loop_advance(l, 1);
    cr_assert_not(smtp_pace_command(&p, loop_now(l), false, 5 * MINUTE));
    cr_assert(smtp_pace_command(&p, loop_now(l), true, 5 * MINUTE), "whole commands begin it anew");
    for (int day = 0; day < 1000; day++) {
        loop_advance(l, 5 * MINUTE);
        cr_assert(smtp_pace_command(&p, loop_now(l), true, 5 * MINUTE));
    }
    loop_free(&l);
}

Test(pace, content_has_to_flow)
{
    struct loop *l = loop_new_virtual(0);
    struct smtp_pace p;
    smtp_pace_begin(&p, loop_now(l));
    int minutes = 0; /* a byte a second */
    while (minutes < 100 && smtp_pace_content(&p, loop_now(l), 60, 5 * MINUTE, 1024)) {
        loop_advance(l, MINUTE);
        minutes++;
    }
    cr_assert_eq(minutes, 6, "%d", minutes);
    smtp_pace_begin(&p, loop_now(l));
    for (int i = 0; i < 1000; i++) { /* a slow line is none of that */
        loop_advance(l, MINUTE);
        cr_assert(smtp_pace_content(&p, loop_now(l), 300, 5 * MINUTE, 1024), "minute %d", i);
    }
    loop_free(&l);
}
