/*
 * Packets: the messages of both networks, and the buffers they are sent from.
 *
 * References are counted explicitly: tp_packet_new() gives one reference, tp_packet_retain() adds
 * one, tp_packet_release() removes one, and the last release frees the packet. A send takes a
 * reference of its own. So the usual sequence is new, put..., send, release, and one packet may be
 * in ten thousand queues at the same time.
 *
 * From the first send on a packet is sealed: it can be read and sent again, but not written.
 *
 * Values are little-endian. Errors are sticky: after a put that does not fit or a get past the end,
 * all further ones do nothing (gets return 0), and tp_packet_error() returns the error; checking
 * once, at the end, is enough.
 *
 * One thread at a time may put, get, edit or send for the first time. Retain, release and later
 * sends may be called at any time by any thread that has a reference. A sticky error makes later
 * sends fail too, so a packet that other threads send must not be read past its end.
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

#define TP_PACKET_MAX                                                                              \
    ((size_t)0xFFFFFF) /* payload bytes: the length field of a frame has 24 bits */

/*
 * An empty packet with a capacity of `capacity` payload bytes (0..TP_PACKET_MAX) and one reference.
 * NULL if memory is out or the capacity is too large. Any thread. It costs little to ask for more
 * than is needed: when the packet is sealed, unused bytes are returned, if it is still the newest
 * packet of its thread.
 */
tp_packet *tp_packet_new(size_t capacity);

/* A packet with these `count` bytes and one reference. NULL in the same cases. Any thread. */
tp_packet *tp_packet_copy_of(const void *bytes, size_t count);

/* Adds a reference; returns `packet`. Any thread, as long as there is a reference: several threads
 * may share one reference and retain and send the packet at the same time, if that reference is
 * released after the last of these calls has returned. A packet of up to 16 KiB is cut from a chunk
 * of 64 KiB, which is freed only with its last packet: data that you keep for long is better copied
 * to memory of your own. */
tp_packet *tp_packet_retain(tp_packet *packet);

/* Removes a reference; the last release frees the packet. Any thread. NULL is ignored. */
void tp_packet_release(tp_packet *packet);

/* The payload's address, its size, and the largest size it can have in this packet. */
const uint8_t *tp_packet_bytes(const tp_packet *packet);
size_t tp_packet_size(const tp_packet *packet);
size_t tp_packet_capacity(const tp_packet *packet);

/* TP_OK or the first error: TP_ERR_TOO_LARGE (a put or push_head that did not fit), TP_ERR_SEALED
 * (a write to a sealed packet), TP_ERR_SHORT (a get, pull_head or seek past the end). */
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
/* A u16 length, then the bytes without a final zero. More than 65,535 bytes: TP_ERR_TOO_LARGE. */
void tp_packet_put_string(tp_packet *packet, const char *text);

/* Appends `count` payload bytes, which the caller must fill before the next call on this packet;
 * returns their address. NULL (and the sticky error) if they do not fit. */
uint8_t *tp_packet_put_space(tp_packet *packet, size_t count);

/* Empties an unsealed packet: size 0, cursor 0, no error. A sealed one gets TP_ERR_SEALED. */
void tp_packet_clear(tp_packet *packet);

/* ---- the head: space for a header in front of the payload, written in place ------------------ */

#define TP_PACKET_HEAD ((size_t)16) /* bytes in front of the payload of a new packet */

/* Extends the payload by `count` bytes at its front, which the caller must fill; returns their
 * address. The cursor stays at its byte. NULL if the packet is sealed (TP_ERR_SEALED) or the head
 * has less space (TP_ERR_TOO_LARGE). */
uint8_t *tp_packet_push_head(tp_packet *packet, size_t count);

/* Removes the first `count` payload bytes, which become space in the head; the cursor moves to the
 * new start. Past the end: TP_ERR_SHORT. Sealed: TP_ERR_SEALED. */
void tp_packet_pull_head(tp_packet *packet, size_t count);

/* The payload (tp_packet_size() bytes) for changes in place, or NULL (and the sticky error) if the
 * packet is sealed. */
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
/* `count` bytes inside the packet (valid as long as there is a reference), or NULL. */
const uint8_t *tp_packet_get_bytes(tp_packet *packet, size_t count);
/* Copies a string of tp_packet_put_string() into `text` (`size` bytes, 1 or more), with a final
 * zero and cut to size - 1 bytes; the cursor moves past the whole string. Returns the string's full
 * length; on error 0, and `text` is "". */
size_t tp_packet_get_string(tp_packet *packet, char *text, size_t size);

/* Bytes between the cursor and the end. */
size_t tp_packet_left(const tp_packet *packet);
/* Sets the cursor to `position`, in bytes from the start (0..size); past the end: TP_ERR_SHORT. */
void tp_packet_seek(tp_packet *packet, size_t position);

#ifdef __cplusplus
}
#endif
#endif
