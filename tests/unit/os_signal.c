/* POSIX only: which signals ask the process to stop. One signal per process: the request stays, so
 * the signal's name is the program's argument. */
#include "check.h"

#include <signal.h>

#include "os/process.h"

static void check_signal(int number) {
    REQUIRE(tp_process_catch_stop() == TP_OK);
    CHECK(!tp_process_wait_stop(0));
    REQUIRE(raise(number) == 0);
    CHECK(tp_process_wait_stop(0));
    /* It stands for every later wait. A second signal is os_stream.c's: it ends the process. */
    CHECK(tp_process_wait_stop(-1));
}

static void sigterm_asks_to_stop(void) {
    check_signal(SIGTERM);
}

static void sigint_asks_to_stop(void) {
    check_signal(SIGINT);
}

CHECK_MAIN(CASE(sigterm_asks_to_stop), CASE(sigint_asks_to_stop))
