/* src/pop3d/main.c as it is, under another name. */
#define main pop3d_main
int pop3d_main(int argc, char **argv);
#include "pop3d/main.c"
