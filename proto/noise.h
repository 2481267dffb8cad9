/*
 * The part of the Noise Protocol Framework, revision 34, that the WAN needs:
 * Noise_NK_25519_{AESGCM,ChaChaPoly}_SHA256 and Noise_NKpsk0_... There are two messages: initiator
 * to responder, and back. Any thread; one handshake by one thread at a time.
 */
#ifndef TWINPORT_PROTO_NOISE_H
#define TWINPORT_PROTO_NOISE_H

#include "proto/suite.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tp_noise_role { TP_NOISE_INITIATOR, TP_NOISE_RESPONDER } tp_noise_role;

/* One handshake. Its fields are private to the functions below. It contains secrets until
 * tp_noise_wipe(). */
typedef struct tp_noise {
    tp_suite suite;
    tp_noise_role role;
    bool with_psk;
    bool failed;
    uint8_t step; /* messages written or read so far, 0..2 */
    uint8_t psk[TP_KEY_SIZE];
    uint8_t chaining_key[TP_KEY_SIZE];
    uint8_t hash[TP_KEY_SIZE];
    uint8_t cipher_key[TP_KEY_SIZE];
    uint8_t static_private[TP_KEY_SIZE]; /* the responder's; only on its side */
    uint8_t static_public[TP_KEY_SIZE];
    uint8_t ephemeral_private[TP_KEY_SIZE];
    uint8_t ephemeral_public[TP_KEY_SIZE];
    uint8_t remote_ephemeral[TP_KEY_SIZE];
} tp_noise;

/* The keys that Split gives: the initiator seals with the first, the responder with the second. */
typedef struct tp_noise_keys {
    uint8_t to_responder[TP_KEY_SIZE];
    uint8_t to_initiator[TP_KEY_SIZE];
} tp_noise_keys;

/* Begins a handshake. `psk` NULL: NK; else NKpsk0. `prologue` may be NULL if its size is 0.
 * TP_ERR_INVALID, TP_ERR_CRYPTO. */
tp_err tp_noise_begin_initiator(tp_noise *noise, tp_suite suite, const uint8_t *psk,
    const uint8_t *prologue, size_t prologue_size, const uint8_t responder_public[TP_KEY_SIZE]);
tp_err tp_noise_begin_responder(tp_noise *noise, tp_suite suite, const uint8_t *psk,
    const uint8_t *prologue, size_t prologue_size, const uint8_t private_key[TP_KEY_SIZE],
    const uint8_t public_key[TP_KEY_SIZE]);

/*
 * Writes the next message with this payload: TP_KEY_SIZE + size + TP_SECRET_TAG bytes at `message`,
 * which must not overlap the payload. TP_ERR_STATE (it is not this side's turn), TP_ERR_AUTH (the
 * other side's key is one that X25519 must refuse), TP_ERR_CRYPTO. After an error the handshake
 * cannot be used any more.
 */
tp_err tp_noise_write(tp_noise *noise, const uint8_t *payload, size_t size, uint8_t *message);
/*
 * Reads the next message of `size` bytes. Its payload, size - 48 bytes, is written to `payload`,
 * which must not overlap the message. TP_ERR_SHORT, TP_ERR_STATE: nothing has changed. TP_ERR_AUTH
 * (the message is not authentic, or the other side's key must be refused), TP_ERR_CRYPTO: the
 * handshake cannot be used any more.
 */
tp_err tp_noise_read(tp_noise *noise, const uint8_t *message, size_t size, uint8_t *payload);

/* Derives the keys of the records, after both messages. TP_ERR_STATE, TP_ERR_CRYPTO. */
tp_err tp_noise_split(const tp_noise *noise, tp_noise_keys *keys);

/* Wipes a handshake, which cannot be used any more. */
void tp_noise_wipe(tp_noise *noise);

/* The number of Diffie-Hellman operations of this process so far, each counted when it begins. A
 * forged HELLO must not cause any. Generating a key pair is not counted. */
uint64_t tp_noise_diffie_hellman_count(void);

#ifdef __cplusplus
}
#endif
#endif
