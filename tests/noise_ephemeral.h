/*
 * A handshake's ephemeral key, chosen by a test: for test vectors.
 */
#ifndef TWINPORT_TESTS_NOISE_EPHEMERAL_H
#define TWINPORT_TESTS_NOISE_EPHEMERAL_H

#include <string.h>

#include "proto/keys.h"
#include "proto/noise.h"

/* Sets the key pair that the handshake would otherwise make when it writes its message.
 * TP_ERR_STATE: it has written it; TP_ERR_CRYPTO. */
static inline tp_err test_noise_set_ephemeral(
    tp_noise *noise, const uint8_t private_key[TP_KEY_SIZE]) {
    if (noise->failed || noise->step > 1) {
        return TP_ERR_STATE;
    }
    tp_key_pair pair;
    tp_err error = tp_key_pair_from_private(private_key, &pair);
    memcpy(noise->ephemeral_private, pair.private_key, TP_KEY_SIZE);
    memcpy(noise->ephemeral_public, pair.public_key, TP_KEY_SIZE);
    noise->has_ephemeral = error == TP_OK;
    return error;
}

#endif
