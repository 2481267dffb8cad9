/*
 * Records: a sealed record opens once, in its order, direction and session, if unchanged. Every
 * other record is refused, and none of its plaintext remains. Also REKEY, and the end of the
 * counter.
 */
#include "proto/record.h"
#include "secure_fixture.h"
#include "tests/record_rules.h"

/* Both ends of one direction of a session. */
typedef struct way {
    tp_record_direction sealing;
    tp_record_direction opening;
} way;

static void begin_direction_with(way *w, tp_suite suite, const uint8_t key[TP_KEY_SIZE]) {
    REQUIRE(tp_record_create_sealing(&w->sealing, suite, key) == TP_OK);
    REQUIRE(tp_record_create_opening(&w->opening, suite, key) == TP_OK);
}

static void begin_direction(way *w, tp_suite suite) {
    uint8_t key[TP_KEY_SIZE];
    fixture_draw_key(key);
    begin_direction_with(w, suite, key);
}

static void end_direction(way *w) {
    tp_record_destroy(&w->sealing);
    tp_record_destroy(&w->opening);
}

typedef struct record {
    uint8_t bytes[TP_RECORD_HEADER + TP_RECORD_MAX];
    size_t size;
} record;

/* The plaintext identifies the record. */
static void fill(uint8_t *plain, size_t size, unsigned number) {
    for (size_t i = 0; i < size; i++) {
        plain[i] = (uint8_t)(number * 31 + i * 7 + 1);
    }
}

static void seal(way *w, record *r, size_t size, unsigned number) {
    fill(r->bytes + TP_RECORD_HEADER, size, number);
    REQUIRE(tp_record_seal(&w->sealing, r->bytes, size) == TP_OK);
    r->size = size + TP_RECORD_OVERHEAD;
    CHECK_EQ(tp_record_length(r->bytes), size + TP_SECRET_TAG);
}

static tp_err open_record(tp_record_direction *opening, const record *r, uint8_t *plain) {
    return tp_record_open(opening, r->bytes + TP_RECORD_HEADER, r->size - TP_RECORD_HEADER, plain);
}

static void expect_opens(way *w, const record *r, unsigned number) {
    static uint8_t expected[TP_RECORD_PLAIN_MAX];
    static uint8_t plain[TP_RECORD_PLAIN_MAX];
    size_t size = r->size - TP_RECORD_OVERHEAD;
    fill(expected, size, number);
    CHECK_EQ(open_record(&w->opening, r, plain), TP_OK);
    CHECK_MEM(plain, expected, size);
}

/* Refused, the plaintext is wiped, and the direction cannot be used any more. */
static void expect_refused(tp_record_direction *opening, const record *r) {
    static uint8_t plain[TP_RECORD_PLAIN_MAX + 1];
    size_t size = r->size - TP_RECORD_OVERHEAD;
    memset(plain, 0x5a, sizeof plain);
    CHECK_EQ(open_record(opening, r, plain), TP_ERR_AUTH);
    CHECK(fixture_all_zero(plain, size));
    CHECK_EQ(plain[size], 0x5a);
    CHECK_EQ(open_record(opening, r, plain), TP_ERR_STATE);
}

/* ---- unchanged ------------------------------------------------------------------------------- */

static void records_of_every_length_open(void) {
    static record r;
    static uint8_t in_place[TP_RECORD_PLAIN_MAX];
    static const size_t sizes[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, 16366,
        TP_RECORD_PLAIN_MAX - 1, TP_RECORD_PLAIN_MAX};
    for (size_t s = 0; s < FIXTURE_SUITES; s++) {
        way w;
        begin_direction(&w, fixture_suites[s]);
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            seal(&w, &r, sizes[i], i);
            expect_opens(&w, &r, i);
            seal(&w, &r, sizes[i], i + 1);
            fill(in_place, sizes[i], i + 1);
            CHECK_EQ(open_record(&w.opening, &r, r.bytes + TP_RECORD_HEADER), TP_OK);
            CHECK_MEM(r.bytes + TP_RECORD_HEADER, in_place, sizes[i]);
        }
        CHECK_EQ(w.sealing.counter, w.opening.counter);
        end_direction(&w);
    }
}

static void lengths_on_the_wire_are_as_documented(void) {
    for (unsigned n = 0; n <= UINT16_MAX; n++) {
        const uint8_t header[] = {(uint8_t)n, (uint8_t)(n >> 8)};
        size_t expected = n >= 17 && n <= 16400 ? n : 0;
        CHECK_EQ(tp_record_length(header), expected);
    }
}

