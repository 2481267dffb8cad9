/*
 * X25519 by libcrypto's EVP interface. A key is passed as bytes with both halves, because libcrypto
 * computes the public half of a private key that is passed alone, which costs as much as the
 * agreement itself. Any thread; the count of agreements belongs to the process.
 */
#include "proto/secure_internal.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_uint_fast64_t agreements;

/* ---- contexts that make keys ----------------------------------------------------------------- */

/* As many as threads are likely to need at a time. A thread that finds none makes one of its
 * own. */
#define CONTEXTS 16u

/* Each slot has a context or NULL. A thread that exchanges a context out of a slot is its only
 * user. */
struct tp__key_contexts {
    _Atomic(EVP_PKEY_CTX *) slots[CONTEXTS];
};

static EVP_PKEY_CTX *context_create(void) {
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "X25519", NULL);
    if (context != NULL && EVP_PKEY_fromdata_init(context) != 1) {
        EVP_PKEY_CTX_free(context);
        return NULL;
    }
    return context;
}

void tp__key_contexts_free(tp__key_contexts *contexts) {
    for (unsigned i = 0; contexts != NULL && i < CONTEXTS; i++) {
        EVP_PKEY_CTX_free(atomic_load_explicit(&contexts->slots[i], memory_order_relaxed));
    }
    free(contexts);
}

tp__key_contexts *tp__key_contexts_create(void) {
    tp__key_contexts *contexts = calloc(1, sizeof *contexts);
    for (unsigned i = 0; contexts != NULL && i < CONTEXTS; i++) {
        EVP_PKEY_CTX *context = context_create();
        if (context == NULL) {
            tp__key_contexts_free(contexts);
            return NULL;
        }
        atomic_init(&contexts->slots[i], context);
    }
    return contexts;
}

static EVP_PKEY_CTX *context_acquire(tp__key_contexts *contexts) {
    for (unsigned i = 0; i < CONTEXTS; i++) {
        /* Read before the exchange: an exchange would take the cache line from other threads even
         * if the slot is empty. Acquires what the thread that released the context has done with
         * it. */
        if (atomic_load_explicit(&contexts->slots[i], memory_order_relaxed) != NULL) {
            EVP_PKEY_CTX *context =
                atomic_exchange_explicit(&contexts->slots[i], NULL, memory_order_acquire);
            if (context != NULL) {
                return context;
            }
        }
    }
    return context_create();
}

static void context_release(tp__key_contexts *contexts, EVP_PKEY_CTX *context) {
    for (unsigned i = 0; i < CONTEXTS; i++) {
        EVP_PKEY_CTX *none = NULL;
        if (atomic_compare_exchange_strong_explicit(
                &contexts->slots[i], &none, context, memory_order_release, memory_order_relaxed)) {
            return;
        }
    }
    EVP_PKEY_CTX_free(context);
}

/* Returns the key with these halves, or with the public one alone if `private_key` is NULL; NULL on
 * failure. */
static EVP_PKEY *make_key(const uint8_t *private_key, const uint8_t *public_key) {
    const tp__algorithms *algorithms = tp__algorithms_get();
    EVP_PKEY_CTX *context = algorithms != NULL ? context_acquire(algorithms->key_contexts) : NULL;
    EVP_PKEY *key = NULL;
    OSSL_PARAM halves[3];
    unsigned count = 0;
    if (context == NULL) {
        return NULL;
    }
    /* libcrypto only reads them: its parameters serve both directions and have no const */
    if (private_key != NULL) {
        halves[count++] = OSSL_PARAM_construct_octet_string(
            OSSL_PKEY_PARAM_PRIV_KEY, (void *)(uintptr_t)private_key, TP_KEY_SIZE);
    }
    halves[count++] = OSSL_PARAM_construct_octet_string(
        OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)public_key, TP_KEY_SIZE);
    halves[count] = OSSL_PARAM_construct_end();
    if (EVP_PKEY_fromdata(context, &key, EVP_PKEY_KEYPAIR, halves) != 1) {
        EVP_PKEY_CTX_free(context); /* its state is unknown */
        return NULL;
    }
    context_release(algorithms->key_contexts, context);
    return key;
}

