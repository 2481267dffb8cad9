/*
 * Heap of the WAN's cryptography, as libcrypto asks for it: what a direction of an idle session
 * costs, that records take none, and that all of it comes back, whatever was refused.
 */
#include <openssl/crypto.h>

#include "secure_stage.h"

/* What a direction may cost: an idle session has two of them and at most 3,584 bytes for
 * everything. */
#define DIRECTION_LIMIT 1400

/* Blocks carry their size in front. Allocator's own needs are reckoned as a word and rounding to
 * two. */
#define FRONT 16u

static size_t held;
static size_t allocations;

static size_t cost(size_t size) {
    return (size + 8 + 15) / 16 * 16;
}

static void *take(size_t size, const char *file, int line) {
    (void)file, (void)line;
    uint8_t *block = malloc(FRONT + size);
    REQUIRE(block != NULL);
    memcpy(block, &size, sizeof size);
    held += cost(size);
    allocations++;
    return block + FRONT;
}

static void give(void *memory, const char *file, int line) {
    (void)file, (void)line;
    if (memory != NULL) {
        uint8_t *block = (uint8_t *)memory - FRONT;
        size_t size;
        memcpy(&size, block, sizeof size);
        held -= cost(size);
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

static secure_stage stage;

/* First of all: libcrypto takes its allocator only before it has used one. */
static void count_what_libcrypto_takes(void) {
    REQUIRE(CRYPTO_set_mem_functions(take, change, give) == 1);
    stage_draw(&stage);
    CHECK_GT(allocations, 0);
}

static void warm(void) {
    if (allocations == 0) {
        count_what_libcrypto_takes();
    }
}

static void a_direction_is_small(void) {
    static uint8_t record[TP_RECORD_HEADER + TP_RECORD_MAX];
    uint8_t plain[64];
    tp_record_direction sealing;
    tp_record_direction opening;
    warm();
    tp_record_test_rekey_interval(4);
    for (size_t s = 0; s < STAGE_SUITES; s++) {
        REQUIRE(tp_record_create_sealing(&sealing, stage_suites[s], stage.secret) == TP_OK);
        tp_record_destroy(&sealing);
        size_t before = held;
        REQUIRE(tp_record_create_sealing(&sealing, stage_suites[s], stage.secret) == TP_OK);
        size_t for_sealing = held - before;
        REQUIRE(tp_record_create_opening(&opening, stage_suites[s], stage.secret) == TP_OK);
        size_t for_opening = held - before - for_sealing;
        printf("suite %d: %zu bytes to seal, %zu to open\n", stage_suites[s], for_sealing,
            for_opening);
        CHECK_LE(for_sealing + sizeof sealing, DIRECTION_LIMIT);
        CHECK_LE(for_opening + sizeof opening, DIRECTION_LIMIT);

        size_t count = allocations;
        size_t in_use = held;
        for (unsigned i = 0; i < 50; i++) { /* twelve changes of key among them */
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
    tp_record_test_rekey_interval(0);
}

/* A login and its end, and logins that fail in each of the places. */
static void come_and_go(void) {
    for (size_t m = 0; m < STAGE_MODES; m++) {
        tp_noise noise;
        tp_session_keys keys;
        tp_reply reply;
        uint8_t hello[TP_HELLO_MAX];
        uint8_t bytes[TP_REPLY_WELCOME];
        tp_record_direction directions[2];
        stage_hello(&stage, TP_SUITE_AES_256_GCM, stage_modes[m], &noise, hello);
        tp_noise lost = noise;
        REQUIRE(stage_serve(&stage, stage_modes[m], hello, bytes, &keys) == TP_OK);
        REQUIRE(tp_record_create_sealing(&directions[0], keys.suite, keys.send) == TP_OK);
        REQUIRE(tp_record_create_opening(&directions[1], keys.suite, keys.receive) == TP_OK);
        tp_record_destroy(&directions[0]);
        tp_record_destroy(&directions[1]);
        REQUIRE(tp_reply_read(&noise, bytes, sizeof bytes, &reply) == TP_OK);
        bytes[64] ^= 1;
        CHECK_EQ(tp_reply_read(&lost, bytes, sizeof bytes, &reply), TP_ERR_AUTH);
        size_t message = tp_hello_size(stage_modes[m]) - 20;
        hello[message] ^= 1;
        CHECK_EQ(stage_serve(&stage, stage_modes[m], hello, bytes, &keys), TP_ERR_AUTH);
        memset(hello + message - 28, 0, 32); /* e, or most of it: mostly a point of small order */
        CHECK_NE(stage_serve(&stage, stage_modes[m], hello, bytes, &keys), TP_OK);
    }
}

static void everything_comes_back(void) {
    warm();
    come_and_go();
    size_t before = held;
    for (unsigned i = 0; i < 20; i++) {
        come_and_go();
    }
    CHECK_EQ(held, before);
}

CHECK_MAIN(
    CASE(count_what_libcrypto_takes), CASE(a_direction_is_small), CASE(everything_comes_back))
