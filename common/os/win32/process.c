/*
 * The process: the request to stop, processor time, handles.
 *
 * The system calls the console handler on a thread that it makes for that; it only sets an event,
 * on which any thread may wait. The event lives until the process ends.
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
static HANDLE stop_event; /* manual reset: once set, it stays */

static void make_stop_event(void) {
    stop_event = CreateEventW(NULL, TRUE, FALSE, NULL);
}

static atomic_bool asked_by_console;

/* Not ExitProcess(), which would wait for whatever holds the loader's lock. */
static void end_at_once(void) {
    tp_stream_last_words("asked to stop a second time: it ends at once");
    (void)TerminateProcess(GetCurrentProcess(), TP_PROCESS_ENDED_AT_ONCE);
}

static BOOL WINAPI console_asks(DWORD what) {
    switch (what) {
    case CTRL_C_EVENT:
    case CTRL_BREAK_EVENT:
        if (atomic_exchange(&asked_by_console, true)) {
            end_at_once();
        }
        (void)SetEvent(stop_event);
        return TRUE;
    case CTRL_CLOSE_EVENT:
    case CTRL_LOGOFF_EVENT:
    case CTRL_SHUTDOWN_EVENT:
        /* The process is killed as soon as this returns, or after some seconds: so it does not
         * return, and the process ends by itself when it has drained. */
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
    /* A parent may have had Ctrl-C ignored, which is inherited (CREATE_NEW_PROCESS_GROUP). */
    if (!SetConsoleCtrlHandler(NULL, FALSE) || !SetConsoleCtrlHandler(console_asks, TRUE)) {
        return tp_os_fail_last();
    }
    return TP_OK;
}

bool tp_process_wait_stop(int timeout_ms) {
    tp_once_run(&stop_once, make_stop_event);
    DWORD limit = timeout_ms < 0 ? INFINITE : (DWORD)timeout_ms;
    return WaitForSingleObject(stop_event, limit) == WAIT_OBJECT_0;
}

/* The console has no event to spare for it: Ctrl-Break asks to stop, as programs' users expect. */
tp_err tp_process_catch_reload(void) {
    return TP_ERR_UNSUPPORTED;
}

void tp_process_guard(void) {
    /* There are no signals, and a handle's value is never that of a stream that is closed. */
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

/* Handles are bounded by memory alone. */
uint64_t tp_process_raise_descriptor_limit(void) {
    return UINT64_MAX;
}

#define HANDLE_STEP 4                    /* handles are multiples of it */
#define HANDLE_GAP  (2048 * HANDLE_STEP) /* how far behind the last one found another may be */

/*
 * For Wine, which has no count of them. It gives the lowest value that is free, so asking about one
 * value after the other finds them. The table of the whole system, which Wine could show, is not
 * for us: Wine 8's server reads past the end of a process's handles where it has none, as one that
 * just starts, and dies of it with all programs that it serves.
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
    return count_handles(); /* no process has none: so answers Wine */
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
