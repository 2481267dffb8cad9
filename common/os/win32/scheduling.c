/*
 * The process's share of the machine: priority and processors. Owns nothing.
 */
#include "os/error.h"
#include "os/process.h"
#include "os/thread.h"
#include "os/win32/system.h"

tp_err tp_thread_lower_priority(void) {
    return SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_BELOW_NORMAL) ? TP_OK
                                                                               : tp_os_fail_last();
}

/* Not THREAD_PRIORITY_IDLE: priorities are strict on Windows, and such a thread would wait even for
 * processes of the idle class. */
tp_err tp_thread_go_idle(void) {
    return SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_LOWEST) ? TP_OK
                                                                         : tp_os_fail_last();
}

tp_err tp_thread_ask_low_latency(void) {
    return SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_ABOVE_NORMAL) ? TP_OK
                                                                               : tp_os_fail_last();
}

static tp_err set_class(DWORD wanted) {
    return SetPriorityClass(GetCurrentProcess(), wanted) ? TP_OK : tp_os_fail_last();
}

tp_err tp_process_set_priority(tp_priority priority) {
    switch (priority) {
    case TP_PRIORITY_LOW:
        /* A process started below that stays there. */
        return GetPriorityClass(GetCurrentProcess()) == IDLE_PRIORITY_CLASS
                   ? TP_OK
                   : set_class(BELOW_NORMAL_PRIORITY_CLASS);
    case TP_PRIORITY_NORMAL:
        return TP_OK;
    case TP_PRIORITY_HIGH:
        return set_class(ABOVE_NORMAL_PRIORITY_CLASS);
    case TP_PRIORITY_IDLE:
        return set_class(IDLE_PRIORITY_CLASS);
    }
    return TP_ERR_INVALID;
}

tp_err tp_process_set_processors(const tp_processors *processors) {
    for (unsigned i = 1; i < TP_PROCESSORS_MAX / 64; i++) {
        if (processors->bits[i] != 0) {
            return TP_ERR_UNSUPPORTED; /* in another processor group than the process */
        }
    }
    DWORD_PTR ours = 0;
    DWORD_PTR there = 0;
    if (!GetProcessAffinityMask(GetCurrentProcess(), &ours, &there)) {
        return tp_os_fail_last();
    }
    DWORD_PTR wanted = (DWORD_PTR)processors->bits[0] & there;
    if (wanted == 0) {
        return TP_ERR_INVALID;
    }
    return SetProcessAffinityMask(GetCurrentProcess(), wanted) ? TP_OK : tp_os_fail_last();
}
