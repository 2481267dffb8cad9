/*
 * HELLO and REPLY. Any thread; no state but what is returned to the caller, which wipes it.
 */
#include "proto/handshake.h"

#include <openssl/crypto.h>
#include <string.h>

#include "proto/bytes_internal.h"
#include "proto/secure_internal.h"

/* The offsets of the fields in HELLO. */
#define AT_SUITE 4u
#define AT_MODE  5u
#define AT_ZEROS 6u
#define AT_TOKEN TP_HELLO_FIXED

#define MESSAGE_1     (TP_KEY_SIZE + TP_SECRET_TAG)
#define VERSION_DIGIT '1'

_Static_assert(TP_HELLO_FIXED + MESSAGE_1 == TP_HELLO_OPEN, "open");
_Static_assert(AT_TOKEN + TP_TOKEN_SIZE + MESSAGE_1 + TP_HELLO_MAC == TP_HELLO_TOKEN, "token");
_Static_assert(1 + TP_KEY_SIZE + TP_REPLY_PAYLOAD + TP_SECRET_TAG == TP_REPLY_WELCOME, "welcome");
_Static_assert(VERSION_DIGIT == '0' + TP_WAN_VERSION, "the digit is the version");

/* The offset of Noise message 1. Everything before it is the prologue. */
static size_t message_offset(tp_mode mode) {
    return mode == TP_MODE_TOKEN ? AT_TOKEN + TP_TOKEN_SIZE : TP_HELLO_FIXED;
}

size_t tp_hello_size(tp_mode mode) {
    return mode == TP_MODE_TOKEN ? TP_HELLO_TOKEN : TP_HELLO_OPEN;
}

/* Computes mac1: the first 16 bytes of HMAC-SHA256(mk, everything before). */
static tp_err compute_mac(const uint8_t secret[TP_KEY_SIZE], const uint8_t hello[TP_HELLO_TOKEN],
    uint8_t mac[TP_HELLO_MAC]) {
    uint8_t key[TP_KEY_SIZE];
    uint8_t whole[TP_KEY_SIZE] = {0};
    const tp__piece before = {hello, TP_HELLO_TOKEN - TP_HELLO_MAC};
    tp_err error = tp_token_mac_key(secret, key);
    error = error ? error : tp__hmac_once(key, &before, 1, whole);
    memcpy(mac, whole, TP_HELLO_MAC);
    tp_secure_wipe(key, sizeof key);
    tp_secure_wipe(whole, sizeof whole);
    return error;
}

/* ---- a client's side ------------------------------------------------------------------------- */

static bool client_hello_valid(const tp_client_hello *options) {
    return options->size == sizeof *options && tp__suite_exists(options->suite) &&
           options->server_public != NULL && (options->token != NULL) == (options->secret != NULL);
}

/* Writes everything before Noise message 1; returns its size. */
static size_t prologue_write(const tp_client_hello *options, uint8_t *hello) {
    tp_mode mode = options->token != NULL ? TP_MODE_TOKEN : TP_MODE_OPEN;
    memcpy(hello, "TPW", 3);
    hello[3] = VERSION_DIGIT;
    hello[AT_SUITE] = (uint8_t)options->suite;
    hello[AT_MODE] = (uint8_t)mode;
    tp__put_u16(hello + AT_ZEROS, 0);
    if (mode == TP_MODE_TOKEN) {
        memcpy(hello + AT_TOKEN, options->token, TP_TOKEN_SIZE);
    }
    return message_offset(mode);
}

tp_err tp_hello_write(
    const tp_client_hello *options, tp_noise *noise, uint8_t hello[TP_HELLO_MAX], size_t *written) {
    *written = 0;
    if (!client_hello_valid(options)) {
        return TP_ERR_INVALID;
    }
    bool with_token = options->token != NULL;
    uint8_t derived[TP_KEY_SIZE];
    const uint8_t *psk = with_token ? derived : NULL;
    size_t prologue = prologue_write(options, hello);
    tp_err error = with_token ? tp_token_psk(options->secret, derived) : TP_OK;
    if (!error) {
        error = tp_noise_begin_initiator(
            noise, options->suite, psk, hello, prologue, options->server_public);
    }
    error = error ? error : tp_noise_write(noise, NULL, 0, hello + prologue);
    if (!error && with_token) {
        error = compute_mac(options->secret, hello, hello + TP_HELLO_TOKEN - TP_HELLO_MAC);
    }
    tp_secure_wipe(derived, sizeof derived);
    if (error) {
        tp_noise_wipe(noise);
        return error;
    }
    *written = tp_hello_size(with_token ? TP_MODE_TOKEN : TP_MODE_OPEN);
    return TP_OK;
}

