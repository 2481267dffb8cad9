/*
 * Connect tokens. Any thread; no state but what is returned to the caller.
 */
#include "proto/token.h"

#include <openssl/rand.h>
#include <string.h>

#include "proto/bytes_internal.h"
#include "proto/secure_internal.h"

/* The offsets of the fields in a token, and in the plaintext of its box. */
#define AT_EXPIRY 4u
#define AT_ID     12u
#define AT_BOX    28u

#define IN_FLAGS     8u
#define IN_RESERVED  12u
#define IN_SECRET    16u
#define IN_USER_DATA 48u
#define PLAIN_SIZE   96u

_Static_assert(AT_BOX + PLAIN_SIZE + TP_SECRET_TAG == TP_TOKEN_SIZE, "the box ends the token");
_Static_assert(IN_USER_DATA + TP_TOKEN_USER_DATA == PLAIN_SIZE, "the user data ends the plaintext");

/* Computes HMAC-SHA256(key, word || rest), `word` without its NUL. */
static tp_err token_derive(const uint8_t key[TP_KEY_SIZE], const char *word, tp__piece rest,
    uint8_t derived[TP_KEY_SIZE]) {
    const tp__piece pieces[] = {{word, strlen(word)}, rest};
    return tp__hmac_once(key, pieces, 2, derived);
}

/* The key of a box, and the data bound to it: the token before the box, and the public key of the
 * gate that the token is for, hashed. */
typedef struct box {
    uint8_t key[TP_KEY_SIZE];
    uint8_t bound[AT_BOX + TP_KEY_SIZE];
} box;

static tp_err box_prepare(const uint8_t ring_key[TP_KEY_SIZE],
    const uint8_t server_public_hash[TP_KEY_SIZE], const uint8_t token[TP_TOKEN_SIZE],
    box *prepared) {
    memcpy(prepared->bound, token, AT_BOX);
    memcpy(prepared->bound + AT_BOX, server_public_hash, TP_KEY_SIZE);
    return token_derive(
        ring_key, "twinport token v1", (tp__piece){token + AT_ID, TP_TOKEN_ID_SIZE}, prepared->key);
}

static tp__aead box_cipher(const box *prepared) {
    return (tp__aead){.suite = TP_SUITE_AES_256_GCM,
        .key = prepared->key,
        .bound = prepared->bound,
        .bound_size = sizeof prepared->bound};
}

static void plain_write(
    const tp_identity *identity, const uint8_t secret[TP_KEY_SIZE], uint8_t plain[PLAIN_SIZE]) {
    tp__put_u64(plain, identity->account);
    tp__put_u32(plain + IN_FLAGS, identity->flags);
    tp__put_u32(plain + IN_RESERVED, 0);
    memcpy(plain + IN_SECRET, secret, TP_KEY_SIZE);
    memcpy(plain + IN_USER_DATA, identity->user_data, TP_TOKEN_USER_DATA);
}

static tp_err token_draw(uint8_t id[TP_TOKEN_ID_SIZE], uint8_t secret[TP_KEY_SIZE]) {
    if (RAND_bytes(id, (int)TP_TOKEN_ID_SIZE) != 1) {
        return tp__crypto_failed(TP_ERR_CRYPTO);
    }
    return tp__draw_secret(secret);
}

