/*
 * Time, from the performance counter and the precise system time.
 *
 * Any thread. Owns only a copy of the counter's frequency, which does not change while the system
 * runs. GetTickCount64() is cheaper but moves in steps of 16 ms, and with two clocks that differ by
 * a step "at most timeout_ms" could not be proved.
 */
#include "os/clock.h"

#include <stdatomic.h>
#include <stdio.h>

#include "os/win32/system.h"

#define NS_PER_SECOND   1000000000u
#define MS_PER_SECOND   1000u
#define TICKS_PER_MS    10000u             /* a FILETIME's tick is 100 ns */
#define UNIX_EPOCH_TICK 116444736000000000 /* from 1601 to 1970, in a FILETIME's ticks */

/* Several threads may find it unset at once; they all write the same number. */
static uint64_t frequency(void) {
    static _Atomic uint64_t known;
    uint64_t value = atomic_load_explicit(&known, memory_order_relaxed);
    if (value == 0) {
        LARGE_INTEGER answer;
        (void)QueryPerformanceFrequency(&answer); /* cannot fail since Windows XP */
        value = (uint64_t)answer.QuadPart;
        atomic_store_explicit(&known, value, memory_order_relaxed);
    }
    return value;
}

/* The counter's value in units. Whole seconds and the rest are converted separately, so that the
 * products stay below 2^64. */
static uint64_t counted(uint64_t units_per_second) {
    LARGE_INTEGER counter;
    (void)QueryPerformanceCounter(&counter);
    uint64_t ticks = (uint64_t)counter.QuadPart;
    uint64_t per_second = frequency();
    uint64_t units =
        ticks / per_second * units_per_second + ticks % per_second * units_per_second / per_second;
    return units > 0 ? units : 1;
}

uint64_t tp_clock_ns(void) {
    return counted(NS_PER_SECOND);
}

uint64_t tp_clock_ms(void) {
    return counted(MS_PER_SECOND);
}

uint64_t tp_clock_wall_ms(void) {
    FILETIME now;
    GetSystemTimePreciseAsFileTime(&now);
    uint64_t ticks = (uint64_t)now.dwHighDateTime << 32 | now.dwLowDateTime;
    return (ticks - UNIX_EPOCH_TICK) / TICKS_PER_MS;
}

void tp_clock_format(uint64_t wall_ms, char *text) {
    uint64_t ticks = wall_ms * TICKS_PER_MS + UNIX_EPOCH_TICK;
    FILETIME instant = {.dwLowDateTime = (DWORD)ticks, .dwHighDateTime = (DWORD)(ticks >> 32)};
    SYSTEMTIME utc;
    SYSTEMTIME local;
    /* By the time zone rules of that day. FileTimeToLocalFileTime() would use those of today. */
    if (!FileTimeToSystemTime(&instant, &utc) ||
        !SystemTimeToTzSpecificLocalTime(NULL, &utc, &local)) {
        (void)snprintf(text, TP_CLOCK_TEXT, "0000-00-00 00:00:00.000");
        return;
    }
    (void)snprintf(text, TP_CLOCK_TEXT, "%04u-%02u-%02u %02u:%02u:%02u.%03u", local.wYear % 10000u,
        local.wMonth % 100u, local.wDay % 100u, local.wHour % 100u, local.wMinute % 100u,
        local.wSecond % 100u, local.wMilliseconds % 1000u);
}
