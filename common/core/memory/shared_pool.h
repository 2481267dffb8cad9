/*
 * A pool that the whole process shares. It is made at its first use and never destroyed: a thread
 * that is about to end may still hold blocks of it.
 */
#ifndef TWINPORT_CORE_MEMORY_SHARED_POOL_H
#define TWINPORT_CORE_MEMORY_SHARED_POOL_H

#include <stdatomic.h>
#include <stddef.h>

#include "twinport/pool.h"

/* Makes the pool that `slot` is for, if there is none yet. Any thread. TP_ERR_NO_MEMORY,
 * TP_ERR_FULL. */
tp_err tp__shared_pool_open(_Atomic(tp_pool *) *slot, const char *name, size_t block_size);

#endif
