/*
 * The internals of tp_packet, for the engine's hot path.
 *
 * Memory layout, by the offset from the packet's address, which is aligned to 64 in a chunk and to
 * 16 elsewhere:
 *
 *      0   this struct
 *     44   space for the frame's header, 4 bytes
 *     48   headroom, TP_PACKET_HEAD bytes
 *     64   the payload, unless push_head or pull_head has moved its start
 *
 * The header is written directly in front of the payload, wherever that starts, so that both are
 * contiguous and can be sent as one buffer.
 *
 *     48 <= start,  start + size <= end <= bytes,  cursor <= size <= TP_PACKET_MAX
 *
 * push_head moves `start` down and pull_head moves it up; `end` and `bytes` stay.
 *
 * A RUN is not a message but the bytes of many frames in a row, as they wait in one session's queue
 * (compact.c). It begins where a packet's header does and counts the frames whose last byte is in
 * it: a frame may continue in the next run. It has one reference, which belongs to the queue.
 *
 * A packet is written by one thread at a time until it is sealed. After that only these change: its
 * references (atomic) and, through tp_packet_get..., its cursor and its error, which one thread at
 * a time uses (the public contract). The error is atomic because every send reads it, on other
 * threads too.
 */
#ifndef TWINPORT_CORE_PACKET_PACKET_INTERNAL_H
#define TWINPORT_CORE_PACKET_PACKET_INTERNAL_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/invariant.h"
#include "core/memory/chunk.h"
#include "core/memory/thread_cache.h"
#include "core/packet/kept.h"
#include "twinport/packet.h"

#define TP__FRAME_HEADER  4u
#define TP__PACKET_START  64u                                 /* `start` of a new packet */
#define TP__PACKET_LOWEST (TP__PACKET_START - TP_PACKET_HEAD) /* the lowest `start` */
#define TP__PACKET_SMALL  ((size_t)16 << 10) /* larger payloads are not cut from chunks */

struct tp_packet {
    _Atomic uint32_t references; /* 0: freed */
    bool sealed;
    _Atomic uint8_t error; /* tp_err, sticky; relaxed */
    uint8_t class_index;   /* without a chunk: of large.h, or of kept.h with TP__PACKET_KEPT */
    bool run;              /* see above */
    uint32_t start;
    uint32_t size;
    uint32_t end;
    union {
        uint32_t cursor;   /* offset from `start` */
        uint32_t messages; /* of a run: the frames whose last byte is in it */
    };
    uint32_t bytes;   /* of memory, this struct included */
    tp__chunk *chunk; /* NULL: memory of its own */
};

#define TP__PACKET_KEPT 0x80u /* in class_index */

_Static_assert(
    sizeof(void *) != 8 || sizeof(struct tp_packet) <= 40, "a packet's header has grown");
_Static_assert(sizeof(struct tp_packet) + TP__FRAME_HEADER + TP_PACKET_HEAD <= TP__PACKET_START,
    "the headroom must not reach into the struct");
_Static_assert(TP__PACKET_SMALL + TP__PACKET_START <= TP__CHUNK_PIECE_MAX,
    "every small packet must fit into a chunk");

/* An unsealed packet of exactly `payload_size` bytes (0..TP_PACKET_MAX) with its size set, cursor 0
 * and one reference; the caller fills the payload. NULL if memory is out. Any thread. */
tp_packet *tp__packet_received(size_t payload_size);

/* The same with memory of its own instead of the calling thread's chunk: for a packet that waits
 * (kept.h). */
tp_packet *tp__packet_kept(size_t payload_size);

/* A copy of a sealed packet, in memory of its own (kept.h): one frame, one reference. NULL if
 * memory is out. Any thread. */
tp_packet *tp__packet_kept_copy(const tp_packet *packet);

/* A sealed run with these `count` bytes (at least TP__FRAME_HEADER), for at least `capacity` bytes
 * in all (at most TP__RUN_MOST), with 0 messages. NULL if memory is out. Any thread. */
#define TP__RUN_MOST (TP__KEPT_MOST + TP__FRAME_HEADER)
tp_packet *tp__packet_run(const uint8_t *bytes, size_t count, size_t capacity);

/* The first broken invariant of a packet, or NULL (packet_check.c): the equation above, and what
 * belongs to its kind of memory. On a thread that has a reference, while no thread writes the
 * packet or uses its cursor. tp__packet_layout_check(): also after the last reference. */
const char *tp__packet_check(const tp_packet *packet);
const char *tp__packet_layout_check(const tp_packet *packet);

