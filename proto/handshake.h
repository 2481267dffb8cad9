/*
 * HELLO and REPLY: the WAN's handshake, both sides, as bytes.
 *
 * A client:   tp_hello_write() -> send; collect TP_REPLY_WELCOME bytes, or fewer if the first byte
 *             says so (tp_reply_size()) -> tp_reply_read() -> records (proto/record.h), READY
 *             first.
 * A server:   collect tp_hello_size(mode) bytes -> tp_hello_check(), which is cheap and does no
 *             Diffie-Hellman -> its own memory of used tokens -> tp_hello_answer(), which does it.
 */
#ifndef TWINPORT_PROTO_HANDSHAKE_H
#define TWINPORT_PROTO_HANDSHAKE_H

#include "proto/keys.h"
#include "proto/noise.h"
#include "proto/token.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TP_WAN_VERSION   1u   /* the digit in "TPW1" */
#define TP_HELLO_FIXED   8u   /* magic, suite, mode, zeros */
#define TP_HELLO_OPEN    56u  /* all of HELLO in mode open ... */
#define TP_HELLO_TOKEN   212u /* ... and in mode token */
#define TP_HELLO_MAX     TP_HELLO_TOKEN
#define TP_HELLO_MAC     16u
#define TP_REPLY_WELCOME 65u /* status and Noise message 2 */
#define TP_REPLY_BUSY    3u  /* status, u16 seconds */
#define TP_REPLY_VERSION 2u  /* status, u8 version */
#define TP_REPLY_PAYLOAD 16u

typedef enum tp_reply_status {
    TP_REPLY_IS_WELCOME = 0,
    TP_REPLY_IS_BUSY = 1,
    TP_REPLY_IS_VERSION = 2
} tp_reply_status;

/* What the server tells in REPLY, encrypted. */
typedef struct tp_reply_terms {
    uint16_t minor_version;
    uint16_t heartbeat_seconds;
    uint32_t max_payload; /* the largest payload of a frame that the server accepts */
    uint64_t session;     /* the session's id */
} tp_reply_terms;

/* Keys for the two directions, as the side that has them sees it. Wipe it. */
typedef struct tp_session_keys {
    tp_suite suite;
    uint8_t send[TP_KEY_SIZE];
    uint8_t receive[TP_KEY_SIZE];
} tp_session_keys;

/* ---- a client's side ------------------------------------------------------------------------- */

typedef struct tp_client_hello {
    size_t size; /* sizeof(tp_client_hello) */
    tp_suite suite;
    const uint8_t *server_public; /* TP_KEY_SIZE bytes */
    const uint8_t *token;         /* TP_TOKEN_SIZE bytes, or NULL: mode open */
    const uint8_t *secret;        /* S, TP_KEY_SIZE bytes; with a token */
} tp_client_hello;

/* Writes HELLO and keeps in `noise` what the reply needs. *written is 56 or 212. TP_ERR_INVALID,
 * TP_ERR_AUTH (X25519 must refuse such a server's key), TP_ERR_CRYPTO. */
tp_err tp_hello_write(
    const tp_client_hello *options, tp_noise *noise, uint8_t hello[TP_HELLO_MAX], size_t *written);

/* How long a REPLY that begins with this status is; 0: there is no such status. */
size_t tp_reply_size(uint8_t status);

/* What a REPLY said. */
typedef struct tp_reply {
    tp_reply_status status;
    uint16_t busy_seconds;   /* busy */
    uint8_t highest_version; /* version */
    tp_reply_terms terms;    /* welcome */
    tp_session_keys keys;    /* welcome; wipe it */
} tp_reply;

/* Reads a whole REPLY (tp_reply_size() bytes). Wipes `noise`. TP_ERR_PROTOCOL (status or size),
 * TP_ERR_AUTH (it is not from the gateway with that key, or was changed), TP_ERR_CRYPTO. */
tp_err tp_reply_read(tp_noise *noise, const uint8_t *bytes, size_t size, tp_reply *reply);

/* ---- a server's side ------------------------------------------------------------------------- */

/* A gateway's key, with what is derived from it once. Wipe it. */
typedef struct tp_gateway_key {
    tp_key_pair pair;
    uint8_t public_hash[TP_KEY_SIZE]; /* SHA-256 of the public key, which tokens are bound to */
} tp_gateway_key;

tp_err tp_gateway_key_from_private(const uint8_t private_key[TP_KEY_SIZE], tp_gateway_key *key);

/* The length of HELLO in this mode. */
size_t tp_hello_size(tp_mode mode);

/* What the first TP_HELLO_FIXED or fewer bytes of a HELLO say so far. */
typedef enum tp_hello_begin {
    TP_HELLO_GOOD,         /* nothing is wrong with these */
    TP_HELLO_FOREIGN,      /* not this protocol's, or not this server's suite or mode: close */
    TP_HELLO_OTHER_VERSION /* "TPW" and another digit: REPLY with tp_reply_write_version() */
} tp_hello_begin;
tp_hello_begin tp_hello_look(const uint8_t *bytes, size_t count, tp_mode mode);

/* A HELLO that passed the cheap checks, ready for the Diffie-Hellman work. Holds secrets: wipe
 * it. */
typedef struct tp_hello {
    tp_suite suite;
    tp_mode mode;
    uint8_t bytes[TP_HELLO_MAX];
    tp_token token; /* mode token */
} tp_hello;

/*
 * The checks from magic to mac1, in the protocol's order, none of which does Diffie-Hellman work.
 * `bytes`: exactly tp_hello_size(mode). The ring is not needed in mode open. TP_ERR_PROTOCOL
 * (magic, suite, mode, zeros), and those of tp_token_open(), TP_ERR_AUTH also for mac1. On error
 * `hello` is all zero.
 */
tp_err tp_hello_check(const uint8_t *bytes, tp_mode mode, const tp_gateway_key *key,
    const tp_token_key *ring, size_t keys, uint64_t now, tp_hello *hello);

/* The Diffie-Hellman work: reads Noise message 1 and writes a welcome. `keys` are the server's.
 * TP_ERR_AUTH (message 1 does not open), TP_ERR_CRYPTO. */
tp_err tp_hello_answer(const tp_hello *hello, const tp_gateway_key *key,
    const tp_reply_terms *terms, uint8_t reply[TP_REPLY_WELCOME], tp_session_keys *keys);

void tp_reply_write_busy(uint16_t seconds, uint8_t reply[TP_REPLY_BUSY]);
void tp_reply_write_version(uint8_t reply[TP_REPLY_VERSION]);

#ifdef __cplusplus
}
#endif
#endif
