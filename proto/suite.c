/*
 * The algorithms of libcrypto, and wiping. Any thread. What is fetched belongs to the process and
 * is never freed.
 */
#include "proto/secure_internal.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* How far down the stack libcrypto's calls leave data: about 2 KiB were observed. A wipe after the
 * work for a handshake may be called from higher up the stack than that work; a wipe after a record
 * is not. */
#define STACK_DEPTH  8192u
#define RECORD_DEPTH 4096u

/* More than a block of libcrypto's generator. */
#define SPARE_RANDOM 32u

/* NULL, or fetched and constant from then on. Threads that find NULL at the same time each fetch
 * their own; all but the first to publish free theirs. So no thread waits. */
static _Atomic(tp__algorithms *) published;

static void algorithms_free(tp__algorithms *fetched) {
    EVP_MD_free(fetched->sha256);
    EVP_CIPHER_free(fetched->aes_256_gcm);
    EVP_CIPHER_free(fetched->chacha20_poly1305);
    tp__key_contexts_free(fetched->key_contexts);
    free(fetched);
}

static tp__algorithms *algorithms_fetch(void) {
    tp__algorithms *fetched = calloc(1, sizeof *fetched);
    if (fetched == NULL) {
        return NULL;
    }
    fetched->sha256 = EVP_MD_fetch(NULL, "SHA2-256", NULL);
    fetched->aes_256_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    fetched->chacha20_poly1305 = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
    fetched->key_contexts = tp__key_contexts_create();
    if (fetched->sha256 == NULL || fetched->aes_256_gcm == NULL ||
        fetched->chacha20_poly1305 == NULL || fetched->key_contexts == NULL) {
        algorithms_free(fetched);
        return NULL;
    }
    return fetched;
}

const tp__algorithms *tp__algorithms_get(void) {
    tp__algorithms *algorithms = atomic_load_explicit(&published, memory_order_acquire);
    if (algorithms != NULL) {
        return algorithms;
    }
    tp__algorithms *fetched = algorithms_fetch();
    if (fetched == NULL) {
        return NULL;
    }
    if (!atomic_compare_exchange_strong_explicit(
            &published, &algorithms, fetched, memory_order_acq_rel, memory_order_acquire)) {
        algorithms_free(fetched);
        return algorithms;
    }
    return fetched;
}

tp_err tp_secure_init(void) {
    return tp__algorithms_get() != NULL ? TP_OK : tp__crypto_failed(TP_ERR_CRYPTO);
}

const EVP_CIPHER *tp__suite_cipher(tp_suite suite) {
    const tp__algorithms *algorithms = tp__algorithms_get();
    if (algorithms == NULL) {
        return NULL;
    }
    switch (suite) {
    case TP_SUITE_AES_256_GCM:
        return algorithms->aes_256_gcm;
    case TP_SUITE_CHACHA20_POLY1305:
        return algorithms->chacha20_poly1305;
    }
    return NULL;
}

void tp_secure_wipe(void *bytes, size_t size) {
    if (bytes != NULL) {
        OPENSSL_cleanse(bytes, size);
    }
}

/* fill_frame() needs a stack frame of its own below the caller's, and its memset() must not be
 * optimised away although nothing reads the bytes. So both are called through volatile pointers. */
static void *(*volatile const fill)(void *bytes, int value, size_t size) = memset;

static void fill_frame(void) {
    uint8_t frame[STACK_DEPTH];
    fill(frame, 0, sizeof frame);
}

static void fill_record_frame(void) {
    uint8_t frame[RECORD_DEPTH];
    fill(frame, 0, sizeof frame);
}

static void (*volatile const fill_own_frame)(void) = fill_frame;
static void (*volatile const fill_own_record_frame)(void) = fill_record_frame;

void tp__wipe_stack(void) {
    fill_own_frame();
}

void tp__wipe_stack_of_record(void) {
    fill_own_record_frame();
}

/* Without vector instructions libcrypto's generator keeps the last block that it returned until it
 * returns another one. So more bytes are requested than are used, in one call. */
tp_err tp__draw_secret(uint8_t secret[TP_KEY_SIZE]) {
    uint8_t drawn[TP_KEY_SIZE + SPARE_RANDOM];
    bool done = RAND_priv_bytes(drawn, (int)sizeof drawn) == 1;
    if (done) {
        memcpy(secret, drawn, TP_KEY_SIZE);
    }
    tp_secure_wipe(drawn, sizeof drawn);
    return done ? TP_OK : tp__crypto_failed(TP_ERR_CRYPTO);
}

tp_err tp__crypto_failed(tp_err error) {
    ERR_clear_error();
    return error;
}
