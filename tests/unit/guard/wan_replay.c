/*
 * The table of used tokens: each token is accepted once until it expires, in bounded memory, also
 * when the wall clock is set. Against plain models with random clocks.
 */
#include "check.h"

#include "core/memory/memory.h"
#include "os/thread.h"
#include "twinport/log.h"
#include "wanserver/guard/replay.h"

enum { LIFE = 3600 };

static tp__replay *make(unsigned tokens) {
    tp__replay *replay = NULL;
    REQUIRE(tp__replay_create(tokens, LIFE, &replay) == TP_OK);
    return replay;
}

/* Takes the token with this number when the wall clock is `now` and the steady clock `steady`. */
static tp__freshness take_at(
    tp__replay *replay, uint32_t number, uint64_t expiry, uint64_t now, uint64_t steady) {
    uint8_t id[TP_TOKEN_ID_SIZE] = {0};
    memcpy(id + 3, &number, sizeof number);
    return tp__replay_take(replay, id, expiry, now, steady);
}

/* While the wall clock is not set. */
static tp__freshness take(tp__replay *replay, uint32_t number, uint64_t expiry, uint64_t now) {
    return take_at(replay, number, expiry, now, now + 7);
}

static void a_token_is_accepted_once(void) {
    tp__replay *replay = make(4);
    CHECK_EQ(take(replay, 1, 200, 100), TP__FRESH);
    CHECK_EQ(take(replay, 1, 200, 100), TP__SEEN);
    CHECK_EQ(take(replay, 2, 150, 100), TP__FRESH);
    CHECK_EQ(take(replay, 2, 150, 149), TP__SEEN);
    CHECK_EQ(take(replay, 1, 200, 199), TP__SEEN);
    /* Nor when it has expired. */
    CHECK_EQ(take(replay, 1, 200, 200), TP__SEEN);
    CHECK_EQ(take(replay, 3, 200, 200), TP__SEEN);
    CHECK_EQ(tp__replay_count(replay), 2); /* expired ones stay until their memory is needed */
    tp__replay_destroy(replay);
}

