/*
 * tp_pool on one thread at a time: blocks, limits, trimming, pools that are created and destroyed,
 * ending threads, failing memory.
 */
#include "check.h"

#include "core/memory/block.h"
#include "core/memory/memory.h"
#include "os/thread.h"

enum { many = 3000 };
static void *blocks[many];

static tp_pool *make(size_t block_size, size_t reserve, size_t limit) {
    tp_pool *pool = NULL;
    CHECK_EQ(tp_pool_create(&(tp_pool_options){.size = sizeof(tp_pool_options),
                                .name = "test",
                                .block_size = block_size,
                                .reserve = reserve,
                                .limit = limit},
                 &pool),
        TP_OK);
    REQUIRE(pool != NULL);
    return pool;
}

static tp_pool_stats stats_of(const tp_pool *pool) {
    tp_pool_stats stats = {.size = sizeof stats};
    tp_pool_get_stats(pool, &stats);
    return stats;
}

/* Allocates up to `count` blocks into blocks[0...] and returns how many there were. */
static size_t allocate_blocks(tp_pool *pool, size_t count) {
    size_t taken = 0;
    while (taken < count && (blocks[taken] = tp_pool_allocate(pool)) != NULL) {
        taken++;
    }
    return taken;
}

static void free_blocks(tp_pool *pool, size_t count) {
    for (size_t i = 0; i < count; i++) {
        tp_pool_free(pool, blocks[i]);
    }
}

static void on_a_thread(void (*run)(void *), void *argument) {
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "test", run, argument) == TP_OK);
    tp_thread_join(&thread);
}

static void invalid_options_are_refused(void) {
    const tp_pool_options right = {
        .size = sizeof right, .name = "test", .block_size = 64, .reserve = 0, .limit = 0};
    tp_pool_options wrong[6] = {right, right, right, right, right, right};
    wrong[0].size = sizeof right - 1;
    wrong[1].name = NULL;
    wrong[2].block_size = 0;
    wrong[3].block_size = ((size_t)16 << 20) + 1;
    wrong[4].reserve = 11;
    wrong[4].limit = 10;
    wrong[5].size = 0;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        tp_pool *pool = (tp_pool *)(uintptr_t)16;
        CHECK_EQ(tp_pool_create(&wrong[i], &pool), TP_ERR_INVALID);
        CHECK(pool == NULL);
    }
}

static void blocks_are_apart_and_aligned(void) {
    static const size_t sizes[] = {1, 15, 16, 17, 64, 100, 1000, 5000, 70000, 1000000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t count = sizes[s] > 10000 ? 5 : 1000;
        tp_pool *pool = make(sizes[s], 0, 0);
        REQUIRE(allocate_blocks(pool, count) == count);
        for (size_t i = 0; i < count; i++) {
            CHECK_EQ((uintptr_t)blocks[i] % 16, 0);
            memset(blocks[i], (int)(i % 251), sizes[s]);
        }
        for (size_t i = 0; i < count; i++) {
            const uint8_t *bytes = blocks[i];
            CHECK_EQ(bytes[0], i % 251);
            CHECK_EQ(bytes[sizes[s] - 1], i % 251);
        }
        free_blocks(pool, count);
        tp_pool_free(pool, NULL);
        tp_pool_destroy(pool);
    }
    tp_pool_destroy(NULL);
}

static void the_limit_holds(void) {
    tp_pool *pool = make(64, 0, 300);
    CHECK_EQ(allocate_blocks(pool, many), 300);
    CHECK_EQ(stats_of(pool).blocks, 300);
    CHECK_EQ(stats_of(pool).failures, 1);
    CHECK(tp_pool_allocate(pool) == NULL);
    CHECK_EQ(stats_of(pool).failures, 2);
    free_blocks(pool, 300);
    CHECK_EQ(allocate_blocks(pool, 300), 300);
    free_blocks(pool, 300);
    tp_pool_destroy(pool);
}

static void reserved_blocks_need_no_allocation(void) {
    tp_pool *pool = make(200, 1000, 0);
    CHECK_GE(stats_of(pool).blocks, 1000);
    tp_pool_free(pool, tp_pool_allocate(pool)); /* so that the thread has magazines */
    uint64_t asked = tp__memory_allocations();
    for (int round = 0; round < 20; round++) {
        CHECK_EQ(allocate_blocks(pool, 1000), 1000);
        free_blocks(pool, 1000);
    }
    CHECK_EQ(tp__memory_allocations(), asked);
    tp_pool_destroy(pool);
}

