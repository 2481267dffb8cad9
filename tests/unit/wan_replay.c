/* Used tokens: each once, until it expires, in memory that is bounded. */
#include "check.h"

#include "core/memory.h"
#include "os/thread.h"
#include "wanserver/replay.h"

static tp__replay *make(unsigned tokens) {
    tp__replay *replay = NULL;
    REQUIRE(tp__replay_create(tokens, &replay) == TP_OK);
    return replay;
}

/* The token with this number. */
static tp__freshness take(tp__replay *replay, uint32_t number, uint64_t expiry, uint64_t now) {
    uint8_t id[TP_TOKEN_ID_SIZE] = {0};
    memcpy(id + 3, &number, sizeof number);
    return tp__replay_take(replay, id, expiry, now);
}

static void a_token_serves_once(void) {
    tp__replay *replay = make(4);
    CHECK_EQ(take(replay, 1, 200, 100), TP__FRESH);
    CHECK_EQ(take(replay, 1, 200, 100), TP__SEEN);
    CHECK_EQ(take(replay, 2, 150, 100), TP__FRESH);
    CHECK_EQ(take(replay, 2, 150, 149), TP__SEEN);
    CHECK_EQ(take(replay, 1, 200, 199), TP__SEEN);
    /* Nor when it has expired. */
    CHECK_EQ(take(replay, 1, 200, 200), TP__SEEN);
    CHECK_EQ(take(replay, 3, 200, 200), TP__SEEN);
    CHECK_EQ(tp__replay_count(replay), 0);
    tp__replay_destroy(replay);
}

static void every_bit_of_the_id_counts(void) {
    tp__replay *replay =
        make(1); /* so there is one chain, and one that differs is refused as such */
    uint8_t id[TP_TOKEN_ID_SIZE] = {0};
    CHECK_EQ(tp__replay_take(replay, id, 2, 1), TP__FRESH);
    for (unsigned bit = 0; bit < TP_TOKEN_ID_SIZE * 8; bit++) {
        id[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ(tp__replay_take(replay, id, 2, 1), TP__REPLAY_FULL);
        id[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ(tp__replay_take(replay, id, 2, 1), TP__SEEN);
    }
    tp__replay_destroy(replay);
}

static void a_full_one_refuses_until_some_expire(void) {
    tp__replay *replay = make(3);
    CHECK_EQ(take(replay, 1, 130, 100), TP__FRESH);
    CHECK_EQ(take(replay, 2, 110, 100), TP__FRESH);
    CHECK_EQ(take(replay, 3, 120, 100), TP__FRESH);
    CHECK_EQ(take(replay, 4, 140, 100), TP__REPLAY_FULL);
    CHECK_EQ(take(replay, 4, 140, 109), TP__REPLAY_FULL);
    CHECK_EQ(take(replay, 2, 110, 109), TP__SEEN); /* a full one still knows */
    CHECK_EQ(take(replay, 4, 140, 110), TP__FRESH);
    CHECK_EQ(take(replay, 5, 140, 110), TP__REPLAY_FULL);
    CHECK_EQ(take(replay, 5, 140, 125), TP__FRESH);
    CHECK_EQ(take(replay, 1, 130, 125), TP__SEEN);
    CHECK_EQ(tp__replay_count(replay), 3);
    tp__replay_destroy(replay);
}

static void a_clock_set_back_revives_nothing(void) {
    tp__replay *replay = make(8);
    CHECK_EQ(take(replay, 1, 200, 100), TP__FRESH);
    CHECK_EQ(take(replay, 2, 5000, 100), TP__FRESH);
    CHECK_EQ(take(replay, 3, 6000, 1000), TP__FRESH); /* the first one is forgotten */
    CHECK_EQ(tp__replay_count(replay), 2);
    CHECK_EQ(take(replay, 1, 200, 100), TP__SEEN);
    CHECK_EQ(take(replay, 4, 200, 100), TP__SEEN); /* may have been used, for all it knows */
    CHECK_EQ(take(replay, 5, 201, 100), TP__FRESH);
    CHECK_EQ(take(replay, 2, 5000, 100), TP__SEEN);
    tp__replay_destroy(replay);
}

/* They leave a few at each call: no call has to wait for all of them, and none is refused for it. */
static void many_that_expire_together_leave_little_by_little(void) {
    enum { MANY = 10000 };
    tp__replay *replay = make(MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        CHECK_EQ(take(replay, i, 100, 50), TP__FRESH);
    }
    CHECK_EQ(take(replay, MANY, 300, 50), TP__REPLAY_FULL);
    CHECK_EQ(take(replay, MANY, 300, 100), TP__FRESH);
    CHECK_GT(tp__replay_count(replay), MANY - 100);
    CHECK_LE(tp__replay_count(replay), MANY);
    for (uint32_t i = 1; i < MANY; i++) {
        CHECK_EQ(take(replay, MANY + i, 300, 100), TP__FRESH);
    }
    CHECK_EQ(tp__replay_count(replay), MANY);
    CHECK_EQ(take(replay, 2 * MANY, 300, 100), TP__REPLAY_FULL);
    tp__replay_destroy(replay);
}

/* ---- against a model ---------------------------------------------------------------------- */

enum { IDS = 300, ROOM = 100, STEPS = 40000 };

static void random_histories_fit_the_model(void) {
    tp__replay *replay = make(ROOM);
    static uint64_t expiries[STEPS]; /* by token; 0: not used */
    unsigned seen[3] = {0};
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
    for (unsigned i = 0; i < 3; i++) {
        CHECK_GT(seen[i], STEPS / 100); /* every outcome was tried */
    }
    tp__replay_destroy(replay);
}

/* ---- many threads, and memory -------------------------------------------------------------- */

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

static void of_many_with_one_token_one_wins(void) {
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

static void memory_is_taken_at_create_alone(void) {
    uint64_t live = tp__memory_live();
    tp__replay *replay = NULL;
    for (long i = 1; i <= 4; i++) {
        tp__memory_fail_after(i);
        CHECK_EQ(tp__replay_create(10, &replay), TP_ERR_NO_MEMORY);
        CHECK(replay == NULL);
        tp__memory_fail_after(-1);
        CHECK_EQ(tp__memory_live(), live);
    }
    CHECK_EQ(tp__replay_create(0, &replay), TP_ERR_INVALID);
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

CHECK_MAIN(CASE(a_token_serves_once), CASE(every_bit_of_the_id_counts),
    CASE(a_full_one_refuses_until_some_expire), CASE(a_clock_set_back_revives_nothing),
    CASE(many_that_expire_together_leave_little_by_little), CASE(random_histories_fit_the_model),
    CASE(of_many_with_one_token_one_wins), CASE(memory_is_taken_at_create_alone))
