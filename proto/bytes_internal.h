/*
 * Numbers in buffers: little-endian, as in the formats of the WAN, and one big-endian function for
 * nonces.
 */
#ifndef TWINPORT_PROTO_BYTES_INTERNAL_H
#define TWINPORT_PROTO_BYTES_INTERNAL_H

#include <stdint.h>

static inline void tp__put_u16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void tp__put_u32(uint8_t *at, uint32_t value) {
    tp__put_u16(at, (uint16_t)value);
    tp__put_u16(at + 2, (uint16_t)(value >> 16));
}

static inline void tp__put_u64(uint8_t *at, uint64_t value) {
    tp__put_u32(at, (uint32_t)value);
    tp__put_u32(at + 4, (uint32_t)(value >> 32));
}

static inline void tp__put_u64_big(uint8_t *at, uint64_t value) {
    for (unsigned i = 0; i < 8; i++) {
        at[i] = (uint8_t)(value >> (56 - 8 * i));
    }
}

static inline uint16_t tp__get_u16(const uint8_t *at) {
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline uint32_t tp__get_u32(const uint8_t *at) {
    return tp__get_u16(at) | (uint32_t)tp__get_u16(at + 2) << 16;
}

static inline uint64_t tp__get_u64(const uint8_t *at) {
    return tp__get_u32(at) | (uint64_t)tp__get_u32(at + 4) << 32;
}

#endif
