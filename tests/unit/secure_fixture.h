/*
 * The fixture of the tests of the WAN's cryptography: a gateway, a login service's key ring, and a
 * player's token for that gateway. All keys are random.
 */
#ifndef TWINPORT_TESTS_SECURE_FIXTURE_H
#define TWINPORT_TESTS_SECURE_FIXTURE_H

#include "check.h"

#include "proto/handshake.h"
#include "proto/record.h"

#define FIXTURE_NOW    UINT64_C(1700000000)
#define FIXTURE_EXPIRY (FIXTURE_NOW + 60)

static const tp_suite fixture_suites[] = {TP_SUITE_AES_256_GCM, TP_SUITE_CHACHA20_POLY1305};
static const tp_mode fixture_modes[] = {TP_MODE_OPEN, TP_MODE_TOKEN};
#define FIXTURE_SUITES (sizeof fixture_suites / sizeof fixture_suites[0])
#define FIXTURE_MODES  (sizeof fixture_modes / sizeof fixture_modes[0])

typedef struct secure_fixture {
    tp_gateway_key gateway;
    tp_token_key ring[2]; /* tokens are made with the second key */
    tp_identity identity;
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
} secure_fixture;

static inline void fixture_draw_key(uint8_t key[TP_KEY_SIZE]) {
    tp_key_pair pair;
    REQUIRE(tp_key_pair_generate(&pair) == TP_OK);
    memcpy(key, pair.public_key, TP_KEY_SIZE);
    tp_secure_wipe(&pair, sizeof pair);
}

static inline void fixture_draw_gateway(tp_gateway_key *gateway) {
    tp_key_pair pair;
    REQUIRE(tp_key_pair_generate(&pair) == TP_OK);
    REQUIRE(tp_gateway_key_from_private(pair.private_key, gateway) == TP_OK);
    tp_secure_wipe(&pair, sizeof pair);
}

static inline void fixture_mint(secure_fixture *fixture) {
    REQUIRE(tp_token_mint(&fixture->ring[1], FIXTURE_EXPIRY, fixture->gateway.pair.public_key,
                &fixture->identity, fixture->token, fixture->secret) == TP_OK);
}

static inline void fixture_draw(secure_fixture *fixture) {
    memset(fixture, 0, sizeof *fixture);
    fixture_draw_gateway(&fixture->gateway);
    for (uint8_t i = 0; i < 2; i++) {
        fixture->ring[i].id = (uint8_t)(7 + i);
        fixture_draw_key(fixture->ring[i].key);
    }
    fixture->identity.size = sizeof fixture->identity;
    fixture->identity.account = UINT64_C(0x1122334455667788);
    fixture->identity.flags = 0x99aabbcc;
    fixture_draw_key(fixture->identity.user_data);
    fixture_mint(fixture);
}

/* A HELLO of a client that has everything it needs. */
static inline tp_client_hello fixture_client(
    const secure_fixture *fixture, tp_suite suite, tp_mode mode) {
    return (tp_client_hello){.size = sizeof(tp_client_hello),
        .suite = suite,
        .server_public = fixture->gateway.pair.public_key,
        .token = mode == TP_MODE_TOKEN ? fixture->token : NULL,
        .secret = mode == TP_MODE_TOKEN ? fixture->secret : NULL};
}

static inline void fixture_hello(const secure_fixture *fixture, tp_suite suite, tp_mode mode,
    tp_noise *noise, uint8_t hello[TP_HELLO_MAX]) {
    tp_client_hello options = fixture_client(fixture, suite, mode);
    size_t written = 0;
    REQUIRE(tp_hello_write(&options, noise, hello, &written) == TP_OK);
    REQUIRE(written == tp_hello_size(mode));
}

static inline tp_err fixture_check(
    const secure_fixture *fixture, tp_mode mode, const uint8_t *bytes, tp_hello *hello) {
    return tp_hello_check(bytes, mode, &fixture->gateway, fixture->ring, 2, FIXTURE_NOW, hello);
}

static const tp_reply_terms fixture_terms = {.minor_version = 0x0102,
    .heartbeat_seconds = 0x0304,
    .max_payload = 0x05060708,
    .session = UINT64_C(0x090a0b0c0d0e0f10)};

/* The server's side: TP_OK and a WELCOME, or the error. */
static inline tp_err fixture_serve(const secure_fixture *fixture, tp_mode mode,
    const uint8_t *bytes, uint8_t reply[TP_REPLY_WELCOME], tp_session_keys *keys) {
    tp_hello hello;
    tp_err error = fixture_check(fixture, mode, bytes, &hello);
    error = error ? error : tp_hello_answer(&hello, &fixture->gateway, &fixture_terms, reply, keys);
    tp_secure_wipe(&hello, sizeof hello);
    return error;
}

static inline bool fixture_all_zero(const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) {
        any |= at[i];
    }
    return any == 0;
}

#endif
