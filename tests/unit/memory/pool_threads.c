/*
 * tp_pool under many threads: blocks are passed between threads, threads end and start, and another
 * thread trims meanwhile.
 */
#include "check.h"

#include "core/memory/block.h"
#include "core/memory/memory.h"
#include "os/thread.h"

enum { threads = 4, lives = 4, rounds = 100000, boxes = 512, words = 12 };

static tp_pool *pool;
static _Atomic(uint64_t *) box[boxes];
static atomic_bool stop;
static atomic_uint gathered; /* no thread begins before all threads of its round exist */

static uint64_t random_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fill(uint64_t *block, uint64_t value) {
    for (size_t i = 0; i < words; i++) {
        block[i] = value + i;
    }
}

static void check_and_free(uint64_t *block) {
    uint64_t value = block[0];
    for (size_t i = 1; i < words; i++) {
        if (block[i] != value + i) {
            CHECK_EQ(block[i], value + i); /* differs if the block had two owners */
        }
    }
    fill(block, 0);
    tp_pool_free(pool, block);
}

/* Puts blocks of its own into random boxes and frees what it finds there: mostly blocks of other
 * threads. */
static void exchange(void *argument) {
    uint64_t state = *(uint64_t *)argument;
    atomic_fetch_add(&gathered, 1);
    while (atomic_load(&gathered) < threads) {
        tp_thread_yield();
    }
    for (int i = 0; i < rounds; i++) {
        uint64_t *mine = tp_pool_allocate(pool);
        if (mine == NULL) {
            CHECK(mine != NULL);
            return;
        }
        fill(mine, random_next(&state));
        uint64_t *theirs = atomic_exchange(&box[random_next(&state) % boxes], mine);
        if (theirs != NULL) {
            check_and_free(theirs);
        }
    }
}

static void trim_repeatedly(void *argument) {
    size_t *given = argument;
    while (!atomic_load(&stop)) {
        *given += tp_pool_trim(pool);
        tp_thread_yield();
    }
}

static void empty_boxes(void) {
    for (size_t i = 0; i < boxes; i++) {
        uint64_t *block = atomic_exchange(&box[i], NULL);
        if (block != NULL) {
            check_and_free(block);
        }
    }
}

static void run_threads(void) {
    tp_thread running[threads];
    uint64_t seed[threads];
    for (unsigned life = 0; life < lives; life++) {
        atomic_store(&gathered, 0);
        for (unsigned i = 0; i < threads; i++) {
            seed[i] = life * threads + i + 1;
            REQUIRE(tp_thread_start(&running[i], "exchange", exchange, &seed[i]) == TP_OK);
        }
        for (unsigned i = 0; i < threads; i++) {
            tp_thread_join(&running[i]);
        }
    }
}

static void make(void) {
    tp_pool_options options = {
        .size = sizeof options, .name = "threads", .block_size = words * sizeof(uint64_t)};
    REQUIRE(tp_pool_create(&options, &pool) == TP_OK);
}

static uint64_t blocks_of(void) {
    tp_pool_stats stats = {.size = sizeof stats};
    tp_pool_get_stats(pool, &stats);
    return stats.blocks;
}

static void no_block_has_two_owners(void) {
    make();
    run_threads();
    empty_boxes();
    /* Each thread keeps two magazines; beyond that nothing grows with the number of rounds. */
    CHECK_LE(blocks_of(), boxes + (threads + 1) * 2 * pool->rounds + 4 * pool->slab_blocks);
    (void)tp_pool_trim(pool);
    CHECK_EQ(blocks_of(), 0);
    tp_pool_destroy(pool);
}

static void a_trim_takes_no_block_in_use(void) {
    tp_thread trimmer;
    size_t given = 0;
    make();
    atomic_store(&stop, false);
    REQUIRE(tp_thread_start(&trimmer, "trim", trim_repeatedly, &given) == TP_OK);
    run_threads();
    atomic_store(&stop, true);
    tp_thread_join(&trimmer);
    empty_boxes();
    (void)tp_pool_trim(pool);
    CHECK_EQ(blocks_of(), 0);
    tp_pool_destroy(pool);
}

/* One thread allocates and another one frees: whole magazines come back, and after a while nothing
 * is allocated. */
static void free_all(void *argument) {
    uint64_t left = *(uint64_t *)argument;
    for (size_t i = 0; left > 0; i = (i + 1) % boxes) {
        uint64_t *block = atomic_exchange(&box[i], NULL);
        if (block != NULL) {
            check_and_free(block);
            left--;
        } else {
            tp_thread_yield();
        }
    }
}

static void blocks_freed_elsewhere_come_back_in_magazines(void) {
    enum { blocks = 200000 };
    tp_thread consumer;
    uint64_t count = blocks;
    make();
    REQUIRE(tp_thread_start(&consumer, "free", free_all, &count) == TP_OK);
    for (size_t i = 0; i < blocks; i++) {
        uint64_t *block = tp_pool_allocate(pool);
        REQUIRE(block != NULL);
        fill(block, i);
        uint64_t *nothing = NULL;
        while (!atomic_compare_exchange_weak(&box[i % boxes], &nothing, block)) {
            nothing = NULL;
            tp_thread_yield();
        }
    }
    tp_thread_join(&consumer);
    CHECK_LE(blocks_of(), boxes + 4 * pool->rounds + 2 * pool->slab_blocks);
    tp_pool_destroy(pool);
}

CHECK_MAIN(CASE(no_block_has_two_owners), CASE(a_trim_takes_no_block_in_use),
    CASE(blocks_freed_elsewhere_come_back_in_magazines))
