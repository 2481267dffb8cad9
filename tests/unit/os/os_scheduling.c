/* Linux only: slices and the idle policy, as the system reports them. A thread's settings cannot be
 * undone, so each case changes a thread of its own. */
#include "scheduling.h"

#include "os/process.h"
#include "os/thread.h"

static void on_a_thread(void (*body)(void *argument), void *argument) {
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "scheduling", body, argument) == TP_OK);
    tp_thread_join(&thread);
}

static void keep_scheduling(void *argument) {
    scheduling *kept = argument;
    *kept = scheduling_of(0);
}

static void ask_for_the_shortest(void *argument) {
    (void)argument;
    scheduling before = scheduling_of(0);
    tp_err error = tp_thread_ask_low_latency();
    scheduling now = scheduling_of(0);
    CHECK_EQ(now.policy, before.policy);
    CHECK_EQ(now.nice, before.nice);
    if (before.slice_ns == 0) { /* before Linux 6.12 */
        CHECK_EQ(error, TP_ERR_UNSUPPORTED);
        return;
    }
    CHECK_EQ(error, TP_OK);
    CHECK_EQ(now.slice_ns, SHORTEST_SLICE_NS);
    CHECK_EQ(tp_thread_ask_low_latency(), TP_OK); /* a second call changes nothing */
    CHECK_EQ(scheduling_of(0).slice_ns, SHORTEST_SLICE_NS);

    /* Nice stays what it was set to, and threads started from here inherit both. */
    scheduling other;
    CHECK_EQ(tp_thread_lower_priority(), TP_OK);
    now = scheduling_of(0);
    CHECK_GT(now.nice, before.nice);
    CHECK_EQ(now.slice_ns, SHORTEST_SLICE_NS);
    on_a_thread(keep_scheduling, &other);
    CHECK_EQ(other.slice_ns, SHORTEST_SLICE_NS);
    CHECK_EQ(other.nice, now.nice);
}

static void low_latency_is_the_shortest_slice(void) {
    scheduling before = scheduling_of(0);
    on_a_thread(ask_for_the_shortest, NULL);
    CHECK_EQ(scheduling_of(0).slice_ns, before.slice_ns); /* only that thread was changed */
}

static void go_idle(void *argument) {
    (void)argument;
    scheduling other;
    bool has_slices = scheduling_of(0).slice_ns != 0; /* since Linux 6.12 */
    CHECK_EQ(tp_thread_go_idle(), TP_OK);
    CHECK_EQ(scheduling_of(0).policy, SCHED_IDLE);
    CHECK_EQ(scheduling_of(0).slice_ns, has_slices ? SHORTEST_SLICE_NS : 0);
    CHECK_EQ(tp_thread_go_idle(), TP_OK);
    CHECK_EQ(tp_thread_lower_priority(), TP_OK);
    CHECK_EQ(scheduling_of(0).policy, SCHED_IDLE);
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_LOW), TP_OK);
    CHECK_EQ(scheduling_of(0).policy, SCHED_IDLE);
    CHECK_EQ(tp_thread_ask_low_latency(), has_slices ? TP_OK : TP_ERR_UNSUPPORTED);
    CHECK_EQ(scheduling_of(0).policy, SCHED_IDLE);
    on_a_thread(keep_scheduling, &other);
    CHECK_EQ(other.policy, SCHED_IDLE);
    CHECK_EQ(other.slice_ns, scheduling_of(0).slice_ns);
}

static void idle_stays_idle(void) {
    scheduling before = scheduling_of(0);
    on_a_thread(go_idle, NULL);
    CHECK_EQ(scheduling_of(0).policy, before.policy);
}

static void go_idle_as_a_process(void *argument) {
    (void)argument;
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_IDLE), TP_OK);
    CHECK_EQ(scheduling_of(0).policy, SCHED_IDLE);
}

static void a_process_can_be_idle(void) {
    on_a_thread(go_idle_as_a_process, NULL);
}

static void ask_and_be_refused(void *argument) {
    static const struct {
        int os_error;
        tp_err error;
    } refusals[] = {{EPERM, TP_ERR_ACCESS}, {ENOSYS, TP_ERR_UNSUPPORTED},
        {EINVAL, TP_ERR_UNSUPPORTED}, {E2BIG, TP_ERR_UNSUPPORTED}};
    const unsigned *which = argument;
    scheduling before = scheduling_of(0);
    refuse_scheduling(refusals[*which].os_error);
    CHECK_EQ(tp_thread_ask_low_latency(), refusals[*which].error);
    CHECK_EQ(tp_os_error(), refusals[*which].os_error);
    CHECK_EQ(tp_thread_go_idle(), refusals[*which].error);
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_IDLE), refusals[*which].error);
    scheduling now = scheduling_of(0);
    CHECK_EQ(memcmp(&now, &before, sizeof now), 0);
}

static void a_refusal_changes_nothing(void) {
    for (unsigned i = 0; i < 4; i++) {
        on_a_thread(ask_and_be_refused, &i);
    }
}

CHECK_MAIN(CASE(low_latency_is_the_shortest_slice), CASE(idle_stays_idle),
    CASE(a_process_can_be_idle), CASE(a_refusal_changes_nothing))
