/*
 * A player's client for the tests of the WAN server: blocking, built on the client's side of proto/
 * and a raw peer. Each step of the protocol can be taken by itself, and any bytes can be sent in
 * between.
 *
 *     wan_peer *peer = wan_join(&address, &login);
 *     wan_send_frame(peer, TP_FRAME_DATA, "hi", 2);
 *     long size = wan_receive_frame(peer, &type, payload, sizeof payload);
 *     wan_close(peer, false);
 *
 * One thread at a time.
 */
#ifndef TWINPORT_TESTS_WAN_PEER_H
#define TWINPORT_TESTS_WAN_PEER_H

#include "proto/frame.h"
#include "proto/handshake.h"
#include "proto/record.h"
#include "raw_peer.h"

/* What a client needs to log in. */
typedef struct wan_login {
    tp_suite suite;
    uint8_t server_public[TP_KEY_SIZE];
    bool with_token;
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
} wan_login;

typedef struct wan_peer {
    raw_peer *raw;
    tp_noise noise;
    uint8_t hello[TP_HELLO_MAX];
    size_t hello_size;
    tp_reply_status status; /* of the REPLY, with the rest of it below */
    uint16_t busy_seconds;
    tp_reply_terms terms;
    tp_record_direction sealing;
    tp_record_direction opening;
    uint8_t *plain; /* opened and not yet read: plain[from..to-1] */
    size_t from, to, capacity;
} wan_peer;

#define WAN_SEALED(plain_size) ((plain_size) + TP_RECORD_OVERHEAD)

/* Connects and writes the HELLO into the peer without sending it. NULL: no connection. */
wan_peer *wan_connect(const tp_address *address, const wan_login *login);
bool wan_send_hello(wan_peer *peer);
/* Receives REPLY. True if it is a WELCOME: the peer then has its keys. */
bool wan_take_reply(wan_peer *peer);
bool wan_send_ready(wan_peer *peer);
/* All these steps. NULL if one fails. */
wan_peer *wan_join(const tp_address *address, const wan_login *login);

/* Seals `size` bytes, at most TP_RECORD_PLAIN_MAX, into `record` (WAN_SEALED(size) bytes). */
void wan_seal(wan_peer *peer, const void *plain, size_t size, uint8_t *record);
/* Sends one record with these bytes. */
bool wan_send_record(wan_peer *peer, const void *plain, size_t size);
/* Sends one frame, in as many records as it needs. */
bool wan_send_frame(wan_peer *peer, unsigned type, const void *payload, size_t size);

/* Receives one record and opens it. False: the stream ended, or the record did not open. */
bool wan_take_record(wan_peer *peer);
/* Receives one frame of at most `capacity` payload bytes. Returns its size, or -1. */
long wan_receive_frame(wan_peer *peer, unsigned *type, void *payload, size_t capacity);
/* Receives frames until CLOSE and returns its reason; -1: the stream ended without one. */
int wan_receive_close(wan_peer *peer);

/* Leaves in order: sends CLOSE normal, reads to the end, and closes. */
void wan_leave(wan_peer *peer);
void wan_close(wan_peer *peer, bool reset);

#endif