static void the_depot_is_visited_once_per_magazine(void) {
    tp_pool *pool = make(64, many, 0);
    CHECK_EQ(allocate_blocks(pool, many), many);
    free_blocks(pool, many);
    /* The last magazine of each reserved slab is not full. */
    CHECK_LE(stats_of(pool).main_gets, many / pool->rounds + many / pool->slab_blocks + 2);
    CHECK_LE(stats_of(pool).main_puts, many / pool->rounds + 2);
    /* Back and forth around every fill level of the magazines, the limits included. */
    enum { fills = 600 };
    void *held[fills];
    uint64_t gets = stats_of(pool).main_gets;
    uint64_t puts = stats_of(pool).main_puts;
    for (size_t fill = 0; fill < fills; fill++) {
        for (int i = 0; i < 20; i++) {
            CHECK_EQ(allocate_blocks(pool, 3), 3);
            free_blocks(pool, 3);
        }
        held[fill] = tp_pool_allocate(pool);
    }
    CHECK_LE(stats_of(pool).main_gets, gets + fills / pool->rounds + 2);
    CHECK_LE(stats_of(pool).main_puts, puts + 2);
    memcpy(blocks, held, sizeof held);
    free_blocks(pool, fills);
    tp_pool_destroy(pool);
}

static void older_callers_get_the_statistics_of_their_size(void) {
    tp_pool *pool = make(64, 10, 0);
    tp_pool_stats stats;
    memset(&stats, 0xEE, sizeof stats);
    stats.size = offsetof(tp_pool_stats, main_gets);
    tp_pool_get_stats(pool, &stats);
    CHECK_EQ(stats.size, offsetof(tp_pool_stats, main_gets));
    CHECK_GE(stats.blocks, 10);
    CHECK_EQ(stats.main_gets, UINT64_C(0xEEEEEEEEEEEEEEEE));
    tp_pool_destroy(pool);
}

static void trim_frees_wholly_free_slabs(void) {
    tp_pool *pool = make(64, 0, 0);
    CHECK_EQ(allocate_blocks(pool, many), many);
    CHECK_EQ(tp_pool_trim(pool), 0);
    void *kept = blocks[many / 2];
    memset(kept, 0x77, 64);
    blocks[many / 2] = NULL;
    free_blocks(pool, many);
    uint64_t live = tp__memory_live();
    CHECK_GT(tp_pool_trim(pool), (many - pool->slab_blocks) * 64);
    CHECK_LT(tp__memory_live(), live);
    CHECK_EQ(stats_of(pool).blocks, pool->slab_blocks); /* the slab of the block in use */
    CHECK_EQ(*(uint8_t *)kept, 0x77);
    CHECK_EQ(allocate_blocks(pool, many), many); /* and it still works */
    free_blocks(pool, many);
    tp_pool_free(pool, kept);
    CHECK_GT(tp_pool_trim(pool), 0);
    CHECK_EQ(stats_of(pool).blocks, 0);
    CHECK_EQ(tp_pool_trim(pool), 0);
    tp_pool_destroy(pool);
}

static void trim_frees_large_blocks_one_by_one(void) {
    tp_pool *pool = make(100000, 0, 0);
    CHECK_EQ(allocate_blocks(pool, 20), 20);
    for (size_t i = 0; i < 20; i += 2) {
        tp_pool_free(pool, blocks[i]);
    }
    CHECK_GE(tp_pool_trim(pool), 10 * 100000);
    CHECK_EQ(stats_of(pool).blocks, 10);
    for (size_t i = 1; i < 20; i += 2) {
        tp_pool_free(pool, blocks[i]);
    }
    tp_pool_destroy(pool);
}

static void the_number_of_pools_is_bounded(void) {
    static tp_pool *pools[TP_POOL_MAX];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < TP_POOL_MAX; i++) {
            pools[i] = make(32, 1, 0);
        }
        tp_pool_options options = {.size = sizeof options, .name = "more", .block_size = 32};
        tp_pool *more;
        CHECK_EQ(tp_pool_create(&options, &more), TP_ERR_FULL);
        CHECK(more == NULL);
        CHECK_EQ(tp__pool_create_own(&options, &more), TP_OK);
        tp_pool_destroy(more);
        for (size_t i = 0; i < TP_POOL_MAX; i++) {
            tp_pool_destroy(pools[i]);
        }
    }
}

static void a_reused_pool_slot_has_no_old_blocks(void) {
    for (int round = 0; round < 10; round++) {
        tp_pool *small = make(32, 0, 0);
        uint32_t slot = small->slot;
        CHECK_EQ(allocate_blocks(small, 100), 100);
        free_blocks(small, 100);
        tp_pool_destroy(small); /* this thread's magazines of that pool are stale now */
        tp_pool *large = make(3200, 0, 0);
        CHECK_EQ(large->slot, slot);
        CHECK_EQ(allocate_blocks(large, 100), 100);
        for (size_t i = 0; i < 100; i++) {
            memset(blocks[i], 0x5A, 3200);
        }
        free_blocks(large, 100);
        tp_pool_destroy(large);
    }
}

/* A thread that outlives the pools; `current` is the pool to use. */
static _Atomic(tp_pool *) current;
static atomic_uint done;

static void use_every_pool(void *argument) {
    tp_pool *last = NULL;
    (void)argument;
    for (unsigned round = 0; round < 20; round++) {
        tp_pool *pool;
        while ((pool = atomic_load(&current)) == last || pool == NULL) {
            tp_thread_yield();
        }
        for (int i = 0; i < 50; i++) {
            void *block = tp_pool_allocate(pool);
            CHECK(block != NULL);
            tp_pool_free(pool, block);
        }
        atomic_store(&current, NULL);
        last = NULL;
        atomic_fetch_add(&done, 1);
    }
}

