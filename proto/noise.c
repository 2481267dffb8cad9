/*
 * Noise NK and NKpsk0, which consist of two messages (chapter 7 of the specification):
 *
 *     NK:  <- s                  NKpsk0:  <- s
 *          ...                            ...
 *          -> e, es                       -> psk, e, es
 *          <- e, ee                       <- e, ee
 *
 * The Diffie-Hellman operation of a message gives a new cipher key, and that key encrypts the one
 * payload of the message. So the nonce is always 0, and no cipher state is kept here.
 *
 * Any thread, a handshake by one thread at a time. The caller owns the handshake and wipes it at
 * the end.
 */
#include "proto/noise.h"

#include <assert.h>
#include <string.h>

#include "proto/secure_internal.h"

/* ---- the symmetric state --------------------------------------------------------------------- */

/* HKDF of the specification's section 4.3: derives `count` keys, 2 or 3, from the chaining key and
 * the input. */
static tp_err hkdf(EVP_MD_CTX *context, const uint8_t chaining_key[TP_KEY_SIZE], tp__piece input,
    uint8_t keys[][TP_KEY_SIZE], uint8_t count) {
    assert(count == 2 || count == 3);
    uint8_t extracted[TP_KEY_SIZE];
    tp_err error = tp__hmac(context, chaining_key, &input, 1, extracted);
    for (uint8_t number = 1; !error && number <= count; number++) {
        const uint8_t *before = number > 1 ? keys[number - 2] : NULL;
        const tp__piece pieces[] = {{before, before != NULL ? TP_KEY_SIZE : 0}, {&number, 1}};
        error = tp__hmac(context, extracted, pieces, 2, keys[number - 1]);
    }
    tp_secure_wipe(extracted, sizeof extracted);
    return error;
}

static tp_err mix_hash(tp_noise *noise, EVP_MD_CTX *context, const void *bytes, size_t size) {
    const tp__piece pieces[] = {{noise->hash, TP_KEY_SIZE}, {bytes, size}};
    return tp__sha256(context, pieces, 2, noise->hash);
}

static tp_err mix_key(tp_noise *noise, EVP_MD_CTX *context, const uint8_t input[TP_KEY_SIZE]) {
    uint8_t keys[2][TP_KEY_SIZE];
    tp_err error = hkdf(context, noise->chaining_key, (tp__piece){input, TP_KEY_SIZE}, keys, 2);
    if (!error) {
        memcpy(noise->chaining_key, keys[0], TP_KEY_SIZE);
        memcpy(noise->cipher_key, keys[1], TP_KEY_SIZE);
    }
    tp_secure_wipe(keys, sizeof keys);
    return error;
}

/* The pattern's token psk. The cipher key that it gives is replaced before anything is
 * encrypted. */
static tp_err mix_psk(tp_noise *noise, EVP_MD_CTX *context) {
    assert(noise->with_psk && noise->step == 0);
    uint8_t keys[3][TP_KEY_SIZE];
    tp_err error =
        hkdf(context, noise->chaining_key, (tp__piece){noise->psk, TP_KEY_SIZE}, keys, 3);
    if (!error) {
        memcpy(noise->chaining_key, keys[0], TP_KEY_SIZE);
        error = mix_hash(noise, context, keys[1], TP_KEY_SIZE);
    }
    tp_secure_wipe(keys, sizeof keys);
    tp_secure_wipe(noise->psk, sizeof noise->psk);
    return error;
}

/* The pattern's token e, of this side or of the other one. */
static tp_err mix_ephemeral(
    tp_noise *noise, EVP_MD_CTX *context, const uint8_t public_key[TP_KEY_SIZE]) {
    tp_err error = mix_hash(noise, context, public_key, TP_KEY_SIZE);
    return !error && noise->with_psk ? mix_key(noise, context, public_key) : error;
}

static tp_err mix_agreement(tp_noise *noise, EVP_MD_CTX *context,
    const uint8_t private_key[TP_KEY_SIZE], const uint8_t public_key[TP_KEY_SIZE],
    const uint8_t peer_key[TP_KEY_SIZE]) {
    uint8_t shared[TP_KEY_SIZE];
    tp_err error = tp__agree(private_key, public_key, peer_key, shared);
    error = error ? error : mix_key(noise, context, shared);
    tp_secure_wipe(shared, sizeof shared);
    return error;
}

static tp__aead payload_cipher(const tp_noise *noise) {
    return (tp__aead){.suite = noise->suite,
        .key = noise->cipher_key,
        .bound = noise->hash,
        .bound_size = TP_KEY_SIZE};
}

