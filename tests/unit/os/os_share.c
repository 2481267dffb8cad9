/* Tests of a process's share of the machine: twinport/process.h and os/thread.h. A thread's
 * settings cannot be undone, so each case changes a thread of its own. */
#include "check.h"

#include "os/process.h"
#include "os/thread.h"

static void on_a_thread(void (*body)(void *argument)) {
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "share", body, NULL) == TP_OK);
    tp_thread_join(&thread);
}

static tp_processors only(unsigned processor) {
    tp_processors one = {{0}};
    one.bits[processor / 64] = (uint64_t)1 << processor % 64;
    return one;
}

static void restrict_to_one(void *argument) {
    (void)argument;
    static const tp_processors none = {{0}};
    CHECK_EQ(tp_process_set_processors(&none), TP_ERR_INVALID);
    unsigned before = tp_processor_count();
    unsigned first = 0;
    tp_processors one = only(0);
    while (first < 63 && tp_process_set_processors(&one) != TP_OK) {
        CHECK_EQ(tp_processor_count(), before); /* a failure changes nothing */
        one = only(++first);
    }
    CHECK_LT(first, 63);
    CHECK_EQ(tp_processor_count(), 1);
}

static void a_process_keeps_to_its_processors(void) {
    on_a_thread(restrict_to_one);
}

static void ask_for_priorities(void *argument) {
    (void)argument;
    CHECK_EQ(tp_process_set_priority((tp_priority)4), TP_ERR_INVALID);
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_NORMAL), TP_OK);
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_LOW), TP_OK);
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_LOW), TP_OK);
    CHECK_EQ(tp_thread_lower_priority(), TP_OK);
    CHECK_EQ(tp_thread_lower_priority(), TP_OK); /* no error at the lowest priority */
    CHECK_EQ(tp_thread_lower_priority(), TP_OK);
    CHECK_EQ(tp_thread_go_idle(), TP_OK);
    CHECK_EQ(tp_thread_go_idle(), TP_OK);
}

/* The result depends on the system. */
static void ask_for_low_latency(void *argument) {
    (void)argument;
    tp_err error = tp_thread_ask_low_latency();
    CHECK(error == TP_OK || error == TP_ERR_UNSUPPORTED || error == TP_ERR_ACCESS);
    CHECK_EQ(tp_thread_ask_low_latency(), error);
}

static void low_latency_may_be_asked_for(void) {
    on_a_thread(ask_for_low_latency);
}

static void priorities_are_accepted(void) {
    on_a_thread(ask_for_priorities);
}

CHECK_MAIN(CASE(a_process_keeps_to_its_processors), CASE(priorities_are_accepted),
    CASE(low_latency_may_be_asked_for))
