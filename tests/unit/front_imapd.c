/* src/imapd/main.c as it is, under another name. */
#define main imapd_main
int imapd_main(int argc, char **argv);
#include "imapd/main.c"
