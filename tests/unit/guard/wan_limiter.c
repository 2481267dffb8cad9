/*
 * The limits per address: connection rate, number of connections, what counts as one address, and a
 * bounded table; against a plain model, and under many threads.
 */
#include "check.h"

#include "core/memory/memory.h"
#include "os/thread.h"
#include "wanserver/guard/limiter.h"
#include "wanserver/guard/token_bucket.h"

static tp__limiter *make(unsigned rate, unsigned burst, unsigned connections, unsigned addresses) {
    const tp__limiter_options options = {
        .rate = rate, .burst = burst, .connections = connections, .addresses = addresses};
    tp__limiter *limiter = NULL;
    REQUIRE(tp__limiter_create(&options, &limiter) == TP_OK);
    return limiter;
}

static tp_address address(const char *text) {
    tp_address address;
    REQUIRE(tp_address_parse(text, &address) == TP_OK);
    return address;
}

static tp__admission admit(tp__limiter *limiter, const char *text, uint64_t now_ms) {
    const tp_address from = address(text);
    return tp__limiter_admit(limiter, &from, now_ms, 0);
}

static void leave(tp__limiter *limiter, const char *text) {
    const tp_address from = address(text);
    tp__limiter_leave(limiter, &from);
}

static unsigned connections(tp__limiter *limiter, const char *text) {
    const tp_address from = address(text);
    return tp__limiter_connections(limiter, &from);
}

static void the_rate_of_connections_is_limited(void) {
    tp__limiter *limiter = make(20, 3, 0, 16);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(admit(limiter, "10.0.0.1", 1000), TP__ADMITTED);
    }
    CHECK_EQ(admit(limiter, "10.0.0.1:999", 1000), TP__TOO_FAST); /* the port does not matter */
    CHECK_EQ(admit(limiter, "10.0.0.2", 1000), TP__ADMITTED);
    CHECK_EQ(admit(limiter, "10.0.0.1", 1049), TP__TOO_FAST);
    CHECK_EQ(admit(limiter, "10.0.0.1", 1050), TP__ADMITTED);
    CHECK_EQ(admit(limiter, "10.0.0.1", 1050), TP__TOO_FAST);
    /* Closing a connection does not return the rate. */
    leave(limiter, "10.0.0.1");
    CHECK_EQ(admit(limiter, "10.0.0.1", 1050), TP__TOO_FAST);
    CHECK_EQ(connections(limiter, "10.0.0.1"), 3);
    tp__limiter_destroy(limiter);
}

/* After a stall those that waited are admitted together: new addresses and known ones. */
static void connections_that_waited_in_a_stall_are_admitted(void) {
    tp__limiter *limiter = make(20, 3, 0, 16);
    const tp_address known = address("10.0.0.1"), other = address("10.0.0.2");
    CHECK_EQ(tp__limiter_admit(limiter, &known, 1000, 0), TP__ADMITTED);
    for (unsigned i = 0; i < 3 + 20; i++) { /* the first one has connected once before */
        tp__admission expected = i < 22 ? TP__ADMITTED : TP__TOO_FAST;
        CHECK_EQ(tp__limiter_admit(limiter, &known, 2000, 1000), expected);
        CHECK_EQ(tp__limiter_admit(limiter, &other, 2000, 1000), TP__ADMITTED);
    }
    CHECK_EQ(tp__limiter_admit(limiter, &known, 2000, 1000), TP__TOO_FAST);
    CHECK_EQ(tp__limiter_admit(limiter, &other, 2000, 1000), TP__TOO_FAST);
    CHECK_EQ(tp__limiter_admit(limiter, &known, 2050, 0), TP__ADMITTED);
    CHECK_EQ(tp__limiter_admit(limiter, &known, 2050, 0), TP__TOO_FAST);
    tp__limiter_destroy(limiter);
}

static void the_number_of_connections_is_limited(void) {
    tp__limiter *limiter = make(1, 4, 2, 16);
    CHECK_EQ(admit(limiter, "10.0.0.1", 0), TP__ADMITTED);
    CHECK_EQ(admit(limiter, "10.0.0.1", 0), TP__ADMITTED);
    for (unsigned i = 0; i < 10; i++) {
        /* A refusal for the number uses no rate up. */
        CHECK_EQ(admit(limiter, "10.0.0.1", 0), TP__TOO_MANY);
    }
    CHECK_EQ(admit(limiter, "10.0.0.2", 0), TP__ADMITTED);
    for (unsigned i = 0; i < 2; i++) {
        leave(limiter, "10.0.0.1");
        CHECK_EQ(admit(limiter, "10.0.0.1", 0), TP__ADMITTED);
        CHECK_EQ(admit(limiter, "10.0.0.1", 0), TP__TOO_MANY);
    }
    leave(limiter, "10.0.0.1");
    CHECK_EQ(admit(limiter, "10.0.0.1", 0), TP__TOO_FAST); /* those were the four */
    CHECK_EQ(connections(limiter, "10.0.0.1"), 1);
    leave(limiter, "10.0.0.1");
    leave(limiter, "10.0.0.1"); /* one too many: the count never goes below zero */
    leave(limiter, "10.0.0.9"); /* never connected */
    CHECK_EQ(connections(limiter, "10.0.0.1"), 0);
    tp__limiter_destroy(limiter);
}

