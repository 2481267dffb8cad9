/*
 * A pool that the whole process shares. It is created at its first use and never destroyed, because
 * a thread that is ending may still have blocks of it.
 */
#ifndef TWINPORT_CORE_MEMORY_SHARED_POOL_H
#define TWINPORT_CORE_MEMORY_SHARED_POOL_H

#include <stdatomic.h>
#include <stddef.h>

#include "twinport/pool.h"

/* Creates the pool and stores it in `slot`, if that is still NULL. `name` is kept, not copied. Any
 * thread. TP_ERR_NO_MEMORY, TP_ERR_FULL. */
tp_err tp__shared_pool_open(_Atomic(tp_pool *) *slot, const char *name, size_t block_size);

#endif
