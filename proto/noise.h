/*
 * The Noise Protocol Framework, revision 34, as far as the WAN needs it: Noise_NK_25519_{AESGCM,
 * ChaChaPoly}_SHA256 and Noise_NKpsk0_... Two messages: initiator to responder, and back.
 */
#ifndef TWINPORT_PROTO_NOISE_H
#define TWINPORT_PROTO_NOISE_H

#include "proto/suite.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tp_noise_role { TP_NOISE_INITIATOR, TP_NOISE_RESPONDER } tp_noise_role;

/* One handshake. Its fields are the functions' own; it holds secrets until tp_noise_wipe(). */
typedef struct tp_noise {
    tp_suite suite;
    tp_noise_role role;
    bool with_psk;
    bool has_ephemeral; /* it was given */
    bool failed;
    uint8_t step; /* messages written or read, 0..2 */
    uint8_t psk[TP_KEY_SIZE];
    uint8_t chaining_key[TP_KEY_SIZE];
    uint8_t hash[TP_KEY_SIZE];
    uint8_t cipher_key[TP_KEY_SIZE];
    uint8_t static_private[TP_KEY_SIZE]; /* responder's */
    uint8_t static_public[TP_KEY_SIZE];
    uint8_t ephemeral_private[TP_KEY_SIZE];
    uint8_t ephemeral_public[TP_KEY_SIZE];
    uint8_t remote_ephemeral[TP_KEY_SIZE];
} tp_noise;

/* What Split gives: the initiator seals with the first and the responder with the second. */
typedef struct tp_noise_keys {
    uint8_t to_responder[TP_KEY_SIZE];
    uint8_t to_initiator[TP_KEY_SIZE];
} tp_noise_keys;

/* `psk` NULL: NK; else NKpsk0. `prologue` may be NULL if its size is 0. TP_ERR_INVALID,
 * TP_ERR_CRYPTO. */
tp_err tp_noise_begin_initiator(tp_noise *noise, tp_suite suite, const uint8_t *psk,
    const uint8_t *prologue, size_t prologue_size, const uint8_t responder_public[TP_KEY_SIZE]);
tp_err tp_noise_begin_responder(tp_noise *noise, tp_suite suite, const uint8_t *psk,
    const uint8_t *prologue, size_t prologue_size, const uint8_t private_key[TP_KEY_SIZE],
    const uint8_t public_key[TP_KEY_SIZE]);

/* For test vectors: an ephemeral key that is given instead of drawn. */
tp_err tp_noise_set_ephemeral(tp_noise *noise, const uint8_t private_key[TP_KEY_SIZE]);

/*
 * Writes the next message with this payload: TP_KEY_SIZE + size + TP_SECRET_TAG bytes at `message`,
 * which does not overlap it. TP_ERR_STATE (it is not this side's turn), TP_ERR_AUTH (the peer's key
 * is one of the few that X25519 must refuse), TP_ERR_CRYPTO. After an error it is of no use any
 * more.
 */
tp_err tp_noise_write(tp_noise *noise, const uint8_t *payload, size_t size, uint8_t *message);
/*
 * Reads the next message of `size` bytes; its payload, size - 48 bytes, goes to `payload`, which
 * does not overlap it. TP_ERR_SHORT, TP_ERR_STATE: nothing has happened. TP_ERR_AUTH (it is not
 * authentic, or the peer's key must be refused), TP_ERR_CRYPTO: it is of no use any more.
 */
tp_err tp_noise_read(tp_noise *noise, const uint8_t *message, size_t size, uint8_t *payload);

/* After both messages: the keys of the records. TP_ERR_STATE, TP_ERR_CRYPTO. */
tp_err tp_noise_split(const tp_noise *noise, tp_noise_keys *keys);

void tp_noise_wipe(tp_noise *noise);

/* Diffie-Hellman computations of this process so far, each counted as it begins: what a forged
 * HELLO must not cost. Drawing a key pair is none. */
uint64_t tp_noise_diffie_hellman_count(void);

#ifdef __cplusplus
}
#endif
#endif
