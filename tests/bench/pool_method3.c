/*
 * Method 3 of the notes: as method 2, but freeing moves nothing. A node stays in the chunk that its
 * memory belongs to; allocating marks it, freeing finds its chunk and marks it there, and the
 * thread that marks the last node of a chunk gives the whole chunk to the main pool. One node that
 * stays allocated keeps its chunk out of the pool.
 */
#include "allocator.h"
#include "chunk_stack.h"

#include <stdio.h>
#include <stdlib.h>

#include "os/compiler.h"

enum { mark_free = 0x66726565, mark_allocated = 0x616C6C6F };

/* Padding, not alignment, keeps the counter off its neighbours' cache lines, because malloc aligns
 * to 16. */
typedef struct chunk {
    chunk_link link;
    unsigned char apart[TP_CACHE_LINE - sizeof(chunk_link)];
    /* Nodes freed since the chunk was taken. Release by each free, acquire by the last one: the
     * chunk's next use comes after every use of its blocks. */
    atomic_uint freed;
    unsigned char apart_too[TP_CACHE_LINE - sizeof(atomic_uint)];
    unsigned char nodes[];
} chunk;

typedef struct node {
    alignas(16) chunk *home;
    uint32_t mark;
} node; /* the block follows */

static chunk_table chunks;
static chunk_stack free_chunks;
static size_t node_size;
static TP_THREAD_LOCAL struct {
    chunk *from;
    unsigned at;
} mine;

static bool open_pool(size_t block_size) {
    node_size = sizeof(node) + ((block_size + 15) & ~(size_t)15);
    return true;
}

static node *node_of(chunk *of, unsigned at) {
    return (node *)(void *)(of->nodes + at * node_size);
}

static chunk *new_chunk(void) {
    chunk *made = malloc(sizeof *made + allocator_chunk_blocks * node_size);
    if (made == NULL || !chunk_table_enter(&chunks, &made->link)) {
        free(made);
        return NULL;
    }
    atomic_init(&made->freed, 0);
    for (unsigned i = 0; i < allocator_chunk_blocks; i++) {
        node_of(made, i)->home = made;
        node_of(made, i)->mark = mark_free;
    }
    return made;
}

static void *allocate(void) {
    if (mine.from == NULL) {
        mine.from = (chunk *)chunk_stack_pop(&free_chunks, &chunks);
        mine.at = 0;
        if (mine.from == NULL) {
            mine.from = new_chunk();
        }
        if (mine.from == NULL) {
            return NULL;
        }
    }
    node *taken = node_of(mine.from, mine.at++);
    if (mine.at == allocator_chunk_blocks) {
        mine.from = NULL; /* the frees of its nodes will bring it back */
    }
    taken->mark = mark_allocated;
    return taken + 1;
}

static void free_block(void *block) {
    node *freed = (node *)block - 1;
    if (freed->mark != mark_allocated) {
        fprintf(stderr, "method 3: a block that is not out\n");
        abort();
    }
    freed->mark = mark_free;
    chunk *home = freed->home;
    if (atomic_fetch_add_explicit(&home->freed, 1, memory_order_acq_rel) + 1 ==
        allocator_chunk_blocks) {
        atomic_store_explicit(&home->freed, 0, memory_order_relaxed);
        chunk_stack_push(&free_chunks, &home->link);
    }
}

static void close_pool(void) {
    chunk_table_free(&chunks);
    atomic_store(&free_chunks.head, 0);
    mine.from = NULL;
}

const allocator allocator_method3 = {"method 3", open_pool, allocate, free_block, close_pool};
