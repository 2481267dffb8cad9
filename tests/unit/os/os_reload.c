/* POSIX only: SIGHUP requests a reload, besides the requests to stop. The cases run in the given
 * order, because a request to stop is never taken back. */
#include "check.h"

#include <signal.h>

#include "os/clock.h"
#include "os/process.h"
#include "os/thread.h"

static void nothing_is_reported_without_a_signal(void) {
    REQUIRE(tp_process_catch_stop() == TP_OK);
    REQUIRE(tp_process_catch_reload() == TP_OK);
    CHECK_EQ(tp_process_wait(0), TP_PROCESS_NOTHING);
    uint64_t begin = tp_clock_ns();
    CHECK_EQ(tp_process_wait(30), TP_PROCESS_NOTHING);
    CHECK_GE(tp_clock_ns() - begin, UINT64_C(29000000));
}

static void a_reload_is_reported_once(void) {
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

static void request_reload(void *argument) {
    (void)argument;
    CHECK_EQ(raise(SIGHUP), 0);
}

static void a_reload_ends_a_wait(void) {
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "reload", request_reload, NULL) == TP_OK);
    CHECK_EQ(tp_process_wait(-1), TP_PROCESS_RELOAD);
    tp_thread_join(&thread);
}

static void a_stop_comes_first_and_stays(void) {
    REQUIRE(raise(SIGHUP) == 0);
    REQUIRE(raise(SIGTERM) == 0);
    CHECK_EQ(tp_process_wait(-1), TP_PROCESS_STOP);
    CHECK_EQ(tp_process_wait(0), TP_PROCESS_STOP);
    CHECK(tp_process_wait_stop(0));
    REQUIRE(raise(SIGHUP) == 0);
    CHECK_EQ(tp_process_wait(-1), TP_PROCESS_STOP);
}

CHECK_MAIN(CASE(nothing_is_reported_without_a_signal), CASE(a_reload_is_reported_once),
    CASE(a_reload_ends_a_wait), CASE(a_stop_comes_first_and_stays))
