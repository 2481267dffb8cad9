/*
 * The inside of tp_pool: the fast paths (at the end of this file), pool.c (a thread's magazines;
 * making, trimming and destroying pools), registry.c (the register of pools), depot.c (what threads
 * share), slabs.c (where blocks come from and go).
 *
 * WHERE A BLOCK IS. Every block of a pool is at every moment in exactly one place:
 *     with the user                                   holder = TP__HELD_BY_USER
 *     in a magazine, of a thread or of the depot      holder = the magazine's index
 *     on the loose list                               holder = TP__HELD_LOOSE
 * and     blocks = with users + sum of all magazines' counts + loose
 * as soon as nobody is in the middle of a call.
 *
 * WHERE A MAGAZINE IS. loaded or previous of one thread's cache, or on the stack `filled` (count >=
 * 1), or on the stack `empty` (count = 0), or held by a call in progress. Only whoever has it there
 * touches its count and blocks; the stacks hand it over (see stack.h). Its memory stays until the
 * pool is destroyed.
 */
#ifndef TWINPORT_CORE_MEMORY_BLOCK_H
#define TWINPORT_CORE_MEMORY_BLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/memory/stack.h"
#include "core/memory/thread_cache.h"
#include "os/compiler.h"
#include "os/thread.h"
#include "twinport/pool.h"

#define TP__HELD_BY_USER ((uint32_t)0)
#define TP__HELD_LOOSE   UINT32_MAX

/* In front of every block. */
typedef struct tp__block {
    _Atomic uint32_t holder;
    uint32_t slab; /* which entry of pool->slabs it was cut from */
    uint64_t mark; /* the pool's mark ^ the block's address */
} tp__block;

_Static_assert(sizeof(tp__block) == 16, "blocks stay aligned to 16 behind their headers");

typedef struct tp__magazine {
    _Atomic uint32_t next; /* the stacks' */
    uint32_t index;        /* 1, 2, ... within the pool; never changes */
    uint32_t count;        /* 0..pool->rounds */
    uint32_t reserved;
    void *blocks[]; /* [0, count) are free blocks */
} tp__magazine;

/* Magazines come in rows that double, so that an index finds its magazine without any table that
 * would have to move: row r holds TP__ROW_MAGAZINES << r of them. */
#define TP__ROWS          20
#define TP__ROW_MAGAZINES 16

typedef struct tp__slab {
    uint8_t *memory; /* NULL: the entry is free, and `seen` names the next free one + 1 */
    uint32_t blocks; /* cut from it */
    uint32_t seen;   /* while trimming: how many of them were found free */
} tp__slab;

struct tp_pool {
    /* Written at creation only. */
    uint64_t mark; /* names this pool and no other that ever was */
    uint32_t slot; /* in the register and in every thread's record */
    uint32_t rounds;
    size_t block_size; /* rounded up to 16 */
    size_t stride;     /* header and block */
    size_t slab_blocks;
    size_t limit; /* SIZE_MAX: none */
    size_t magazine_bytes;
    const char *name;
    uint8_t apart[TP_CACHE_LINE];

    /* The depot: touched once per magazine, not once per block. */
    tp__stack filled;
    uint8_t filled_apart[TP_CACHE_LINE - sizeof(tp__stack)];
    tp__stack empty;
    uint8_t empty_apart[TP_CACHE_LINE - sizeof(tp__stack)];
    _Atomic uint64_t ready;     /* blocks in `filled`; a little off while somebody is at it */
    _Atomic uint64_t ready_low; /* the least there were since tp__pool_reap() looked */
    _Atomic uint64_t reserved;  /* blocks that tp__pool_reap() leaves, used or not */
    _Atomic uint64_t gets;
    _Atomic uint64_t puts;
    _Atomic uint64_t failures;
    _Atomic uint64_t blocks; /* changed under the mutex, read by anybody */
    _Atomic(uint8_t *) rows[TP__ROWS];
    _Atomic uint32_t loose_count; /* changed under the mutex; read before taking it */

