/*
 * Service time: what changes it. See service_time.h.
 *
 * Runs on the owner's thread, but for tp__stall_of(), which any thread calls. Holds nothing.
 */
#include "core/engine/service_time.h"

#define CATCH_UP_MOST_MS 2000u
#define COUNTED_LEAST_MS 250u
#define LAPSE_LEAST_MS   2000u
#define LAPSE_MOST_MS    60000u
#define SUM_MOST_MS      60000u /* of several stalls, unless the last one alone was longer */

void tp__service_time_start(tp__service_time *time, uint64_t now_ms) {
    atomic_store_explicit(&time->stall_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&time->lapse_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&time->floor_ms, 0, memory_order_release);
    atomic_store_explicit(&time->behind_ms, 0, memory_order_release);
    tp__service_time_serve(time, now_ms);
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t remembered(const tp__service_time *time, uint64_t now_ms) {
    uint64_t lapse = atomic_load_explicit(&time->lapse_ms, memory_order_relaxed);
    return now_ms < lapse ? atomic_load_explicit(&time->stall_ms, memory_order_relaxed) : 0;
}

/* Stalls that come one after another add up, each for as long as it is remembered itself: of an
 * earlier one no more than the time for which it still would be. Short ones are not counted: a
 * server whose every round is a little long gives nobody more for it. */
static void remember(tp__service_time *time, uint64_t stall, uint64_t now_ms) {
    if (stall < COUNTED_LEAST_MS) {
        return;
    }
    uint64_t earlier = remembered(time, now_ms);
    uint64_t left = atomic_load_explicit(&time->lapse_ms, memory_order_relaxed) - now_ms;
    uint64_t all = least((earlier > 0 ? least(earlier, left) : 0) + stall, SUM_MOST_MS);
    uint64_t lapse = now_ms + least(most(stall, LAPSE_LEAST_MS), LAPSE_MOST_MS);
    lapse = most(lapse, atomic_load_explicit(&time->lapse_ms, memory_order_relaxed));
    atomic_store_explicit(&time->stall_ms, most(stall, all), memory_order_relaxed);
    atomic_store_explicit(&time->lapse_ms, lapse, memory_order_relaxed);
}

/* What is left of the last stall's catching up, if it is `served` when the next one begins. */
static uint64_t still_to_catch_up(const tp__service_time *time, uint64_t served, uint64_t from_ms) {
    uint64_t goes_on_at = atomic_load_explicit(&time->behind_ms, memory_order_relaxed) + served;
    uint64_t at = from_ms + TP__HELD_UP_MS;
    return goes_on_at > at ? goes_on_at - at : 0;
}

/* It is `served` now and goes on from there when the clock has gone on by what there is to catch
 * up on: what lies in the sockets is about as much as came in during the stall. */
void tp__service_time_stall(tp__service_time *time, uint64_t from_ms, uint64_t now_ms) {
    uint64_t served = tp__served_of(time, from_ms, now_ms);
    uint64_t stall = now_ms - from_ms;
    uint64_t went = served - atomic_load_explicit(&time->floor_ms, memory_order_relaxed);
    uint64_t catch_up = least(least(stall, CATCH_UP_MOST_MS), went);
    catch_up = most(catch_up, still_to_catch_up(time, served, from_ms));
    remember(time, stall, now_ms);
    atomic_store_explicit(&time->floor_ms, served, memory_order_release);
    atomic_store_explicit(&time->behind_ms, now_ms + catch_up - served, memory_order_release);
}

uint64_t tp__stall_of(const tp__service_time *time, uint64_t until_ms, uint64_t now_ms) {
    uint64_t now = tp__stands_still(until_ms, now_ms) ? now_ms - until_ms : 0;
    return now + remembered(time, now_ms);
}