static void other_threads_may_keep_stale_magazines(void) {
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "test", use_every_pool, NULL) == TP_OK);
    for (unsigned round = 0; round < 20; round++) {
        tp_pool *pool = make(16 + 100 * round, 0, 0);
        atomic_store(&current, pool);
        while (atomic_load(&done) != round + 1) {
            tp_thread_yield();
        }
        tp_pool_destroy(pool);
    }
    tp_thread_join(&thread);
}

static void take_and_give_all(void *argument) {
    tp_pool *pool = argument;
    CHECK_EQ(allocate_blocks(pool, 500), 500);
    free_blocks(pool, 500);
}

static void a_thread_that_ends_leaves_its_blocks_to_others(void) {
    tp_pool *pool = make(64, 0, 500);
    uint64_t live = tp__memory_live();
    on_a_thread(take_and_give_all, pool);
    CHECK_EQ(allocate_blocks(pool, 500), 500);
    free_blocks(pool, 500);
    for (int i = 0; i < 50; i++) {
        CHECK_GT(tp_pool_trim(pool), 0); /* none of it is in a thread's magazine */
        on_a_thread(take_and_give_all, pool);
    }
    /* 50 threads left no thread caches or magazines behind. */
    CHECK_LE(tp__memory_live(), live + 20);
    tp_pool_destroy(pool);
}

/* ---- memory running out ---------------------------------------------------------------------- */

/* A pool's life in which any allocation may fail: what was allocated is written to and given
 * back. */
static void live_through_failures(void *argument) {
    tp_pool *pool;
    tp_pool_options options = {
        .size = sizeof options, .name = "test", .block_size = 48, .reserve = 10};
    tp_err error = tp_pool_create(&options, &pool);
    (void)argument;
    if (error != TP_OK) {
        CHECK_EQ(error, TP_ERR_NO_MEMORY);
        CHECK(pool == NULL);
        return;
    }
    for (int round = 0; round < 3; round++) {
        size_t taken = allocate_blocks(pool, many);
        for (size_t i = 0; i < taken; i++) {
            memset(blocks[i], 0x33, 48);
        }
        free_blocks(pool, taken);
        if (round == 1) {
            (void)tp_pool_trim(pool);
        }
    }
    tp_pool_destroy(pool); /* stops the process if a block was lost */
}

/* The first, second, ... allocation fails, as `arm` arranges it, until a life needs fewer. */
static void fail_at_each_allocation(void (*arm)(long)) {
    uint64_t live = tp__memory_live();
    for (long n = 1;; n++) {
        uint64_t asked = tp__memory_allocations();
        arm(n);
        on_a_thread(live_through_failures, NULL);
        arm(-1);
        CHECK_EQ(tp__memory_live(), live);
        if (tp__memory_allocations() - asked < (uint64_t)n) {
            CHECK_GT(n, 10);
            return;
        }
        REQUIRE(n < 1000);
    }
}

static void one_failed_allocation_loses_no_block(void) {
    fail_at_each_allocation(tp__memory_fail_after);
}

static void exhausted_memory_loses_no_block(void) {
    fail_at_each_allocation(tp__memory_fail_from);
}

/* A thread that cannot have a thread cache still frees and allocates. */
static void free_without_memory(void *argument) {
    tp_pool *pool = argument;
    tp__memory_fail_from(1);
    free_blocks(pool, 200);
    CHECK_EQ(allocate_blocks(pool, 200), 200);
    free_blocks(pool, 200);
    tp__memory_fail_from(-1);
}

static void a_thread_without_a_cache_can_free(void) {
    tp_pool *pool = make(64, 0, 200);
    CHECK_EQ(allocate_blocks(pool, 200), 200);
    on_a_thread(free_without_memory, pool);
    /* With memory available again, the blocks that were freed without a magazine are used. */
    CHECK_EQ(allocate_blocks(pool, 200), 200);
    free_blocks(pool, 200);
    CHECK_EQ(tp__depot_count_free(pool), 200);
    (void)tp_pool_trim(pool);
    CHECK_EQ(stats_of(pool).blocks, 0);
    tp_pool_destroy(pool);
}

CHECK_MAIN(CASE(invalid_options_are_refused), CASE(blocks_are_apart_and_aligned),
    CASE(the_limit_holds), CASE(reserved_blocks_need_no_allocation),
    CASE(the_depot_is_visited_once_per_magazine),
    CASE(older_callers_get_the_statistics_of_their_size), CASE(trim_frees_wholly_free_slabs),
    CASE(trim_frees_large_blocks_one_by_one), CASE(the_number_of_pools_is_bounded),
    CASE(a_reused_pool_slot_has_no_old_blocks), CASE(other_threads_may_keep_stale_magazines),
    CASE(a_thread_that_ends_leaves_its_blocks_to_others),
    CASE(one_failed_allocation_loses_no_block), CASE(exhausted_memory_loses_no_block),
    CASE(a_thread_without_a_cache_can_free))
