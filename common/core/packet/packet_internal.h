/*
 * The inside of tp_packet, for the engine's hot path.
 *
 * In memory, by the offset from the packet's begin, which is aligned to 64 in a chunk and to 16
 * elsewhere:
 *
 *      0   this struct
 *     44   space for the frame's header, 4 bytes
 *     48   head room, TP_PACKET_HEAD bytes
 *     64   the payload, unless push_head or pull_head has moved its start
 *
 * The header is written directly in front of the payload, wherever that starts, so that both are
 * one piece for the system.
 *
 *     48 <= start,  start + size <= end <= bytes,  cursor <= size <= TP_PACKET_MAX
 *
 * push_head moves `start` down and pull_head up; everything else stays.
 *
 * A RUN is no message but the bytes of many frames, one behind the other, as they wait in one
 * session's queue (compact.c). It begins where a packet's header does and counts the frames whose
 * last byte is in it: a frame may go on from one run into the next. It has one reference, the
 * queue's.
 *
 * A packet is written by one thread at a time until it is sealed. After that its references
 * (atomic) change and, through tp_packet_get..., its cursor and its error, which one thread at a
 * time uses (the public contract). The error is atomic because every send looks at it, on other
 * threads.
 */
#ifndef TWINPORT_CORE_PACKET_PACKET_INTERNAL_H
#define TWINPORT_CORE_PACKET_PACKET_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory/chunk.h"
#include "core/memory/thread_cache.h"
#include "core/packet/kept.h"
#include "twinport/packet.h"

#define TP__FRAME_HEADER  4u
#define TP__PACKET_START  64u                                 /* of the payload, at first */
#define TP__PACKET_LOWEST (TP__PACKET_START - TP_PACKET_HEAD) /* of the payload, at last */
#define TP__PACKET_SMALL  ((size_t)16 << 10) /* payloads up to here are cut from chunks */

struct tp_packet {
    _Atomic uint32_t references; /* 0: dead */
    bool sealed;
    _Atomic uint8_t error; /* tp_err, sticky; relaxed */
    uint8_t class_index;   /* only without a chunk: large.h, or kept.h with TP__PACKET_KEPT */
    bool run;              /* see below */
    uint32_t start;
    uint32_t size;
    uint32_t end;
    union {
        uint32_t cursor;   /* from `start` on */
        uint32_t messages; /* of a run */
    };
    uint32_t bytes;   /* of memory, this struct included */
    tp__chunk *chunk; /* NULL: memory of its own */
};

#define TP__PACKET_KEPT 0x80u /* in class_index */

_Static_assert(sizeof(struct tp_packet) + TP__FRAME_HEADER + TP_PACKET_HEAD <= TP__PACKET_START,
    "the head room must not reach into the struct");
_Static_assert(TP__PACKET_SMALL + TP__PACKET_START <= TP__CHUNK_PIECE_MAX,
    "every small packet must fit into a chunk");

/* An unsealed packet of exactly `payload_size` bytes (0..TP_PACKET_MAX) with size set and cursor 0,
 * one reference; the caller fills the payload. NULL if memory is out. Any thread. */
tp_packet *tp__packet_received(size_t payload_size);

/* The same with memory of its own, not of the calling thread's chunk: for a packet that waits
 * (kept.h). */
tp_packet *tp__packet_kept(size_t payload_size);

/* A sealed packet's copy in memory of its own (kept.h): one frame, one reference. NULL if memory is
 * out. Any thread. */
tp_packet *tp__packet_kept_copy(const tp_packet *packet);

/* A sealed run of these bytes (at least TP__FRAME_HEADER), with room for `room` (at most
 * TP__RUN_MOST) in all, and without a message. NULL if memory is out. */
#define TP__RUN_MOST (TP__KEPT_MOST + TP__FRAME_HEADER)
tp_packet *tp__packet_run(const uint8_t *bytes, size_t count, size_t room);

/* Bytes that still find room in the run. */
static inline size_t tp__run_room(const tp_packet *run) {
    return run->end - run->start - run->size;
}

/* Bytes that it had room for at first. */
static inline size_t tp__run_capacity(const tp_packet *run) {
    return TP__FRAME_HEADER + run->end - run->start;
}

/* `count` bytes, for which there is room. */
void tp__run_append(tp_packet *run, const uint8_t *bytes, size_t count);

