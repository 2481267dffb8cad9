/*
 * What the tests of the WAN's cryptography begin with: a gateway, a login service's ring, and a
 * player's token for the one by the other. All keys are drawn.
 */
#ifndef TWINPORT_TESTS_SECURE_STAGE_H
#define TWINPORT_TESTS_SECURE_STAGE_H

#include "check.h"

#include "proto/handshake.h"
#include "proto/record.h"

#define STAGE_NOW    UINT64_C(1700000000)
#define STAGE_EXPIRY (STAGE_NOW + 60)

static const tp_suite stage_suites[] = {TP_SUITE_AES_256_GCM, TP_SUITE_CHACHA20_POLY1305};
static const tp_mode stage_modes[] = {TP_MODE_OPEN, TP_MODE_TOKEN};
#define STAGE_SUITES (sizeof stage_suites / sizeof stage_suites[0])
#define STAGE_MODES  (sizeof stage_modes / sizeof stage_modes[0])

typedef struct secure_stage {
    tp_gateway_key gateway;
    tp_token_key ring[2]; /* tokens are minted with the second */
    tp_identity identity;
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
} secure_stage;

static inline void stage_draw_key(uint8_t key[TP_KEY_SIZE]) {
    tp_key_pair pair;
    REQUIRE(tp_key_pair_generate(&pair) == TP_OK);
    memcpy(key, pair.public_key, TP_KEY_SIZE);
    tp_secure_wipe(&pair, sizeof pair);
}

static inline void stage_draw_gateway(tp_gateway_key *gateway) {
    tp_key_pair pair;
    REQUIRE(tp_key_pair_generate(&pair) == TP_OK);
    REQUIRE(tp_gateway_key_from_private(pair.private_key, gateway) == TP_OK);
    tp_secure_wipe(&pair, sizeof pair);
}

static inline void stage_mint(secure_stage *stage) {
    REQUIRE(tp_token_mint(&stage->ring[1], STAGE_EXPIRY, stage->gateway.pair.public_key,
                &stage->identity, stage->token, stage->secret) == TP_OK);
}

static inline void stage_draw(secure_stage *stage) {
    memset(stage, 0, sizeof *stage);
    stage_draw_gateway(&stage->gateway);
    for (uint8_t i = 0; i < 2; i++) {
        stage->ring[i].id = (uint8_t)(7 + i);
        stage_draw_key(stage->ring[i].key);
    }
    stage->identity.size = sizeof stage->identity;
    stage->identity.account = UINT64_C(0x1122334455667788);
    stage->identity.flags = 0x99aabbcc;
    stage_draw_key(stage->identity.user_data);
    stage_mint(stage);
}

/* A client that knows what it must. */
static inline tp_client_hello stage_client(
    const secure_stage *stage, tp_suite suite, tp_mode mode) {
    return (tp_client_hello){.size = sizeof(tp_client_hello),
        .suite = suite,
        .server_public = stage->gateway.pair.public_key,
        .token = mode == TP_MODE_TOKEN ? stage->token : NULL,
        .secret = mode == TP_MODE_TOKEN ? stage->secret : NULL};
}

static inline void stage_hello(const secure_stage *stage, tp_suite suite, tp_mode mode,
    tp_noise *noise, uint8_t hello[TP_HELLO_MAX]) {
    tp_client_hello options = stage_client(stage, suite, mode);
    size_t written = 0;
    REQUIRE(tp_hello_write(&options, noise, hello, &written) == TP_OK);
    REQUIRE(written == tp_hello_size(mode));
}

static inline tp_err stage_check(
    const secure_stage *stage, tp_mode mode, const uint8_t *bytes, tp_hello *hello) {
    return tp_hello_check(bytes, mode, &stage->gateway, stage->ring, 2, STAGE_NOW, hello);
}

static const tp_reply_terms stage_terms = {.minor_version = 0x0102,
    .heartbeat_seconds = 0x0304,
    .max_payload = 0x05060708,
    .session = UINT64_C(0x090a0b0c0d0e0f10)};

/* The whole server: TP_OK and a welcome, or why not. */
static inline tp_err stage_serve(const secure_stage *stage, tp_mode mode, const uint8_t *bytes,
    uint8_t reply[TP_REPLY_WELCOME], tp_session_keys *keys) {
    tp_hello hello;
    tp_err error = stage_check(stage, mode, bytes, &hello);
    error = error ? error : tp_hello_answer(&hello, &stage->gateway, &stage_terms, reply, keys);
    tp_secure_wipe(&hello, sizeof hello);
    return error;
}

static inline bool stage_all_zero(const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) {
        any |= at[i];
    }
    return any == 0;
}

#endif
