/*
 * Method 2 of the notes: a thread allocates from one chunk and frees into another one. It takes a
 * whole chunk from the main pool and hands out its nodes one by one, each marked; nothing that is
 * freed goes back into that chunk. A freed node goes into the freeing thread's own free chunk,
 * which goes to the main pool when it is full. So every block passes through the main pool once per
 * life, a chunk at a time, and a thread never reuses what it has just freed.
 *
 * A chunk is a list of nodes here, wherever their memory is: full ones wait in `full`, lists
 * without nodes in `empty`. The slab that a chunk was made with stays entered in `slabs`.
 */
#include "allocator.h"
#include "chunk_stack.h"

#include <stdio.h>
#include <stdlib.h>

#include "os/compiler.h"

enum { mark_free = 0x66726565, mark_allocated = 0x616C6C6F };

typedef struct node {
    alignas(16) uint32_t mark;
} node; /* the block follows */

typedef struct chunk {
    chunk_link link;
    node *nodes[allocator_chunk_blocks];
} chunk;

typedef struct slab {
    alignas(16) chunk_link link;
} slab; /* the nodes follow */

typedef struct thread_pool {
    chunk *from; /* nodes[from_at..] are still to be handed out */
    unsigned from_at;
    chunk *into; /* nodes[0..into_count) were freed here */
    unsigned into_count;
} thread_pool;

static chunk_table chunks, slabs;
static chunk_stack full, empty;
static size_t node_size;
static TP_THREAD_LOCAL thread_pool mine;

static bool open_pool(size_t block_size) {
    node_size = sizeof(node) + ((block_size + 15) & ~(size_t)15);
    return true;
}

static chunk *new_chunk(void) {
    chunk *made = calloc(1, sizeof *made);
    if (made != NULL && !chunk_table_enter(&chunks, &made->link)) {
        free(made);
        return NULL;
    }
    return made;
}

static chunk *new_full_chunk(void) {
    chunk *made = new_chunk();
    slab *memory =
        made != NULL ? malloc(sizeof *memory + allocator_chunk_blocks * node_size) : NULL;
    if (memory == NULL || !chunk_table_enter(&slabs, &memory->link)) {
        free(memory);
        return NULL;
    }
    unsigned char *at = (unsigned char *)(memory + 1);
    for (unsigned i = 0; i < allocator_chunk_blocks; i++, at += node_size) {
        made->nodes[i] = (node *)(void *)at;
        made->nodes[i]->mark = mark_free;
    }
    return made;
}

static bool take_full_chunk(void) {
    chunk *next = (chunk *)chunk_stack_pop(&full, &chunks);
    if (next == NULL) {
        next = new_full_chunk();
    }
    if (next == NULL) {
        return false;
    }
    if (mine.from != NULL) {
        chunk_stack_push(&empty, &mine.from->link);
    }
    mine.from = next;
    mine.from_at = 0;
    return true;
}

static void *allocate(void) {
    if (mine.from == NULL || mine.from_at == allocator_chunk_blocks) {
        if (!take_full_chunk()) {
            return NULL;
        }
    }
    node *taken = mine.from->nodes[mine.from_at++];
    taken->mark = mark_allocated;
    return taken + 1;
}

static void free_block(void *block) {
    node *freed = (node *)block - 1;
    if (mine.into == NULL) {
        mine.into = (chunk *)chunk_stack_pop(&empty, &chunks);
        mine.into_count = 0;
        if (mine.into == NULL) {
            mine.into = new_chunk();
        }
    }
    if (mine.into == NULL || freed->mark != mark_allocated) {
        fprintf(stderr, "method 2: out of memory, or a block that is not out\n");
        abort();
    }
    freed->mark = mark_free;
    mine.into->nodes[mine.into_count++] = freed;
    if (mine.into_count == allocator_chunk_blocks) {
        chunk_stack_push(&full, &mine.into->link);
        mine.into = NULL;
    }
}

static void close_pool(void) {
    chunk_table_free(&slabs);
    chunk_table_free(&chunks);
    atomic_store(&full.head, 0);
    atomic_store(&empty.head, 0);
    mine = (thread_pool){0};
}

const allocator allocator_method2 = {"method 2", open_pool, allocate, free_block, close_pool};
