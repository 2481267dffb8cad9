/* Windows only: priorities, as the system reports them. */
#include "check.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "os/process.h"
#include "os/thread.h"

static void change(void *argument) {
    int *seen = argument;
    seen[0] = GetThreadPriority(GetCurrentThread());
    CHECK_EQ(tp_thread_ask_low_latency(), TP_OK);
    seen[1] = GetThreadPriority(GetCurrentThread());
    CHECK_EQ(tp_thread_lower_priority(), TP_OK);
    seen[2] = GetThreadPriority(GetCurrentThread());
    CHECK_EQ(tp_thread_go_idle(), TP_OK);
    seen[3] = GetThreadPriority(GetCurrentThread());
}

static void threads_change_themselves_alone(void) {
    tp_thread thread;
    int seen[4];
    int own = GetThreadPriority(GetCurrentThread());
    REQUIRE(tp_thread_start(&thread, "priority", change, seen) == TP_OK);
    tp_thread_join(&thread);
    CHECK_EQ(seen[0], THREAD_PRIORITY_NORMAL);
    CHECK_EQ(seen[1], THREAD_PRIORITY_ABOVE_NORMAL);
    CHECK_EQ(seen[2], THREAD_PRIORITY_BELOW_NORMAL);
    CHECK_EQ(seen[3], THREAD_PRIORITY_LOWEST);
    CHECK_EQ(GetThreadPriority(GetCurrentThread()), own);
}

static void a_process_has_a_class(void) {
    DWORD begin = GetPriorityClass(GetCurrentProcess());
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_NORMAL), TP_OK);
    CHECK_EQ(GetPriorityClass(GetCurrentProcess()), begin);
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_HIGH), TP_OK);
    CHECK_EQ(GetPriorityClass(GetCurrentProcess()), ABOVE_NORMAL_PRIORITY_CLASS);
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_LOW), TP_OK);
    CHECK_EQ(GetPriorityClass(GetCurrentProcess()), BELOW_NORMAL_PRIORITY_CLASS);
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_IDLE), TP_OK);
    CHECK_EQ(GetPriorityClass(GetCurrentProcess()), IDLE_PRIORITY_CLASS);
    /* A process in the idle class stays there. */
    CHECK_EQ(tp_process_set_priority(TP_PRIORITY_LOW), TP_OK);
    CHECK_EQ(GetPriorityClass(GetCurrentProcess()), IDLE_PRIORITY_CLASS);
}

CHECK_MAIN(CASE(threads_change_themselves_alone), CASE(a_process_has_a_class))