/* ---- begin ----------------------------------------------------------------------------------- */

static tp_err mix_protocol_name(tp_noise *noise, EVP_MD_CTX *context) {
    char name[48] = "Noise_NK";
    strcat(name, noise->with_psk ? "psk0_25519_" : "_25519_");
    strcat(name, noise->suite == TP_SUITE_AES_256_GCM ? "AESGCM_SHA256" : "ChaChaPoly_SHA256");
    const tp__piece whole = {name, strlen(name)};
    tp_err error = TP_OK;
    if (whole.size <= TP_KEY_SIZE) {
        memcpy(noise->hash, name, TP_KEY_SIZE); /* and the zeros behind the name */
    } else {
        error = tp__sha256(context, &whole, 1, noise->hash);
    }
    memcpy(noise->chaining_key, noise->hash, TP_KEY_SIZE);
    return error;
}

static tp_err noise_begin(tp_noise *noise, tp_noise_role role, tp_suite suite, const uint8_t *psk,
    const uint8_t *prologue, size_t prologue_size, const uint8_t responder_public[TP_KEY_SIZE]) {
    memset(noise, 0, sizeof *noise);
    noise->failed = true; /* until everything below has succeeded */
    if (!tp__suite_exists(suite) || (prologue == NULL && prologue_size > 0)) {
        return TP_ERR_INVALID;
    }
    EVP_MD_CTX *context = tp__hash_context();
    if (context == NULL) {
        return tp__crypto_failed(TP_ERR_CRYPTO);
    }
    noise->suite = suite;
    noise->role = role;
    noise->with_psk = psk != NULL;
    if (psk != NULL) {
        memcpy(noise->psk, psk, TP_KEY_SIZE);
    }
    memcpy(noise->static_public, responder_public, TP_KEY_SIZE);
    tp_err error = mix_protocol_name(noise, context);
    error = error ? error : mix_hash(noise, context, prologue, prologue_size);
    error = error ? error : mix_hash(noise, context, responder_public, TP_KEY_SIZE);
    EVP_MD_CTX_free(context);
    noise->failed = error != TP_OK;
    return error;
}

tp_err tp_noise_begin_initiator(tp_noise *noise, tp_suite suite, const uint8_t *psk,
    const uint8_t *prologue, size_t prologue_size, const uint8_t responder_public[TP_KEY_SIZE]) {
    return noise_begin(
        noise, TP_NOISE_INITIATOR, suite, psk, prologue, prologue_size, responder_public);
}

tp_err tp_noise_begin_responder(tp_noise *noise, tp_suite suite, const uint8_t *psk,
    const uint8_t *prologue, size_t prologue_size, const uint8_t private_key[TP_KEY_SIZE],
    const uint8_t public_key[TP_KEY_SIZE]) {
    tp_err error =
        noise_begin(noise, TP_NOISE_RESPONDER, suite, psk, prologue, prologue_size, public_key);
    if (!error) {
        memcpy(noise->static_private, private_key, TP_KEY_SIZE);
    }
    return error;
}

/* ---- the messages ---------------------------------------------------------------------------- */

/* Writes e, then mixes es or ee, then writes the payload. */
static tp_err message_write(
    tp_noise *noise, EVP_MD_CTX *context, const uint8_t *payload, size_t size, uint8_t *message) {
    assert(!noise->failed && noise->step < 2);
    const uint8_t *peer = noise->step == 0 ? noise->static_public : noise->remote_ephemeral;
    uint8_t *sealed = message + TP_KEY_SIZE;
    tp_err error = tp__agree_generate(noise->ephemeral_private, noise->ephemeral_public);
    if (error) {
        return error;
    }
    memcpy(message, noise->ephemeral_public, TP_KEY_SIZE);
    error = mix_ephemeral(noise, context, noise->ephemeral_public);
    if (!error) {
        error =
            mix_agreement(noise, context, noise->ephemeral_private, noise->ephemeral_public, peer);
    }
    if (error) {
        return error;
    }
    const tp__aead cipher = payload_cipher(noise);
    error = tp__aead_seal(&cipher, payload, size, sealed);
    return error ? error : mix_hash(noise, context, sealed, size + TP_SECRET_TAG);
}

