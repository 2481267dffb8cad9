/*
 * Records. A direction is used by one thread at a time; its owner decides which. The cipher's
 * context is keyed once and gets only a new nonce for each record. The rules are constants, or a
 * test has set them before it uses a direction, so they are read without memory order.
 */
#include "proto/record.h"

#include <assert.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <string.h>

#include "proto/bytes_internal.h"
#include "proto/record_rules_internal.h"
#include "proto/secure_internal.h"

/* The nonce of REKEY, which no record can have. */
#define REKEY_COUNTER UINT64_MAX

_Static_assert(TP_RECORD_COUNTER_END < REKEY_COUNTER, "a record never has REKEY's nonce");
_Static_assert(TP_RECORD_MAX <= INT_MAX && TP_RECORD_MAX <= UINT16_MAX, "lengths fit");

/* ---- the life of a direction ----------------------------------------------------------------- */

static tp_err record_create(
    tp_record_direction *direction, tp_suite suite, const uint8_t key[TP_KEY_SIZE], bool sealing) {
    memset(direction, 0, sizeof *direction);
    if (!tp__suite_exists(suite)) {
        return TP_ERR_INVALID;
    }
    const EVP_CIPHER *algorithm = tp__suite_cipher(suite);
    if (algorithm == NULL) {
        return tp__crypto_failed(TP_ERR_CRYPTO);
    }
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    if (cipher == NULL) {
        return tp__crypto_failed(TP_ERR_NO_MEMORY);
    }
    bool keyed = EVP_CipherInit_ex2(cipher, algorithm, key, NULL, sealing, NULL) == 1;
    tp__wipe_stack();
    if (!keyed) {
        EVP_CIPHER_CTX_free(cipher);
        return tp__crypto_failed(TP_ERR_CRYPTO);
    }
    direction->cipher = cipher;
    direction->suite = (uint8_t)suite;
    direction->sealing = sealing;
    return TP_OK;
}

tp_err tp_record_create_sealing(
    tp_record_direction *direction, tp_suite suite, const uint8_t key[TP_KEY_SIZE]) {
    return record_create(direction, suite, key, true);
}

tp_err tp_record_create_opening(
    tp_record_direction *direction, tp_suite suite, const uint8_t key[TP_KEY_SIZE]) {
    return record_create(direction, suite, key, false);
}

void tp_record_destroy(tp_record_direction *direction) {
    EVP_CIPHER_CTX_free(direction->cipher);
    memset(direction, 0, sizeof *direction);
}

/* ---- the key's life -------------------------------------------------------------------------- */

/* Sets the nonce, and the tag of the record to be opened, or NULL. One call sets both, because on
 * small records libcrypto's calls cost as much as the ciphers do. */
static bool record_set_nonce(
    tp_record_direction *direction, uint64_t counter, const OSSL_PARAM *tag) {
    assert(direction->cipher != NULL);
    uint8_t nonce[TP__NONCE_SIZE];
    tp__suite_nonce((tp_suite)direction->suite, counter, nonce);
    return EVP_CipherInit_ex2(direction->cipher, NULL, NULL, nonce, direction->sealing, tag) == 1;
}

/* Describes the tag in a record, for libcrypto to read or write. */
static void describe_tag(const uint8_t *tag, OSSL_PARAM parameters[2]) {
    /* parameters serve both directions and have no const */
    parameters[0] = OSSL_PARAM_construct_octet_string(
        OSSL_CIPHER_PARAM_AEAD_TAG, (void *)(uintptr_t)tag, TP_SECRET_TAG);
    parameters[1] = OSSL_PARAM_construct_end();
}

/* Computes the key that REKEY derives from the present one: the key stream at REKEY's nonce.
 * Whether the cipher encrypts or decrypts, zeros become the key stream, and the tag is not
 * requested. So the present key need not be kept for this. */
static bool record_next_key(tp_record_direction *direction, uint8_t key[TP_KEY_SIZE]) {
    int written = 0;
    memset(key, 0, TP_KEY_SIZE);
    return record_set_nonce(direction, REKEY_COUNTER, NULL) &&
           EVP_CipherUpdate(direction->cipher, key, &written, key, (int)TP_KEY_SIZE) == 1;
}

/* Identifies the present key by a hash of the key that REKEY would derive from it. */
static bool record_identify_key(tp_record_direction *direction, uint64_t *key_id) {
    uint8_t next[TP_KEY_SIZE];
    uint8_t hash[TP_KEY_SIZE];
    const tp__piece pieces[] = {{&direction->suite, 1}, {next, sizeof next}};
    EVP_MD_CTX *context = tp__hash_context();
    bool done = context != NULL && record_next_key(direction, next) &&
                tp__sha256(context, pieces, 2, hash) == TP_OK;
    *key_id = done ? tp__get_u64(hash) : 0;
    EVP_MD_CTX_free(context);
    tp_secure_wipe(next, sizeof next);
    return done;
}