size_t tp_reply_size(uint8_t status) {
    switch (status) {
    case TP_REPLY_IS_WELCOME:
        return TP_REPLY_WELCOME;
    case TP_REPLY_IS_BUSY:
        return TP_REPLY_BUSY;
    case TP_REPLY_IS_VERSION:
        return TP_REPLY_VERSION;
    default:
        return 0;
    }
}

static void terms_read(const uint8_t payload[TP_REPLY_PAYLOAD], tp_reply_terms *terms) {
    terms->minor_version = tp__get_u16(payload);
    terms->heartbeat_seconds = tp__get_u16(payload + 2);
    terms->max_payload = tp__get_u32(payload + 4);
    terms->session = tp__get_u64(payload + 8);
}

static tp_err welcome_read(tp_noise *noise, const uint8_t *message, tp_reply *reply) {
    uint8_t payload[TP_REPLY_PAYLOAD];
    tp_noise_keys keys;
    tp_err error = tp_noise_read(noise, message, TP_REPLY_WELCOME - 1, payload);
    error = error ? error : tp_noise_split(noise, &keys);
    if (!error) {
        terms_read(payload, &reply->terms);
        reply->keys.suite = noise->suite;
        memcpy(reply->keys.send, keys.to_responder, TP_KEY_SIZE);
        memcpy(reply->keys.receive, keys.to_initiator, TP_KEY_SIZE);
    }
    tp_secure_wipe(&keys, sizeof keys);
    return error;
}

tp_err tp_reply_read(tp_noise *noise, const uint8_t *bytes, size_t size, tp_reply *reply) {
    tp_err error = TP_OK;
    memset(reply, 0, sizeof *reply);
    if (size == 0 || size != tp_reply_size(bytes[0])) {
        error = TP_ERR_PROTOCOL;
    } else {
        reply->status = (tp_reply_status)bytes[0];
        switch (reply->status) {
        case TP_REPLY_IS_WELCOME:
            error = welcome_read(noise, bytes + 1, reply);
            break;
        case TP_REPLY_IS_BUSY:
            reply->busy_seconds = tp__get_u16(bytes + 1);
            break;
        case TP_REPLY_IS_VERSION:
            reply->highest_version = bytes[1];
            break;
        }
    }
    tp_noise_wipe(noise);
    return error;
}

/* ---- a server's side ------------------------------------------------------------------------- */

tp_err tp_gateway_key_from_private(const uint8_t private_key[TP_KEY_SIZE], tp_gateway_key *key) {
    tp_err error = tp_key_pair_from_private(private_key, &key->pair);
    error = error ? error : tp__sha256_once(key->pair.public_key, TP_KEY_SIZE, key->public_hash);
    if (error) {
        tp_secure_wipe(key, sizeof *key);
    }
    return error;
}

/* Whether byte `i` of a HELLO has a valid value. False for another version's digit too; the caller
 * handles that case. */
static bool fixed_byte_valid(size_t i, uint8_t byte, tp_mode mode) {
    switch (i) {
    case AT_SUITE:
        return tp__suite_exists(byte);
    case AT_MODE:
        return byte == (uint8_t)mode;
    case AT_ZEROS:
    case AT_ZEROS + 1:
        return byte == 0;
    default:
        return byte == (uint8_t) "TPW1"[i];
    }
}

tp_hello_begin tp_hello_look(const uint8_t *bytes, size_t count, tp_mode mode) {
    for (size_t i = 0; i < count && i < TP_HELLO_FIXED; i++) {
        if (fixed_byte_valid(i, bytes[i], mode)) {
            continue;
        }
        /* nothing more is known of another version than its digit */
        bool other = i == 3 && bytes[i] >= '0' && bytes[i] <= '9';
        return other ? TP_HELLO_OTHER_VERSION : TP_HELLO_FOREIGN;
    }
    return TP_HELLO_GOOD;
}

