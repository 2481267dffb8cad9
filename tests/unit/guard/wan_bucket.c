/*
 * The token bucket of the rate limits: size, burst, rate, credit after a stall, no drift and no
 * overflow, and random histories against plain arithmetic.
 */
#include "check.h"

#include "wanserver/guard/token_bucket.h"

static void a_bucket_is_12_bytes(void) {
    CHECK_EQ(sizeof(tp__bucket), 12);
}

static void a_bucket_gives_its_burst_and_then_its_rate(void) {
    enum { RATE = 20, BURST = 5 };
    tp__bucket bucket = tp__bucket_full(BURST, 1000);
    for (unsigned i = 0; i < BURST; i++) {
        CHECK(tp__bucket_take(&bucket, 1, RATE, BURST, 1000));
    }
    CHECK(!tp__bucket_take(&bucket, 1, RATE, BURST, 1000));
    CHECK(!tp__bucket_take(&bucket, 1, RATE, BURST, 1049));
    CHECK(tp__bucket_take(&bucket, 1, RATE, BURST, 1050));
    CHECK(!tp__bucket_take(&bucket, 1, RATE, BURST, 1099));
    CHECK(tp__bucket_take(&bucket, 1, RATE, BURST, 1100));
    /* However long nothing is taken, it holds the burst at most. */
    for (unsigned i = 0; i < BURST; i++) {
        CHECK(tp__bucket_take(&bucket, 1, RATE, BURST, 3600000));
    }
    CHECK(!tp__bucket_take(&bucket, 1, RATE, BURST, 3600000));
}

/* What was earned during a stall can be used once, and for a while. */
static void a_stall_gives_credit(void) {
    enum { RATE = 200, BURST = 50, STALL_MS = 5000 };
    const uint32_t room = tp__bucket_capacity(RATE, BURST, STALL_MS);
    CHECK_EQ(room, BURST + 1000);
    CHECK_EQ(tp__bucket_capacity(RATE, BURST, 0), BURST);
    tp__bucket bucket = tp__bucket_full(BURST, 1000);
    CHECK(tp__bucket_take(&bucket, 1050, RATE, room, 1000 + STALL_MS));
    CHECK(!tp__bucket_take(&bucket, 1, RATE, room, 1000 + STALL_MS));
    CHECK(tp__bucket_take(&bucket, 20, RATE, room, 1100 + STALL_MS));
    CHECK(!tp__bucket_take(&bucket, 1, RATE, room, 1100 + STALL_MS));
    /* Only what the clock has given, however large the credit is. */
    CHECK(!tp__bucket_take(&bucket, 101, RATE, room, 1600 + STALL_MS));
    /* When the credit has lapsed, no more than the burst is left, though there was more. */
    CHECK(tp__bucket_take(&bucket, 0, RATE, room, 9000 + STALL_MS));
    CHECK(!tp__bucket_take(&bucket, BURST + 1, RATE, BURST, 9000 + STALL_MS));
    CHECK(tp__bucket_take(&bucket, BURST, RATE, BURST, 9000 + STALL_MS));
    CHECK(!tp__bucket_take(&bucket, 1, RATE, BURST, 9000 + STALL_MS));
}

static void credit_is_bounded(void) {
    CHECK_EQ(tp__bucket_capacity(UINT32_MAX, 1, 1), 1 + UINT32_MAX / 1000);
    CHECK_EQ(tp__bucket_capacity(UINT32_MAX, 1, 1000), UINT32_MAX);
    CHECK_EQ(tp__bucket_capacity(UINT32_MAX, UINT32_MAX, 1000), UINT32_MAX);
    CHECK_EQ(tp__bucket_capacity(1, 1, UINT64_MAX), UINT32_MAX);
    CHECK_EQ(tp__bucket_capacity(1, 1, 60000), 61);
}

static void a_refused_request_costs_nothing(void) {
    tp__bucket bucket = tp__bucket_full(100, 0);
    CHECK(!tp__bucket_take(&bucket, 101, 1, 100, 0));
    CHECK(tp__bucket_take(&bucket, 60, 1, 100, 0));
    CHECK(!tp__bucket_take(&bucket, 41, 1, 100, 0));
    CHECK(tp__bucket_take(&bucket, 0, 1, 100, 0));
    CHECK(tp__bucket_take(&bucket, 40, 1, 100, 0));
    CHECK(!tp__bucket_take(&bucket, 1, 1, 100, 999));
    CHECK(tp__bucket_take(&bucket, 1, 1, 100, 1000));
}

/* Whatever the times of the calls, the bucket gives exactly what the rate allows: fractions are
 * kept. */
