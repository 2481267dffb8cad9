/*
 * Packets: the messages of both networks, and the buffers they are sent from.
 *
 * A packet is counted by hand: tp_packet_new() gives one reference, tp_packet_retain() adds one,
 * tp_packet_release() takes one away and the last one frees. Sending takes a reference of its own,
 * so the usual life is new, put..., send, release; and one packet may be in ten thousand queues at
 * once.
 *
 * From the first send on a packet is sealed: it can be read and sent again, not written.
 *
 * Values are little-endian. Errors are sticky: after the first put that does not fit or get that
 * runs past the end, every further one does nothing (gets return 0), and tp_packet_error() says so;
 * check once, at the end.
 *
 * One thread at a time may put, get, edit or send for the first time; retain, release and the
 * sends that follow may be called by any holder at any time. An error stops those sends too: a
 * packet that is sent on while another thread reads it is to be read within its bounds.
 */
#ifndef TWINPORT_PACKET_H
#define TWINPORT_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tp_packet tp_packet;

#define TP_PACKET_MAX ((size_t)0xFFFFFF) /* payload bytes: what a frame's 24 bits can say */

/*
 * A packet with room for `capacity` payload bytes (0..TP_PACKET_MAX), empty, one reference. NULL if
 * memory is out or the capacity is over the limit. Any thread. What stays unused is given back when
 * the packet is sealed, if it is still the newest of its thread: reserve what may be needed.
 */
tp_packet *tp_packet_new(size_t capacity);

/* The same, filled with `count` bytes. NULL likewise. */
tp_packet *tp_packet_copy_of(const void *bytes, size_t count);

/* Adds a reference; returns `packet`. Any thread, as long as there is a reference: several
 * threads may share one and retain and send the packet at once, if it is released after the last
 * of these calls has returned. A packet of up to 16 KiB is cut from 64 KiB that go only with the
 * last packet of them: what is to be kept for long is better copied to memory of your own. */
tp_packet *tp_packet_retain(tp_packet *packet);

/* Takes a reference away; the last one frees the packet. Any thread. NULL is ignored. */
void tp_packet_release(tp_packet *packet);

/* The payload: where it is, how long it is, how long it may become. */
const uint8_t *tp_packet_bytes(const tp_packet *packet);
size_t tp_packet_size(const tp_packet *packet);
size_t tp_packet_capacity(const tp_packet *packet);

/* TP_OK, or the first thing that went wrong: TP_ERR_TOO_LARGE (a put or push_head that did not
 * fit), TP_ERR_SEALED (a write after the seal), TP_ERR_SHORT (a get, pull_head or seek past the
 * end). */
tp_err tp_packet_error(const tp_packet *packet);

/* ---- writing: appended to the payload -------------------------------------------------------- */
void tp_packet_put_u8(tp_packet *packet, uint8_t value);
void tp_packet_put_u16(tp_packet *packet, uint16_t value);
void tp_packet_put_u32(tp_packet *packet, uint32_t value);
void tp_packet_put_u64(tp_packet *packet, uint64_t value);
void tp_packet_put_i8(tp_packet *packet, int8_t value);
void tp_packet_put_i16(tp_packet *packet, int16_t value);
void tp_packet_put_i32(tp_packet *packet, int32_t value);
void tp_packet_put_i64(tp_packet *packet, int64_t value);
void tp_packet_put_f32(tp_packet *packet, float value);  /* IEEE 754 */
void tp_packet_put_f64(tp_packet *packet, double value); /* IEEE 754 */
void tp_packet_put_bytes(tp_packet *packet, const void *bytes, size_t count);
/* u16 length, then the bytes without an end mark. More than 65,535 bytes: TP_ERR_TOO_LARGE. */
void tp_packet_put_string(tp_packet *packet, const char *text);

/* Reserves `count` payload bytes for the caller to fill in place before the next call on this
 * packet. NULL (and the sticky error) if they do not fit. */
uint8_t *tp_packet_put_space(tp_packet *packet, size_t count);

/* Empties an unsealed packet: size 0, cursor 0, no error. A sealed one gets TP_ERR_SEALED. */
void tp_packet_clear(tp_packet *packet);

/* ---- the head: room for a header in front of the payload, written in place ------------------- */

#define TP_PACKET_HEAD ((size_t)16) /* bytes of head room every packet has */

/* Makes the `count` bytes in front of the payload its first bytes and returns them for the caller
 * to fill; the cursor stays at its byte. NULL if the packet is sealed (TP_ERR_SEALED) or the head
 * room used up (TP_ERR_TOO_LARGE). */
uint8_t *tp_packet_push_head(tp_packet *packet, size_t count);

/* Takes the first `count` payload bytes off the front; the cursor moves to the new start. Past the
 * end: TP_ERR_SHORT. They become head room. Sealed: TP_ERR_SEALED. */
void tp_packet_pull_head(tp_packet *packet, size_t count);

/* The payload (tp_packet_size() bytes) for rewriting in place, or NULL (and the sticky error) if
 * the packet is sealed. */
uint8_t *tp_packet_edit(tp_packet *packet);

/* ---- reading: from the cursor on ------------------------------------------------------------- */
uint8_t tp_packet_get_u8(tp_packet *packet);
uint16_t tp_packet_get_u16(tp_packet *packet);
uint32_t tp_packet_get_u32(tp_packet *packet);
uint64_t tp_packet_get_u64(tp_packet *packet);
int8_t tp_packet_get_i8(tp_packet *packet);
int16_t tp_packet_get_i16(tp_packet *packet);
int32_t tp_packet_get_i32(tp_packet *packet);
int64_t tp_packet_get_i64(tp_packet *packet);
float tp_packet_get_f32(tp_packet *packet);
double tp_packet_get_f64(tp_packet *packet);
/* `count` bytes inside the packet (valid as long as a reference is held), or NULL. */
const uint8_t *tp_packet_get_bytes(tp_packet *packet, size_t count);
/* A string as put_string wrote it, into `text` with an end mark, cut at room - 1 bytes (room >= 1;
 * the cursor still moves past all of it). Returns its full length; on error "" and 0. */
size_t tp_packet_get_string(tp_packet *packet, char *text, size_t room);

/* Bytes between the cursor and the end. */
size_t tp_packet_left(const tp_packet *packet);
/* Moves the cursor to `position` bytes from the start (0..size); past the end: TP_ERR_SHORT. */
void tp_packet_seek(tp_packet *packet, size_t position);

#ifdef __cplusplus
}
#endif
#endif
