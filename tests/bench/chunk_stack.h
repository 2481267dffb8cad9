/*
 * The main pool of methods 2 and 3: a lock-free stack of chunks. A chunk's first member is its
 * chunk_link. Each chunk was entered once in a chunk_table, which owns its memory.
 */
#ifndef TWINPORT_BENCH_CHUNK_STACK_H
#define TWINPORT_BENCH_CHUNK_STACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { chunk_table_most = 1 << 16 };

typedef struct chunk_link {
    uint32_t place;        /* index in the table, from 1 */
    _Atomic uint32_t next; /* index of the chunk below, 0: none */
} chunk_link;

typedef struct chunk_table {
    _Atomic uint32_t count;
    chunk_link *links[chunk_table_most];
} chunk_table;

/* High half: number of changes, so that a head that has changed meanwhile is detected. Low half:
 * index of the top chunk. */
typedef struct chunk_stack {
    _Atomic uint64_t head;
} chunk_stack;

/* Gives a new chunk (from malloc) to the table. False if the table is full: the caller keeps the
 * chunk. */
bool chunk_table_enter(chunk_table *table, chunk_link *chunk);
/* Frees every chunk. No thread may use one any more. */
void chunk_table_free(chunk_table *table);

void chunk_stack_push(chunk_stack *stack, chunk_link *chunk);
chunk_link *chunk_stack_pop(chunk_stack *stack, const chunk_table *table); /* NULL: empty */

#endif
