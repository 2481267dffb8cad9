/* POSIX only: the signals that request a stop. The request stays, so each signal is tested in a
 * process of its own; the program's argument is the case. */
#include "check.h"

#include <signal.h>

#include "os/process.h"

static void check_signal(int number) {
    REQUIRE(tp_process_catch_stop() == TP_OK);
    CHECK(!tp_process_wait_stop(0));
    REQUIRE(raise(number) == 0);
    CHECK(tp_process_wait_stop(0));
    /* The request stays for every later wait. A second signal ends the process: see os_stream.c. */
    CHECK(tp_process_wait_stop(-1));
}

static void sigterm_asks_to_stop(void) {
    check_signal(SIGTERM);
}

static void sigint_asks_to_stop(void) {
    check_signal(SIGINT);
}

CHECK_MAIN(CASE(sigterm_asks_to_stop), CASE(sigint_asks_to_stop))
