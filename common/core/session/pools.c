/*
 * The pools that all servers of the process share. Any thread may open them.
 */
#include "core/session/pools.h"

#include "core/memory/shared_pool.h"
#include "core/packet/kept.h"
#include "core/session/send_batch.h"

static _Atomic(tp_pool *) nodes;
static _Atomic(tp_pool *) batches;

tp_err tp__pools_open(void) {
    tp_err error = tp__shared_pool_open(&nodes, "send nodes", sizeof(tp__send_node));
    if (!error) {
        error = tp__shared_pool_open(&batches, "send batches", sizeof(tp__send_batch));
    }
    return error ? error : tp__kept_open();
}

tp_pool *tp__node_pool(void) {
    return atomic_load_explicit(&nodes, memory_order_acquire);
}

tp_pool *tp__send_batch_pool(void) {
    return atomic_load_explicit(&batches, memory_order_acquire);
}
