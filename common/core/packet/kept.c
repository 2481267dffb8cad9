/*
 * Memory for packets that wait: one pool for each size class. Any thread. The pools are created
 * with the first server and exist for the life of the process, because packets may outlive every
 * server.
 */
#include "core/packet/kept.h"

#include <assert.h>
#include <stdatomic.h>

#include "core/memory/shared_pool.h"

static _Atomic(tp_pool *) pools[TP__KEPT_CLASSES];

static const char *const names[TP__KEPT_CLASSES] = {"kept packets, 128 bytes",
    "kept packets, 256 bytes", "kept packets, 512 bytes", "kept packets, 1 KiB",
    "kept packets, 2 KiB", "kept packets, 4 KiB", "kept packets, 8 KiB", "kept packets, 16 KiB"};

tp_err tp__kept_open(void) {
    tp_err error = TP_OK;
    for (unsigned i = 0; i < TP__KEPT_CLASSES && !error; i++) {
        error = tp__shared_pool_open(&pools[i], names[i], TP__KEPT_HEAD + tp__kept_bytes(i));
    }
    return error;
}

tp_pool *tp__kept_pool(unsigned class_index) {
    assert(class_index < TP__KEPT_CLASSES);
    return atomic_load_explicit(&pools[class_index], memory_order_acquire);
}

unsigned tp__kept_class(size_t payload) {
    assert(payload <= TP__KEPT_MOST);
    unsigned class_index = 0;
    while (tp__kept_bytes(class_index) < payload) {
        class_index++;
    }
    return class_index;
}

void *tp__kept_take(unsigned class_index) {
    tp_pool *pool = tp__kept_pool(class_index);
    return pool ? tp_pool_allocate(pool) : NULL;
}

void tp__kept_give(unsigned class_index, void *memory) {
    assert(memory != NULL && tp__kept_pool(class_index) != NULL);
    tp_pool_free(tp__kept_pool(class_index), memory);
}

size_t tp__kept_trim(void) {
    size_t bytes = 0;
    for (unsigned i = 0; i < TP__KEPT_CLASSES; i++) {
        tp_pool *pool = tp__kept_pool(i);
        bytes += pool ? tp_pool_trim(pool) : 0;
    }
    return bytes;
}
