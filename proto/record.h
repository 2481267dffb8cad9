/*
 * Records: u16 N, then N bytes of AEAD ciphertext and tag, 17 <= N <= 16,400. One object for each
 * direction.
 *
 * The nonce is the direction's counter, from 0. Before counter n is used, n > 0 and n mod 2^20 = 0,
 * the key is replaced by Noise's REKEY. A counter ends at 2^63 and never wraps.
 *
 * Any thread; one direction by one thread at a time.
 */
#ifndef TWINPORT_PROTO_RECORD_H
#define TWINPORT_PROTO_RECORD_H

#include "proto/suite.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TP_RECORD_HEADER      2u
#define TP_RECORD_OVERHEAD    (TP_RECORD_HEADER + TP_SECRET_TAG) /* added to the plaintext */
#define TP_RECORD_MIN         17u                                /* N */
#define TP_RECORD_MAX         16400u                             /* N */
#define TP_RECORD_PLAIN_MAX   (TP_RECORD_MAX - TP_SECRET_TAG)    /* plaintext, 1..this */
#define TP_RECORD_REKEY       (UINT64_C(1) << 20)
#define TP_RECORD_COUNTER_END (UINT64_C(1) << 63)
/* tp_record_near_end() is true for so many counters before the end. */
#define TP_RECORD_COUNTER_RESERVE 1024u

/*
 * One direction of one session. Create allocates the cipher's state: with OpenSSL 3.0 on x86-64,
 * 1,168 bytes of heap for AES-256-GCM and 1,056 for ChaCha20-Poly1305. Seal, open and the change of
 * key allocate nothing.
 */
typedef struct tp_record_direction {
    void *cipher;     /* libcrypto's keyed context; NULL: none */
    uint64_t counter; /* of the next record */
    uint8_t suite;
    bool sealing;
    bool failed; /* after an error it cannot be used: TP_ERR_STATE */
} tp_record_direction;

/* Creates a direction. `key` is not stored outside the cipher's own key schedule. TP_ERR_INVALID
 * (no such suite), TP_ERR_CRYPTO, TP_ERR_NO_MEMORY; then the direction is all zero. */
tp_err tp_record_create_sealing(
    tp_record_direction *direction, tp_suite suite, const uint8_t key[TP_KEY_SIZE]);
tp_err tp_record_create_opening(
    tp_record_direction *direction, tp_suite suite, const uint8_t key[TP_KEY_SIZE]);

/* Frees and thereby wipes the cipher's state, the only place where the key is. Any thread. A
 * direction that is all zero is allowed. */
void tp_record_destroy(tp_record_direction *direction);

/* The length N of a record from its first two bytes; 0 if it is outside 17..16,400: the session
 * must end. */
static inline size_t tp_record_length(const uint8_t header[TP_RECORD_HEADER]) {
    size_t length = (size_t)header[0] | (size_t)header[1] << 8;
    return length < TP_RECORD_MIN || length > TP_RECORD_MAX ? 0 : length;
}

/* How many bytes `plain_size` bytes of plaintext take on the network, in records as full as
 * possible. */
static inline size_t tp_record_stream_size(size_t plain_size) {
    size_t records = (plain_size + TP_RECORD_PLAIN_MAX - 1) / TP_RECORD_PLAIN_MAX;
    return plain_size + records * TP_RECORD_OVERHEAD;
}

/*
 * Seals a record in place. The plaintext, 1..TP_RECORD_PLAIN_MAX bytes, is at record + 2;
 * afterwards the record has plain_size + TP_RECORD_OVERHEAD bytes. TP_ERR_INVALID (the size, or
 * this is a direction for opening), TP_ERR_KEY_LIMIT (no counter is left); TP_ERR_CRYPTO, and from
 * then on TP_ERR_STATE.
 */
tp_err tp_record_seal(tp_record_direction *direction, uint8_t *record, size_t plain_size);

/*
 * Opens the `length` bytes (N) behind a record's header into `plain`, length - 16 bytes. `plain`
 * may be `sealed`; otherwise they must not overlap. TP_ERR_INVALID (the length, or this is a
 * direction for sealing), TP_ERR_KEY_LIMIT (no counter is left); TP_ERR_AUTH (`plain` is all zero)
 * or TP_ERR_CRYPTO, and from then on TP_ERR_STATE.
 */
tp_err tp_record_open(
    tp_record_direction *direction, const uint8_t *sealed, size_t length, uint8_t *plain);

/* Whether it is time to send CLOSE `key-limit`. */
static inline bool tp_record_near_end(const tp_record_direction *direction) {
    return direction->counter >= TP_RECORD_COUNTER_END - TP_RECORD_COUNTER_RESERVE;
}

#ifdef __cplusplus
}
#endif
#endif
