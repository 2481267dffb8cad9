/*
 * bench-pool: the cost of allocating and freeing a block, one allocator and one pattern for each
 * run:
 *
 *     pair    one thread: allocate, free
 *     burst   one thread: allocate 64, free 64
 *     cross   one thread allocates and hands blocks over in batches of 64 through a ring; another
 *             thread frees them
 *
 * The allocator `none` hands the same blocks around and around: the cost of the ring alone.
 *
 * Each block carries a token that is written after allocating and checked before freeing. Prints
 * one JSON object: nanoseconds of wall time for an allocation and its freeing.
 *
 * In `cross` two threads share the ring: one writes `filled`, the other `emptied`.
 */
#include "allocator.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/clock.h"
#include "os/compiler.h"
#include "os/thread.h"

enum { batch_blocks = 64, ring_batches = 16, batches_per_look = 16 };

typedef struct options {
    const allocator *allocator;
    const char *pattern;
    size_t size;
    uint64_t run_ns;
} options;

/* Slot n % ring_batches is the consumer's while emptied <= n < filled, else the producer's.
 * `filled` is released after the slot is written and acquired before it is read; `emptied` the
 * other way around. */
typedef struct ring {
    alignas(TP_CACHE_LINE) atomic_uint_fast64_t filled;
    alignas(TP_CACHE_LINE) atomic_uint_fast64_t emptied;
    alignas(TP_CACHE_LINE) atomic_bool ended;
    alignas(TP_CACHE_LINE) void *slots[ring_batches][batch_blocks];
} ring;

static options chosen;
static ring shared;
static uint64_t
    damaged; /* blocks whose token was not the one written; counted by the freeing thread */

/* ---- the allocator `none` -------------------------------------------------------------------- */

enum { none_blocks = (ring_batches + 2) * batch_blocks };
static void *none_memory[none_blocks];
static unsigned none_at;

static bool open_none(size_t block_size) {
    for (unsigned i = 0; i < none_blocks; i++) {
        none_memory[i] = malloc(block_size);
        if (none_memory[i] == NULL) {
            return false;
        }
    }
    return true;
}

static void *allocate_none(void) {
    none_at = none_at + 1 < none_blocks ? none_at + 1 : 0;
    return none_memory[none_at];
}

static void free_none(void *block) {
    (void)block;
}

static void close_none(void) {
    for (unsigned i = 0; i < none_blocks; i++) {
        free(none_memory[i]);
    }
}

static const allocator allocator_none = {"none", open_none, allocate_none, free_none, close_none};

/* ---- blocks ---------------------------------------------------------------------------------- */

static void *get(uint64_t token) {
    void *block = chosen.allocator->allocate();
    if (block == NULL) {
        fprintf(stderr, "%s: out of memory\n", chosen.allocator->name);
        exit(1);
    }
    memcpy((unsigned char *)block + 8, &token, sizeof token);
    return block;
}

static void give_back(void *block, uint64_t token) {
    damaged += memcmp((unsigned char *)block + 8, &token, sizeof token) != 0;
    chosen.allocator->free(block);
}

/* ---- patterns: each returns the number of blocks that were allocated and freed --------------- */

static uint64_t run_pair(uint64_t end_ns) {
    uint64_t done = 0;
    do {
        for (unsigned i = 0; i < batches_per_look * batch_blocks; i++, done++) {
            give_back(get(done), done);
        }
    } while (tp_clock_ns() < end_ns);
    return done;
}

static uint64_t run_burst(uint64_t end_ns) {
    void *blocks[batch_blocks];
    uint64_t done = 0;
    do {
        for (unsigned batch = 0; batch < batches_per_look; batch++) {
            for (unsigned i = 0; i < batch_blocks; i++) {
                blocks[i] = get(done + i);
            }
            for (unsigned i = 0; i < batch_blocks; i++, done++) {
                give_back(blocks[i], done);
            }
        }
    } while (tp_clock_ns() < end_ns);
    return done;
}