tp_err tp_token_mint(const tp_token_key *key, uint64_t expiry,
    const uint8_t server_public[TP_KEY_SIZE], const tp_identity *identity,
    uint8_t token[TP_TOKEN_SIZE], uint8_t secret[TP_KEY_SIZE]) {
    if (identity->size != sizeof *identity || identity->reserved != 0) {
        return TP_ERR_INVALID;
    }
    uint8_t hash[TP_KEY_SIZE];
    uint8_t plain[PLAIN_SIZE];
    box prepared;
    memset(token, 0, AT_BOX);
    token[0] = key->id;
    tp__put_u64(token + AT_EXPIRY, expiry);
    tp_err error = token_draw(token + AT_ID, secret);
    error = error ? error : tp__sha256_once(server_public, TP_KEY_SIZE, hash);
    error = error ? error : box_prepare(key->key, hash, token, &prepared);
    if (!error) {
        const tp__aead cipher = box_cipher(&prepared);
        plain_write(identity, secret, plain);
        error = tp__aead_seal(&cipher, plain, sizeof plain, token + AT_BOX);
    }
    tp_secure_wipe(plain, sizeof plain);
    tp_secure_wipe(&prepared, sizeof prepared);
    if (error) {
        tp_secure_wipe(token, TP_TOKEN_SIZE);
        tp_secure_wipe(secret, TP_KEY_SIZE);
    }
    return error;
}

static const tp_token_key *find_key(const tp_token_key *ring, size_t keys, uint8_t id) {
    for (size_t i = 0; i < keys; i++) {
        if (ring[i].id == id) {
            return &ring[i];
        }
    }
    return NULL;
}

/* Reads the plaintext of the box. TP_ERR_PROTOCOL: its zeros are not zero. */
static tp_err plain_read(const uint8_t plain[PLAIN_SIZE], tp_token *opened) {
    opened->identity.size = sizeof opened->identity;
    opened->identity.account = tp__get_u64(plain);
    opened->identity.flags = tp__get_u32(plain + IN_FLAGS);
    memcpy(opened->secret, plain + IN_SECRET, TP_KEY_SIZE);
    memcpy(opened->identity.user_data, plain + IN_USER_DATA, TP_TOKEN_USER_DATA);
    return tp__get_u32(plain + IN_RESERVED) == 0 ? TP_OK : TP_ERR_PROTOCOL;
}

static tp_err box_open(const tp_token_key *key, const uint8_t server_public_hash[TP_KEY_SIZE],
    const uint8_t token[TP_TOKEN_SIZE], tp_token *opened) {
    uint8_t plain[PLAIN_SIZE];
    box prepared;
    tp_err error = box_prepare(key->key, server_public_hash, token, &prepared);
    if (!error) {
        const tp__aead cipher = box_cipher(&prepared);
        error = tp__aead_open(&cipher, token + AT_BOX, TP_TOKEN_SIZE - AT_BOX, plain);
    }
    error = error ? error : plain_read(plain, opened);
    tp_secure_wipe(plain, sizeof plain);
    tp_secure_wipe(&prepared, sizeof prepared);
    return error;
}

tp_err tp_token_open(const tp_token_key *ring, size_t keys, uint64_t now,
    const uint8_t server_public_hash[TP_KEY_SIZE], const uint8_t token[TP_TOKEN_SIZE],
    tp_token *opened) {
    memset(opened, 0, sizeof *opened);
    if ((token[1] | token[2] | token[3]) != 0) {
        return TP_ERR_PROTOCOL;
    }
    uint64_t expiry = tp__get_u64(token + AT_EXPIRY);
    if (expiry <= now) {
        return TP_ERR_EXPIRED;
    }
    const tp_token_key *key = find_key(ring, keys, token[0]);
    if (key == NULL) {
        return TP_ERR_NO_KEY;
    }
    opened->key_id = key->id;
    opened->expiry = expiry;
    memcpy(opened->id, token + AT_ID, TP_TOKEN_ID_SIZE);
    tp_err error = box_open(key, server_public_hash, token, opened);
    if (error) {
        tp_secure_wipe(opened, sizeof *opened);
    }
    return error;
}

tp_err tp_token_psk(const uint8_t secret[TP_KEY_SIZE], uint8_t psk[TP_KEY_SIZE]) {
    return token_derive(secret, "twinport psk v1", (tp__piece){NULL, 0}, psk);
}

tp_err tp_token_mac_key(const uint8_t secret[TP_KEY_SIZE], uint8_t mac_key[TP_KEY_SIZE]) {
    return token_derive(secret, "twinport mac1 v1", (tp__piece){NULL, 0}, mac_key);
}
