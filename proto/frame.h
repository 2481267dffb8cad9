/*
 * The LAN protocol, header-only. A connection is a TCP stream of frames.
 *
 * A frame is a 4-byte header and a payload. The header is a little-endian u32: the payload's length
 * in bits 0..23, the type in bits 24..31. So the header of a DATA frame, read as a u32, equals its
 * length.
 *
 * Include only this file: no library, no state, no allocation. All functions may be called from any
 * thread. C11 and C++17.
 */
#ifndef TWINPORT_PROTO_FRAME_H
#define TWINPORT_PROTO_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TP_FRAME_HEADER        4u
#define TP_FRAME_MAX_PAYLOAD   0xffffffu /* the largest value of 24 bits */
#define TP_FRAME_DEFAULT_LIMIT 0x100000u /* default limit of a LAN receiver: 1 MiB */
#define TP_FRAME_PING_MAX      32u       /* payload of PING and PONG */
#define TP_FRAME_CLOSE_MIN     2u        /* payload of CLOSE: a u16 reason ... */
#define TP_FRAME_CLOSE_MAX     66u       /* ... and up to 64 bytes of UTF-8 */
#define TP_FRAME_CLOSE_TEXT    (TP_FRAME_CLOSE_MAX - TP_FRAME_CLOSE_MIN)

typedef enum tp_frame_type {
    TP_FRAME_DATA = 0,  /* one application message */
    TP_FRAME_PING = 1,  /* 0..32 opaque bytes */
    TP_FRAME_PONG = 2,  /* the PING's payload */
    TP_FRAME_CLOSE = 3, /* u16 reason, then 0..64 bytes of UTF-8; no frame follows */
    TP_FRAME_READY = 4, /* empty; WAN only, client to server, the first frame */
    TP_FRAME_PAD = 5    /* any bytes, ignored */
} tp_frame_type;

/* X(code name, value on the wire, text). The values never change. */
#define TP_CLOSE_REASONS(X)                                                                        \
    X(TP_CLOSE_NORMAL, 0, "normal")                                                                \
    X(TP_CLOSE_FULL, 1, "full")                                                                    \
    X(TP_CLOSE_REPLACED, 2, "replaced")                                                            \
    X(TP_CLOSE_IDLE, 3, "idle")                                                                    \
    X(TP_CLOSE_AUTH, 4, "auth")                                                                    \
    X(TP_CLOSE_PROTOCOL, 5, "protocol")                                                            \
    X(TP_CLOSE_RATE, 6, "rate")                                                                    \
    X(TP_CLOSE_OVERLOAD, 7, "overload") /* a slow consumer */                                      \
    X(TP_CLOSE_SHUTDOWN, 8, "shutdown")                                                            \
    X(TP_CLOSE_KEY_LIMIT, 9, "key-limit")                                                          \
    X(TP_CLOSE_KICKED, 10, "kicked")

typedef enum tp_close_reason {
#define TP_CLOSE_ENUM(name, value, text) name = value,
    TP_CLOSE_REASONS(TP_CLOSE_ENUM)
#undef TP_CLOSE_ENUM
} tp_close_reason;

#define TP_CLOSE_REASON_COUNT 11u

/* A decoded header. `type` is the byte as received: it may be no tp_frame_type. */
typedef struct tp_frame_header {
    uint32_t length; /* of the payload, 0..TP_FRAME_MAX_PAYLOAD */
    uint8_t type;
} tp_frame_header;

/* Reads the 4 bytes at `bytes`. */
static inline tp_frame_header tp_frame_read(const uint8_t *bytes) {
    tp_frame_header header;
    uint32_t word = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                    (uint32_t)bytes[3] << 24; /* one expression: compilers make one load of it */
    header.length = word & TP_FRAME_MAX_PAYLOAD;
    header.type = (uint8_t)(word >> 24);
    return header;
}

/* Writes 4 bytes at `bytes`. `length` is at most TP_FRAME_MAX_PAYLOAD. */
static inline void tp_frame_write(uint8_t *bytes, tp_frame_type type, uint32_t length) {
    bytes[0] = (uint8_t)length;
    bytes[1] = (uint8_t)(length >> 8);
    bytes[2] = (uint8_t)(length >> 16);
    bytes[3] = (uint8_t)type;
}

/*
 * Whether a LAN receiver with this limit (bytes) accepts the frame. Only the header is needed, so
 * the answer is known before a buffer of that size exists. A frame that is not allowed ends the
 * session with TP_CLOSE_PROTOCOL. READY is only for the WAN: on the LAN it is an unknown type.
 */
static inline bool tp_frame_allowed(tp_frame_header header, uint32_t limit) {
    if (header.length > limit) {
        return false;
    }
    switch (header.type) {
    case TP_FRAME_DATA:
    case TP_FRAME_PAD:
        return true;
    case TP_FRAME_PING:
    case TP_FRAME_PONG:
        return header.length <= TP_FRAME_PING_MAX;
    case TP_FRAME_CLOSE:
        return header.length >= TP_FRAME_CLOSE_MIN && header.length <= TP_FRAME_CLOSE_MAX;
    default:
        return false;
    }
}

/* The reason in a CLOSE frame's payload (at least TP_FRAME_CLOSE_MIN bytes). A number that is not
 * in the list is returned unchanged. */
static inline uint16_t tp_frame_close_reason(const uint8_t *payload) {
    return (uint16_t)(payload[0] | payload[1] << 8);
}

/* Writes a complete CLOSE frame without text, header and payload, into `bytes` (TP_FRAME_HEADER +
 * TP_FRAME_CLOSE_MIN). Returns the number of bytes. */
static inline size_t tp_frame_write_close(uint8_t *bytes, tp_close_reason reason) {
    tp_frame_write(bytes, TP_FRAME_CLOSE, TP_FRAME_CLOSE_MIN);
    bytes[TP_FRAME_HEADER] = (uint8_t)((unsigned)reason & 0xffu);
    bytes[TP_FRAME_HEADER + 1] = (uint8_t)((unsigned)reason >> 8);
    return TP_FRAME_HEADER + TP_FRAME_CLOSE_MIN;
}

/* The reason's name ("protocol"); "unknown" for a number that is not in the list. */
static inline const char *tp_close_reason_name(uint16_t reason) {
    switch (reason) {
#define TP_CLOSE_CASE(name, value, text)                                                           \
    case value:                                                                                    \
        return text;
        TP_CLOSE_REASONS(TP_CLOSE_CASE)
#undef TP_CLOSE_CASE
    default:
        return "unknown";
    }
}

#ifdef __cplusplus
}
#endif
#endif
