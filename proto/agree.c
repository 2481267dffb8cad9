/*
 * X25519 by libcrypto's EVP. Keys are handed over as bytes with both halves, because a private key
 * alone makes libcrypto compute the public one: as dear as the agreement itself. Any thread; the
 * count is the process's.
 */
#include "proto/secure_internal.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_uint_fast64_t agreements;

/* ---- contexts that make keys ----------------------------------------------------------------- */

/* As many as threads may reasonably want at the same time; more are made when they are wanted, and
 * freed. */
#define CONTEXTS 16u

/* Each place has a context or NULL. Who exchanges one out is the only one to have it. */
struct tp__key_contexts {
    _Atomic(EVP_PKEY_CTX *) places[CONTEXTS];
};

static EVP_PKEY_CTX *create_context(void) {
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "X25519", NULL);
    if (context != NULL && EVP_PKEY_fromdata_init(context) != 1) {
        EVP_PKEY_CTX_free(context);
        return NULL;
    }
    return context;
}

void tp__key_contexts_free(tp__key_contexts *contexts) {
    for (unsigned i = 0; contexts != NULL && i < CONTEXTS; i++) {
        EVP_PKEY_CTX_free(atomic_load_explicit(&contexts->places[i], memory_order_relaxed));
    }
    free(contexts);
}

tp__key_contexts *tp__key_contexts_create(void) {
    tp__key_contexts *contexts = calloc(1, sizeof *contexts);
    for (unsigned i = 0; contexts != NULL && i < CONTEXTS; i++) {
        EVP_PKEY_CTX *context = create_context();
        if (context == NULL) {
            tp__key_contexts_free(contexts);
            return NULL;
        }
        atomic_init(&contexts->places[i], context);
    }
    return contexts;
}

static EVP_PKEY_CTX *take_context(tp__key_contexts *contexts) {
    for (unsigned i = 0; i < CONTEXTS; i++) {
        /* Looked at first: an exchange would take the line from who else is here. Acquires what the
         * thread that gave it back has done with it. */
        if (atomic_load_explicit(&contexts->places[i], memory_order_relaxed) != NULL) {
            EVP_PKEY_CTX *context =
                atomic_exchange_explicit(&contexts->places[i], NULL, memory_order_acquire);
            if (context != NULL) {
                return context;
            }
        }
    }
    return create_context();
}

static void give_context(tp__key_contexts *contexts, EVP_PKEY_CTX *context) {
    for (unsigned i = 0; i < CONTEXTS; i++) {
        EVP_PKEY_CTX *none = NULL;
        if (atomic_compare_exchange_strong_explicit(
                &contexts->places[i], &none, context, memory_order_release, memory_order_relaxed)) {
            return;
        }
    }
    EVP_PKEY_CTX_free(context);
}

/* The key with these halves, or with the public one alone if `private_key` is NULL; NULL on
 * failure. */
static EVP_PKEY *make_key(const uint8_t *private_key, const uint8_t *public_key) {
    const tp__algorithms *algorithms = tp__algorithms_get();
    EVP_PKEY_CTX *context = algorithms != NULL ? take_context(algorithms->key_contexts) : NULL;
    EVP_PKEY *key = NULL;
    OSSL_PARAM halves[3];
    unsigned count = 0;
    if (context == NULL) {
        return NULL;
    }
    /* libcrypto only reads them: its parameters serve both ways and know no const. */
    if (private_key != NULL) {
        halves[count++] = OSSL_PARAM_construct_octet_string(
            OSSL_PKEY_PARAM_PRIV_KEY, (void *)(uintptr_t)private_key, TP_KEY_SIZE);
    }
    halves[count++] = OSSL_PARAM_construct_octet_string(
        OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)public_key, TP_KEY_SIZE);
    halves[count] = OSSL_PARAM_construct_end();
    if (EVP_PKEY_fromdata(context, &key, EVP_PKEY_KEYPAIR, halves) != 1) {
        EVP_PKEY_CTX_free(context); /* whatever state it is in */
        return NULL;
    }
    give_context(algorithms->key_contexts, context);
    return key;
}

/* ---- X25519 ---------------------------------------------------------------------------------- */

/* An agreement about to be computed; NULL on failure. Any 32 bytes are a public key on this curve
 * or its twin, so there is nothing to validate but the result. */
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

/* X25519(private_key, point). `public_key` only completes the key, see below. */
static tp_err multiply(const uint8_t private_key[TP_KEY_SIZE],
    const uint8_t public_key[TP_KEY_SIZE], const uint8_t point[TP_KEY_SIZE],
    uint8_t product[TP_KEY_SIZE]) {
    EVP_PKEY *own = make_key(private_key, public_key);
    EVP_PKEY *peer = make_key(NULL, point);
    EVP_PKEY_CTX *context = prepare(own, peer);
    tp_err error = TP_ERR_CRYPTO;
    if (context != NULL) {
        size_t size = TP_KEY_SIZE;
        /* libcrypto too refuses a product of zeros, by failing; we do not depend on it. */
        bool done = EVP_PKEY_derive(context, product, &size) == 1 && size == TP_KEY_SIZE &&
                    !is_zero(product);
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
    return multiply(private_key, public_key, peer_key, shared);
}

/*
 * By the definition, X25519(private key, 9): libcrypto's ladder, which is in assembly, does that in
 * half the time that its own multiplication of the base point takes, and this is a third of a
 * handshake. The ladder never looks at the public half of the key it is given, so the base point
 * stands there too.
 */
tp_err tp__agree_public(const uint8_t private_key[TP_KEY_SIZE], uint8_t public_key[TP_KEY_SIZE]) {
    static const uint8_t base_point[TP_KEY_SIZE] = {9};
    tp_err error = multiply(private_key, base_point, base_point, public_key);
    return error ? TP_ERR_CRYPTO : TP_OK; /* no multiple of this point is zero */
}

/* Clamped as RFC 7748 has it (chapter 5): every use does so too, but what is written down is then
 * what is used, as it is with libcrypto's own. */
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