static void invalid_calls_change_nothing(void) {
    static record r;
    static uint8_t plain[TP_RECORD_PLAIN_MAX];
    way w;
    begin_direction(&w, TP_SUITE_AES_256_GCM);
    CHECK_EQ(tp_record_seal(&w.sealing, r.bytes, 0), TP_ERR_INVALID);
    CHECK_EQ(tp_record_seal(&w.sealing, r.bytes, TP_RECORD_PLAIN_MAX + 1), TP_ERR_INVALID);
    CHECK_EQ(tp_record_seal(&w.opening, r.bytes, 1), TP_ERR_INVALID);
    seal(&w, &r, 100, 1);
    CHECK_EQ(tp_record_open(&w.opening, r.bytes + 2, 0, plain), TP_ERR_INVALID);
    CHECK_EQ(tp_record_open(&w.opening, r.bytes + 2, 16, plain), TP_ERR_INVALID);
    CHECK_EQ(tp_record_open(&w.opening, r.bytes + 2, 16401, plain), TP_ERR_INVALID);
    CHECK_EQ(tp_record_open(&w.opening, r.bytes + 2, SIZE_MAX, plain), TP_ERR_INVALID);
    CHECK_EQ(tp_record_open(&w.sealing, r.bytes + 2, 116, plain), TP_ERR_INVALID);
    expect_opens(&w, &r, 1);
    end_direction(&w);
    CHECK_EQ(tp_record_seal(&w.sealing, r.bytes, 1), TP_ERR_INVALID);
    w.sealing.sealing = true;
    CHECK_EQ(tp_record_seal(&w.sealing, r.bytes, 1), TP_ERR_STATE);
    tp_record_destroy(&w.sealing); /* a second time, on a destroyed one */
    uint8_t key[TP_KEY_SIZE] = {0};
    CHECK_EQ(tp_record_create_sealing(&w.sealing, (tp_suite)3, key), TP_ERR_INVALID);
    CHECK(w.sealing.cipher == NULL);
}

/* ---- changed, dropped, duplicated, swapped, reflected, spliced ------------------------------- */

