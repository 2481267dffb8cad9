/* Tests of common/os/clock.h. */
#include "check.h"

#include <time.h>

#include "os/clock.h"

static void monotonic_time_goes_on_and_is_never_zero(void) {
    uint64_t ns = tp_clock_ns();
    uint64_t ms = tp_clock_ms();
    CHECK_GT(ns, 0);
    CHECK_GT(ms, 0);
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t next_ns = tp_clock_ns();
        uint64_t next_ms = tp_clock_ms();
        CHECK_GE(next_ns, ns);
        CHECK_GE(next_ms, ms);
        ns = next_ns;
        ms = next_ms;
    }
}

static void both_monotonic_clocks_run_alike(void) {
    uint64_t ns_before = tp_clock_ns();
    uint64_t ms_begin = tp_clock_ms();
    uint64_t ns_begin = tp_clock_ns();
    while (tp_clock_ms() - ms_begin < 50) {
    }
    uint64_t inner = tp_clock_ns() - ns_begin;
    uint64_t outer = tp_clock_ns() - ns_before;
    /* A millisecond clock is wrong by up to one tick, which is up to 16 ms long. */
    CHECK_GE(outer, 30 * UINT64_C(1000000));
    CHECK_LT(inner, 20 * UINT64_C(1000000000));
}

static void nanoseconds_are_finer_than_milliseconds(void) {
    uint64_t least = UINT64_MAX; /* of many steps: the machine may stall between two readings */
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t begin = tp_clock_ns();
        uint64_t next = begin;
        while (next == begin) {
            next = tp_clock_ns();
        }
        least = next - begin < least ? next - begin : least;
    }
    CHECK_LT(least, UINT64_C(1000000));
}

static void wall_time_agrees_with_the_c_library(void) {
    time_t before = time(NULL);
    uint64_t now = tp_clock_wall_ms();
    time_t after = time(NULL);
    /* time() may use a coarser clock that lags by a tick. */
    CHECK_GE(now + 1000, (uint64_t)before * 1000);
    CHECK_LE(now, ((uint64_t)after + 2) * 1000);
}

static void check_format(uint64_t wall_ms, const char *end) {
    char text[TP_CLOCK_TEXT + 1];
    char wanted[TP_CLOCK_TEXT + 8];
    time_t seconds = (time_t)(wall_ms / 1000);
    const struct tm *local = localtime(&seconds);
    REQUIRE(local != NULL);
    size_t size = strftime(wanted, sizeof wanted, "%Y-%m-%d %H:%M:%S", local);
    memcpy(wanted + size, end, strlen(end) + 1);
    memset(text, 'x', sizeof text);
    tp_clock_format(wall_ms, text);
    CHECK_STR(text, wanted);
    CHECK_EQ(text[TP_CLOCK_TEXT], 'x');
}

static void calendar_time_is_local_and_fits(void) {
    check_format(UINT64_C(1769900399123), ".123");
    check_format(UINT64_C(1769900400000), ".000");
    check_format(UINT64_C(951782400009), ".009");
    check_format(UINT64_C(4102444799999), ".999");
}

CHECK_MAIN(CASE(monotonic_time_goes_on_and_is_never_zero), CASE(both_monotonic_clocks_run_alike),
    CASE(nanoseconds_are_finer_than_milliseconds), CASE(wall_time_agrees_with_the_c_library),
    CASE(calendar_time_is_local_and_fits))
