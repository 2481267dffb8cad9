/* Served time: what it counts, and what a reader sees in the middle of its change. */
#include "check.h"

#include "core/engine/service_time.h"

static tp__service_time clock_;

static void come_back(uint64_t now_ms) {
    uint64_t until = tp__service_time_until(&clock_);
    if (tp__stands_still(until, now_ms)) {
        tp__service_time_stall(&clock_, until, now_ms);
    }
    tp__service_time_serve(&clock_, now_ms);
}

static void it_goes_with_the_clock(void) {
    tp__service_time_start(&clock_, 100000);
    for (uint64_t now = 100000; now < 200000; now += TP__HELD_UP_MS) {
        come_back(now);
        CHECK_EQ(tp__served_ms(&clock_, now), now);
        CHECK_EQ(tp__stall_ms(&clock_, now), 0);
    }
}

static void who_waits_does_not_stand_still(void) {
    tp__service_time_start(&clock_, 100000);
    tp__service_time_serve(&clock_, 100000 + 300); /* waits for 300 ms */
    CHECK_EQ(tp__served_ms(&clock_, 100300), 100300);
    CHECK_EQ(tp__stall_ms(&clock_, 100350), 0);
    come_back(100010); /* something came */
    CHECK_EQ(tp__served_ms(&clock_, 100010), 100010);
}

static void it_stands_still_in_a_stall_and_while_catching_up(void) {
    tp__service_time_start(&clock_, 100000);
    CHECK_EQ(tp__served_ms(&clock_, 101500), 100050);
    CHECK_EQ(tp__stall_ms(&clock_, 101500), 1500);
    come_back(101500);
    for (uint64_t now = 101500; now <= 103000; now += 50) {
        come_back(now);
        CHECK_EQ(tp__served_ms(&clock_, now), 100050);
    }
    come_back(103050);
    CHECK_EQ(tp__served_ms(&clock_, 103050), 100100);
}

/* Seconds of catching up are enough after hours. */
static void catching_up_has_a_bound(void) {
    tp__service_time_start(&clock_, 100000);
    come_back(3700000);
    CHECK_EQ(tp__stall_ms(&clock_, 3700000), 3600000);
    uint64_t now = 3700000;
    while (tp__served_ms(&clock_, now) == 100050) {
        now += 50;
        come_back(now);
    }
    CHECK_EQ(now, 3700000 + 2000 + 50);
}

/* Another stall does not end the catching up for the first, and adds nothing to it. */
static void a_stall_while_catching_up_is_one_more(void) {
    tp__service_time_start(&clock_, 100000);
    come_back(101000);
    CHECK_EQ(tp__served_ms(&clock_, 101000), 100050);
    come_back(101500); /* 50 of 1,000 have been caught up on */
    come_back(101520);
    uint64_t now = 101520;
    while (tp__served_ms(&clock_, now) == 100050) {
        now += 10;
        come_back(now);
    }
    CHECK_EQ(now, 101500 + 950 + 10);
}

/* All its rounds are too long, for ever: then it goes on, at about a quarter of the clock. */
static void an_overloaded_one_goes_on(void) {
    tp__service_time_start(&clock_, 100000);
    uint64_t now = 100000;
    while (now < 200000) {
        now += 100;
        come_back(now);
    }
    CHECK_GE(tp__served_ms(&clock_, now), 100000 + (now - 100000) / 5);
    CHECK_LE(tp__stall_ms(&clock_, now), 60000);
}

static void a_stall_lapses(void) {
    tp__service_time_start(&clock_, 100000);
    come_back(105000);
    uint64_t now = 105000;
    for (; now < 110000; now += 50) {
        come_back(now);
        CHECK_EQ(tp__stall_ms(&clock_, now), 5000);
    }
    come_back(now);
    CHECK_EQ(tp__stall_ms(&clock_, now), 0);
    come_back(now + 200); /* too short to count */
    CHECK_EQ(tp__stall_ms(&clock_, now + 200), 0);
    now += 200;
    come_back(now + 260); /* a short one counts for two seconds */
    CHECK_EQ(tp__stall_ms(&clock_, now + 260), 260);
    CHECK_EQ(tp__stall_ms(&clock_, now + 260 + 2000), 2000); /* it stands still again */
}

/* A long stall does not last for ever because short ones follow it. */
static void many_short_stalls_do_not_add_up(void) {
    tp__service_time_start(&clock_, 100000);
    come_back(160000);
    CHECK_EQ(tp__stall_ms(&clock_, 160000), 60000);
    for (uint64_t now = 160000; now < 400000; now += 2000) {
        come_back(now + 300);
        for (uint64_t at = now + 350; at <= now + 2000; at += 50) {
            come_back(at);
        }
    }
    CHECK_LE(tp__stall_ms(&clock_, 400000), 2300);
}

/* A reader has the old `until`, and then finds the rest as it is in the middle of the change, or
 * behind it. */
static void no_mixture_is_late_or_early(void) {
    tp__service_time_start(&clock_, 100000);
    uint64_t until = tp__service_time_until(&clock_);
    uint64_t behind = atomic_load(&clock_.behind_ms);
    tp__service_time_stall(&clock_, until, 105000);
    CHECK_EQ(tp__served_of(&clock_, until, 105000), 100050);
    CHECK_EQ(tp__served_of(&clock_, until, 104999), 100050);
    uint64_t behind_then = atomic_load(&clock_.behind_ms);
    atomic_store(&clock_.behind_ms, behind); /* the floor is new, and this is not */
    CHECK_EQ(tp__served_of(&clock_, until, 105000), 100050);
    atomic_store(&clock_.behind_ms, behind_then);
    tp__service_time_serve(&clock_, 105000);
    CHECK_EQ(tp__served_ms(&clock_, 105000), 100050);
    CHECK_EQ(tp__stall_ms(&clock_, 105000), 5000);
}

CHECK_MAIN(CASE(it_goes_with_the_clock), CASE(who_waits_does_not_stand_still),
    CASE(it_stands_still_in_a_stall_and_while_catching_up), CASE(catching_up_has_a_bound),
    CASE(a_stall_while_catching_up_is_one_more), CASE(an_overloaded_one_goes_on),
    CASE(a_stall_lapses), CASE(many_short_stalls_do_not_add_up), CASE(no_mixture_is_late_or_early))
