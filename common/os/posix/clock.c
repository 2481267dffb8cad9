/*
 * Time, from POSIX clocks. Any thread; owns nothing.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "os/clock.h"

enum { NS_PER_MS = 1000000, MS_PER_S = 1000 };

static const uint64_t ns_per_s = 1000000000U;

static struct timespec read_clock(clockid_t clock) {
    struct timespec now = {0, 0};
    /* Cannot fail: every POSIX system of the last twenty years has both clocks. */
    (void)clock_gettime(clock, &now);
    return now;
}

uint64_t tp_clock_ns(void) {
    struct timespec now = read_clock(CLOCK_MONOTONIC);
    uint64_t ns = (uint64_t)now.tv_sec * ns_per_s + (uint64_t)now.tv_nsec;
    return ns > 0 ? ns : 1;
}

uint64_t tp_clock_ms(void) {
    uint64_t ms = tp_clock_ns() / NS_PER_MS;
    return ms > 0 ? ms : 1;
}

uint64_t tp_clock_wall_ms(void) {
    struct timespec now = read_clock(CLOCK_REALTIME);
    return (uint64_t)now.tv_sec * MS_PER_S + (uint64_t)now.tv_nsec / NS_PER_MS;
}

void tp_clock_format(uint64_t wall_ms, char *text) {
    time_t seconds = (time_t)(wall_ms / MS_PER_S);
    struct tm local;
    memset(&local, 0, sizeof local);
    size_t end = 0;
    /* A year of more than four digits does not fit, and localtime_r() may fail: all zeros then. */
    if (localtime_r(&seconds, &local) != NULL) {
        end = strftime(text, TP_CLOCK_TEXT - 4, "%Y-%m-%d %H:%M:%S", &local);
    }
    if (end == 0) {
        memcpy(text, "0000-00-00 00:00:00", 20);
        end = 19;
    }
    unsigned ms = (unsigned)(wall_ms % MS_PER_S);
    text[end] = '.';
    text[end + 1] = (char)('0' + ms / 100);
    text[end + 2] = (char)('0' + ms / 10 % 10);
    text[end + 3] = (char)('0' + ms % 10);
    text[end + 4] = '\0';
}
