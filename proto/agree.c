/*
 * X25519 by libcrypto's EVP. Keys are handed over as bytes with both halves, because a private key alone
 * makes libcrypto compute the public one: as dear as the agreement itself. Any thread; the count is the
 * process's.
 */
#include "proto/secure_internal.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <stdatomic.h>

static atomic_uint_fast64_t agreements;

/* The key with these halves, either of which may be NULL; NULL on failure. */
static EVP_PKEY *make_key(const uint8_t *private_key, const uint8_t *public_key) {
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "X25519", NULL);
    EVP_PKEY *key = NULL;
    OSSL_PARAM halves[3];
    unsigned count = 0;
    /* libcrypto only reads them: its parameters serve both ways and know no const. */
    if (private_key != NULL) {
        halves[count++] = OSSL_PARAM_construct_octet_string(
            OSSL_PKEY_PARAM_PRIV_KEY, (void *)(uintptr_t)private_key, TP_KEY_SIZE);
    }
    if (public_key != NULL) {
        halves[count++] = OSSL_PARAM_construct_octet_string(
            OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)public_key, TP_KEY_SIZE);
    }
    halves[count] = OSSL_PARAM_construct_end();
    if (context == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_KEYPAIR, halves) != 1) {
        key = NULL;
    }
    EVP_PKEY_CTX_free(context);
    return key;
}

static bool read_private(const EVP_PKEY *key, uint8_t private_key[TP_KEY_SIZE]) {
    size_t size = TP_KEY_SIZE;
    return EVP_PKEY_get_raw_private_key(key, private_key, &size) == 1 && size == TP_KEY_SIZE;
}

static bool read_public(const EVP_PKEY *key, uint8_t public_key[TP_KEY_SIZE]) {
    size_t size = TP_KEY_SIZE;
    return EVP_PKEY_get_raw_public_key(key, public_key, &size) == 1 && size == TP_KEY_SIZE;
}

tp_err tp__agree_generate(uint8_t private_key[TP_KEY_SIZE], uint8_t public_key[TP_KEY_SIZE]) {
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    bool done = key != NULL && read_private(key, private_key) && read_public(key, public_key);
    EVP_PKEY_free(key);
    tp__wipe_stack();
    return done ? TP_OK : tp__crypto_failed(TP_ERR_CRYPTO);
}

tp_err tp__agree_public(const uint8_t private_key[TP_KEY_SIZE], uint8_t public_key[TP_KEY_SIZE]) {
    EVP_PKEY *key = make_key(private_key, NULL);
    bool done = key != NULL && read_public(key, public_key);
    EVP_PKEY_free(key);
    tp__wipe_stack();
    return done ? TP_OK : tp__crypto_failed(TP_ERR_CRYPTO);
}

/* An agreement about to be computed; NULL on failure. Any 32 bytes are a public key on this curve or its
 * twin, so there is nothing to validate but the result. */
static EVP_PKEY_CTX *prepare(EVP_PKEY *own, EVP_PKEY *peer) {
    EVP_PKEY_CTX *context =
        own != NULL && peer != NULL ? EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL) : NULL;
    if (context != NULL && EVP_PKEY_derive_init(context) == 1 &&
        EVP_PKEY_derive_set_peer_ex(context, peer, 0) == 1) {
        return context;
    }
    EVP_PKEY_CTX_free(context);
    return NULL;
}

static bool is_zero(const uint8_t bytes[TP_KEY_SIZE]) {
    static const uint8_t zero[TP_KEY_SIZE];
    return CRYPTO_memcmp(bytes, zero, TP_KEY_SIZE) == 0;
}

tp_err tp__agree(const uint8_t private_key[TP_KEY_SIZE], const uint8_t public_key[TP_KEY_SIZE],
    const uint8_t peer_key[TP_KEY_SIZE], uint8_t shared[TP_KEY_SIZE]) {
    EVP_PKEY *own = make_key(private_key, public_key);
    EVP_PKEY *peer = make_key(NULL, peer_key);
    EVP_PKEY_CTX *context = prepare(own, peer);
    tp_err error = TP_ERR_CRYPTO;
    if (context != NULL) {
        size_t size = TP_KEY_SIZE;
        atomic_fetch_add_explicit(&agreements, 1, memory_order_relaxed);
        /* libcrypto too refuses a secret of zeros, by failing; we do not depend on it. */
        bool agreed =
            EVP_PKEY_derive(context, shared, &size) == 1 && size == TP_KEY_SIZE && !is_zero(shared);
        error = agreed ? TP_OK : TP_ERR_AUTH;
    }
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(peer);
    EVP_PKEY_free(own);
    tp__wipe_stack();
    if (error) {
        tp_secure_wipe(shared, TP_KEY_SIZE);
        return tp__crypto_failed(error);
    }
    return TP_OK;
}

uint64_t tp__agree_count(void) {
    return atomic_load_explicit(&agreements, memory_order_relaxed);
}
