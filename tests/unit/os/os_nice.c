/* POSIX only: priorities, as the system reports them. */
#include "check.h"

#include <errno.h>
#include <sys/resource.h>

#include "os/process.h"
#include "os/thread.h"

/* The calling thread's nice value. */
static int nice_now(void) {
    errno = 0;
    int nice = getpriority(PRIO_PROCESS, 0);
    REQUIRE(errno == 0);
    return nice;
}

static int at_most(int nice) {
    return nice < 19 ? nice : 19;
}

static void lower(void *argument) {
    int *nice = argument;
    nice[0] = nice_now();
    CHECK_EQ(tp_thread_lower_priority(), TP_OK);
    nice[1] = nice_now();
}

static void go_low(void *argument) {
    (void)argument;
    int begin = nice_now();
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_NORMAL), TP_OK);
    CHECK_EQ(nice_now(), begin);

    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_LOW), TP_OK);
    int low = nice_now();
    CHECK_EQ(low, begin > 10 ? begin : 10);

    /* Threads inherit it, and lower only themselves. */
    int other[2];
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "lower", lower, other) == TP_OK);
    tp_thread_join(&thread);
    CHECK_EQ(other[0], low);
    CHECK_EQ(other[1], at_most(low + 5));
    CHECK_EQ(nice_now(), low);

    for (int i = 0; i < 4; i++) {
        CHECK_EQ(tp_thread_lower_priority(), TP_OK);
    }
    CHECK_EQ(nice_now(), 19);
    /* A thread below `low` is not raised to it. */
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_LOW), TP_OK);
    CHECK_EQ(nice_now(), 19);
}

static void low_is_nice_10_and_threads_go_below(void) {
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "low", go_low, NULL) == TP_OK);
    tp_thread_join(&thread);
}

static void go_high(void *argument) {
    (void)argument;
    int begin = nice_now();
    tp_err error = tp_process_set_priority(TP_PRIORITY_HIGH);
    if (error) { /* most users lack the permission */
        CHECK_EQ(error, TP_ERR_ACCESS);
        CHECK_EQ(nice_now(), begin);
    } else {
        CHECK_EQ(nice_now(), begin < -5 ? begin : -5);
    }
}

static void high_needs_a_permission(void) {
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "high", go_high, NULL) == TP_OK);
    tp_thread_join(&thread);
}

CHECK_MAIN(CASE(low_is_nice_10_and_threads_go_below), CASE(high_needs_a_permission))