static void every_changed_bit_is_refused(void) {
    static record r;
    for (size_t s = 0; s < FIXTURE_SUITES; s++) {
        uint8_t key[TP_KEY_SIZE];
        way w;
        fixture_draw_key(key);
        begin_direction_with(&w, fixture_suites[s], key);
        seal(&w, &r, 64, 1);
        for (size_t bit = 0; bit < 8 * (r.size - TP_RECORD_HEADER); bit++) {
            tp_record_destroy(&w.opening);
            REQUIRE(tp_record_create_opening(&w.opening, fixture_suites[s], key) == TP_OK);
            r.bytes[TP_RECORD_HEADER + bit / 8] ^= (uint8_t)(1u << bit % 8);
            expect_refused(&w.opening, &r);
            r.bytes[TP_RECORD_HEADER + bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        tp_record_destroy(&w.opening);
        REQUIRE(tp_record_create_opening(&w.opening, fixture_suites[s], key) == TP_OK);
        expect_opens(&w, &r, 1); /* unchanged, it opens: it was the bit */
        end_direction(&w);
    }
}

/* The length is not encrypted, but any other value makes another record of the bytes. */
static void every_other_length_is_refused(void) {
    static record r;
    static record next;
    uint8_t key[TP_KEY_SIZE];
    way w;
    fixture_draw_key(key);
    begin_direction_with(&w, TP_SUITE_AES_256_GCM, key);
    seal(&w, &r, 64, 1);
    seal(&w, &next, 64, 2);
    memcpy(r.bytes + r.size, next.bytes, next.size); /* the bytes that follow in the stream */
    size_t right = r.size;
    for (r.size = TP_RECORD_HEADER + TP_RECORD_MIN; r.size <= 2 * right; r.size++) {
        if (r.size != right) {
            tp_record_destroy(&w.opening);
            REQUIRE(tp_record_create_opening(&w.opening, TP_SUITE_AES_256_GCM, key) == TP_OK);
            expect_refused(&w.opening, &r);
        }
    }
    end_direction(&w);
}

static void records_open_in_their_order_only(void) {
    static record r[3];
    for (size_t s = 0; s < FIXTURE_SUITES; s++) {
        static const unsigned orders[][3] = {
            {1, 0, 0} /* dropped or swapped */, {0, 2, 0} /* dropped */, {0, 0, 0} /* repeated */};
        for (size_t o = 0; o < sizeof orders / sizeof orders[0]; o++) {
            way w;
            begin_direction(&w, fixture_suites[s]);
            for (unsigned i = 0; i < 3; i++) {
                seal(&w, &r[i], 40, i);
            }
            unsigned at = 0;
            for (; orders[o][at] == at; at++) {
                expect_opens(&w, &r[at], at);
            }
            expect_refused(&w.opening, &r[orders[o][at]]);
            end_direction(&w);
        }
    }
}

static void a_record_opens_in_its_direction_session_and_suite_only(void) {
    static record r;
    tp_session_keys client = {0};
    uint8_t others[TP_KEY_SIZE];
    way to_server;
    tp_record_direction opening;
    fixture_draw_key(client.send);
    fixture_draw_key(client.receive);
    fixture_draw_key(others);
    for (size_t s = 0; s < FIXTURE_SUITES; s++) {
        begin_direction_with(&to_server, fixture_suites[s], client.send);
        seal(&to_server, &r, 40, 0);
        REQUIRE(tp_record_create_opening(&opening, fixture_suites[s], client.receive) == TP_OK);
        expect_refused(&opening, &r); /* reflected */
        tp_record_destroy(&opening);
        REQUIRE(tp_record_create_opening(&opening, fixture_suites[s], others) == TP_OK);
        expect_refused(&opening, &r); /* spliced */
        tp_record_destroy(&opening);
        REQUIRE(tp_record_create_opening(&opening, fixture_suites[1 - s], client.send) == TP_OK);
        expect_refused(&opening, &r);
        tp_record_destroy(&opening);
        expect_opens(&to_server, &r, 0);
        end_direction(&to_server);
    }
}

/* ---- REKEY and the counter ------------------------------------------------------------------- */

static void across_the_boundary(tp_suite suite, uint64_t interval) {
    static record r;
    way ways[2]; /* to the server and back */
    test_record_rekey_interval(interval);
    begin_direction(&ways[0], suite);
    begin_direction(&ways[1], suite);
    for (unsigned i = 0; i < 4 * interval + 2; i++) {
        for (unsigned w = 0; w < 2; w++) {
            seal(&ways[w], &r, 20 + i, i);
            expect_opens(&ways[w], &r, i);
        }
    }
    end_direction(&ways[0]);
    end_direction(&ways[1]);
    test_record_rekey_interval(0);
}

static void both_ends_change_keys_at_the_interval(void) {
    for (size_t s = 0; s < FIXTURE_SUITES; s++) {
        across_the_boundary(fixture_suites[s], 1);
        across_the_boundary(fixture_suites[s], 4);
    }
}

/* A key changes at its interval and nowhere else: an end that changes it elsewhere loses the stream
 * there. */
static void a_key_change_at_another_place_breaks_the_stream(void) {
    static record r;
    for (size_t s = 0; s < FIXTURE_SUITES; s++) {
        way w;
        begin_direction(&w, fixture_suites[s]);
        for (unsigned i = 0; i < 5; i++) {
            test_record_rekey_interval(4);
            seal(&w, &r, 20, i);
            test_record_rekey_interval(8);
            if (i < 4) {
                expect_opens(&w, &r, i);
            } else {
                expect_refused(&w.opening, &r);
            }
        }
        end_direction(&w);
    }
    test_record_rekey_interval(0);
}

/* The same with the real interval. */
static void keys_change_at_the_real_interval(void) {
    static record r;
    for (size_t s = 0; s < FIXTURE_SUITES; s++) {
        way w;
        begin_direction(&w, fixture_suites[s]);
        w.sealing.counter = w.opening.counter = TP_RECORD_REKEY - 1;
        for (unsigned i = 0; i < 3; i++) {
            seal(&w, &r, 20, i);
            expect_opens(&w, &r, i);
        }
        CHECK_EQ(w.sealing.counter, TP_RECORD_REKEY + 2);
        end_direction(&w);
    }
}

static void a_counter_that_ends_ends_the_direction(void) {
    static record r;
    uint8_t plain[TP_RECORD_PLAIN_MAX];
    for (size_t s = 0; s < FIXTURE_SUITES; s++) {
        way w;
        begin_direction(&w, fixture_suites[s]);
        w.sealing.counter = TP_RECORD_COUNTER_END - TP_RECORD_COUNTER_RESERVE - 1;
        CHECK(!tp_record_near_end(&w.sealing));
        w.sealing.counter++;
        CHECK(tp_record_near_end(&w.sealing));
        w.sealing.counter = w.opening.counter = TP_RECORD_COUNTER_END - 2;
        for (unsigned i = 0; i < 2; i++) {
            seal(&w, &r, 20, i);
            expect_opens(&w, &r, i);
        }
        for (unsigned i = 0; i < 3; i++) { /* and it stays refused */
            CHECK_EQ(tp_record_seal(&w.sealing, r.bytes, 20), TP_ERR_KEY_LIMIT);
            CHECK_EQ(open_record(&w.opening, &r, plain), TP_ERR_KEY_LIMIT);
            CHECK_EQ(w.sealing.counter, TP_RECORD_COUNTER_END);
            CHECK_EQ(w.opening.counter, TP_RECORD_COUNTER_END);
            CHECK(tp_record_near_end(&w.sealing));
        }
        end_direction(&w);
    }
}

/* ---- no counter is used twice with a key ----------------------------------------------------- */

#define USES 4096

typedef struct use {
    uint64_t key_id;
    uint64_t counter;
    bool sealing;
} use;

static use uses[USES];
static unsigned use_count;

static void note(uint64_t key_id, uint64_t counter, bool sealing, void *context) {
    REQUIRE(context == uses && use_count < USES);
    uses[use_count++] = (use){key_id, counter, sealing};
}

static unsigned count_repeats(bool sealing) {
    unsigned repeats = 0;
    for (unsigned a = 0; a < use_count; a++) {
        for (unsigned b = 0; b < a; b++) {
            repeats += uses[a].key_id == uses[b].key_id && uses[a].counter == uses[b].counter &&
                       uses[a].sealing == sealing && uses[b].sealing == sealing;
        }
    }
    return repeats;
}

static unsigned count_keys(void) {
    unsigned keys = 0;
    for (unsigned a = 0; a < use_count; a++) {
        unsigned b = 0;
        while (b < a && uses[b].key_id != uses[a].key_id) {
            b++;
        }
        keys += b == a;
    }
    return keys;
}

static void no_counter_is_used_twice_with_a_key(void) {
    static record r;
    uint8_t key[TP_KEY_SIZE];
    way w;
    use_count = 0;
    test_record_rekey_interval(4);
    test_record_observe(note, uses);
    for (size_t s = 0; s < FIXTURE_SUITES; s++) {
        begin_direction(&w, fixture_suites[s]);
        for (unsigned i = 0; i < 22; i++) {
            seal(&w, &r, 20, i);
            expect_opens(&w, &r, i); /* observing changes nothing */
        }
        end_direction(&w);
    }
    /* 22 records at each end, and 5 changes of the key. */
    CHECK_EQ(use_count, FIXTURE_SUITES * 2 * (22 + 5));
    CHECK_EQ(count_keys(), FIXTURE_SUITES * 6); /* the same at both ends */
    CHECK_EQ(count_repeats(true), 0);
    CHECK_EQ(count_repeats(false), 0);
    /* A repetition would be found: two senders with one key, as if both directions had the same. */
    use_count = 0;
    fixture_draw_key(key);
    for (unsigned i = 0; i < 2; i++) {
        begin_direction_with(&w, TP_SUITE_AES_256_GCM, key);
        seal(&w, &r, 20, i);
        end_direction(&w);
    }
    CHECK_EQ(count_repeats(true), 1);
    test_record_observe(NULL, NULL);
    test_record_rekey_interval(0);
}

CHECK_MAIN(CASE(records_of_every_length_open), CASE(lengths_on_the_wire_are_as_documented),
    CASE(invalid_calls_change_nothing), CASE(every_changed_bit_is_refused),
    CASE(every_other_length_is_refused), CASE(records_open_in_their_order_only),
    CASE(a_record_opens_in_its_direction_session_and_suite_only),
    CASE(both_ends_change_keys_at_the_interval),
    CASE(a_key_change_at_another_place_breaks_the_stream), CASE(keys_change_at_the_real_interval),
    CASE(a_counter_that_ends_ends_the_direction), CASE(no_counter_is_used_twice_with_a_key))