/* Opens the token and checks mac1. */
static tp_err hello_check_token(const uint8_t *bytes, const tp_gateway_key *key,
    const tp_token_key *ring, size_t keys, uint64_t now, tp_token *token) {
    uint8_t mac[TP_HELLO_MAC];
    tp_err error = tp_token_open(ring, keys, now, key->public_hash, bytes + AT_TOKEN, token);
    error = error ? error : compute_mac(token->secret, bytes, mac);
    if (!error && CRYPTO_memcmp(mac, bytes + TP_HELLO_TOKEN - TP_HELLO_MAC, TP_HELLO_MAC) != 0) {
        error = TP_ERR_AUTH;
    }
    tp_secure_wipe(mac, sizeof mac); /* this is the valid mac1, which a forger could use */
    return error;
}

tp_err tp_hello_check(const uint8_t *bytes, tp_mode mode, const tp_gateway_key *key,
    const tp_token_key *ring, size_t keys, uint64_t now, tp_hello *hello) {
    memset(hello, 0, sizeof *hello);
    if (tp_hello_look(bytes, TP_HELLO_FIXED, mode) != TP_HELLO_GOOD) {
        return TP_ERR_PROTOCOL;
    }
    if (mode == TP_MODE_TOKEN) {
        tp_err error = hello_check_token(bytes, key, ring, keys, now, &hello->token);
        if (error) {
            tp_secure_wipe(hello, sizeof *hello);
            return error;
        }
    }
    hello->suite = (tp_suite)bytes[AT_SUITE];
    hello->mode = mode;
    memcpy(hello->bytes, bytes, tp_hello_size(mode));
    return TP_OK;
}

static void terms_write(const tp_reply_terms *terms, uint8_t payload[TP_REPLY_PAYLOAD]) {
    tp__put_u16(payload, terms->minor_version);
    tp__put_u16(payload + 2, terms->heartbeat_seconds);
    tp__put_u32(payload + 4, terms->max_payload);
    tp__put_u64(payload + 8, terms->session);
}

/* Begins the responder's handshake with the contents of HELLO. */
static tp_err responder_begin(const tp_hello *hello, const tp_gateway_key *key, tp_noise *noise) {
    bool with_token = hello->mode == TP_MODE_TOKEN;
    uint8_t derived[TP_KEY_SIZE];
    const uint8_t *psk = with_token ? derived : NULL;
    tp_err error = with_token ? tp_token_psk(hello->token.secret, derived) : TP_OK;
    if (!error) {
        error = tp_noise_begin_responder(noise, hello->suite, psk, hello->bytes,
            message_offset(hello->mode), key->pair.private_key, key->pair.public_key);
    }
    tp_secure_wipe(derived, sizeof derived);
    return error;
}

tp_err tp_hello_answer(const tp_hello *hello, const tp_gateway_key *key,
    const tp_reply_terms *terms, uint8_t reply[TP_REPLY_WELCOME], tp_session_keys *keys) {
    tp_noise noise;
    tp_noise_keys both;
    uint8_t payload[TP_REPLY_PAYLOAD];
    uint8_t nothing[1]; /* the payload of message 1, which is empty */
    const uint8_t *message = hello->bytes + message_offset(hello->mode);
    terms_write(terms, payload);
    tp_err error = responder_begin(hello, key, &noise);
    error = error ? error : tp_noise_read(&noise, message, MESSAGE_1, nothing);
    error = error ? error : tp_noise_write(&noise, payload, sizeof payload, reply + 1);
    error = error ? error : tp_noise_split(&noise, &both);
    tp_noise_wipe(&noise);
    if (error) {
        tp_secure_wipe(keys, sizeof *keys);
        tp_secure_wipe(reply, TP_REPLY_WELCOME);
    } else {
        reply[0] = TP_REPLY_IS_WELCOME;
        keys->suite = hello->suite;
        memcpy(keys->send, both.to_initiator, TP_KEY_SIZE);
        memcpy(keys->receive, both.to_responder, TP_KEY_SIZE);
    }
    tp_secure_wipe(&both, sizeof both);
    return error;
}

void tp_reply_write_busy(uint16_t seconds, uint8_t reply[TP_REPLY_BUSY]) {
    reply[0] = TP_REPLY_IS_BUSY;
    tp__put_u16(reply + 1, seconds);
}

void tp_reply_write_version(uint8_t reply[TP_REPLY_VERSION]) {
    reply[0] = TP_REPLY_IS_VERSION;
    reply[1] = TP_WAN_VERSION;
}
