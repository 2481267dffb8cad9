/*
 * Creates a pool that the whole process shares. Any thread. If several threads do so at once, one
 * of their pools is used and the others are destroyed.
 */
#include "core/memory/shared_pool.h"

#include <assert.h>

#include "core/memory/block.h"

tp_err tp__shared_pool_open(_Atomic(tp_pool *) *slot, const char *name, size_t block_size) {
    assert(slot != NULL && name != NULL);
    if (atomic_load_explicit(slot, memory_order_acquire)) {
        return TP_OK;
    }
    const tp_pool_options options = {
        .size = sizeof options, .name = name, .block_size = block_size};
    tp_pool *pool = NULL;
    tp_err error = tp__pool_create_own(&options, &pool);
    if (error) {
        return error;
    }
    tp_pool *none = NULL;
    if (!atomic_compare_exchange_strong_explicit(
            slot, &none, pool, memory_order_acq_rel, memory_order_acquire)) {
        tp_pool_destroy(pool);
    }
    return TP_OK;
}
