/*
 * Any bytes as HELLO and REPLY, and valid ones with any changes, in both modes and suites: no
 * session is established unless the bytes are those that were sent, and in mode token no other
 * HELLO costs a Diffie-Hellman operation.
 *
 *     byte 0: bit 0 mode, bit 1 suite, bits 2 and 3 the action
 *         0   the rest is a HELLO, complete or not
 *         1   the rest is a REPLY
 *         2   the rest are pairs: a position in a valid HELLO, and a mask to xor there
 *         3   the same for a valid REPLY
 */
#include "fuzz.h"

#include <string.h>

#include "proto/handshake.h"

#define NOW UINT64_C(1700000000)

/* A successful login: the client's state before the REPLY, and the bytes of both messages. */
typedef struct login {
    tp_mode mode;
    tp_noise client;
    uint8_t hello[TP_HELLO_MAX];
    uint8_t reply[TP_REPLY_WELCOME];
} login;

static tp_gateway_key gateway;
static tp_token_key ring;
static login logins[4];

static tp_err serve(const login *l, const uint8_t *hello, uint8_t reply[TP_REPLY_WELCOME]) {
    static const tp_reply_terms terms = {.heartbeat_seconds = 10};
    tp_hello checked;
    tp_session_keys keys;
    tp_err error = tp_hello_check(hello, l->mode, &gateway, &ring, 1, NOW, &checked);
    return error ? error : tp_hello_answer(&checked, &gateway, &terms, reply, &keys);
}

static void log_in(login *l, tp_suite suite, tp_mode mode) {
    const tp_identity identity = {.size = sizeof identity, .account = 1};
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
    size_t written = 0;
    REQUIRE(
        tp_token_mint(&ring, NOW + 60, gateway.pair.public_key, &identity, token, secret) == TP_OK);
    const tp_client_hello options = {.size = sizeof options,
        .suite = suite,
        .server_public = gateway.pair.public_key,
        .token = mode == TP_MODE_TOKEN ? token : NULL,
        .secret = mode == TP_MODE_TOKEN ? secret : NULL};
    l->mode = mode;
    REQUIRE(tp_hello_write(&options, &l->client, l->hello, &written) == TP_OK);
    REQUIRE(written == tp_hello_size(mode));
    REQUIRE(serve(l, l->hello, l->reply) == TP_OK);
}

static void draw(void) {
    tp_key_pair pair;
    REQUIRE(tp_key_pair_generate(&pair) == TP_OK);
    REQUIRE(tp_gateway_key_from_private(pair.private_key, &gateway) == TP_OK);
    REQUIRE(tp_key_pair_generate(&pair) == TP_OK);
    memcpy(ring.key, pair.private_key, TP_KEY_SIZE);
    for (unsigned i = 0; i < 4; i++) {
        log_in(&logins[i], i & 2 ? TP_SUITE_CHACHA20_POLY1305 : TP_SUITE_AES_256_GCM,
            i & 1 ? TP_MODE_TOKEN : TP_MODE_OPEN);
    }
}

/* Whether the bytes are the HELLO of one of the logins. All are compared, whatever the suite,
 * because the fuzzer learns the compared bytes from these comparisons. */
static bool is_good(const uint8_t *hello, tp_mode mode) {
    bool good = false;
    for (unsigned i = 0; i < 4; i++) {
        good = good ||
               (logins[i].mode == mode && memcmp(hello, logins[i].hello, tp_hello_size(mode)) == 0);
    }
    return good;
}

static void try_hello(const login *l, const uint8_t *bytes, size_t size) {
    uint8_t hello[TP_HELLO_MAX] = {0};
    uint8_t reply[TP_REPLY_WELCOME];
    size_t whole = tp_hello_size(l->mode);
    tp_hello_begin begin = tp_hello_look(bytes, size, l->mode);
    memcpy(hello, bytes, size < whole ? size : whole);
    bool good = is_good(hello, l->mode);
    uint64_t before = tp_noise_diffie_hellman_count();
    tp_err error = serve(l, hello, reply);
    REQUIRE((error == TP_OK) == good);
    REQUIRE(good || l->mode == TP_MODE_OPEN || tp_noise_diffie_hellman_count() == before);
    REQUIRE(size < TP_HELLO_FIXED || begin == TP_HELLO_GOOD || error == TP_ERR_PROTOCOL);
}

static void try_reply(const login *l, const uint8_t *bytes, size_t size) {
    tp_noise client = l->client;
    tp_reply reply;
    size_t whole = size > 0 ? tp_reply_size(bytes[0]) : 0;
    size = whole > 0 && size > whole ? whole : size;
    bool same = size == sizeof l->reply && memcmp(bytes, l->reply, size) == 0;
    tp_err error = tp_reply_read(&client, bytes, size, &reply);
    REQUIRE((error == TP_OK && reply.status == TP_REPLY_IS_WELCOME) == same);
}

/* `good` with these changes, as far as they are inside it. */
static void change(uint8_t *good, size_t size, const uint8_t *pairs, size_t count) {
    for (size_t i = 0; i + 1 < count; i += 2) {
        good[pairs[i] % size] ^= pairs[i + 1];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool drawn;
    uint8_t bytes[TP_HELLO_MAX];
    if (!drawn) {
        drawn = true;
        draw();
    }
    if (size < 1) {
        return 0;
    }
    const login *l = &logins[data[0] & 3];
    switch (data[0] >> 2 & 3) {
    case 0:
        try_hello(l, data + 1, size - 1);
        break;
    case 1:
        try_reply(l, data + 1, size - 1);
        break;
    case 2:
        memcpy(bytes, l->hello, sizeof bytes);
        change(bytes, tp_hello_size(l->mode), data + 1, size - 1);
        try_hello(l, bytes, tp_hello_size(l->mode));
        break;
    default:
        memcpy(bytes, l->reply, sizeof l->reply);
        change(bytes, sizeof l->reply, data + 1, size - 1);
        try_reply(l, bytes, sizeof l->reply);
        break;
    }
    return 0;
}