static void an_ipv4_address_or_an_ipv6_64_counts_as_one(void) {
    tp__limiter *limiter = make(0, 1, 1, 16);
    CHECK_EQ(admit(limiter, "1.2.3.4", 0), TP__ADMITTED);
    CHECK_EQ(admit(limiter, "[::ffff:1.2.3.4]:5", 0), TP__TOO_MANY);
    CHECK_EQ(admit(limiter, "1.2.3.5", 0), TP__ADMITTED);
    CHECK_EQ(admit(limiter, "2001:db8:1:2::1", 0), TP__ADMITTED);
    CHECK_EQ(admit(limiter, "2001:db8:1:2:ffff:ffff:ffff:ffff", 0), TP__TOO_MANY);
    CHECK_EQ(admit(limiter, "2001:db8:1:3::1", 0), TP__ADMITTED);
    /* An IPv4 address does not belong to the /64 that begins with the same bytes. */
    CHECK_EQ(admit(limiter, "102:304::1", 0), TP__ADMITTED);
    CHECK_EQ(admit(limiter, "::1", 0), TP__ADMITTED);
    CHECK_EQ(admit(limiter, "0.0.0.0", 0), TP__ADMITTED);
    CHECK_EQ(tp__limiter_addresses(limiter), 7);
    tp__limiter_destroy(limiter);
}

static void without_limits_no_entry_is_kept(void) {
    tp__limiter *limiter = make(0, 1, 0, 1);
    for (unsigned i = 0; i < 10; i++) {
        CHECK_EQ(admit(limiter, "1.2.3.4", 0), TP__ADMITTED);
        CHECK_EQ(admit(limiter, "1.2.3.5", 0), TP__ADMITTED);
    }
    leave(limiter, "1.2.3.4");
    CHECK_EQ(tp__limiter_addresses(limiter), 0);
    tp__limiter_destroy(limiter);
}

static void the_least_recently_seen_address_is_forgotten(void) {
    tp__limiter *limiter = make(1, 1, 0, 3);
    CHECK_EQ(admit(limiter, "10.0.0.1", 0), TP__ADMITTED);
    CHECK_EQ(admit(limiter, "10.0.0.2", 0), TP__ADMITTED);
    CHECK_EQ(admit(limiter, "10.0.0.3", 0), TP__ADMITTED);
    /* All entries have a connection: none can be replaced. */
    CHECK_EQ(admit(limiter, "10.0.0.4", 0), TP__TOO_MANY_ADDRESSES);
    leave(limiter, "10.0.0.2");
    leave(limiter, "10.0.0.1");
    CHECK_EQ(admit(limiter, "10.0.0.2", 0), TP__TOO_FAST); /* seen again, so 1 is the oldest */
    CHECK_EQ(admit(limiter, "10.0.0.4", 0), TP__ADMITTED); /* in place of 1 */
    CHECK_EQ(admit(limiter, "10.0.0.2", 0), TP__TOO_FAST); /* still known */
    CHECK_EQ(admit(limiter, "10.0.0.1", 0), TP__ADMITTED); /* forgotten; and replaces 2 */
    CHECK_EQ(admit(limiter, "10.0.0.2", 0), TP__TOO_MANY_ADDRESSES);
    CHECK_EQ(tp__limiter_addresses(limiter), 3);
    /* Addresses with connections are never forgotten. */
    CHECK_EQ(connections(limiter, "10.0.0.3"), 1);
    tp__limiter_destroy(limiter);
}

/* ---- against a model ------------------------------------------------------------------------- */

enum { PLACES = 24, ROOM = 8, RATE = 3, BURST = 3, MOST = 2, STEPS = 60000 };

typedef struct model {
    bool known;
    unsigned connections;
    uint64_t seen; /* grows with each event */
    tp__bucket bucket;
} model;

static unsigned known(const model *places) {
    unsigned count = 0;
    for (unsigned i = 0; i < PLACES; i++) {
        count += places[i].known;
    }
    return count;
}

/* Removes an entry if the table is full. False if none can be removed. */
static bool forget_one(model *places) {
    model *oldest = NULL;
    for (unsigned i = 0; i < PLACES; i++) {
        model *one = &places[i];
        bool idle = one->known && one->connections == 0;
        if (idle && (oldest == NULL || one->seen < oldest->seen)) {
            oldest = one;
        }
    }
    if (oldest != NULL) {
        oldest->known = false;
    }
    return oldest != NULL;
}

static tp__admission model_admit(model *places, unsigned which, uint64_t order, uint64_t now_ms) {
    model *one = &places[which];
    if (!one->known) {
        if (known(places) == ROOM && !forget_one(places)) {
            return TP__TOO_MANY_ADDRESSES;
        }
        *one = (model){.known = true, .bucket = tp__bucket_full(BURST, now_ms)};
    }
    one->seen = order;
    if (one->connections >= MOST) {
        return TP__TOO_MANY;
    }
    if (!tp__bucket_take(&one->bucket, 1, RATE, BURST, now_ms)) {
        return TP__TOO_FAST;
    }
    one->connections++;
    return TP__ADMITTED;
}

