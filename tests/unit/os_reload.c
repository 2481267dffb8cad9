/* POSIX only: SIGHUP asks to read files again, beside the requests to stop. The cases run in the
 * order given: a request to stop is never taken back. */
#include "check.h"

#include <signal.h>

#include "os/clock.h"
#include "os/process.h"
#include "os/thread.h"

static void nothing_comes_of_itself(void) {
    REQUIRE(tp_process_catch_stop() == TP_OK);
    REQUIRE(tp_process_catch_reload() == TP_OK);
    CHECK_EQ(tp_process_wait(0), TP_PROCESS_NOTHING);
    uint64_t begin = tp_clock_ns();
    CHECK_EQ(tp_process_wait(30), TP_PROCESS_NOTHING);
    CHECK_GE(tp_clock_ns() - begin, UINT64_C(29000000));
}

static void a_reload_is_told_once(void) {
    REQUIRE(raise(SIGHUP) == 0);
    CHECK_EQ(tp_process_wait(-1), TP_PROCESS_RELOAD);
    CHECK_EQ(tp_process_wait(0), TP_PROCESS_NOTHING);
    REQUIRE(raise(SIGHUP) == 0);
    REQUIRE(raise(SIGHUP) == 0);
    REQUIRE(raise(SIGHUP) == 0);
    CHECK_EQ(tp_process_wait(-1), TP_PROCESS_RELOAD);
    CHECK_EQ(tp_process_wait(0), TP_PROCESS_NOTHING);
    REQUIRE(raise(SIGHUP) == 0);
    CHECK_EQ(tp_process_wait(0), TP_PROCESS_RELOAD);
}

static void ask(void *argument) {
    (void)argument;
    CHECK_EQ(raise(SIGHUP), 0);
}

static void it_wakes_who_waits(void) {
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "ask", ask, NULL) == TP_OK);
    CHECK_EQ(tp_process_wait(-1), TP_PROCESS_RELOAD);
    tp_thread_join(&thread);
}

static void a_stop_goes_before_and_stays(void) {
    REQUIRE(raise(SIGHUP) == 0);
    REQUIRE(raise(SIGTERM) == 0);
    CHECK_EQ(tp_process_wait(-1), TP_PROCESS_STOP);
    CHECK_EQ(tp_process_wait(0), TP_PROCESS_STOP);
    CHECK(tp_process_wait_stop(0));
    REQUIRE(raise(SIGHUP) == 0);
    CHECK_EQ(tp_process_wait(-1), TP_PROCESS_STOP);
}

CHECK_MAIN(CASE(nothing_comes_of_itself), CASE(a_reload_is_told_once), CASE(it_wakes_who_waits),
    CASE(a_stop_goes_before_and_stays))