/* tp_packet_release() of `count` packets. Any thread. */
void tp__packets_release(tp_packet *const *packets, size_t count);

/* Gives the memory of packets that nobody uses back to the system: that of large packets, of free
 * chunks, and of the calling thread's chunk if nothing in it is alive. Returns the bytes. Any
 * thread. */
size_t tp__packets_trim(void);

/* Makes memory for `bytes` (1 or more) of small packets ready, for good, or until as much is given
 * up: what was ready is then given back like any that is not needed. TP_ERR_NO_MEMORY, TP_ERR_FULL:
 * nothing to give up. */
tp_err tp__packets_reserve(size_t bytes);
void tp__packets_unreserve(size_t bytes);

static inline uint8_t *tp__packet_payload(const tp_packet *packet) {
    return (uint8_t *)(uintptr_t)packet + packet->start;
}

/* push_head may have made more room than a frame can say. */
static inline size_t tp__packet_capacity(const tp_packet *packet) {
    size_t room = packet->end - packet->start;
    return room < TP_PACKET_MAX ? room : TP_PACKET_MAX;
}

static inline bool tp__packet_is_sealed(const tp_packet *packet) {
    return packet->sealed;
}

/* What a packet that ends there takes of a chunk. */
static inline size_t tp__packet_piece(size_t end) {
    return (end + TP__CHUNK_ALIGN - 1) & ~(TP__CHUNK_ALIGN - 1);
}

/* As one word, of which compilers make one store. */
static inline void tp__packet_write_header(tp_packet *packet, uint8_t frame_type) {
    uint8_t *header = tp__packet_payload(packet) - TP__FRAME_HEADER;
    uint32_t word = packet->size | (uint32_t)frame_type << 24;
    header[0] = (uint8_t)word;
    header[1] = (uint8_t)(word >> 8);
    header[2] = (uint8_t)(word >> 16);
    header[3] = (uint8_t)(word >> 24);
}

static inline void tp__packet_give_tail_back(tp_packet *packet) {
    size_t used = tp__packet_piece(packet->start + packet->size);
    if (used < packet->bytes && packet->chunk != NULL &&
        tp__chunk_cut_back(
            tp_thread_record(), packet->chunk, (uint8_t *)packet, packet->bytes, used)) {
        packet->bytes = (uint32_t)used;
        packet->end = packet->start + packet->size;
    }
}

/* The first call writes the header and gives unused memory back to the chunk, if the packet is
 * still the newest of the calling thread; later calls do nothing, so the first call's type stays.
 * The caller orders the first call before every other use (by handing the packet over). */
static inline void tp__packet_seal(tp_packet *packet, uint8_t frame_type) {
    if (!packet->sealed) {
        tp__packet_write_header(packet, frame_type);
        packet->sealed = true;
        tp__packet_give_tail_back(packet);
    }
}

/* Header and payload of a sealed packet, in one piece. */
static inline const uint8_t *tp__packet_frame(const tp_packet *packet, size_t *bytes) {
    *bytes = TP__FRAME_HEADER + packet->size;
    return tp__packet_payload(packet) - TP__FRAME_HEADER;
}

/* How many frames' last bytes are in it. */
static inline size_t tp__packet_messages(const tp_packet *packet) {
    return TP_UNLIKELY(packet->run) ? packet->messages : 1;
}

static inline size_t tp__packet_frame_size(const tp_packet *packet) {
    return TP__FRAME_HEADER + packet->size;
}

/* Always an atomic addition: one reference may be shared by several threads that send the packet
 * at once (the public contract), so a count of 1 does not mean that no other thread adds to it.
 * Relaxed: the shared reference keeps the packet alive during the call, and the new one is passed
 * on by a hand-over that orders. */
static inline tp_packet *tp__packet_retain(tp_packet *packet) {
    atomic_fetch_add_explicit(&packet->references, 1, memory_order_relaxed);
    return packet;
}

static inline tp_err tp__packet_error(const tp_packet *packet) {
    return (tp_err)atomic_load_explicit(&packet->error, memory_order_relaxed);
}

/* The first error stays. One writer at a time: whoever has the cursor, or writes. */
static inline void tp__packet_fail(tp_packet *packet, tp_err error) {
    if (tp__packet_error(packet) == TP_OK) {
        atomic_store_explicit(&packet->error, (uint8_t)error, memory_order_relaxed);
    }
}

#endif
