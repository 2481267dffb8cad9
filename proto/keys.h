/*
 * X25519 key pairs, and keys as text: 64 hexadecimal digits. Any thread; the caller owns the pair
 * and wipes it.
 */
#ifndef TWINPORT_PROTO_KEYS_H
#define TWINPORT_PROTO_KEYS_H

#include "proto/suite.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TP_KEY_TEXT (2u * TP_KEY_SIZE + 1u) /* hexadecimal digits and a NUL */

typedef struct tp_key_pair {
    uint8_t private_key[TP_KEY_SIZE];
    uint8_t public_key[TP_KEY_SIZE];
} tp_key_pair;

/* Generates a pair from the system's random numbers. TP_ERR_CRYPTO. */
tp_err tp_key_pair_generate(tp_key_pair *pair);
/* Computes the pair of a private key. TP_ERR_CRYPTO. */
tp_err tp_key_pair_from_private(const uint8_t private_key[TP_KEY_SIZE], tp_key_pair *pair);

/* Writes a key as lower-case digits and a NUL. Returns `text`. */
char *tp_key_format(const uint8_t key[TP_KEY_SIZE], char text[TP_KEY_TEXT]);
/* Reads exactly 64 digits of either case. Otherwise returns false, and `key` is all zero. */
bool tp_key_parse(const char *text, uint8_t key[TP_KEY_SIZE]);

#ifdef __cplusplus
}
#endif
#endif
