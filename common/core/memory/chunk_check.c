/*
 * The invariants of a chunk, as chunk.h states them. For its owner, which is the only thread that
 * writes what is read here, except the count: that only decreases meanwhile, and by no more than
 * the packets that other threads have.
 */
#include "core/base/invariant.h"
#include "core/memory/chunk.h"

const char *tp__chunk_check(const tp__chunk *chunk) {
    const uint8_t *start = (const uint8_t *)(chunk + 1);
    TP__INVARIANT(chunk->first >= start && chunk->first < start + TP__CHUNK_ALIGN);
    TP__INVARIANT(chunk->end == (const uint8_t *)chunk + TP__CHUNK_BYTES);
    TP__INVARIANT(chunk->first <= chunk->next && chunk->next <= chunk->end);
    TP__INVARIANT((uintptr_t)chunk->first % TP__CHUNK_ALIGN == 0);
    TP__INVARIANT((uintptr_t)chunk->next % TP__CHUNK_ALIGN == 0);
    /* What is cut and not released by the owner lies before `next`. */
    size_t used = (size_t)(chunk->next - chunk->first);
    TP__INVARIANT(chunk->outstanding <= used / TP__CHUNK_ALIGN);
    TP__INVARIANT(chunk->outstanding > 0 || used == 0);
    /* Other threads release at most what is outstanding. */
    uint32_t count = atomic_load_explicit(&chunk->count, memory_order_relaxed);
    TP__INVARIANT(count <= TP__CHUNK_BIAS);
    TP__INVARIANT(TP__CHUNK_BIAS - count <= chunk->outstanding);
    return NULL;
}
