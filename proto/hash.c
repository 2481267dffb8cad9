/*
 * SHA-256, and HMAC as RFC 2104 builds it from SHA-256. libcrypto's own HMAC copies its context for
 * every use, while this one restarts the same context. Any thread, a context by one thread at a
 * time; the caller owns the context.
 */
#include "proto/secure_internal.h"

#define BLOCK 64u /* of SHA-256; keys here are shorter, so none has to be hashed first */

EVP_MD_CTX *tp__hash_context(void) {
    return tp__algorithms_get() != NULL ? EVP_MD_CTX_new() : NULL;
}

static bool hash_begin(EVP_MD_CTX *context) {
    return EVP_DigestInit_ex2(context, tp__algorithms_get()->sha256, NULL) == 1;
}

static bool hash_add(EVP_MD_CTX *context, const tp__piece *pieces, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (EVP_DigestUpdate(context, pieces[i].bytes, pieces[i].size) != 1) {
            return false;
        }
    }
    return true;
}

static bool hash_finish(EVP_MD_CTX *context, uint8_t digest[TP_KEY_SIZE]) {
    return EVP_DigestFinal_ex(context, digest, NULL) == 1;
}

tp_err tp__sha256(
    EVP_MD_CTX *context, const tp__piece *pieces, size_t count, uint8_t digest[TP_KEY_SIZE]) {
    bool done =
        hash_begin(context) && hash_add(context, pieces, count) && hash_finish(context, digest);
    return done ? TP_OK : tp__crypto_failed(TP_ERR_CRYPTO);
}

/* Begins a hash with the key's block, every byte of which is XORed with `mask`. */
static bool hmac_begin(EVP_MD_CTX *context, const uint8_t key[TP_KEY_SIZE], uint8_t mask) {
    uint8_t block[BLOCK];
    for (size_t i = 0; i < BLOCK; i++) {
        block[i] = (uint8_t)((i < TP_KEY_SIZE ? key[i] : 0) ^ mask);
    }
    bool begun = hash_begin(context) && EVP_DigestUpdate(context, block, BLOCK) == 1;
    tp_secure_wipe(block, sizeof block);
    return begun;
}

tp_err tp__hmac(EVP_MD_CTX *context, const uint8_t key[TP_KEY_SIZE], const tp__piece *pieces,
    size_t count, uint8_t mac[TP_KEY_SIZE]) {
    uint8_t inner[TP_KEY_SIZE];
    const tp__piece rest = {inner, sizeof inner};
    bool done = hmac_begin(context, key, 0x36) && hash_add(context, pieces, count) &&
                hash_finish(context, inner) && hmac_begin(context, key, 0x5c) &&
                hash_add(context, &rest, 1) && hash_finish(context, mac);
    tp_secure_wipe(inner, sizeof inner);
    return done ? TP_OK : tp__crypto_failed(TP_ERR_CRYPTO);
}

tp_err tp__sha256_once(const void *bytes, size_t size, uint8_t digest[TP_KEY_SIZE]) {
    const tp__piece piece = {bytes, size};
    EVP_MD_CTX *context = tp__hash_context();
    tp_err error =
        context != NULL ? tp__sha256(context, &piece, 1, digest) : tp__crypto_failed(TP_ERR_CRYPTO);
    EVP_MD_CTX_free(context);
    return error;
}

tp_err tp__hmac_once(const uint8_t key[TP_KEY_SIZE], const tp__piece *pieces, size_t count,
    uint8_t mac[TP_KEY_SIZE]) {
    EVP_MD_CTX *context = tp__hash_context();
    tp_err error = context != NULL ? tp__hmac(context, key, pieces, count, mac)
                                   : tp__crypto_failed(TP_ERR_CRYPTO);
    EVP_MD_CTX_free(context);
    return error;
}
