/*
 * The process: requests to stop, its processor time, its handles.
 *
 * The system calls the console handler on a thread that it creates for the call. The handler only
 * sets an event, for which any thread may wait. The event exists until the process ends.
 */
#include "os/process.h"

#include <stdatomic.h>
#include <stddef.h>

#include "os/error.h"
#include "os/stream.h"
#include "os/thread.h"
#include "os/win32/system.h"

#define NS_PER_TICK 100u /* of a FILETIME */

static tp_once stop_once;
static HANDLE stop_event; /* manual reset: once set, it stays set */

static void make_stop_event(void) {
    stop_event = CreateEventW(NULL, TRUE, FALSE, NULL);
}

static atomic_bool console_stop_requested;

/* Not ExitProcess(), which would wait for a thread that holds the loader's lock. */
static void end_at_once(void) {
    tp_stream_last_words("stop requested a second time: exiting at once");
    (void)TerminateProcess(GetCurrentProcess(), TP_PROCESS_ENDED_AT_ONCE);
}

static BOOL WINAPI on_console_event(DWORD what) {
    switch (what) {
    case CTRL_C_EVENT:
    case CTRL_BREAK_EVENT:
        if (atomic_exchange(&console_stop_requested, true)) {
            end_at_once();
        }
        (void)SetEvent(stop_event);
        return TRUE;
    case CTRL_CLOSE_EVENT:
    case CTRL_LOGOFF_EVENT:
    case CTRL_SHUTDOWN_EVENT:
        /* The system kills the process when this handler returns, or after some seconds. So it does
         * not return, and the process ends by itself after it has drained. */
        (void)SetEvent(stop_event);
        Sleep(INFINITE);
        return TRUE;
    default:
        return FALSE;
    }
}

tp_err tp_process_catch_stop(void) {
    tp_once_run(&stop_once, make_stop_event);
    if (stop_event == NULL) {
        return tp_os_fail_last();
    }
    /* A process inherits it if its parent ignores Ctrl-C (CREATE_NEW_PROCESS_GROUP). */
    if (!SetConsoleCtrlHandler(NULL, FALSE) || !SetConsoleCtrlHandler(on_console_event, TRUE)) {
        return tp_os_fail_last();
    }
    return TP_OK;
}

bool tp_process_wait_stop(int timeout_ms) {
    tp_once_run(&stop_once, make_stop_event);
    DWORD limit = timeout_ms < 0 ? INFINITE : (DWORD)timeout_ms;
    return WaitForSingleObject(stop_event, limit) == WAIT_OBJECT_0;
}

/* The console has no event left for it: Ctrl-Break requests a stop, as users expect. */
tp_err tp_process_catch_reload(void) {
    return TP_ERR_UNSUPPORTED;
}

void tp_process_guard(void) {
    /* There are no signals, and no handle gets the value of a closed standard stream. */
}

tp_process_event tp_process_wait(int timeout_ms) {
    return tp_process_wait_stop(timeout_ms) ? TP_PROCESS_STOP : TP_PROCESS_NOTHING;
}

void tp_process_request_stop(void) {
    tp_once_run(&stop_once, make_stop_event);
    (void)SetEvent(stop_event);
}

uint64_t tp_process_id(void) {
    return GetCurrentProcessId();
}

/* Only memory limits the number of handles. */
uint64_t tp_process_raise_descriptor_limit(void) {
    return UINT64_MAX;
}

#define HANDLE_STEP 4                    /* handles are multiples of this */
#define HANDLE_GAP  (2048 * HANDLE_STEP) /* the largest gap between two handles */

/*
 * Counts the handles under Wine, which does not provide their number. Wine hands out the lowest
 * free value, so testing one value after the other finds them. The handle table of the whole
 * system, which Wine provides, is not used: for a process without handles, such as one that is just
 * starting, Wine 8's server reads past the end of the table and crashes, with all programs that it
 * serves.
 */
static long count_handles(void) {
    long count = 0;
    uintptr_t last = 0;
    for (uintptr_t value = HANDLE_STEP; value - last <= HANDLE_GAP; value += HANDLE_STEP) {
        DWORD flags;
        if (GetHandleInformation((HANDLE)value, &flags)) {
            count++;
            last = value;
        }
    }
    return count;
}

long tp_process_open_descriptors(void) {
    DWORD count = 0;
    if (GetProcessHandleCount(GetCurrentProcess(), &count) && count > 0) {
        return (long)count;
    }
    return count_handles(); /* 0 is Wine's answer: every process has some */
}

static uint64_t ticks_of(FILETIME time) {
    return (uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime;
}

uint64_t tp_process_cpu_ns(void) {
    FILETIME created;
    FILETIME ended;
    FILETIME kernel;
    FILETIME user;
    if (!GetProcessTimes(GetCurrentProcess(), &created, &ended, &kernel, &user)) {
        return 0;
    }
    return (ticks_of(kernel) + ticks_of(user)) * NS_PER_TICK;
}
