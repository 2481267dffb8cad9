/*
 * Growth by doubling, for arrays that are guarded by a lock or belong to one thread: so n elements
 * are added with fewer than 2n copies. Never on the message path after warm-up.
 *
 *     uint32_t capacity = tp__doubled(list->capacity, FIRST_SIZE);
 *     item *larger = tp__larger_copy(list->items, list->count, capacity, sizeof *larger);
 *     if (!larger) {
 *         return TP_ERR_NO_MEMORY; // nothing has changed
 *     }
 *     tp__free(list->items);
 *     list->items = larger;
 *     list->capacity = capacity;
 *
 * The old array is still whole while the new one is made, so several arrays can grow together: all
 * of them or none.
 */
#ifndef TWINPORT_CORE_MEMORY_GROW_H
#define TWINPORT_CORE_MEMORY_GROW_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/memory/memory.h"

/* The next capacity: `first` (1 or more) after 0, else twice as much. 0: it would overflow. A power
 * of two stays one. */
static inline uint32_t tp__doubled(uint32_t capacity, uint32_t first) {
    if (capacity == 0) {
        return first;
    }
    return capacity <= UINT32_MAX / 2 ? capacity * 2 : 0;
}

/* A new array of `capacity` elements of `size` bytes: a copy of `count` elements, then zeros. NULL:
 * no memory, the size overflows, or `capacity` is 0 or less than `count`. */
static inline void *tp__larger_copy(
    const void *array, size_t count, uint32_t capacity, size_t size) {
    void *larger = capacity > 0 && capacity >= count ? tp__allocate_zeroed(capacity, size) : NULL;
    if (larger && count > 0) {
        memcpy(larger, array, count * size);
    }
    return larger;
}

#endif