static bool record_observe(tp_record_direction *direction, uint64_t counter) {
    const tp__record_rules *rules = tp__record_rules_in_use;
    tp__record_observer *function = atomic_load_explicit(&rules->observer, memory_order_relaxed);
    uint64_t key_id;
    if (function == NULL) {
        return true;
    }
    if (!record_identify_key(direction, &key_id)) {
        return false;
    }
    function(key_id, counter, direction->sealing,
        atomic_load_explicit(&rules->observer_context, memory_order_relaxed));
    return true;
}

static bool record_rekey(tp_record_direction *direction) {
    assert(direction->counter > 0);
    uint8_t key[TP_KEY_SIZE];
    bool done =
        record_observe(direction, REKEY_COUNTER) && record_next_key(direction, key) &&
        EVP_CipherInit_ex2(direction->cipher, NULL, key, NULL, direction->sealing, NULL) == 1;
    tp_secure_wipe(key, sizeof key);
    tp__wipe_stack();
    return done;
}

/* Marks the direction as failed: it cannot be used any more. Returns `error`. */
static tp_err record_fail(tp_record_direction *direction, tp_err error) {
    direction->failed = true;
    return tp__crypto_failed(error);
}

/* Makes the cipher ready for the next counter. The counter is used up even on an error: a record
 * that fails half-way never shares its nonce with another one. */
static tp_err record_use_counter(tp_record_direction *direction, const OSSL_PARAM *tag) {
    uint64_t counter = direction->counter;
    uint64_t interval =
        atomic_load_explicit(&tp__record_rules_in_use->rekey_interval, memory_order_relaxed);
    assert(interval > 0 && (interval & (interval - 1)) == 0); /* the mask below finds when */
    if (direction->cipher == NULL || direction->failed) {
        return TP_ERR_STATE;
    }
    if (counter >= TP_RECORD_COUNTER_END) {
        return TP_ERR_KEY_LIMIT;
    }
    direction->counter = counter + 1;
    bool due = counter > 0 && (counter & (interval - 1)) == 0;
    bool ready = (!due || record_rekey(direction)) && record_observe(direction, counter) &&
                 record_set_nonce(direction, counter, tag);
    return ready ? TP_OK : record_fail(direction, TP_ERR_CRYPTO);
}

/* ---- records --------------------------------------------------------------------------------- */

/* ChaCha20 leaves its key in stack frames below; AES-256-GCM works on a key schedule on the heap.
 * The stack is wiped after each record and not when the direction ends, because the direction may
 * end on another thread, or further down the stack than the traces. */
static void wipe_traces(const tp_record_direction *direction) {
    if (direction->suite == TP_SUITE_CHACHA20_POLY1305) {
        tp__wipe_stack_of_record();
    }
}

tp_err tp_record_seal(tp_record_direction *direction, uint8_t *record, size_t plain_size) {
    if (plain_size < 1 || plain_size > TP_RECORD_PLAIN_MAX || !direction->sealing) {
        return TP_ERR_INVALID;
    }
    tp_err error = record_use_counter(direction, NULL);
    if (error) {
        return error;
    }
    uint8_t *body = record + TP_RECORD_HEADER;
    int written = 0;
    assert(direction->counter > 0 && direction->counter <= TP_RECORD_COUNTER_END);
    OSSL_PARAM tag[2];
    describe_tag(body + plain_size, tag);
    tp__put_u16(record, (uint16_t)(plain_size + TP_SECRET_TAG));
    bool done = EVP_CipherUpdate(direction->cipher, body, &written, body, (int)plain_size) == 1 &&
                EVP_CipherFinal_ex(direction->cipher, body + plain_size, &written) == 1 &&
                EVP_CIPHER_CTX_get_params(direction->cipher, tag) == 1;
    wipe_traces(direction);
    return done ? TP_OK : record_fail(direction, TP_ERR_CRYPTO);
}

tp_err tp_record_open(
    tp_record_direction *direction, const uint8_t *sealed, size_t length, uint8_t *plain) {
    if (length < TP_RECORD_MIN || length > TP_RECORD_MAX || direction->sealing) {
        return TP_ERR_INVALID;
    }
    size_t size = length - TP_SECRET_TAG;
    OSSL_PARAM tag[2];
    describe_tag(sealed + size, tag);
    tp_err error = record_use_counter(direction, tag);
    if (error) {
        return error;
    }
    uint8_t rest[TP_SECRET_TAG]; /* for the last block, which is empty with these ciphers */
    int written = 0;
    bool ready = EVP_CipherUpdate(direction->cipher, plain, &written, sealed, (int)size) == 1;
    bool authentic = ready && EVP_CipherFinal_ex(direction->cipher, rest, &written) == 1;
    wipe_traces(direction);
    if (!authentic) {
        tp_secure_wipe(plain, size);
        return record_fail(direction, ready ? TP_ERR_AUTH : TP_ERR_CRYPTO);
    }
    return TP_OK;
}
