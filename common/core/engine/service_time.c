/*
 * The steps that change served time. See service_time.h.
 *
 * Runs on the clock's writer, except tp__stall_of(), which any thread calls. Owns nothing.
 */
#include "core/engine/service_time.h"

#include <assert.h>

#define CATCH_UP_MAX_MS   2000u
#define REMEMBERED_MIN_MS 250u
#define LAPSE_MIN_MS      2000u
#define LAPSE_MAX_MS      60000u
#define SUM_MAX_MS        60000u /* of several stalls, unless the last one alone was longer */

void tp__service_time_start(tp__service_time *time, uint64_t now_ms) {
    atomic_store_explicit(&time->stall_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&time->lapse_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&time->floor_ms, 0, memory_order_release);
    atomic_store_explicit(&time->behind_ms, 0, memory_order_release);
    tp__service_time_serve(time, now_ms);
}

static uint64_t min_ms(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t max_ms(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t stall_remembered(const tp__service_time *time, uint64_t now_ms) {
    uint64_t lapse = atomic_load_explicit(&time->lapse_ms, memory_order_relaxed);
    return now_ms < lapse ? atomic_load_explicit(&time->stall_ms, memory_order_relaxed) : 0;
}

/* Adds a stall to those remembered. An earlier one counts at most for the time for which it is
 * still remembered. Short ones do not count: otherwise a server whose every round is a little too
 * long would always grant more. */
static void stall_remember(tp__service_time *time, uint64_t stall, uint64_t now_ms) {
    if (stall < REMEMBERED_MIN_MS) {
        return;
    }
    uint64_t earlier = stall_remembered(time, now_ms);
    uint64_t left = atomic_load_explicit(&time->lapse_ms, memory_order_relaxed) - now_ms;
    uint64_t all = min_ms((earlier > 0 ? min_ms(earlier, left) : 0) + stall, SUM_MAX_MS);
    uint64_t lapse = now_ms + min_ms(max_ms(stall, LAPSE_MIN_MS), LAPSE_MAX_MS);
    lapse = max_ms(lapse, atomic_load_explicit(&time->lapse_ms, memory_order_relaxed));
    atomic_store_explicit(&time->stall_ms, max_ms(stall, all), memory_order_relaxed);
    atomic_store_explicit(&time->lapse_ms, lapse, memory_order_relaxed);
}

/* What is left of the last stall's catching up when the next one begins at from_ms, with served
 * time at `served`. */
static uint64_t catch_up_left(const tp__service_time *time, uint64_t served, uint64_t from_ms) {
    uint64_t resumes_at = atomic_load_explicit(&time->behind_ms, memory_order_relaxed) + served;
    uint64_t at = from_ms + TP__STALL_GRACE_MS;
    return resumes_at > at ? resumes_at - at : 0;
}

/* Served time is `served` now. It runs again from there when the clock has advanced by catch_up:
 * the input that waits in the sockets is about as much as came in during the stall. */
void tp__service_time_stall(tp__service_time *time, uint64_t from_ms, uint64_t now_ms) {
    assert(tp__is_stalled(from_ms, now_ms));
    uint64_t served = tp__served_of(time, from_ms, now_ms);
    assert(served >= atomic_load_explicit(&time->floor_ms, memory_order_relaxed));
    uint64_t stall = now_ms - from_ms;
    uint64_t ran = served - atomic_load_explicit(&time->floor_ms, memory_order_relaxed);
    uint64_t catch_up = min_ms(min_ms(stall, CATCH_UP_MAX_MS), ran);
    catch_up = max_ms(catch_up, catch_up_left(time, served, from_ms));
    stall_remember(time, stall, now_ms);
    atomic_store_explicit(&time->floor_ms, served, memory_order_release);
    atomic_store_explicit(&time->behind_ms, now_ms + catch_up - served, memory_order_release);
}

uint64_t tp__stall_of(const tp__service_time *time, uint64_t until_ms, uint64_t now_ms) {
    uint64_t now = tp__is_stalled(until_ms, now_ms) ? now_ms - until_ms : 0;
    return now + stall_remembered(time, now_ms);
}
