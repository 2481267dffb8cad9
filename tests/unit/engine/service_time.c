/*
 * Served time: what counts as served, how a stall is made up for, and what a reader sees in the
 * middle of an update. All times are given by the cases.
 */
#include "check.h"

#include "core/engine/service_time.h"

static tp__service_time clock_;

static void resume_serving(uint64_t now_ms) {
    uint64_t until = tp__service_time_until(&clock_);
    if (tp__is_stalled(until, now_ms)) {
        tp__service_time_stall(&clock_, until, now_ms);
    }
    tp__service_time_serve(&clock_, now_ms);
}

static void served_time_follows_the_clock(void) {
    tp__service_time_start(&clock_, 100000);
    for (uint64_t now = 100000; now < 200000; now += TP__STALL_GRACE_MS) {
        resume_serving(now);
        CHECK_EQ(tp__served_ms(&clock_, now), now);
        CHECK_EQ(tp__stall_ms(&clock_, now), 0);
    }
}

static void waiting_is_not_a_stall(void) {
    tp__service_time_start(&clock_, 100000);
    tp__service_time_serve(&clock_, 100000 + 300); /* it will wait for 300 ms */
    CHECK_EQ(tp__served_ms(&clock_, 100300), 100300);
    CHECK_EQ(tp__stall_ms(&clock_, 100350), 0);
    resume_serving(100010); /* a completion came earlier */
    CHECK_EQ(tp__served_ms(&clock_, 100010), 100010);
}

static void served_time_stops_in_a_stall_and_while_catching_up(void) {
    tp__service_time_start(&clock_, 100000);
    CHECK_EQ(tp__served_ms(&clock_, 101500), 100050);
    CHECK_EQ(tp__stall_ms(&clock_, 101500), 1500);
    resume_serving(101500);
    for (uint64_t now = 101500; now <= 103000; now += 50) {
        resume_serving(now);
        CHECK_EQ(tp__served_ms(&clock_, now), 100050);
    }
    resume_serving(103050);
    CHECK_EQ(tp__served_ms(&clock_, 103050), 100100);
}

/* A few seconds of catching up are enough, even after hours. */
static void catching_up_is_bounded(void) {
    tp__service_time_start(&clock_, 100000);
    resume_serving(3700000);
    CHECK_EQ(tp__stall_ms(&clock_, 3700000), 3600000);
    uint64_t now = 3700000;
    while (tp__served_ms(&clock_, now) == 100050) {
        now += 50;
        resume_serving(now);
    }
    CHECK_EQ(now, 3700000 + 2000 + 50);
}

/* A second stall does not end the catching up for the first one, and adds nothing to it. */
static void a_stall_while_catching_up_adds_to_it(void) {
    tp__service_time_start(&clock_, 100000);
    resume_serving(101000);
    CHECK_EQ(tp__served_ms(&clock_, 101000), 100050);
    resume_serving(101500); /* 50 of 1,000 ms have been caught up */
    resume_serving(101520);
    uint64_t now = 101520;
    while (tp__served_ms(&clock_, now) == 100050) {
        now += 10;
        resume_serving(now);
    }
    CHECK_EQ(now, 101500 + 950 + 10);
}

/* Every round takes too long, permanently: served time still advances, at about a quarter of the
 * clock. */
static void served_time_advances_under_overload(void) {
    tp__service_time_start(&clock_, 100000);
    uint64_t now = 100000;
    while (now < 200000) {
        now += 100;
        resume_serving(now);
    }
    CHECK_GE(tp__served_ms(&clock_, now), 100000 + (now - 100000) / 5);
    CHECK_LE(tp__stall_ms(&clock_, now), 60000);
}

static void a_stall_is_forgotten_after_a_while(void) {
    tp__service_time_start(&clock_, 100000);
    resume_serving(105000);
    uint64_t now = 105000;
    for (; now < 110000; now += 50) {
        resume_serving(now);
        CHECK_EQ(tp__stall_ms(&clock_, now), 5000);
    }
    resume_serving(now);
    CHECK_EQ(tp__stall_ms(&clock_, now), 0);
    resume_serving(now + 200); /* too short to count */
    CHECK_EQ(tp__stall_ms(&clock_, now + 200), 0);
    now += 200;
    resume_serving(now + 260); /* a short stall counts for two seconds */
    CHECK_EQ(tp__stall_ms(&clock_, now + 260), 260);
    CHECK_EQ(tp__stall_ms(&clock_, now + 260 + 2000), 2000); /* the worker stalls again */
}

/* A long stall is not prolonged by short ones after it. */
static void many_short_stalls_do_not_add_up(void) {
    tp__service_time_start(&clock_, 100000);
    resume_serving(160000);
    CHECK_EQ(tp__stall_ms(&clock_, 160000), 60000);
    for (uint64_t now = 160000; now < 400000; now += 2000) {
        resume_serving(now + 300);
        for (uint64_t at = now + 350; at <= now + 2000; at += 50) {
            resume_serving(at);
        }
    }
    CHECK_LE(tp__stall_ms(&clock_, 400000), 2300);
}

/* A reader that has read the old `until` finds the other fields in the middle of the update, or
 * after it. */
static void no_partial_update_is_read_as_late_or_early(void) {
    tp__service_time_start(&clock_, 100000);
    uint64_t until = tp__service_time_until(&clock_);
    uint64_t behind = atomic_load(&clock_.behind_ms);
    tp__service_time_stall(&clock_, until, 105000);
    CHECK_EQ(tp__served_of(&clock_, until, 105000), 100050);
    CHECK_EQ(tp__served_of(&clock_, until, 104999), 100050);
    uint64_t behind_then = atomic_load(&clock_.behind_ms);
    atomic_store(&clock_.behind_ms, behind); /* the floor is updated, this field is not */
    CHECK_EQ(tp__served_of(&clock_, until, 105000), 100050);
    atomic_store(&clock_.behind_ms, behind_then);
    tp__service_time_serve(&clock_, 105000);
    CHECK_EQ(tp__served_ms(&clock_, 105000), 100050);
    CHECK_EQ(tp__stall_ms(&clock_, 105000), 5000);
}

CHECK_MAIN(CASE(served_time_follows_the_clock), CASE(waiting_is_not_a_stall),
    CASE(served_time_stops_in_a_stall_and_while_catching_up), CASE(catching_up_is_bounded),
    CASE(a_stall_while_catching_up_adds_to_it), CASE(served_time_advances_under_overload),
    CASE(a_stall_is_forgotten_after_a_while), CASE(many_short_stalls_do_not_add_up),
    CASE(no_partial_update_is_read_as_late_or_early))
