/*
 * The process: the request to stop, processor time, handles.
 *
 * The system calls the console handler on a thread that it makes for that; it only sets an event,
 * on which any thread may wait. The event lives until the process ends.
 */
#include "os/process.h"

#include <stddef.h>
#include <stdlib.h>

#include "os/error.h"
#include "os/thread.h"
#include "os/win32/system.h"

#include <winternl.h>

#define NS_PER_TICK 100u /* of a FILETIME */

static tp_once stop_once;
static HANDLE stop_event; /* manual reset: once set, it stays */

static void make_stop_event(void) {
    stop_event = CreateEventW(NULL, TRUE, FALSE, NULL);
}

static BOOL WINAPI console_asks(DWORD what) {
    switch (what) {
    case CTRL_C_EVENT:
    case CTRL_BREAK_EVENT:
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

/* One row of the system's table of handles, and its head (SystemExtendedHandleInformation). */
typedef struct handle_row {
    void *object;
    ULONG_PTR process;
    ULONG_PTR handle;
    ULONG access;
    USHORT trace;
    USHORT type;
    ULONG attributes;
    ULONG reserved;
} handle_row;

typedef struct handle_table {
    ULONG_PTR count;
    ULONG_PTR reserved;
    handle_row rows[];
} handle_table;

#define EXTENDED_HANDLE_INFORMATION ((SYSTEM_INFORMATION_CLASS)64)
#define MOST_TABLE                  ((ULONG)1 << 28)

/* The table of the whole system, or NULL. The caller frees it. */
static handle_table *read_handles(void) {
    for (ULONG size = (ULONG)1 << 20; size <= MOST_TABLE; size *= 2) {
        handle_table *table = malloc(size);
        ULONG needed = 0;
        if (table == NULL) {
            return NULL;
        }
        NTSTATUS status =
            NtQuerySystemInformation(EXTENDED_HANDLE_INFORMATION, table, size, &needed);
        if (status >= 0) {
            return table;
        }
        free(table);
    }
    return NULL;
}

static long count_handles(void) {
    handle_table *table = read_handles();
    if (table == NULL) {
        return -1;
    }
    long count = 0;
    for (ULONG_PTR i = 0; i < table->count; i++) {
        count += table->rows[i].process == GetCurrentProcessId();
    }
    free(table);
    return count > 0 ? count : -1;
}

long tp_process_open_descriptors(void) {
    DWORD count = 0;
    if (GetProcessHandleCount(GetCurrentProcess(), &count) && count > 0) {
        return (long)count;
    }
    return count_handles(); /* no process has none: Wine answers so, but shows the table */
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