static void fractions_are_not_lost(void) {
    static const uint32_t rates[] = {1, 3, 7, 200, 999, 1000, 1001, 123457, 10000000};
    static const uint32_t steps[] = {1, 2, 7, 13, 333, 997};
    for (size_t r = 0; r < sizeof rates / sizeof rates[0]; r++) {
        for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
            const uint32_t burst = 10000000;
            const uint64_t begin = 123456789;
            tp__bucket bucket = tp__bucket_full(burst, begin);
            REQUIRE(tp__bucket_take(&bucket, burst, rates[r], burst, begin));
            uint64_t taken = 0;
            uint64_t now = begin;
            for (unsigned i = 0; i < 5000; i++) {
                now += steps[s];
                tp__bucket_fill(&bucket, rates[r], burst, now);
                taken += bucket.tokens;
                REQUIRE(tp__bucket_take(&bucket, bucket.tokens, rates[r], burst, now));
            }
            CHECK_EQ(taken, (now - begin) * rates[r] / 1000);
        }
    }
}

static void time_that_goes_back_changes_nothing(void) {
    tp__bucket bucket = tp__bucket_full(10, 5000);
    CHECK(tp__bucket_take(&bucket, 10, 10, 10, 5000));
    CHECK(!tp__bucket_take(&bucket, 1, 10, 10, 4000));
    CHECK(!tp__bucket_take(&bucket, 1, 10, 10, 0));
    CHECK(!tp__bucket_take(&bucket, 1, 10, 10, 5099));
    CHECK(tp__bucket_take(&bucket, 1, 10, 10, 5100));
    CHECK(!tp__bucket_take(&bucket, 1, 10, 10, 5100));
}

static void extremes_do_not_overflow(void) {
    static const uint64_t ages[] = {1, 999, 1000, UINT32_MAX - 1, UINT32_MAX,
        (uint64_t)UINT32_MAX + 1, (uint64_t)1 << 33, (uint64_t)UINT32_MAX * 1000,
        ((uint64_t)1 << 47) - 1};
    static const uint32_t sizes[] = {1, 2, 1000, 0x7fffffff, 0x80000000, UINT32_MAX};
    const size_t count = sizeof sizes / sizeof sizes[0];
    for (size_t a = 0; a < sizeof ages / sizeof ages[0]; a++) {
        for (size_t s = 0; s < count * count; s++) {
            uint32_t rate = sizes[s / count];
            uint32_t burst = sizes[s % count];
            uint64_t begin = ((uint64_t)1 << 48) - 500; /* so that the 48 bits wrap */
            tp__bucket bucket = tp__bucket_full(burst, begin);
            CHECK(tp__bucket_take(&bucket, burst, rate, burst, begin));
            tp__bucket_fill(&bucket, rate, burst, begin + ages[a]);
            /* Whole seconds first, so that the model does not overflow, either. */
            uint64_t seconds = ages[a] / 1000;
            bool full = seconds >= ((uint64_t)burst + rate - 1) / rate;
            uint64_t tokens =
                full ? burst : seconds * rate + (ages[a] % 1000 * (uint64_t)rate) / 1000;
            CHECK_EQ(bucket.tokens, tokens < burst ? tokens : burst);
            CHECK_LT(bucket.thousandths, 1000);
        }
    }
}

/* The same in plain arithmetic, in thousandths. */
static void random_histories_match_the_model(void) {
    uint32_t random = 12345;
    for (unsigned history = 0; history < 200; history++) {
        random = random * 1664525u + 1013904223u;
        const uint32_t rate = 1 + (random >> 8) % (history % 2 ? 20 : 5000000);
        random = random * 1664525u + 1013904223u;
        const uint32_t burst = 1 + (random >> 8) % (history % 3 ? 10 : 1000000);
        uint64_t now = ((uint64_t)(history + 1) << 32) - 5000; /* so that both halves change */
        tp__bucket bucket = tp__bucket_full(burst, now);
        uint64_t model = (uint64_t)burst * 1000;
        for (unsigned i = 0; i < 500; i++) {
            random = random * 1664525u + 1013904223u;
            uint64_t elapsed = (random >> 8) % (i % 10 == 0 ? 100000 : 50);
            random = random * 1664525u + 1013904223u;
            uint32_t wanted = (random >> 8) % (burst + burst / 4 + 2);
            now += elapsed;
            model += elapsed * rate;
            model = model < (uint64_t)burst * 1000 ? model : (uint64_t)burst * 1000;
            bool there = model / 1000 >= wanted;
            model -= there ? (uint64_t)wanted * 1000 : 0;
            CHECK_EQ(tp__bucket_take(&bucket, wanted, rate, burst, now), there);
            CHECK_EQ((uint64_t)bucket.tokens * 1000 + bucket.thousandths, model);
        }
    }
}

CHECK_MAIN(CASE(a_bucket_is_12_bytes), CASE(a_bucket_gives_its_burst_and_then_its_rate),
    CASE(a_stall_gives_credit), CASE(credit_is_bounded), CASE(a_refused_request_costs_nothing),
    CASE(fractions_are_not_lost), CASE(time_that_goes_back_changes_nothing),
    CASE(extremes_do_not_overflow), CASE(random_histories_match_the_model))
