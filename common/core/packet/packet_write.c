/*
 * Writing packets: values are appended to the payload, headers are put in front of it. One thread
 * at a time per packet.
 */
#include <assert.h>
#include <string.h>

#include "core/packet/packet_internal.h"

/* False if the packet is sealed, which sets the sticky error, or already has an error. */
static bool packet_is_writable(tp_packet *packet) {
    assert(!packet->run);
    if (TP_UNLIKELY(packet->sealed)) {
        tp__packet_fail(packet, TP_ERR_SEALED);
        return false;
    }
    return tp__packet_error(packet) == TP_OK;
}

/* Extends the payload by `count` bytes and returns their address, or NULL and the sticky error. */
static inline uint8_t *packet_append(tp_packet *packet, size_t count) {
    if (TP_UNLIKELY(!packet_is_writable(packet))) {
        return NULL;
    }
    if (TP_UNLIKELY(count > tp__packet_capacity(packet) - packet->size)) {
        tp__packet_fail(packet, TP_ERR_TOO_LARGE);
        return NULL;
    }
    uint8_t *at = tp__packet_payload(packet) + packet->size;
    packet->size += (uint32_t)count;
    assert(packet->start + packet->size <= packet->end && packet->size <= TP_PACKET_MAX);
    return at;
}

/* ---- values ---------------------------------------------------------------------------------- */

static inline void write_u16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void write_u32(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    at[2] = (uint8_t)(value >> 16);
    at[3] = (uint8_t)(value >> 24);
}

static inline void write_u64(uint8_t *at, uint64_t value) {
    write_u32(at, (uint32_t)value);
    write_u32(at + 4, (uint32_t)(value >> 32));
}

void tp_packet_put_u8(tp_packet *packet, uint8_t value) {
    uint8_t *at = packet_append(packet, 1);
    if (at != NULL) {
        *at = value;
    }
}

void tp_packet_put_u16(tp_packet *packet, uint16_t value) {
    uint8_t *at = packet_append(packet, 2);
    if (at != NULL) {
        write_u16(at, value);
    }
}

void tp_packet_put_u32(tp_packet *packet, uint32_t value) {
    uint8_t *at = packet_append(packet, 4);
    if (at != NULL) {
        write_u32(at, value);
    }
}

void tp_packet_put_u64(tp_packet *packet, uint64_t value) {
    uint8_t *at = packet_append(packet, 8);
    if (at != NULL) {
        write_u64(at, value);
    }
}

void tp_packet_put_i8(tp_packet *packet, int8_t value) {
    tp_packet_put_u8(packet, (uint8_t)value);
}

void tp_packet_put_i16(tp_packet *packet, int16_t value) {
    tp_packet_put_u16(packet, (uint16_t)value);
}

void tp_packet_put_i32(tp_packet *packet, int32_t value) {
    tp_packet_put_u32(packet, (uint32_t)value);
}

void tp_packet_put_i64(tp_packet *packet, int64_t value) {
    tp_packet_put_u64(packet, (uint64_t)value);
}

_Static_assert(sizeof(float) == 4 && sizeof(double) == 8, "f32 and f64 are IEEE 754");

void tp_packet_put_f32(tp_packet *packet, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    tp_packet_put_u32(packet, bits);
}

void tp_packet_put_f64(tp_packet *packet, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    tp_packet_put_u64(packet, bits);
}

void tp_packet_put_bytes(tp_packet *packet, const void *bytes, size_t count) {
    uint8_t *at = packet_append(packet, count);
    if (at != NULL && count > 0) {
        memcpy(at, bytes, count);
    }
}

/* Either all of it is written or nothing. */
void tp_packet_put_string(tp_packet *packet, const char *text) {
    assert(text != NULL);
    size_t length = strlen(text);
    if (!packet_is_writable(packet)) {
        return;
    }
    if (length > UINT16_MAX) {
        tp__packet_fail(packet, TP_ERR_TOO_LARGE);
        return;
    }
    uint8_t *at = packet_append(packet, 2 + length);
    if (at != NULL) {
        write_u16(at, (uint16_t)length);
        memcpy(at + 2, text, length);
    }
}

uint8_t *tp_packet_put_space(tp_packet *packet, size_t count) {
    return packet_append(packet, count);
}

void tp_packet_clear(tp_packet *packet) {
    if (packet->sealed) {
        tp__packet_fail(packet, TP_ERR_SEALED);
        return;
    }
    packet->size = 0;
    packet->cursor = 0;
    atomic_store_explicit(&packet->error, TP_OK, memory_order_relaxed);
}

/* ---- the head -------------------------------------------------------------------------------- */

/* The cursor stays at its byte. */
uint8_t *tp_packet_push_head(tp_packet *packet, size_t count) {
    if (!packet_is_writable(packet)) {
        return NULL;
    }
    if (count > packet->start - TP__PACKET_LOWEST || count > TP_PACKET_MAX - packet->size) {
        tp__packet_fail(packet, TP_ERR_TOO_LARGE);
        return NULL;
    }
    packet->start -= (uint32_t)count;
    packet->size += (uint32_t)count;
    packet->cursor += (uint32_t)count;
    TP__VERIFY(tp__packet_check(packet));
    return tp__packet_payload(packet);
}

void tp_packet_pull_head(tp_packet *packet, size_t count) {
    if (!packet_is_writable(packet)) {
        return;
    }
    if (count > packet->size) {
        tp__packet_fail(packet, TP_ERR_SHORT);
        return;
    }
    packet->start += (uint32_t)count;
    packet->size -= (uint32_t)count;
    packet->cursor = 0;
    TP__VERIFY(tp__packet_check(packet));
}

/* A packet with an error may still be edited: its payload is complete up to the failed call. */
uint8_t *tp_packet_edit(tp_packet *packet) {
    if (packet->sealed) {
        tp__packet_fail(packet, TP_ERR_SEALED);
        return NULL;
    }
    return tp__packet_payload(packet);
}
