/*
 * The thread cache: what the core keeps for each thread, stored as the thread's record
 * (tp_thread_record() in os/thread.h).
 */
#ifndef TWINPORT_CORE_MEMORY_THREAD_CACHE_H
#define TWINPORT_CORE_MEMORY_THREAD_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "os/compiler.h"
#include "os/thread.h"
#include "twinport/pool.h"

struct tp__chunk;
struct tp__magazine;

/* The slots of the core's own pools follow those of users' pools, which cannot take them. */
#define TP__POOL_OWN_SLOTS 12
#define TP__POOL_SLOTS     (TP_POOL_MAX + TP__POOL_OWN_SLOTS)

/*
 * A thread's magazines of one pool. Valid only if `mark` is the mark of the pool that has the slot
 * now (marks never repeat). Otherwise the magazines were freed with an earlier pool and must not be
 * accessed. If it is valid, both magazines exist.
 */
typedef struct tp__pool_cache {
    uint64_t mark; /* 0: never used */
    struct tp__magazine *loaded;
    struct tp__magazine *previous;
    uint64_t seen; /* the state at the last tp__pool_return_idle() */
} tp__pool_cache;

/* What a thread returns when it ends, in this order, because a retired chunk may go into a
 * magazine. */
enum { TP__EXIT_CHUNK, TP__EXIT_POOLS, TP__EXIT_HOOKS };

/* Accessed by its own thread only. */
typedef struct tp__thread_cache {
    /* Called when the thread ends, or NULL; each part sets its hook at its first use. */
    void (*exit_hooks[TP__EXIT_HOOKS])(struct tp__thread_cache *thread);
    struct tp__chunk *chunk; /* packets are cut from it; NULL before the first packet */
    void *worker; /* the core's worker that runs on this thread, or NULL; set by the worker */
    uint64_t idle_due_ms; /* trim.c: time of the next tp__pool_return_idle() */
    tp__pool_cache pools[TP__POOL_SLOTS];
} tp__thread_cache;

/* Creates the cache of a thread that has none; NULL if memory is out. */
tp__thread_cache *tp__thread_cache_create(void);

/* The calling thread's cache, created at the first call; NULL if memory is out. When the thread
 * ends, its chunk and its magazines go back to their pools. */
static inline tp__thread_cache *tp__thread_cache_get(void) {
    tp__thread_cache *thread = tp_thread_record();
    return TP_LIKELY(thread != NULL) ? thread : tp__thread_cache_create();
}

#endif
