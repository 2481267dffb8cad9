/*
 * The heap that libcrypto takes for records, through its own allocator functions: the cost of a
 * direction, that records take none, and that everything is freed, whatever was refused.
 */
#include <openssl/crypto.h>

#include "secure_fixture.h"
#include "tests/record_rules.h"

/* The limit for one direction. An idle session has two, and 3,584 bytes for everything. */
#define DIRECTION_LIMIT 1400

/* Each block begins with its size. The allocator's overhead is estimated as one word, rounded up to
 * two words. */
#define FRONT 16u

static size_t held;
static size_t allocations;

static size_t libcrypto_cost(size_t size) {
    return (size + 8 + 15) / 16 * 16;
}

static void *take(size_t size, const char *file, int line) {
    (void)file, (void)line;
    uint8_t *block = malloc(FRONT + size);
    REQUIRE(block != NULL);
    memcpy(block, &size, sizeof size);
    held += libcrypto_cost(size);
    allocations++;
    return block + FRONT;
}

static void give(void *memory, const char *file, int line) {
    (void)file, (void)line;
    if (memory != NULL) {
        uint8_t *block = (uint8_t *)memory - FRONT;
        size_t size;
        memcpy(&size, block, sizeof size);
        held -= libcrypto_cost(size);
        free(block);
    }
}

static void *change(void *memory, size_t size, const char *file, int line) {
    size_t before = 0;
    if (size == 0) {
        give(memory, file, line);
        return NULL;
    }
    uint8_t *changed = take(size, file, line);
    if (memory != NULL) {
        memcpy(&before, (uint8_t *)memory - FRONT, sizeof before);
        memcpy(changed, memory, before < size ? before : size);
        give(memory, file, line);
    }
    return changed;
}

static secure_fixture fixture;

/* The first case: libcrypto accepts an allocator only before its first allocation. */
static void count_what_libcrypto_takes(void) {
    REQUIRE(CRYPTO_set_mem_functions(take, change, give) == 1);
    fixture_draw(&fixture);
    CHECK_GT(allocations, 0);
}

static void warm(void) {
    if (allocations == 0) {
        count_what_libcrypto_takes();
    }
}

static void an_idle_direction_takes_little_memory(void) {
    static uint8_t record[TP_RECORD_HEADER + TP_RECORD_MAX];
    uint8_t plain[64];
    tp_record_direction sealing;
    tp_record_direction opening;
    warm();
    test_record_rekey_interval(4);
    for (size_t s = 0; s < FIXTURE_SUITES; s++) {
        REQUIRE(tp_record_create_sealing(&sealing, fixture_suites[s], fixture.secret) == TP_OK);
        tp_record_destroy(&sealing);
        size_t before = held;
        REQUIRE(tp_record_create_sealing(&sealing, fixture_suites[s], fixture.secret) == TP_OK);
        size_t for_sealing = held - before;
        REQUIRE(tp_record_create_opening(&opening, fixture_suites[s], fixture.secret) == TP_OK);
        size_t for_opening = held - before - for_sealing;
        printf("suite %d: %zu bytes to seal, %zu to open\n", fixture_suites[s], for_sealing,
            for_opening);
        CHECK_LE(for_sealing + sizeof sealing, DIRECTION_LIMIT);
        CHECK_LE(for_opening + sizeof opening, DIRECTION_LIMIT);

        size_t count = allocations;
        size_t in_use = held;
        for (unsigned i = 0; i < 50; i++) { /* with twelve changes of key among them */
            REQUIRE(tp_record_seal(&sealing, record, 64) == TP_OK);
            REQUIRE(tp_record_open(&opening, record + 2, 80, plain) == TP_OK);
        }
        CHECK_EQ(tp_record_open(&opening, record + 2, 16, plain), TP_ERR_INVALID);
        CHECK_EQ(tp_record_open(&opening, record + 2, 16401, plain), TP_ERR_INVALID);
        CHECK_EQ(tp_record_open(&opening, record + 2, 80, plain), TP_ERR_AUTH);
        CHECK_EQ(allocations, count);
        CHECK_EQ(held, in_use);
        tp_record_destroy(&sealing);
        tp_record_destroy(&opening);
        CHECK_EQ(held, before);
    }
    test_record_rekey_interval(0);
}

/* A login and its end, and logins that fail at each step. */
static void log_in_and_fail(void) {
    for (size_t m = 0; m < FIXTURE_MODES; m++) {
        tp_noise noise;
        tp_session_keys keys;
        tp_reply reply;
        uint8_t hello[TP_HELLO_MAX];
        uint8_t bytes[TP_REPLY_WELCOME];
        tp_record_direction directions[2];
        fixture_hello(&fixture, TP_SUITE_AES_256_GCM, fixture_modes[m], &noise, hello);
        tp_noise lost = noise;
        REQUIRE(fixture_serve(&fixture, fixture_modes[m], hello, bytes, &keys) == TP_OK);
        REQUIRE(tp_record_create_sealing(&directions[0], keys.suite, keys.send) == TP_OK);
        REQUIRE(tp_record_create_opening(&directions[1], keys.suite, keys.receive) == TP_OK);
        tp_record_destroy(&directions[0]);
        tp_record_destroy(&directions[1]);
        REQUIRE(tp_reply_read(&noise, bytes, sizeof bytes, &reply) == TP_OK);
        bytes[64] ^= 1;
        CHECK_EQ(tp_reply_read(&lost, bytes, sizeof bytes, &reply), TP_ERR_AUTH);
        size_t message = tp_hello_size(fixture_modes[m]) - 20;
        hello[message] ^= 1;
        CHECK_EQ(fixture_serve(&fixture, fixture_modes[m], hello, bytes, &keys), TP_ERR_AUTH);
        memset(hello + message - 28, 0, 32); /* overwrites e, mostly with a point of small order */
        CHECK_NE(fixture_serve(&fixture, fixture_modes[m], hello, bytes, &keys), TP_OK);
    }
}

static void every_login_frees_its_memory(void) {
    warm();
    log_in_and_fail();
    size_t before = held;
    for (unsigned i = 0; i < 20; i++) {
        log_in_and_fail();
    }
    CHECK_EQ(held, before);
}

CHECK_MAIN(CASE(count_what_libcrypto_takes), CASE(an_idle_direction_takes_little_memory),
    CASE(every_login_frees_its_memory))
