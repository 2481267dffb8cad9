/*
 * Reading packets, from the cursor on. One thread at a time per packet.
 */
#include <assert.h>
#include <string.h>

#include "core/packet/packet_internal.h"

/* The next `count` bytes, or NULL and the sticky error. */
static inline const uint8_t *packet_take(tp_packet *packet, size_t count) {
    assert(packet->cursor <= packet->size);
    if (TP_UNLIKELY(tp__packet_error(packet) != TP_OK)) {
        return NULL;
    }
    if (TP_UNLIKELY(count > packet->size - packet->cursor)) {
        tp__packet_fail(packet, TP_ERR_SHORT);
        return NULL;
    }
    const uint8_t *at = tp__packet_payload(packet) + packet->cursor;
    packet->cursor += (uint32_t)count;
    return at;
}

static inline uint16_t read_u16(const uint8_t *at) {
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline uint32_t read_u32(const uint8_t *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint64_t read_u64(const uint8_t *at) {
    return read_u32(at) | (uint64_t)read_u32(at + 4) << 32;
}

uint8_t tp_packet_get_u8(tp_packet *packet) {
    const uint8_t *at = packet_take(packet, 1);
    return at != NULL ? *at : 0;
}

uint16_t tp_packet_get_u16(tp_packet *packet) {
    const uint8_t *at = packet_take(packet, 2);
    return at != NULL ? read_u16(at) : 0;
}

uint32_t tp_packet_get_u32(tp_packet *packet) {
    const uint8_t *at = packet_take(packet, 4);
    return at != NULL ? read_u32(at) : 0;
}

uint64_t tp_packet_get_u64(tp_packet *packet) {
    const uint8_t *at = packet_take(packet, 8);
    return at != NULL ? read_u64(at) : 0;
}

int8_t tp_packet_get_i8(tp_packet *packet) {
    return (int8_t)tp_packet_get_u8(packet);
}

int16_t tp_packet_get_i16(tp_packet *packet) {
    return (int16_t)tp_packet_get_u16(packet);
}

int32_t tp_packet_get_i32(tp_packet *packet) {
    return (int32_t)tp_packet_get_u32(packet);
}

int64_t tp_packet_get_i64(tp_packet *packet) {
    return (int64_t)tp_packet_get_u64(packet);
}

float tp_packet_get_f32(tp_packet *packet) {
    uint32_t bits = tp_packet_get_u32(packet);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

double tp_packet_get_f64(tp_packet *packet) {
    uint64_t bits = tp_packet_get_u64(packet);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

const uint8_t *tp_packet_get_bytes(tp_packet *packet, size_t count) {
    return packet_take(packet, count);
}

/* If the packet ends after the length, the cursor has moved past the length. That has no effect,
 * because the packet then has an error. */
size_t tp_packet_get_string(tp_packet *packet, char *text, size_t size) {
    assert(text != NULL && size > 0);
    size_t length = tp_packet_get_u16(packet);
    const uint8_t *at = packet_take(packet, length);
    size_t kept = length < size ? length : size - 1;
    if (at == NULL) {
        text[0] = '\0';
        return 0;
    }
    memcpy(text, at, kept);
    text[kept] = '\0';
    return length;
}

size_t tp_packet_left(const tp_packet *packet) {
    assert(packet->cursor <= packet->size);
    return packet->size - packet->cursor;
}

void tp_packet_seek(tp_packet *packet, size_t position) {
    if (tp__packet_error(packet) != TP_OK) {
        return;
    }
    if (position > packet->size) {
        tp__packet_fail(packet, TP_ERR_SHORT);
        return;
    }
    packet->cursor = (uint32_t)position;
}