static void consume(void *unused) {
    (void)unused;
    uint64_t token = 0;
    for (uint64_t batch = 0;; batch++) {
        while (atomic_load_explicit(&shared.filled, memory_order_acquire) == batch) {
            if (atomic_load_explicit(&shared.ended, memory_order_acquire) &&
                atomic_load_explicit(&shared.filled, memory_order_acquire) == batch) {
                return;
            }
            tp_thread_yield();
        }
        for (unsigned i = 0; i < batch_blocks; i++, token++) {
            give_back(shared.slots[batch % ring_batches][i], token);
        }
        atomic_store_explicit(&shared.emptied, batch + 1, memory_order_release);
    }
}

static uint64_t run_cross(uint64_t end_ns) {
    tp_thread consumer;
    if (tp_thread_start(&consumer, "consumer", consume, NULL) != TP_OK) {
        fprintf(stderr, "no thread\n");
        exit(1);
    }
    uint64_t token = 0;
    uint64_t batch = 0;
    for (; batch % batches_per_look != 0 || tp_clock_ns() < end_ns; batch++) {
        while (
            batch - atomic_load_explicit(&shared.emptied, memory_order_acquire) == ring_batches) {
            tp_thread_yield();
        }
        for (unsigned i = 0; i < batch_blocks; i++, token++) {
            shared.slots[batch % ring_batches][i] = get(token);
        }
        atomic_store_explicit(&shared.filled, batch + 1, memory_order_release);
    }
    atomic_store_explicit(&shared.ended, true, memory_order_release);
    tp_thread_join(&consumer);
    return batch * batch_blocks;
}

/* ---- the program ----------------------------------------------------------------------------- */

static const allocator *const allocators[] = {&allocator_malloc, &allocator_tp_pool,
    &allocator_method2, &allocator_method3, &allocator_tp_packet, &allocator_none};

static _Noreturn void usage(void) {
    fprintf(stderr, "usage: bench-pool ALLOCATOR pair|burst|cross SIZE SECONDS\nallocators:");
    for (size_t i = 0; i < TP_COUNT_OF(allocators); i++) {
        fprintf(stderr, " '%s'", allocators[i]->name);
    }
    fprintf(stderr, "\n");
    exit(2);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        usage();
    }
    for (size_t i = 0; i < TP_COUNT_OF(allocators); i++) {
        if (strcmp(allocators[i]->name, argv[1]) == 0) {
            chosen.allocator = allocators[i];
        }
    }
    uint64_t (*run)(uint64_t) = strcmp(argv[2], "pair") == 0    ? run_pair
                                : strcmp(argv[2], "burst") == 0 ? run_burst
                                : strcmp(argv[2], "cross") == 0 ? run_cross
                                                                : NULL;
    chosen.pattern = argv[2];
    chosen.size = (size_t)strtoul(argv[3], NULL, 10);
    chosen.run_ns = (uint64_t)(strtod(argv[4], NULL) * 1e9);
    if (chosen.allocator == NULL || run == NULL || chosen.size < 16 || chosen.run_ns == 0) {
        usage();
    }
    if (!chosen.allocator->open(chosen.size)) {
        fprintf(stderr, "%s: cannot be opened\n", chosen.allocator->name);
        return 1;
    }
    uint64_t begin = tp_clock_ns();
    uint64_t blocks = run(begin + chosen.run_ns);
    uint64_t took = tp_clock_ns() - begin;
    chosen.allocator->close();
    printf("{\"allocator\": \"%s\", \"pattern\": \"%s\", \"size\": %zu, \"blocks\": %" PRIu64
           ", \"damaged\": %" PRIu64 ", \"ns_per_block\": %.3f}\n",
        chosen.allocator->name, chosen.pattern, chosen.size, blocks, damaged,
        (double)took / (double)blocks);
    return damaged != 0;
}
