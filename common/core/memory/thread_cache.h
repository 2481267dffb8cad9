/*
 * The thread's record: what the core keeps per thread, behind the one pointer that os/thread.h
 * offers.
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

/* Slots of the core's own pools come behind the users', so that users cannot use them up. */
#define TP__POOL_OWN_SLOTS 12
#define TP__POOL_SLOTS     (TP_POOL_MAX + TP__POOL_OWN_SLOTS)

/*
 * A thread's share of one pool. Valid only if `mark` is the mark of the pool that has the slot now
 * (marks never repeat): otherwise the magazines died with an earlier pool and must not be looked
 * at. If it is valid, both magazines exist.
 */
typedef struct tp__pool_cache {
    uint64_t mark; /* 0: never used */
    struct tp__magazine *loaded;
    struct tp__magazine *previous;
    uint64_t seen; /* what tp__pool_rest() found here last */
} tp__pool_cache;

/* Who has something to give back when a thread ends, in the order in which it happens: a chunk that
 * is retired may go into a magazine. */
enum { TP__LEAVE_CHUNK, TP__LEAVE_POOLS, TP__LEAVES };

/* Touched by its own thread alone. */
typedef struct tp__local {
    /* What is called when the thread ends, or NULL: each user enters its own at its first use. */
    void (*leave[TP__LEAVES])(struct tp__local *local);
    struct tp__chunk *chunk; /* packets are cut from it; NULL before the first packet */
    void *worker; /* the core's worker that runs on this thread, or NULL; its owner sets it */
    uint64_t rest_due_ms; /* trim.c: when the magazines are looked at next */
    tp__pool_cache pools[TP__POOL_SLOTS];
} tp__local;

/* Makes the record of a thread that has none; NULL if memory is out. */
tp__local *tp__local_create(void);

/* The thread's record, made at the first call; NULL if memory is out. When the thread ends, its
 * magazines and its chunk go back to where other threads find them. */
static inline tp__local *tp__local_get(void) {
    tp__local *local = tp_thread_record();
    return TP_LIKELY(local != NULL) ? local : tp__local_create();
}

#endif