/* ---- X25519 ---------------------------------------------------------------------------------- */

/* Returns a context that is ready to compute the agreement; NULL on failure. Any 32 bytes are a
 * public key on this curve or its twist, so nothing but the result is to be validated. */
static EVP_PKEY_CTX *agreement_prepare(EVP_PKEY *own, EVP_PKEY *peer) {
    EVP_PKEY_CTX *context =
        own != NULL && peer != NULL ? EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL) : NULL;
    if (context != NULL && EVP_PKEY_derive_init(context) == 1 &&
        EVP_PKEY_derive_set_peer_ex(context, peer, 0) == 1) {
        return context;
    }
    EVP_PKEY_CTX_free(context);
    return NULL;
}

static bool product_is_zero(const uint8_t bytes[TP_KEY_SIZE]) {
    static const uint8_t zero[TP_KEY_SIZE];
    return CRYPTO_memcmp(bytes, zero, TP_KEY_SIZE) == 0;
}

/* Computes X25519(private_key, point). `public_key` only completes the key, see below. */
static tp_err x25519_multiply(const uint8_t private_key[TP_KEY_SIZE],
    const uint8_t public_key[TP_KEY_SIZE], const uint8_t point[TP_KEY_SIZE],
    uint8_t product[TP_KEY_SIZE]) {
    EVP_PKEY *own = make_key(private_key, public_key);
    EVP_PKEY *peer = make_key(NULL, point);
    EVP_PKEY_CTX *context = agreement_prepare(own, peer);
    tp_err error = TP_ERR_CRYPTO;
    if (context != NULL) {
        size_t size = TP_KEY_SIZE;
        /* libcrypto also fails if the product is all zero; this does not depend on it */
        bool done = EVP_PKEY_derive(context, product, &size) == 1 && size == TP_KEY_SIZE &&
                    !product_is_zero(product);
        error = done ? TP_OK : TP_ERR_AUTH;
    }
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(peer);
    EVP_PKEY_free(own);
    tp__wipe_stack();
    if (error) {
        tp_secure_wipe(product, TP_KEY_SIZE);
        return tp__crypto_failed(error);
    }
    return TP_OK;
}

tp_err tp__agree(const uint8_t private_key[TP_KEY_SIZE], const uint8_t public_key[TP_KEY_SIZE],
    const uint8_t peer_key[TP_KEY_SIZE], uint8_t shared[TP_KEY_SIZE]) {
    atomic_fetch_add_explicit(&agreements, 1, memory_order_relaxed);
    return x25519_multiply(private_key, public_key, peer_key, shared);
}

/*
 * Computes a public key by its definition, X25519(private key, 9). libcrypto's ladder, which is in
 * assembly, needs half the time of its own multiplication of the base point, and this is a third of
 * a handshake. The ladder does not use the public half of its key, so the base point is passed
 * there too.
 */
tp_err tp__agree_public(const uint8_t private_key[TP_KEY_SIZE], uint8_t public_key[TP_KEY_SIZE]) {
    static const uint8_t base_point[TP_KEY_SIZE] = {9};
    tp_err error = x25519_multiply(private_key, base_point, base_point, public_key);
    return error ? TP_ERR_CRYPTO : TP_OK; /* no multiple of this point is zero, so an error is not
                                             the peer's */
}

/* Clamps the key as RFC 7748 prescribes (section 5). Every use clamps it again; but so the key that
 * is stored is the key that is used, as it is with libcrypto's own keys. */
tp_err tp__agree_generate(uint8_t private_key[TP_KEY_SIZE], uint8_t public_key[TP_KEY_SIZE]) {
    tp_err error = tp__draw_secret(private_key);
    if (error) {
        return error;
    }
    private_key[0] &= 0xF8;
    private_key[TP_KEY_SIZE - 1] &= 0x7F;
    private_key[TP_KEY_SIZE - 1] |= 0x40;
    return tp__agree_public(private_key, public_key);
}

uint64_t tp__agree_count(void) {
    return atomic_load_explicit(&agreements, memory_order_relaxed);
}
