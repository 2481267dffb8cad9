/*
 * Encrypts one message under a key that is used for nothing else: the payloads of the handshake and
 * the box of a token. Records have contexts of their own (record.c). Any thread; no state.
 */
#include "proto/secure_internal.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

/* Returns a context with key, nonce and bound data; NULL on failure. */
static EVP_CIPHER_CTX *aead_begin(const tp__aead *aead, bool sealing) {
    assert(aead->bound != NULL || aead->bound_size == 0);
    const EVP_CIPHER *cipher = tp__suite_cipher(aead->suite);
    EVP_CIPHER_CTX *context = cipher != NULL ? EVP_CIPHER_CTX_new() : NULL;
    uint8_t nonce[TP__NONCE_SIZE];
    int written = 0;
    if (context == NULL) {
        return NULL;
    }
    tp__suite_nonce(aead->suite, aead->nonce, nonce);
    if (EVP_CipherInit_ex2(context, cipher, aead->key, nonce, sealing, NULL) != 1 ||
        (aead->bound_size > 0 &&
            EVP_CipherUpdate(context, NULL, &written, aead->bound, (int)aead->bound_size) != 1)) {
        EVP_CIPHER_CTX_free(context);
        return NULL;
    }
    return context;
}

tp_err tp__aead_seal(const tp__aead *aead, const uint8_t *plain, size_t size, uint8_t *sealed) {
    if (size > INT_MAX || aead->bound_size > INT_MAX) {
        return TP_ERR_INVALID;
    }
    EVP_CIPHER_CTX *context = aead_begin(aead, true);
    int written = 0;
    bool done =
        context != NULL &&
        (size == 0 || EVP_CipherUpdate(context, sealed, &written, plain, (int)size) == 1) &&
        EVP_CipherFinal_ex(context, sealed + size, &written) == 1 &&
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, (int)TP_SECRET_TAG, sealed + size) == 1;
    EVP_CIPHER_CTX_free(context);
    tp__wipe_stack();
    return done ? TP_OK : tp__crypto_failed(TP_ERR_CRYPTO);
}

tp_err tp__aead_open(const tp__aead *aead, const uint8_t *sealed, size_t size, uint8_t *plain) {
    if (size < TP_SECRET_TAG || size > INT_MAX || aead->bound_size > INT_MAX) {
        return TP_ERR_INVALID;
    }
    size -= TP_SECRET_TAG;
    EVP_CIPHER_CTX *context = aead_begin(aead, false);
    uint8_t tag[TP_SECRET_TAG];
    uint8_t rest[TP_SECRET_TAG]; /* for the last block, which is empty with these ciphers */
    int written = 0;
    memcpy(tag, sealed + size, sizeof tag); /* libcrypto takes a pointer that is not const */
    bool ready =
        context != NULL &&
        (size == 0 || EVP_CipherUpdate(context, plain, &written, sealed, (int)size) == 1) &&
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, (int)sizeof tag, tag) == 1;
    bool authentic = ready && EVP_CipherFinal_ex(context, rest, &written) == 1;
    EVP_CIPHER_CTX_free(context);
    tp__wipe_stack();
    if (!authentic) {
        tp_secure_wipe(plain, size);
        return tp__crypto_failed(ready ? TP_ERR_AUTH : TP_ERR_CRYPTO);
    }
    return TP_OK;
}
