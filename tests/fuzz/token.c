/*
 * Any bytes as a token, a minted token with any changes, minting for any identity, and any text as
 * a key. Only a minted token opens, and with the identity that it was minted for.
 *
 *     byte 0: the action
 *         0   the rest is a token, and is also put behind a valid head as its sealed part
 *         1   the rest are pairs: a position in a minted token, and a mask to xor there
 *         2   the rest is an identity to be minted and opened
 *         3   the rest is text
 */
#include "fuzz.h"

#include <string.h>

#include "proto/handshake.h"

#define NOW    UINT64_C(1700000000)
#define EXPIRY (NOW + 60)

static tp_gateway_key gateway;
static tp_token_key ring[2];
static uint8_t minted[TP_TOKEN_SIZE];

static void draw(void) {
    const tp_identity identity = {.size = sizeof identity, .account = 1};
    uint8_t secret[TP_KEY_SIZE];
    tp_key_pair pair;
    REQUIRE(tp_key_pair_generate(&pair) == TP_OK);
    REQUIRE(tp_gateway_key_from_private(pair.private_key, &gateway) == TP_OK);
    for (uint8_t i = 0; i < 2; i++) {
        REQUIRE(tp_key_pair_generate(&pair) == TP_OK);
        ring[i].id = i;
        memcpy(ring[i].key, pair.private_key, TP_KEY_SIZE);
    }
    REQUIRE(tp_token_mint(&ring[1], EXPIRY, gateway.pair.public_key, &identity, minted, secret) ==
            TP_OK);
}

static tp_err open_token(const uint8_t token[TP_TOKEN_SIZE], tp_token *opened) {
    tp_err error = tp_token_open(ring, 2, NOW, gateway.public_hash, token, opened);
    for (size_t i = 0; error && i < sizeof *opened; i++) {
        REQUIRE(((const uint8_t *)opened)[i] == 0);
    }
    return error;
}

static void try_bytes(const uint8_t *data, size_t size) {
    uint8_t token[TP_TOKEN_SIZE] = {0};
    tp_token opened;
    memcpy(token, data, size < sizeof token ? size : sizeof token);
    REQUIRE(open_token(token, &opened) != TP_OK);
    memcpy(token, minted, 28);
    REQUIRE(open_token(token, &opened) == TP_ERR_AUTH);
}

static void try_changes(const uint8_t *data, size_t size) {
    uint8_t token[TP_TOKEN_SIZE];
    tp_token opened;
    memcpy(token, minted, sizeof token);
    for (size_t i = 0; i + 1 < size; i += 2) {
        token[data[i] % TP_TOKEN_SIZE] ^= data[i + 1];
    }
    bool same = memcmp(token, minted, sizeof token) == 0;
    REQUIRE((open_token(token, &opened) == TP_OK) == same);
}

static void try_identity(const uint8_t *data, size_t size) {
    tp_identity identity = {.size = sizeof identity};
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
    tp_token opened;
    uint8_t bytes[8 + 4 + TP_TOKEN_USER_DATA] = {0};
    memcpy(bytes, data, size < sizeof bytes ? size : sizeof bytes);
    memcpy(&identity.account, bytes, 8);
    memcpy(&identity.flags, bytes + 8, 4);
    memcpy(identity.user_data, bytes + 12, TP_TOKEN_USER_DATA);
    REQUIRE(tp_token_mint(&ring[0], EXPIRY, gateway.pair.public_key, &identity, token, secret) ==
            TP_OK);
    REQUIRE(open_token(token, &opened) == TP_OK);
    REQUIRE(opened.identity.account == identity.account);
    REQUIRE(opened.identity.flags == identity.flags);
    REQUIRE(memcmp(opened.identity.user_data, identity.user_data, TP_TOKEN_USER_DATA) == 0);
    REQUIRE(memcmp(opened.secret, secret, TP_KEY_SIZE) == 0);
}

static void try_text(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1); /* of exact size, so that a read behind it is reported */
    char again[TP_KEY_TEXT];
    uint8_t key[TP_KEY_SIZE];
    REQUIRE(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    if (tp_key_parse(text, key)) {
        uint8_t parsed[TP_KEY_SIZE];
        REQUIRE(strlen(text) == TP_KEY_TEXT - 1);
        REQUIRE(tp_key_parse(tp_key_format(key, again), parsed));
        REQUIRE(memcmp(parsed, key, sizeof key) == 0);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool drawn;
    if (!drawn) {
        drawn = true;
        draw();
    }
    if (size < 1) {
        return 0;
    }
    switch (data[0] % 4) {
    case 0:
        try_bytes(data + 1, size - 1);
        break;
    case 1:
        try_changes(data + 1, size - 1);
        break;
    case 2:
        try_identity(data + 1, size - 1);
        break;
    default:
        try_text(data + 1, size - 1);
        break;
    }
    return 0;
}