/* Reads what message_write() writes; `size` is the size of the payload. */
static tp_err message_read(
    tp_noise *noise, EVP_MD_CTX *context, const uint8_t *message, uint8_t *payload, size_t size) {
    assert(!noise->failed && noise->step < 2);
    bool first = noise->step == 0;
    const uint8_t *own_private = first ? noise->static_private : noise->ephemeral_private;
    const uint8_t *own_public = first ? noise->static_public : noise->ephemeral_public;
    const uint8_t *sealed = message + TP_KEY_SIZE;
    memcpy(noise->remote_ephemeral, message, TP_KEY_SIZE);
    tp_err error = mix_ephemeral(noise, context, noise->remote_ephemeral);
    if (!error) {
        error = mix_agreement(noise, context, own_private, own_public, noise->remote_ephemeral);
    }
    if (error) {
        return error;
    }
    const tp__aead cipher = payload_cipher(noise);
    error = tp__aead_open(&cipher, sealed, size + TP_SECRET_TAG, payload);
    return error ? error : mix_hash(noise, context, sealed, size + TP_SECRET_TAG);
}

/* Whether this side writes (or reads) the next message: the initiator writes the first message and
 * the responder the second. */
static bool noise_may(const tp_noise *noise, bool write) {
    bool writes = (noise->step == 0) == (noise->role == TP_NOISE_INITIATOR);
    return !noise->failed && noise->step < 2 && writes == write;
}

/* Makes a context, and mixes in the psk before the first message. */
static tp_err message_begin(tp_noise *noise, EVP_MD_CTX **context) {
    *context = tp__hash_context();
    if (*context == NULL) {
        return tp__crypto_failed(TP_ERR_CRYPTO);
    }
    return noise->step == 0 && noise->with_psk ? mix_psk(noise, *context) : TP_OK;
}

/* Wipes every secret that is not needed any more. After the second message only the chaining key is
 * still needed. */
static tp_err message_end(tp_noise *noise, EVP_MD_CTX *context, tp_err error) {
    assert(noise->step < 2 && !noise->failed);
    EVP_MD_CTX_free(context);
    tp_secure_wipe(noise->cipher_key, TP_KEY_SIZE);
    tp_secure_wipe(noise->static_private, TP_KEY_SIZE);
    if (error || noise->step == 1) {
        tp_secure_wipe(noise->ephemeral_private, TP_KEY_SIZE);
    }
    if (error) {
        tp_secure_wipe(noise->chaining_key, TP_KEY_SIZE);
    }
    noise->failed = error != TP_OK;
    noise->step++;
    return error;
}

tp_err tp_noise_write(tp_noise *noise, const uint8_t *payload, size_t size, uint8_t *message) {
    if (!noise_may(noise, true)) {
        return TP_ERR_STATE;
    }
    EVP_MD_CTX *context = NULL;
    tp_err error = message_begin(noise, &context);
    error = error ? error : message_write(noise, context, payload, size, message);
    return message_end(noise, context, error);
}

tp_err tp_noise_read(tp_noise *noise, const uint8_t *message, size_t size, uint8_t *payload) {
    if (!noise_may(noise, false)) {
        return TP_ERR_STATE;
    }
    if (size < TP_KEY_SIZE + TP_SECRET_TAG) {
        return TP_ERR_SHORT;
    }
    EVP_MD_CTX *context = NULL;
    size -= TP_KEY_SIZE + TP_SECRET_TAG;
    tp_err error = message_begin(noise, &context);
    error = error ? error : message_read(noise, context, message, payload, size);
    return message_end(noise, context, error);
}

tp_err tp_noise_split(const tp_noise *noise, tp_noise_keys *keys) {
    if (noise->failed || noise->step != 2) {
        return TP_ERR_STATE;
    }
    EVP_MD_CTX *context = tp__hash_context();
    if (context == NULL) {
        return tp__crypto_failed(TP_ERR_CRYPTO);
    }
    uint8_t both[2][TP_KEY_SIZE];
    tp_err error = hkdf(context, noise->chaining_key, (tp__piece){NULL, 0}, both, 2);
    EVP_MD_CTX_free(context);
    if (!error) {
        memcpy(keys->to_responder, both[0], TP_KEY_SIZE);
        memcpy(keys->to_initiator, both[1], TP_KEY_SIZE);
    }
    tp_secure_wipe(both, sizeof both);
    return error;
}

void tp_noise_wipe(tp_noise *noise) {
    tp_secure_wipe(noise, sizeof *noise);
    noise->failed = true;
}

uint64_t tp_noise_diffie_hellman_count(void) {
    return tp__agree_count();
}
