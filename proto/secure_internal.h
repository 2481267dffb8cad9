/*
 * The internals of the WAN's cryptography: the only place that uses libcrypto, and what keys.c,
 * noise.c, token.c and record.c share. Not installed: users' headers never include OpenSSL's.
 *
 * All functions may be called from any thread. Those that use a context leave secrets in it until
 * it is freed, which wipes it.
 */
#ifndef TWINPORT_PROTO_SECURE_INTERNAL_H
#define TWINPORT_PROTO_SECURE_INTERNAL_H

#include <openssl/evp.h>

#include "proto/bytes_internal.h"
#include "proto/suite.h"

#define TP__NONCE_SIZE 12u

/* ---- suite.c --------------------------------------------------------------------------------- */

/* Contexts of agree.c that make X25519 keys. They are kept for further use, because finding the
 * algorithm by its name takes longer than making a key. No part of a key stays in them. */
typedef struct tp__key_contexts tp__key_contexts;

tp__key_contexts *tp__key_contexts_create(void); /* NULL: out of memory, or libcrypto lacks
                                                    X25519 */
void tp__key_contexts_free(tp__key_contexts *contexts);

/* Fetched once and kept as long as the process lives. */
typedef struct tp__algorithms {
    EVP_MD *sha256;
    EVP_CIPHER *aes_256_gcm;
    EVP_CIPHER *chacha20_poly1305;
    tp__key_contexts *key_contexts;
} tp__algorithms;

/* NULL: libcrypto lacks one of them, or out of memory. */
const tp__algorithms *tp__algorithms_get(void);

/* NULL also for a suite that does not exist. */
const EVP_CIPHER *tp__suite_cipher(tp_suite suite);

static inline bool tp__suite_exists(unsigned suite) {
    return suite == TP_SUITE_AES_256_GCM || suite == TP_SUITE_CHACHA20_POLY1305;
}

/* The nonce in Noise's encoding: four zeros, then the counter, big-endian for GCM and little-endian
 * for ChaCha20-Poly1305. */
static inline void tp__suite_nonce(
    tp_suite suite, uint64_t counter, uint8_t nonce[TP__NONCE_SIZE]) {
    tp__put_u32(nonce, 0);
    if (suite == TP_SUITE_AES_256_GCM) {
        tp__put_u64_big(nonce + 4, counter);
    } else {
        tp__put_u64(nonce + 4, counter);
    }
}

/* Overwrites the stack below the caller. libcrypto wipes what it has on the heap, but X25519 and
 * ChaCha20 leave copies of their keys in stack frames. Takes about 100 ns. */
void tp__wipe_stack(void);
/* The same, but only as deep as the calls for a record reach: about 40 ns, a twentieth of a small
 * record's time. */
void tp__wipe_stack_of_record(void);

/* Draws a random secret. No part of it stays in libcrypto's generator. TP_ERR_CRYPTO: `secret` is
 * unchanged. */
tp_err tp__draw_secret(uint8_t secret[TP_KEY_SIZE]);

/* After a call to libcrypto has failed: clears the thread's OpenSSL error queue, so that the next
 * user of OpenSSL on this thread does not take these errors for its own. Returns `error`. */
tp_err tp__crypto_failed(tp_err error);

/* ---- hash.c: SHA-256 and HMAC-SHA-256 of a few pieces ---------------------------------------- */

typedef struct tp__piece {
    const void *bytes;
    size_t size;
} tp__piece;

/* Makes a context. It serves any number of the calls below without further allocation.
 * EVP_MD_CTX_free() wipes it. NULL: out of memory, or libcrypto lacks an algorithm. */
EVP_MD_CTX *tp__hash_context(void);

tp_err tp__sha256(
    EVP_MD_CTX *context, const tp__piece *pieces, size_t count, uint8_t digest[TP_KEY_SIZE]);
tp_err tp__hmac(EVP_MD_CTX *context, const uint8_t key[TP_KEY_SIZE], const tp__piece *pieces,
    size_t count, uint8_t mac[TP_KEY_SIZE]);

/* The same with a context of their own, for a single use. */
tp_err tp__sha256_once(const void *bytes, size_t size, uint8_t digest[TP_KEY_SIZE]);
tp_err tp__hmac_once(const uint8_t key[TP_KEY_SIZE], const tp__piece *pieces, size_t count,
    uint8_t mac[TP_KEY_SIZE]);

/* ---- aead.c: one message under a key of its own ---------------------------------------------- */

/* What belongs to the message: its key, the counter in its nonce, and the data bound to it. */
typedef struct tp__aead {
    tp_suite suite;
    const uint8_t *key;
    uint64_t nonce;
    const uint8_t *bound;
    size_t bound_size;
} tp__aead;

/* Writes size + TP_SECRET_TAG bytes to `sealed`. */
tp_err tp__aead_seal(const tp__aead *aead, const uint8_t *plain, size_t size, uint8_t *sealed);
/* `size` includes the tag; writes size - TP_SECRET_TAG bytes to `plain`. TP_ERR_AUTH: they are
 * zero. */
tp_err tp__aead_open(const tp__aead *aead, const uint8_t *sealed, size_t size, uint8_t *plain);

/* ---- agree.c: X25519 ------------------------------------------------------------------------- */

/* Draws a private key and computes its public key. */
tp_err tp__agree_generate(uint8_t private_key[TP_KEY_SIZE], uint8_t public_key[TP_KEY_SIZE]);
tp_err tp__agree_public(const uint8_t private_key[TP_KEY_SIZE], uint8_t public_key[TP_KEY_SIZE]);

/* Computes the shared secret. `public_key` belongs to `private_key`; passing it saves computing it.
 * TP_ERR_AUTH: the secret would be all zero, because the other side's key has a small order. Each
 * call is counted. */
tp_err tp__agree(const uint8_t private_key[TP_KEY_SIZE], const uint8_t public_key[TP_KEY_SIZE],
    const uint8_t peer_key[TP_KEY_SIZE], uint8_t shared[TP_KEY_SIZE]);
uint64_t tp__agree_count(void);

#endif
