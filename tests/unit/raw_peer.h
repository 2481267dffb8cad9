/*
 * A peer that says exactly the bytes it is told: a blocking client for the tests of the server.
 *
 * Built on the seam alone, with a port of its own that the calling thread drives: no core, no
 * thread, nothing happens while nobody waits. One thread at a time.
 */
#ifndef TWINPORT_TESTS_RAW_PEER_H
#define TWINPORT_TESTS_RAW_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/port.h"

#define RAW_PATIENCE_MS 60000u /* what a busy machine may take; times TWINPORT_TIME_FACTOR */

typedef struct raw_peer raw_peer;

/* Connects; NULL if that fails. The receive is not started before the first raw_receive...(). */
raw_peer *raw_connect(const tp_address *address);

/* Sends all of it. False: the connection broke. */
bool raw_send(raw_peer *peer, const void *bytes, size_t count);

/* Begins to send and waits at most `ms` for the end of it. False: it has not ended; raw_close()
 * cancels. */
bool raw_send_for(raw_peer *peer, const void *bytes, size_t count, unsigned ms);

/* Sends one frame. */
bool raw_send_frame(raw_peer *peer, unsigned type, const void *payload, size_t size);

/* Receives exactly `count` bytes. False: the stream ended before. */
bool raw_receive(raw_peer *peer, void *bytes, size_t count);

/* Receives one frame of at most `room` payload bytes; its payload size, or -1 at the end of the
 * stream. */
long raw_receive_frame(raw_peer *peer, unsigned *type, void *payload, size_t room);

/* Reads and throws away until the stream ends: TP_ERR_CLOSED, TP_ERR_RESET, ... */
tp_err raw_end(raw_peer *peer);

/* Ends this side's stream; the other side may go on. */
void raw_finish(raw_peer *peer);

/* Closes, and frees. */
void raw_close(raw_peer *peer, bool reset);

/* The deadline for something a busy machine may take long for: now + RAW_PATIENCE_MS, stretched. */
uint64_t raw_deadline(void);

#endif
