/* qmgr: owns the queue. Takes messages from smtpd and mda, hands them to mda and relay, and answers for each until it
 * has left. */
#include "qmgr/qmgr.h"

int main(int argc, char **argv)
{
    static struct qmgr q;
    struct service_def def = qmgr_program;
    def.state = &q;
    return service_main(&def, argc, argv);
}
