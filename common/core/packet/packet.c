/*
 * Packets: their memory and their references. See packet_internal.h for the layout. Any thread.
 *
 * A packet belongs to its references together: the release of the last one frees it.
 */
#include <assert.h>
#include <string.h>

#include "core/base/fatal.h"
#include "core/memory/large.h"
#include "core/packet/packet_internal.h"

#ifndef NDEBUG
#define DEAD_BYTE 0xDD /* debug builds: what a released payload is overwritten with */
#endif

_Static_assert(TP__LARGE_HEAD == TP__PACKET_START, "large.h reserves the bytes before the payload");
_Static_assert(TP__KEPT_HEAD == TP__PACKET_START, "kept.h reserves the bytes before the payload");
_Static_assert(TP__KEPT_MOST == TP__PACKET_SMALL + TP_PACKET_HEAD,
    "a packet from a chunk can be copied to kept memory, even with a full head");

/* ---- memory ---------------------------------------------------------------------------------- */

static void packet_init(tp_packet *packet, size_t capacity, size_t size, size_t bytes) {
    assert(size <= capacity && TP__PACKET_START + capacity <= bytes && bytes <= UINT32_MAX);
    atomic_init(&packet->references, 1);
    packet->sealed = false;
    packet->run = false;
    atomic_init(&packet->error, TP_OK);
    packet->start = TP__PACKET_START;
    packet->size = (uint32_t)size;
    packet->end = (uint32_t)(TP__PACKET_START + capacity);
    packet->cursor = 0;
    packet->bytes = (uint32_t)bytes;
}

TP_NOINLINE static tp_packet *packet_make_large(size_t capacity, size_t size) {
    unsigned class_index = tp__large_class(capacity);
    tp_packet *packet = tp__large_take(class_index);
    if (packet == NULL) {
        return NULL;
    }
    TP_UNPOISON(packet, TP__PACKET_START + capacity);
    packet_init(packet, capacity, size, TP__PACKET_START + capacity);
    packet->class_index = (uint8_t)class_index;
    packet->chunk = NULL;
    TP__VERIFY(tp__packet_check(packet));
    return packet;
}

static inline tp_packet *packet_make(size_t capacity, size_t size) {
    if (TP_UNLIKELY(capacity > TP__PACKET_SMALL)) {
        return capacity <= TP_PACKET_MAX ? packet_make_large(capacity, size) : NULL;
    }
    tp__thread_cache *thread = tp__thread_cache_get();
    size_t bytes = tp__packet_piece(TP__PACKET_START + capacity);
    tp_packet *packet = TP_LIKELY(thread != NULL) ? tp__chunk_cut(thread, bytes) : NULL;
    if (TP_UNLIKELY(packet == NULL)) {
        return NULL;
    }
    packet_init(packet, capacity, size, bytes);
    packet->chunk = thread->chunk;
    TP__VERIFY(tp__packet_check(packet));
    return packet;
}

tp_packet *tp_packet_new(size_t capacity) {
    return packet_make(capacity, 0);
}

tp_packet *tp__packet_received(size_t payload_size) {
    return packet_make(payload_size, payload_size);
}

tp_packet *tp__packet_kept(size_t payload_size) {
    if (payload_size > TP__KEPT_MOST) {
        return packet_make(payload_size, payload_size); /* large packets have memory of their own */
    }
    unsigned class_index = tp__kept_class(payload_size);
    tp_packet *packet = tp__kept_take(class_index);
    if (packet == NULL) {
        return NULL;
    }
    packet_init(packet, payload_size, payload_size, TP__PACKET_START + payload_size);
    packet->class_index = (uint8_t)(TP__PACKET_KEPT | class_index);
    packet->chunk = NULL;
    TP__VERIFY(tp__packet_check(packet));
    return packet;
}

tp_packet *tp__packet_kept_copy(const tp_packet *packet) {
    assert(packet->sealed && !packet->run);
    size_t bytes;
    const uint8_t *frame = tp__packet_frame(packet, &bytes);
    tp_packet *copy = tp__packet_kept(packet->size);
    if (copy != NULL) {
        copy->sealed = true;
        memcpy(tp__packet_payload(copy) - TP__FRAME_HEADER, frame, bytes);
    }
    return copy;
}

tp_packet *tp__packet_run(const uint8_t *bytes, size_t count, size_t capacity) {
    assert(count >= TP__FRAME_HEADER && count <= capacity && capacity <= TP__RUN_MOST);
    size_t payload = tp__kept_bytes(tp__kept_class(capacity - TP__FRAME_HEADER));
    tp_packet *run = tp__packet_kept(payload);
    if (run != NULL) {
        run->size = (uint32_t)(count - TP__FRAME_HEADER);
        run->sealed = true;
        run->run = true;
        run->messages = 0;
        memcpy(tp__packet_payload(run) - TP__FRAME_HEADER, bytes, count);
        TP__VERIFY(tp__packet_check(run));
    }
    return run;
}

