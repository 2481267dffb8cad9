/*
 * Connect tokens. A login service mints them with a key that it shares with the gates; a gate opens
 * them without a connection to the login service. A player's client carries a token without being
 * able to read it.
 *
 *     0   1   key id
 *     1   3   zero
 *     4   8   expiry, seconds since 1970 UTC
 *     12  16  token id, random
 *     28  112 box: AES-256-GCM of account u64, flags u32, zero u32, secret 32, user data 48
 *
 * Functions may be called from any thread. `server_public` below is the public key of the gate.
 */
#ifndef TWINPORT_PROTO_TOKEN_H
#define TWINPORT_PROTO_TOKEN_H

#include "proto/suite.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TP_TOKEN_SIZE      140u
#define TP_TOKEN_ID_SIZE   16u
#define TP_TOKEN_USER_DATA 48u

/* Seconds from now to a token's expiry: the most that a gate accepts by default (max_token_life),
 * and the most that max_token_life can be. */
#define TP_TOKEN_LIFE     3600u
#define TP_TOKEN_LIFE_MAX 315360000u /* ten years */

/* One key of the key ring. */
typedef struct tp_token_key {
    uint8_t id;
    uint8_t key[TP_KEY_SIZE];
} tp_token_key;

/* The identity of the player that a token is for, as the login service wrote it. */
typedef struct tp_identity {
    size_t size; /* sizeof(tp_identity), set by the caller */
    uint64_t account;
    uint32_t flags;
    uint32_t reserved;
    uint8_t user_data[TP_TOKEN_USER_DATA];
} tp_identity;

/* The contents of an opened token. Contains a secret: wipe it. */
typedef struct tp_token {
    uint8_t key_id;
    uint64_t expiry; /* seconds since 1970 UTC */
    uint8_t id[TP_TOKEN_ID_SIZE];
    uint8_t secret[TP_KEY_SIZE]; /* S, which the client gets from the login service */
    tp_identity identity;
} tp_token;

/*
 * Mints a token for the gate with this public key. The token id and the secret S are drawn at
 * random. The client needs `token` and `secret`, sent over a secure channel. `expiry` is in seconds
 * since 1970 UTC. A minute from now is plenty: a gate refuses a token that expires more than
 * TP_TOKEN_LIFE from now, by its own clock, unless its max_token_life is longer. identity->size
 * must be set. TP_ERR_INVALID, TP_ERR_CRYPTO.
 */
tp_err tp_token_mint(const tp_token_key *key, uint64_t expiry,
    const uint8_t server_public[TP_KEY_SIZE], const tp_identity *identity,
    uint8_t token[TP_TOKEN_SIZE], uint8_t secret[TP_KEY_SIZE]);

/*
 * Opens a token at the time `now` (seconds since 1970 UTC) with the `keys` token keys of a key
 * ring. `server_public_hash` is the SHA-256 hash of the gate's public key. The errors, in the order
 * of the checks: TP_ERR_PROTOCOL (its zeros are not zero), TP_ERR_EXPIRED (expiry <= now),
 * TP_ERR_NO_KEY (the key ring has no such key), TP_ERR_AUTH (the box is not authentic: forged, or
 * for another gate), TP_ERR_CRYPTO. On error `opened` is all zero.
 */
tp_err tp_token_open(const tp_token_key *ring, size_t keys, uint64_t now,
    const uint8_t server_public_hash[TP_KEY_SIZE], const uint8_t token[TP_TOKEN_SIZE],
    tp_token *opened);

/* The keys that both sides derive from S: the psk of the handshake, and the key of HELLO's mac1.
 * TP_ERR_CRYPTO. */
tp_err tp_token_psk(const uint8_t secret[TP_KEY_SIZE], uint8_t psk[TP_KEY_SIZE]);
tp_err tp_token_mac_key(const uint8_t secret[TP_KEY_SIZE], uint8_t mac_key[TP_KEY_SIZE]);

#ifdef __cplusplus
}
#endif
#endif