static void random_histories_match_the_model(void) {
    tp__limiter *limiter = make(RATE, BURST, MOST, ROOM);
    static model places[PLACES];
    uint32_t random = 99;
    uint64_t now_ms = 77;
    unsigned seen[4] = {0};
    for (uint64_t step = 1; step <= STEPS; step++) {
        random = random * 1664525u + 1013904223u;
        unsigned which = (random >> 8) % PLACES;
        tp_address from = {.ip = {0x20, 1, 0xd, 0xb8, 0, 0, 0, (uint8_t)which}};
        random = random * 1664525u + 1013904223u;
        from.ip[15] = (uint8_t)(random >> 8);
        if (random >> 20 & 1) {
            tp__admission expected = model_admit(places, which, step, now_ms);
            CHECK_EQ(tp__limiter_admit(limiter, &from, now_ms, 0), expected);
            seen[expected]++;
        } else {
            tp__limiter_leave(limiter, &from);
            if (places[which].known && places[which].connections > 0) {
                places[which].connections--;
                places[which].seen = step;
            }
        }
        now_ms += random >> 24 & 3;
        CHECK_EQ(tp__limiter_connections(limiter, &from),
            places[which].known ? places[which].connections : 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        CHECK_GT(seen[i], STEPS / 200); /* every outcome occurred */
    }
    tp__limiter_destroy(limiter);
}

/* ---- many threads, and memory ---------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 20000, LIMIT = 3 };

typedef struct crowd {
    tp__limiter *limiter;
    atomic_uint inside;
    atomic_uint admitted;
} crowd;

static void admit_and_leave(void *argument) {
    crowd *it = argument;
    const tp_address from = address("10.0.0.1");
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (tp__limiter_admit(it->limiter, &from, i, 0) == TP__ADMITTED) {
            CHECK_LT(atomic_fetch_add(&it->inside, 1), LIMIT);
            atomic_fetch_add(&it->admitted, 1);
            if (i % 64 == 0) {
                tp_thread_yield();
            }
            atomic_fetch_sub(&it->inside, 1);
            tp__limiter_leave(it->limiter, &from);
        }
    }
}

static void threads_share_the_limiter(void) {
    crowd it = {.limiter = make(0, 1, LIMIT, 4)};
    tp_thread threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "crowd", admit_and_leave, &it) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK_GT(atomic_load(&it.admitted), 0);
    CHECK_EQ(connections(it.limiter, "10.0.0.1"), 0);
    tp__limiter_destroy(it.limiter);
}

static void memory_is_allocated_at_create_only(void) {
    uint64_t live = tp__memory_live();
    const tp__limiter_options options = {.rate = 1, .burst = 1, .addresses = 100};
    tp__limiter *limiter = NULL;
    for (long i = 1; i <= 3; i++) {
        tp__memory_fail_after(i);
        CHECK_EQ(tp__limiter_create(&options, &limiter), TP_ERR_NO_MEMORY);
        CHECK(limiter == NULL);
        tp__memory_fail_after(-1);
        CHECK_EQ(tp__memory_live(), live);
    }
    REQUIRE(tp__limiter_create(&options, &limiter) == TP_OK);
    uint64_t allocations = tp__memory_allocations();
    for (unsigned i = 0; i < 1000; i++) {
        const tp_address from = {.ip = {0xfd, [6] = (uint8_t)(i >> 8), [7] = (uint8_t)i}};
        (void)tp__limiter_admit(limiter, &from, i, 0);
        if (i % 2) {
            tp__limiter_leave(limiter, &from);
        }
    }
    CHECK_EQ(tp__memory_allocations(), allocations);
    tp__limiter_destroy(limiter);
    tp__limiter_destroy(NULL);
    CHECK_EQ(tp__memory_live(), live);
}

static void options_out_of_range_are_refused(void) {
    tp__limiter *limiter = NULL;
    const tp__limiter_options no_burst = {.rate = 1, .addresses = 1};
    CHECK_EQ(tp__limiter_create(&no_burst, &limiter), TP_ERR_INVALID);
    const tp__limiter_options no_addresses = {.rate = 1, .burst = 1};
    CHECK_EQ(tp__limiter_create(&no_addresses, &limiter), TP_ERR_INVALID);
    CHECK(limiter == NULL);
}

CHECK_MAIN(CASE(the_rate_of_connections_is_limited),
    CASE(connections_that_waited_in_a_stall_are_admitted),
    CASE(the_number_of_connections_is_limited), CASE(an_ipv4_address_or_an_ipv6_64_counts_as_one),
    CASE(without_limits_no_entry_is_kept), CASE(the_least_recently_seen_address_is_forgotten),
    CASE(random_histories_match_the_model), CASE(threads_share_the_limiter),
    CASE(memory_is_allocated_at_create_only), CASE(options_out_of_range_are_refused))
