/*
 * Binary heap in an array: the first item is the one that comes before all others. Adding and
 * removing an item moves log2(count) others. The array's owner has the count, makes space, and
 * guards it all.
 *
 *     no item comes before items[(its index - 1) / 2]
 */
#ifndef TWINPORT_CORE_BASE_HEAP_H
#define TWINPORT_CORE_BASE_HEAP_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/base/invariant.h"

/* What the items are: `size` bytes each, and `a` comes before `b`. `context` is passed on. */
typedef struct tp__heap_order {
    size_t size;
    bool (*before)(const void *a, const void *b, const void *context);
    const void *context;
} tp__heap_order;

static inline void *tp__heap_at(const tp__heap_order *order, void *items, uint32_t index) {
    return (unsigned char *)items + (size_t)index * order->size;
}

/* Adds *item to the `count` items. The array has space for one more. */
static inline void tp__heap_push(
    const tp__heap_order *order, void *items, uint32_t count, const void *item) {
    uint32_t at = count;
    while (at > 0) {
        void *parent = tp__heap_at(order, items, (at - 1) / 2);
        if (!order->before(item, parent, order->context)) {
            break;
        }
        memcpy(tp__heap_at(order, items, at), parent, order->size);
        at = (at - 1) / 2;
    }
    memcpy(tp__heap_at(order, items, at), item, order->size);
}

/* The index of the item that comes first of those below `at`; `count` or more: there is none. */
static inline uint32_t tp__heap_child(
    const tp__heap_order *order, void *items, uint32_t count, uint32_t at) {
    uint32_t child = 2 * at + 1;
    bool second = child + 1 < count && order->before(tp__heap_at(order, items, child + 1),
                                           tp__heap_at(order, items, child), order->context);
    return child + second;
}

/* Puts *item in the place of the first item, and moves it down to where the order has it. *item is
 * none of the `count` items. */
static inline void tp__heap_replace_first(
    const tp__heap_order *order, void *items, uint32_t count, const void *item) {
    assert(count > 0 && count <= UINT32_MAX / 2);
    uint32_t at = 0;
    for (;;) {
        uint32_t child = tp__heap_child(order, items, count, at);
        if (child >= count ||
            !order->before(tp__heap_at(order, items, child), item, order->context)) {
            break;
        }
        memcpy(tp__heap_at(order, items, at), tp__heap_at(order, items, child), order->size);
        at = child;
    }
    memcpy(tp__heap_at(order, items, at), item, order->size);
}

/* Removes the first of the `count` items, which the caller has copied. */
static inline void tp__heap_remove_first(const tp__heap_order *order, void *items, uint32_t count) {
    assert(count > 0);
    if (count > 1) { /* the last item is outside the heap that is left */
        tp__heap_replace_first(order, items, count - 1, tp__heap_at(order, items, count - 1));
    }
}

/* Returns the first condition that is false, or NULL. */
static inline const char *tp__heap_check(
    const tp__heap_order *order, const void *items, uint32_t count) {
    const unsigned char *bytes = items;
    for (uint32_t at = 1; at < count; at++) {
        const void *item = bytes + (size_t)at * order->size;
        const void *parent = bytes + (size_t)((at - 1) / 2) * order->size;
        TP__INVARIANT(!order->before(item, parent, order->context));
    }
    return NULL;
}

#endif