void tp__run_append(tp_packet *run, const uint8_t *bytes, size_t count) {
    assert(count <= tp__run_space_left(run));
    memcpy(tp__packet_payload(run) + run->size, bytes, count);
    run->size += (uint32_t)count;
    TP__VERIFY(tp__packet_check(run));
}

tp_packet *tp_packet_copy_of(const void *bytes, size_t count) {
    tp_packet *packet = packet_make(count, count);
    if (packet != NULL && count > 0) {
        memcpy(tp__packet_payload(packet), bytes, count);
    }
    return packet;
}

/* ---- references ------------------------------------------------------------------------------ */

tp_packet *tp_packet_retain(tp_packet *packet) {
    return tp__packet_retain(packet);
}

static void packet_overwrite(tp_packet *packet) {
#ifdef DEAD_BYTE
    memset((uint8_t *)packet + sizeof *packet, DEAD_BYTE,
        packet->start + packet->size - sizeof *packet);
#else
    (void)packet;
#endif
}

static inline void packet_free(const tp__thread_cache *thread, tp_packet *packet) {
    TP__VERIFY(tp__packet_layout_check(packet));
    packet_overwrite(packet);
    if (TP_LIKELY(packet->chunk != NULL)) {
        tp__chunk_release(thread, packet->chunk, (uint8_t *)packet, packet->bytes);
        return;
    }
    unsigned class_index = packet->class_index;
    if (class_index & TP__PACKET_KEPT) {
        tp__kept_give(class_index & ~TP__PACKET_KEPT, packet);
        return;
    }
    TP_POISON(packet, packet->bytes);
    tp__large_give(class_index, packet);
}

TP_NORETURN static void packet_stop_dead(const tp_packet *packet) {
    tp__fatal(
        "packet %p released after its last reference: one release too many", (const void *)packet);
}

/*
 * Gives up one reference. True: it was the last one, and the caller frees the packet.
 *
 * If the load returns 1, the reference that the caller gives up is the only one. No thread can add
 * one meanwhile: there is no other reference, and the contract forbids the use of this one during
 * its release. So the decrement needs no read-modify-write. Acquire pairs with the release of the
 * earlier decrements: what other threads did with the packet happens before its memory is used
 * again. The stored 0 detects one release too many: as long as the memory is not used again, such a
 * release always finds it.
 */
static inline bool packet_drop_reference(tp_packet *packet) {
    uint32_t held = atomic_load_explicit(&packet->references, memory_order_acquire);
    if (held == 1) {
        atomic_store_explicit(&packet->references, 0, memory_order_relaxed);
        return true;
    }
    if (TP_LIKELY(held != 0)) {
        held = atomic_fetch_sub_explicit(&packet->references, 1, memory_order_acq_rel);
    }
    if (TP_UNLIKELY(held == 0)) {
        packet_stop_dead(packet);
    }
    return held == 1;
}

void tp_packet_release(tp_packet *packet) {
    if (packet != NULL && packet_drop_reference(packet)) {
        packet_free(tp_thread_record(), packet);
    }
}

void tp__packets_release(tp_packet *const *packets, size_t count) {
    const tp__thread_cache *thread = tp_thread_record();
    for (size_t i = 0; i < count; i++) {
        tp_packet *packet = packets[i];
        if (packet_drop_reference(packet)) {
            packet_free(thread, packet);
        }
    }
}

/* ---- the process's packets ------------------------------------------------------------------- */

size_t tp__packets_trim(void) {
    return tp__chunk_trim() + tp__large_trim() + tp__kept_trim();
}

static size_t chunks_for(size_t bytes) {
    return bytes / TP__CHUNK_BYTES + (bytes % TP__CHUNK_BYTES > 0 ? 1 : 0);
}

tp_err tp__packets_reserve(size_t bytes) {
    assert(bytes > 0);
    return tp__chunk_reserve(chunks_for(bytes));
}

void tp__packets_unreserve(size_t bytes) {
    tp__chunk_unreserve(chunks_for(bytes));
}

/* ---- properties ------------------------------------------------------------------------------ */

const uint8_t *tp_packet_bytes(const tp_packet *packet) {
    return tp__packet_payload(packet);
}

size_t tp_packet_size(const tp_packet *packet) {
    return packet->size;
}

size_t tp_packet_capacity(const tp_packet *packet) {
    return tp__packet_capacity(packet);
}

tp_err tp_packet_error(const tp_packet *packet) {
    return tp__packet_error(packet);
}
