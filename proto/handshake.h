/*
 * HELLO and REPLY: the WAN's handshake, both sides, as bytes.
 *
 * A client:
 *
 *     tp_hello_write(), and send the result; collect TP_REPLY_WELCOME bytes, or fewer, depending
 *     on the first byte (tp_reply_size()); tp_reply_read(); then exchange records
 *     (proto/record.h), in which READY is the client's first frame.
 *
 * A server:
 *
 *     collect tp_hello_size(mode) bytes; tp_hello_check(), which does no Diffie-Hellman work; check
 *     that the token has not been used; tp_hello_answer(), which does that work.
 *
 * Functions may be called from any thread. All memory belongs to the caller.
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
#define TP_HELLO_OPEN    56u  /* all of HELLO in mode open */
#define TP_HELLO_TOKEN   212u /* all of HELLO in mode token */
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

/* The encrypted payload of REPLY. */
typedef struct tp_reply_terms {
    uint16_t minor_version;
    uint16_t heartbeat_seconds;
    uint32_t max_payload; /* the largest payload of a frame that the server accepts */
    uint64_t session;     /* the session's id */
} tp_reply_terms;

/* The keys of the two directions, as seen by the side that has them. Wipe it. */
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
    const uint8_t *secret;        /* S, TP_KEY_SIZE bytes; NULL without a token */
} tp_client_hello;

/* Writes HELLO, and keeps in `noise` what tp_reply_read() needs. *written is 56 or 212.
 * TP_ERR_INVALID, TP_ERR_AUTH (the server's key is one that X25519 must refuse), TP_ERR_CRYPTO. */
tp_err tp_hello_write(
    const tp_client_hello *options, tp_noise *noise, uint8_t hello[TP_HELLO_MAX], size_t *written);

/* The size of a REPLY that begins with this status byte; 0: there is no such status. */
size_t tp_reply_size(uint8_t status);

/* The contents of a REPLY. The comments name the status with which a field is set. */
typedef struct tp_reply {
    tp_reply_status status;
    uint16_t busy_seconds;   /* busy */
    uint8_t highest_version; /* version */
    tp_reply_terms terms;    /* welcome */
    tp_session_keys keys;    /* welcome; wipe it */
} tp_reply;

/* Reads a whole REPLY (tp_reply_size() bytes), and wipes `noise`. TP_ERR_PROTOCOL (status or size),
 * TP_ERR_AUTH (REPLY is not from the server with that key, or was changed), TP_ERR_CRYPTO. */
tp_err tp_reply_read(tp_noise *noise, const uint8_t *bytes, size_t size, tp_reply *reply);

/* ---- a server's side ------------------------------------------------------------------------- */

/* The key pair of a server, with what is derived from it once. Wipe it. */
typedef struct tp_gateway_key {
    tp_key_pair pair;
    uint8_t public_hash[TP_KEY_SIZE]; /* SHA-256 of the public key, which tokens are bound to */
} tp_gateway_key;

/* Computes a server's keys from its private key. TP_ERR_CRYPTO. */
tp_err tp_gateway_key_from_private(const uint8_t private_key[TP_KEY_SIZE], tp_gateway_key *key);

/* The size of HELLO in this mode. */
size_t tp_hello_size(tp_mode mode);

/* What is known of a HELLO by its first TP_HELLO_FIXED or fewer bytes. */
typedef enum tp_hello_begin {
    TP_HELLO_GOOD,         /* these bytes are valid */
    TP_HELLO_FOREIGN,      /* not of this protocol, or not of this server's suites or mode: close */
    TP_HELLO_OTHER_VERSION /* "TPW" and another digit: answer with tp_reply_write_version() */
} tp_hello_begin;
/* Checks the first `count` bytes of a HELLO for a server with this mode. */
tp_hello_begin tp_hello_look(const uint8_t *bytes, size_t count, tp_mode mode);

/* A HELLO that has passed the checks before the Diffie-Hellman work. Contains secrets: wipe it. */
typedef struct tp_hello {
    tp_suite suite;
    tp_mode mode;
    uint8_t bytes[TP_HELLO_MAX];
    tp_token token; /* mode token */
} tp_hello;

/*
 * Checks a HELLO from magic to mac1, in the protocol's order, without Diffie-Hellman work. `bytes`
 * has exactly tp_hello_size(mode) bytes; `ring` has `keys` token keys and is not used in mode open;
 * `now` is in seconds since 1970. TP_ERR_PROTOCOL (magic, suite, mode, zeros), the errors of
 * tp_token_open(), and TP_ERR_AUTH also for mac1. On error `hello` is all zero.
 */
tp_err tp_hello_check(const uint8_t *bytes, tp_mode mode, const tp_gateway_key *key,
    const tp_token_key *ring, size_t keys, uint64_t now, tp_hello *hello);

/* Does the Diffie-Hellman work: reads Noise message 1 and writes a REPLY `welcome`. `keys` are the
 * server's. TP_ERR_AUTH (message 1 is not authentic), TP_ERR_CRYPTO. */
tp_err tp_hello_answer(const tp_hello *hello, const tp_gateway_key *key,
    const tp_reply_terms *terms, uint8_t reply[TP_REPLY_WELCOME], tp_session_keys *keys);

/* Write a REPLY `busy`, with the time in seconds that the client shall wait before it tries again,
 * and a REPLY `version`, with the server's version. */
void tp_reply_write_busy(uint16_t seconds, uint8_t reply[TP_REPLY_BUSY]);
void tp_reply_write_version(uint8_t reply[TP_REPLY_VERSION]);

#ifdef __cplusplus
}
#endif
#endif
