/*
 * The pools that all servers of the process share. Any thread may open them; who comes second
 * throws its own away. They are never destroyed: a thread that is about to end may still hold
 * blocks of them.
 */
#include "core/session/pools.h"

#include "core/memory/block.h"
#include "core/packet/kept.h"
#include "core/session/send_batch.h"

static _Atomic(tp_pool *) nodes;
static _Atomic(tp_pool *) flights;

tp_err tp__pools_open_one(_Atomic(tp_pool *) *slot, const char *name, size_t block_size) {
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

tp_err tp__pools_open(void) {
    tp_err error = tp__pools_open_one(&nodes, "send nodes", sizeof(tp__send_node));
    if (!error) {
        error = tp__pools_open_one(&flights, "gathered sends", sizeof(tp__flight));
    }
    return error ? error : tp__kept_open();
}

tp_pool *tp__node_pool(void) {
    return atomic_load_explicit(&nodes, memory_order_acquire);
}

tp_pool *tp__flight_pool(void) {
    return atomic_load_explicit(&flights, memory_order_acquire);
}
