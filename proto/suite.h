/*
 * What the WAN's cryptography has in common: sizes, suites, modes. docs/wan-protocol.md describes
 * the bytes.
 *
 * The functions of proto/{keys,noise,handshake,token,record}.h work on buffers: bytes in, bytes
 * out, no sockets, for server and client, so that any client can embed them. They form the library
 * twinport::secure and use OpenSSL 3's libcrypto, whose algorithms are fetched once. All may be
 * called from any thread; one object (a handshake, a direction of records) by one thread at a time.
 * A function that allocates says so. Every secret is wiped as soon as it is not needed any more.
 */
#ifndef TWINPORT_PROTO_SUITE_H
#define TWINPORT_PROTO_SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TP_KEY_SIZE   32u /* X25519 private and public keys, cipher keys, psks, hashes */
#define TP_SECRET_TAG 16u /* the bytes that an AEAD adds to its plaintext */

/* The values are those on the wire. */
typedef enum tp_suite { TP_SUITE_AES_256_GCM = 1, TP_SUITE_CHACHA20_POLY1305 = 2 } tp_suite;

typedef enum tp_mode {
    TP_MODE_OPEN = 0, /* Noise NK: any client that knows the server's public key may connect */
    TP_MODE_TOKEN = 1 /* Noise NKpsk0: only clients with a connect token of the login service */
} tp_mode;

/* Fetches the algorithms. The first call of any function does so too. TP_ERR_CRYPTO if libcrypto
 * lacks one: then no other function can work. */
tp_err tp_secure_init(void);

/* Overwrites `size` bytes; no compiler optimises this away. NULL is ignored. */
void tp_secure_wipe(void *bytes, size_t size);

#ifdef __cplusplus
}
#endif
#endif