static void every_bit_of_the_id_counts(void) {
    tp__replay *replay =
        make(1); /* one chain only, so that a different token is refused for being one too many */
    uint8_t id[TP_TOKEN_ID_SIZE] = {0};
    CHECK_EQ(tp__replay_take(replay, id, 2, 1, 1), TP__FRESH);
    for (unsigned bit = 0; bit < TP_TOKEN_ID_SIZE * 8; bit++) {
        id[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ(tp__replay_take(replay, id, 2, 1, 1), TP__REPLAY_FULL);
        id[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ(tp__replay_take(replay, id, 2, 1, 1), TP__SEEN);
    }
    tp__replay_destroy(replay);
}

static void a_full_table_refuses_until_some_expire(void) {
    tp__replay *replay = make(3);
    CHECK_EQ(take(replay, 1, 130, 100), TP__FRESH);
    CHECK_EQ(take(replay, 2, 110, 100), TP__FRESH);
    CHECK_EQ(take(replay, 3, 120, 100), TP__FRESH);
    CHECK_EQ(take(replay, 4, 140, 100), TP__REPLAY_FULL);
    CHECK_EQ(take(replay, 4, 140, 109), TP__REPLAY_FULL);
    CHECK_EQ(take(replay, 2, 110, 109), TP__SEEN); /* a full table still finds it */
    CHECK_EQ(take(replay, 4, 140, 110), TP__FRESH);
    CHECK_EQ(take(replay, 5, 140, 110), TP__REPLAY_FULL);
    CHECK_EQ(take(replay, 5, 140, 125), TP__FRESH);
    CHECK_EQ(take(replay, 1, 130, 125), TP__SEEN);
    CHECK_EQ(tp__replay_count(replay), 3);
    tp__replay_destroy(replay);
}

/* ---- the wall clock is set ------------------------------------------------------------------- */

/* The clock is two hours ahead for two minutes, in which more tokens are used than can be
 * remembered. */
static tp__replay *after_two_hours_ahead(void) {
    tp__replay *replay = make(4);
    for (uint32_t i = 0; i < 8; i++) {
        CHECK_EQ(take_at(replay, i, 17260 + 15 * i, 17200 + 15 * i, 1000 + 15 * i), TP__FRESH);
    }
    CHECK_EQ(tp__replay_count(replay), 4);
    return replay;
}

static void a_clock_that_was_ahead_keeps_no_token_out(void) {
    tp_log_set_level(TP_LOG_OFF); /* the table logs that some may be used again */
    tp__replay *replay = after_two_hours_ahead();
    unsigned fresh = 0, seen = 0;
    for (uint32_t i = 0; i < 1000; i++) { /* until long after the time that the log named */
        uint64_t steady = 1200 + 20 * i;
        uint64_t now = steady + 9000;
        fresh += take_at(replay, 100 + i, now + 60, now, steady) == TP__FRESH;
        seen += take_at(replay, 100 + i, now + 60, now, steady) == TP__SEEN;
    }
    CHECK_EQ(fresh, 1000);
    CHECK_EQ(seen, 1000);
    tp__replay_destroy(replay);
}

/* Neither before they become valid again, nor when they do. */
static void tokens_used_while_the_clock_was_ahead_stay_used(void) {
    tp__replay *replay = make(8);
    CHECK_EQ(take_at(replay, 1, 17260, 17200, 1000), TP__FRESH);
    CHECK_EQ(take_at(replay, 2, 17400, 17340, 1140), TP__FRESH); /* 1 has expired */
    CHECK_EQ(take_at(replay, 3, 10200, 10140, 1140), TP__FRESH); /* the clock is corrected */
    CHECK_EQ(take_at(replay, 1, 17260, 10140, 1140), TP__LONG_LIVED);
    CHECK_EQ(take_at(replay, 1, 17260, 13660, 4660), TP__SEEN);
    CHECK_EQ(take_at(replay, 1, 17260, 17259, 8259), TP__SEEN);
    CHECK_EQ(take_at(replay, 2, 17400, 17259, 8259), TP__SEEN);
    tp__replay_destroy(replay);
}

/* The clock leaps ahead and back: what was valid is valid again, or used if it was. */
static void a_leap_ahead_forgets_nothing(void) {
    tp__replay *replay = make(2);
    CHECK_EQ(take_at(replay, 1, 10600, 10000, 1000), TP__FRESH);
    CHECK_EQ(take_at(replay, 2, 10700, 10000, 1000), TP__FRESH);
    CHECK_EQ(take_at(replay, 3, 17260, 17200, 1001), TP__REPLAY_FULL);
    CHECK_EQ(take_at(replay, 1, 10600, 10002, 1002), TP__SEEN);
    /* In place of 1, which has expired by both clocks. */
    CHECK_EQ(take_at(replay, 3, 17860, 17800, 1600), TP__FRESH);
    CHECK_EQ(take_at(replay, 2, 10700, 10601, 1601), TP__SEEN);
    tp__replay_destroy(replay);
}

/* The clock is set back for a while by less than a token's life. Used tokens that become valid
 * again keep their entries, and when the clock is corrected no token is refused for that. */
static void a_leap_back_fills_no_entries(void) {
    tp__replay *replay = make(2);
    CHECK_EQ(take_at(replay, 1, 10060, 10000, 1000), TP__FRESH);
    CHECK_EQ(take_at(replay, 2, 10060, 10000, 1000), TP__FRESH);
    CHECK_EQ(take_at(replay, 3, 8360, 8300, 1100), TP__REPLAY_FULL);
    CHECK_EQ(take_at(replay, 1, 10060, 8300, 1100), TP__SEEN);
    CHECK_EQ(take_at(replay, 3, 10171, 10111, 1111), TP__FRESH);
    CHECK_EQ(take_at(replay, 4, 10171, 10111, 1111), TP__FRESH);
    tp__replay_destroy(replay);
}

/* An entry stays for an hour at most, however wrong the clock was. */
static void a_wrong_clock_fills_the_table_for_an_hour_at_most(void) {
    tp_log_set_level(TP_LOG_OFF);
    tp__replay *replay = make(2);
    CHECK_EQ(take_at(replay, 1, 2000003600, 2000000000, 1000), TP__FRESH);
    CHECK_EQ(take_at(replay, 2, 2000003600, 2000000000, 1000), TP__FRESH);
    CHECK_EQ(take_at(replay, 3, 10060, 10000, 1001), TP__REPLAY_FULL);
    CHECK_EQ(take_at(replay, 3, 13660, 13600, 4600), TP__FRESH);
    CHECK_EQ(take_at(replay, 4, 13660, 13600, 4600), TP__FRESH);
    CHECK_EQ(take_at(replay, 5, 13660, 13600, 4600), TP__REPLAY_FULL);
    CHECK_EQ(take_at(replay, 5, 13720, 13660, 4660), TP__FRESH);
    tp__replay_destroy(replay);
}

static void a_step_back_revives_nothing(void) {
    tp__replay *replay = make(1);
    CHECK_EQ(take_at(replay, 1, 10060, 10000, 1000), TP__FRESH);
    CHECK_EQ(take_at(replay, 2, 10120, 10060, 1060), TP__FRESH); /* in place of 1 */
    CHECK_EQ(take_at(replay, 1, 10060, 10059, 1061), TP__SEEN);
    /* It may have been used: its entry would have been removed. */
    CHECK_EQ(take_at(replay, 3, 10060, 10050, 1061), TP__SEEN);
    CHECK_EQ(take_at(replay, 3, 10061, 10050, 1061), TP__REPLAY_FULL);
    tp__replay_destroy(replay);
}

static void tokens_that_live_too_long_are_refused(void) {
    tp__replay *replay = make(2);
    CHECK_EQ(take(replay, 1, 10001 + LIFE, 10000), TP__LONG_LIVED);
    CHECK_EQ(take(replay, 1, UINT64_MAX, 10000), TP__LONG_LIVED);
    CHECK_EQ(take(replay, 1, UINT64_C(1796000000000), 1796000000), TP__LONG_LIVED);
    CHECK_EQ(tp__replay_count(replay), 0);
    CHECK_EQ(take(replay, 1, 10000 + LIFE, 10000), TP__FRESH);
    CHECK_EQ(take(replay, 1, 10000 + LIFE, 9999), TP__LONG_LIVED);
    CHECK_EQ(take(replay, 1, 10000 + LIFE, 10001), TP__SEEN);
    tp__replay_destroy(replay);
}

/* One entry is freed for each new one: no call has to free them all. */
static void many_that_expire_together_leave_one_by_one(void) {
    enum { MANY = 10000 };
    tp__replay *replay = make(MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        CHECK_EQ(take(replay, i, 100, 50), TP__FRESH);
    }
    CHECK_EQ(take(replay, MANY, 300, 50), TP__REPLAY_FULL);
    for (uint32_t i = 0; i < MANY; i++) {
        CHECK_EQ(take(replay, MANY + i, 300, 100), TP__FRESH);
        CHECK_EQ(tp__replay_count(replay), MANY);
    }
    CHECK_EQ(take(replay, 2 * MANY, 300, 100), TP__REPLAY_FULL);
    tp__replay_destroy(replay);
}

/* ---- against a model ------------------------------------------------------------------------- */

enum { IDS = 300, ROOM = 100, STEPS = 40000 };

static void random_histories_match_the_model(void) {
    tp__replay *replay = make(ROOM);
    static uint64_t expiries[STEPS]; /* by token; 0: not used */
    unsigned seen[4] = {0};
    uint32_t random = 4711;
    uint64_t now = 1000;
    uint32_t newest = 0;
    for (unsigned step = 0; step < STEPS; step++) {
        random = random * 1664525u + 1013904223u;
        bool again = newest > 0 && (random >> 8 & 3) == 0;
        uint32_t back = (random >> 10) % IDS;
        uint32_t number = again ? (back < newest ? newest - 1 - back : 0) : newest++;
        random = random * 1664525u + 1013904223u;
        uint64_t expiry = expiries[number] ? expiries[number] : now + (random >> 8) % 150;
        tp__freshness got = take(replay, number, expiry, now);
        seen[got]++;
        if (expiry <= now || expiries[number] != 0) {
            CHECK_EQ(got, TP__SEEN);
        } else if (got == TP__FRESH) {
            expiries[number] = expiry;
        } else {
            unsigned alive = 0;
            for (uint32_t i = newest > 10 * IDS ? newest - 10 * IDS : 0; i < newest; i++) {
                alive += expiries[i] > now;
            }
            CHECK_EQ(got, TP__REPLAY_FULL);
            CHECK_EQ(alive, ROOM);
        }
        CHECK_LE(tp__replay_count(replay), ROOM);
        now += (random >> 28) % 3 == 0;
    }
    CHECK_GT(seen[TP__FRESH], STEPS / 100);
    CHECK_GT(seen[TP__SEEN], STEPS / 100);
    CHECK_GT(seen[TP__REPLAY_FULL], STEPS / 100);
    tp__replay_destroy(replay);
}

/* With memory for all: whatever the wall clock is set to, each token is accepted once, while it is
 * valid. */
static void random_clocks_match_the_model(void) {
    tp__replay *replay = make(STEPS);
    static uint64_t expires[STEPS]; /* by token; 0: not accepted */
    unsigned seen[4] = {0};
    uint32_t random = 815;
    uint64_t steady = 1000;
    uint64_t ahead = 50000;
    uint32_t newest = 0;
    for (unsigned step = 0; step < STEPS; step++) {
        random = random * 1664525u + 1013904223u;
        bool again = newest > 0 && (random >> 8 & 1) == 0;
        uint32_t number = again ? (random >> 10) % newest : newest++;
        random = random * 1664525u + 1013904223u;
        uint64_t now = steady + ahead;
        bool taken = expires[number] != 0;
        uint64_t expiry = taken ? expires[number] : now + (random >> 8) % (LIFE + 60);
        tp__freshness wanted = expiry <= now || (taken && expiry - now <= LIFE) ? TP__SEEN
                               : expiry - now > LIFE                            ? TP__LONG_LIVED
                                                                                : TP__FRESH;
        CHECK_EQ(take_at(replay, number, expiry, now, steady), wanted);
        seen[wanted]++;
        expires[number] = wanted == TP__FRESH ? expiry : expires[number];
        random = random * 1664525u + 1013904223u;
        ahead = random >> 24 == 0 ? 50000 - 2 * LIFE + (random >> 8) % (4 * LIFE) : ahead;
        steady += (random >> 8) % 16;
    }
    CHECK_GT(seen[TP__FRESH], STEPS / 4);
    CHECK_GT(seen[TP__SEEN], STEPS / 4);
    CHECK_GT(seen[TP__LONG_LIVED], STEPS / 100);
    tp__replay_destroy(replay);
}

/* ---- many threads, and memory ---------------------------------------------------------------- */

enum { THREADS = 4, TOKENS = 20000 };

typedef struct contest {
    tp__replay *replay;
    atomic_uint ready;
    atomic_uchar won[TOKENS];
} contest;

static void use_all(void *argument) {
    contest *it = argument;
    atomic_fetch_add(&it->ready, 1);
    while (atomic_load(&it->ready) < THREADS) {
        tp_thread_yield();
    }
    for (uint32_t i = 0; i < TOKENS; i++) {
        tp__freshness got = take(it->replay, i, 100, 50);
        CHECK(got == TP__FRESH || got == TP__SEEN);
        if (got == TP__FRESH) {
            atomic_fetch_add(&it->won[i], 1);
        }
    }
}

static void one_of_many_threads_with_one_token_wins(void) {
    static contest it;
    it.replay = make(TOKENS);
    tp_thread threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "use", use_all, &it) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    unsigned wrong = 0;
    for (unsigned i = 0; i < TOKENS; i++) {
        wrong += atomic_load(&it.won[i]) != 1;
    }
    CHECK_EQ(wrong, 0);
    tp__replay_destroy(it.replay);
}

static void memory_is_allocated_at_create_only(void) {
    uint64_t live = tp__memory_live();
    tp__replay *replay = NULL;
    for (long i = 1; i <= 4; i++) {
        tp__memory_fail_after(i);
        CHECK_EQ(tp__replay_create(10, LIFE, &replay), TP_ERR_NO_MEMORY);
        CHECK(replay == NULL);
        tp__memory_fail_after(-1);
        CHECK_EQ(tp__memory_live(), live);
    }
    CHECK_EQ(tp__replay_create(0, LIFE, &replay), TP_ERR_INVALID);
    CHECK_EQ(tp__replay_create(10, 0, &replay), TP_ERR_INVALID);
    replay = make(10);
    uint64_t allocations = tp__memory_allocations();
    for (uint32_t i = 0; i < 1000; i++) {
        (void)take(replay, i, 10 + i / 20, i / 20);
    }
    CHECK_EQ(tp__memory_allocations(), allocations);
    tp__replay_destroy(replay);
    tp__replay_destroy(NULL);
    CHECK_EQ(tp__memory_live(), live);
}

CHECK_MAIN(CASE(a_token_is_accepted_once), CASE(every_bit_of_the_id_counts),
    CASE(a_full_table_refuses_until_some_expire), CASE(a_clock_that_was_ahead_keeps_no_token_out),
    CASE(tokens_used_while_the_clock_was_ahead_stay_used), CASE(a_leap_ahead_forgets_nothing),
    CASE(a_leap_back_fills_no_entries), CASE(a_wrong_clock_fills_the_table_for_an_hour_at_most),
    CASE(a_step_back_revives_nothing), CASE(tokens_that_live_too_long_are_refused),
    CASE(many_that_expire_together_leave_one_by_one), CASE(random_histories_match_the_model),
    CASE(random_clocks_match_the_model), CASE(one_of_many_threads_with_one_token_wins),
    CASE(memory_is_allocated_at_create_only))