    /* Growth, trimming, and what is loose: under the mutex. */
    tp_mutex mutex;
    void *row_memory[TP__ROWS];
    uint32_t magazines; /* that exist */
    tp__slab *slabs;
    uint32_t slab_room;
    uint32_t slab_count; /* entries ever used */
    uint32_t slab_free;  /* first free entry + 1, or 0 */
    void *loose;         /* list through the blocks' first bytes */
};

static inline tp__block *tp__block_of(void *block) {
    return (tp__block *)block - 1;
}

static inline void tp__pool_raise(_Atomic uint64_t *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- pool.c ---------------------------------------------------------------------------------- */

/* A pool of the core's own, in the slots that users cannot use up. */
tp_err tp__pool_create_own(const tp_pool_options *options, tp_pool **pool);

/* What tp__pool_allocate_on() and tp__pool_free_on() (below) do when the loaded magazine does not
 * serve. */
void *tp__pool_allocate_slowly(tp__local *local, tp_pool *pool);
void tp__pool_free_slowly(tp__local *local, tp_pool *pool, void *block);

/* Gives the thread's magazines of the core's own pools to the depots, as far as they have not been
 * used since the last call. */
void tp__pool_rest(tp__local *local);

/* Gives memory back that nobody has used since the last call, at most `most` bytes; returns how
 * much. A little that is not worth the trouble stays. Any thread, one at a time for each pool. */
size_t tp__pool_reap(tp_pool *pool, size_t most);

/* ---- registry.c: any thread ------------------------------------------------------------------ */

/* Gives the pool a mark and one of the slots first..end-1. TP_ERR_FULL: none of them is free. */
tp_err tp__registry_add(tp_pool *pool, uint32_t first, uint32_t end);
void tp__registry_remove(const tp_pool *pool);

/* The lock also keeps a pool's end apart from the end of threads that used it. */
void tp__registry_lock(void);
void tp__registry_unlock(void);

/* The pool that has the slot, or NULL. Under the lock, unless the pool is one of the core's own,
 * which stay for the life of the process. */
tp_pool *tp__registry_pool(uint32_t slot);

static inline bool tp__block_is_aligned(const void *block) {
    return ((uintptr_t)block & 15) == 0;
}

/* Is it a block of this pool, wherever it is? */
static inline bool tp__pool_owns(const tp_pool *pool, const void *block) {
    return TP_LIKELY(tp__block_is_aligned(block)) &&
           (((const tp__block *)block - 1)->mark ^ (uint64_t)(uintptr_t)block) == pool->mark;
}

/* Stops the process: `block`, given to or found in `pool`, is not what it should be. */
TP_NORETURN void tp__pool_stop(const tp_pool *pool, const void *block);

/* ---- depot.c: any thread --------------------------------------------------------------------- */

/* A magazine with at least one block, from the stack or from fresh memory; NULL if the limit is
 * reached or memory is out. */
tp__magazine *tp__depot_get_filled(tp_pool *pool);
/* A magazine without blocks; NULL if memory is out. */
tp__magazine *tp__depot_get_empty(tp_pool *pool);
/* Gives a magazine to the stack that its count says. */
void tp__depot_put(tp_pool *pool, tp__magazine *magazine);

/* One block, and back, for a thread that has no magazine for it because memory is out. */
void *tp__depot_get_block(tp_pool *pool);
void tp__depot_put_block(tp_pool *pool, void *block);

/* Gives back the memory of slabs all of whose blocks are in the depot, at most `most` blocks;
 * returns its bytes. */
size_t tp__depot_trim(tp_pool *pool, uint64_t most);

/* Allocates `count` more blocks, or fails. */
bool tp__depot_reserve(tp_pool *pool, size_t count);

/* Free blocks, in whoever's magazines. Only while no thread uses the pool. */
uint64_t tp__depot_count_free(const tp_pool *pool);
/* Frees all memory of the pool but the pool itself. */
void tp__depot_free_all(tp_pool *pool);

/* ---- slabs.c: under the mutex ---------------------------------------------------------------- */

/* Memory for up to `count` blocks (what one slab holds and the limit allows) with their headers
 * written; their number in `cut`, or NULL. Block i is at memory + i * stride +
 * sizeof(tp__block). */
uint8_t *tp__slabs_grow(tp_pool *pool, size_t count, size_t *cut);

/* Trimming, in four steps: each free block is shown; of the slabs of which every block was shown
 * some are chosen, at most `most` blocks; each free block is asked after; the chosen ones go. Who
 * asks and hears true must forget the block. */
void tp__slabs_show(tp_pool *pool, void *block);
void tp__slabs_choose(tp_pool *pool, uint64_t most);
bool tp__slabs_goes(const tp_pool *pool, void *block);
size_t tp__slabs_let_go(tp_pool *pool);

void tp__slabs_free_all(tp_pool *pool);

/* ---- one block in and out of a magazine that the caller has ---------------------------------- */

/*
 * The holder makes sure that a double free is found, without a read-modify-write:
 *   - the second of two frees that are ordered finds that the user does not have the block, and
 *     stops the process;
 *   - two frees of one block at the same instant, on two threads, may both find that the user has
 *     it, and each puts it into a magazine of its thread. The holder names only one of the two
 *     magazines, so the take from the other one stops the process, or the next free does.
 * All accesses are relaxed: between a rightful user's free and the next user's take, the block is
 * handed over by whatever hands over the magazine.
 */
static inline void *tp__magazine_take(const tp_pool *pool, tp__magazine *magazine) {
    void *block = magazine->blocks[--magazine->count];
    tp__block *header = tp__block_of(block);
    if (TP_UNLIKELY(
            atomic_load_explicit(&header->holder, memory_order_relaxed) != magazine->index)) {
        tp__pool_stop(pool, block);
    }
    atomic_store_explicit(&header->holder, TP__HELD_BY_USER, memory_order_relaxed);
    TP_UNPOISON(block, pool->block_size);
    return block;
}

static inline void tp__magazine_put(const tp_pool *pool, tp__magazine *magazine, void *block) {
    TP_POISON(block, pool->block_size);
    atomic_store_explicit(&tp__block_of(block)->holder, magazine->index, memory_order_relaxed);
    magazine->blocks[magazine->count++] = block;
}

/* ---- one block from and to a thread's cache -------------------------------------------------- */

static inline bool tp__pool_cache_is_open(const tp__pool_cache *cache, const tp_pool *pool) {
    return TP_LIKELY(cache->mark == pool->mark);
}

/* tp_pool_allocate() and tp_pool_free() for a thread whose record is in hand; NULL if it has
 * none. */
static inline void *tp__pool_allocate_on(tp__local *local, tp_pool *pool) {
    if (TP_LIKELY(local != NULL)) {
        tp__pool_cache *cache = &local->pools[pool->slot];
        if (tp__pool_cache_is_open(cache, pool) && TP_LIKELY(cache->loaded->count > 0)) {
            return tp__magazine_take(pool, cache->loaded);
        }
    }
    return tp__pool_allocate_slowly(local, pool);
}

static inline void tp__pool_free_on(tp__local *local, tp_pool *pool, void *block) {
    if (TP_UNLIKELY(!tp__pool_owns(pool, block)) ||
        TP_UNLIKELY(atomic_load_explicit(&tp__block_of(block)->holder, memory_order_relaxed) !=
                    TP__HELD_BY_USER)) {
        tp__pool_stop(pool, block);
    }
    if (TP_LIKELY(local != NULL)) {
        tp__pool_cache *cache = &local->pools[pool->slot];
        if (tp__pool_cache_is_open(cache, pool) && TP_LIKELY(cache->loaded->count < pool->rounds)) {
            tp__magazine_put(pool, cache->loaded, block);
            return;
        }
    }
    tp__pool_free_slowly(local, pool, block);
}

#endif
