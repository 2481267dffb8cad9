/*
 * A packet's invariants, as packet_internal.h states them. On a thread that has a reference, while
 * no thread writes the packet or moves its cursor. Reads everything and changes nothing.
 */
#include "core/base/invariant.h"
#include "core/memory/large.h"
#include "core/packet/packet_internal.h"

static const char *cut_check(const tp_packet *packet) {
    const uint8_t *at = (const uint8_t *)packet;
    TP__INVARIANT(!packet->run); /* a run has memory of its own */
    TP__INVARIANT((uintptr_t)packet % TP__CHUNK_ALIGN == 0);
    TP__INVARIANT(packet->bytes % TP__CHUNK_ALIGN == 0);
    TP__INVARIANT(packet->bytes <= TP__CHUNK_PIECE_MAX);
    TP__INVARIANT(at >= packet->chunk->first && at < packet->chunk->end);
    TP__INVARIANT(packet->bytes <= (size_t)(packet->chunk->end - at));
    return NULL;
}

static const char *kept_check(const tp_packet *packet) {
    unsigned class_index = packet->class_index & ~TP__PACKET_KEPT;
    TP__INVARIANT(class_index < TP__KEPT_CLASSES);
    TP__INVARIANT(packet->bytes <= TP__KEPT_HEAD + tp__kept_bytes(class_index));
    TP__INVARIANT(packet->sealed || !packet->run);
    return NULL;
}

static const char *large_check(const tp_packet *packet) {
    TP__INVARIANT(!packet->run);
    TP__INVARIANT(packet->class_index < TP__LARGE_CLASSES);
    TP__INVARIANT(packet->bytes <= TP__LARGE_HEAD + (TP__LARGE_SMALLEST << packet->class_index));
    return NULL;
}

const char *tp__packet_layout_check(const tp_packet *packet) {
    TP__INVARIANT(packet->start >= TP__PACKET_LOWEST);
    TP__INVARIANT((uint64_t)packet->start + packet->size <= packet->end);
    TP__INVARIANT(packet->end <= packet->bytes);
    TP__INVARIANT(packet->size <= TP_PACKET_MAX);
    TP__INVARIANT(packet->run || packet->cursor <= packet->size);
    if (packet->chunk != NULL) {
        return cut_check(packet);
    }
    return packet->class_index & TP__PACKET_KEPT ? kept_check(packet) : large_check(packet);
}

const char *tp__packet_check(const tp_packet *packet) {
    TP__INVARIANT(atomic_load_explicit(&packet->references, memory_order_relaxed) > 0);
    return tp__packet_layout_check(packet);
}