/* Bytes that still fit into the run. */
static inline size_t tp__run_space_left(const tp_packet *run) {
    assert(run->start + run->size <= run->end);
    return run->end - run->start - run->size;
}

/* Bytes that the run can hold in all. */
static inline size_t tp__run_capacity(const tp_packet *run) {
    return TP__FRAME_HEADER + run->end - run->start;
}

/* Appends `count` bytes, at most tp__run_space_left(). */
void tp__run_append(tp_packet *run, const uint8_t *bytes, size_t count);

/* tp_packet_release() of `count` packets. Any thread. */
void tp__packets_release(tp_packet *const *packets, size_t count);

/* Returns unused memory of packets to the system: of large and kept packets, of free chunks, and
 * the calling thread's chunk if no packet in it is alive. Returns the bytes. Any thread. */
size_t tp__packets_trim(void);

/* tp__packets_reserve() allocates memory for `bytes` (1 or more) of small packets in advance; it is
 * not freed as idle until tp__packets_unreserve() with the same number. TP_ERR_NO_MEMORY,
 * TP_ERR_FULL: then nothing is reserved. */
tp_err tp__packets_reserve(size_t bytes);
void tp__packets_unreserve(size_t bytes);

static inline uint8_t *tp__packet_payload(const tp_packet *packet) {
    return (uint8_t *)(uintptr_t)packet + packet->start;
}

/* Limited to TP_PACKET_MAX: push_head may have extended the space beyond a frame's largest size. */
static inline size_t tp__packet_capacity(const tp_packet *packet) {
    size_t capacity = packet->end - packet->start;
    return capacity < TP_PACKET_MAX ? capacity : TP_PACKET_MAX;
}

static inline bool tp__packet_is_sealed(const tp_packet *packet) {
    return packet->sealed;
}

/* The size of the piece of a chunk for a packet that ends at offset `end`. */
static inline size_t tp__packet_piece(size_t end) {
    return (end + TP__CHUNK_ALIGN - 1) & ~(TP__CHUNK_ALIGN - 1);
}

/* Built as one word, so that compilers can make one store of it. */
static inline void tp__packet_write_header(tp_packet *packet, uint8_t frame_type) {
    assert(packet->size <= TP_PACKET_MAX);
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
        assert(packet->end <= packet->bytes);
    }
}

/* The first call writes the header and returns unused memory to the chunk, if the packet is still
 * the newest of the calling thread; later calls do nothing, so the type of the first call stays.
 * The caller orders the first call before every use by another thread (by the way it passes the
 * packet on). */
static inline void tp__packet_seal(tp_packet *packet, uint8_t frame_type) {
    if (!packet->sealed) {
        tp__packet_write_header(packet, frame_type);
        packet->sealed = true;
        tp__packet_give_tail_back(packet);
        TP__VERIFY(tp__packet_check(packet));
    }
}

/* Header and payload of a sealed packet, which are contiguous. */
static inline const uint8_t *tp__packet_frame(const tp_packet *packet, size_t *bytes) {
    *bytes = TP__FRAME_HEADER + packet->size;
    return tp__packet_payload(packet) - TP__FRAME_HEADER;
}

/* The number of frames whose last byte is in the packet. */
static inline size_t tp__packet_messages(const tp_packet *packet) {
    return TP_UNLIKELY(packet->run) ? packet->messages : 1;
}

static inline size_t tp__packet_frame_size(const tp_packet *packet) {
    return TP__FRAME_HEADER + packet->size;
}

/* Always an atomic addition: one reference may be shared by several threads that send the packet
 * at once (the public contract), so a count of 1 does not mean that no other thread adds to it.
 * Relaxed: the shared reference keeps the packet alive during the call, and what passes the new
 * reference to another thread provides the order. */
static inline tp_packet *tp__packet_retain(tp_packet *packet) {
    uint32_t before = atomic_fetch_add_explicit(&packet->references, 1, memory_order_relaxed);
    assert(before > 0 && before < UINT32_MAX);
    (void)before;
    return packet;
}

static inline tp_err tp__packet_error(const tp_packet *packet) {
    return (tp_err)atomic_load_explicit(&packet->error, memory_order_relaxed);
}

/* Sets the sticky error: the first one stays. One thread at a time: the one that writes the packet
 * or uses its cursor. */
static inline void tp__packet_fail(tp_packet *packet, tp_err error) {
    if (tp__packet_error(packet) == TP_OK) {
        atomic_store_explicit(&packet->error, (uint8_t)error, memory_order_relaxed);
    }
}

#endif
