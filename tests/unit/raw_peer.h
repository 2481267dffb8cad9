/*
 * A blocking client for the tests of the server, which sends exactly the bytes that it is given.
 *
 * It uses os/port.h alone, with a port of its own that the calling thread drives: no core and no
 * thread, so nothing happens unless one of its functions is running. One thread at a time.
 */
#ifndef TWINPORT_TESTS_RAW_PEER_H
#define TWINPORT_TESTS_RAW_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/port.h"

#define RAW_PATIENCE_MS 60000u /* enough for a busy machine; multiplied by TWINPORT_TIME_FACTOR */

typedef struct raw_peer raw_peer;

/* Connects; NULL on failure. Receiving starts with the first raw_receive...(). */
raw_peer *raw_connect(const tp_address *address);

/* Sends all of it. False: the connection broke. */
bool raw_send(raw_peer *peer, const void *bytes, size_t count);

/* Starts to send and waits at most `ms` until all is sent. False: not yet; raw_close() cancels the
 * rest. */
bool raw_send_for(raw_peer *peer, const void *bytes, size_t count, unsigned ms);

/* Sends one frame. */
bool raw_send_frame(raw_peer *peer, unsigned type, const void *payload, size_t size);

/* Receives exactly `count` bytes. False: the stream ended before. */
bool raw_receive(raw_peer *peer, void *bytes, size_t count);

/* Receives one frame of at most `size` payload bytes. Returns its payload size, or -1 at the end of
 * the stream. */
long raw_receive_frame(raw_peer *peer, unsigned *type, void *payload, size_t size);

/* Reads and discards until the stream ends. Returns how it ended: TP_ERR_CLOSED, TP_ERR_RESET,
 * ... */
tp_err raw_end(raw_peer *peer);

/* Ends this side's stream; the other side may go on sending. */
void raw_finish(raw_peer *peer);

/* Closes the connection and frees the peer. */
void raw_close(raw_peer *peer, bool reset);

/* The deadline of a wait: now + RAW_PATIENCE_MS, multiplied by TWINPORT_TIME_FACTOR. */
uint64_t raw_deadline(void);

#endif
