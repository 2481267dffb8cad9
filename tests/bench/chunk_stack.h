/* The main pool of methods 2 and 3: a lock-free stack of chunks. A chunk's first member is its
 * chunk_link, and the chunk was entered once in a chunk_table, which owns its memory. */
#ifndef TWINPORT_BENCH_CHUNK_STACK_H
#define TWINPORT_BENCH_CHUNK_STACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { chunk_table_most = 1 << 16 };

typedef struct chunk_link {
    uint32_t place;        /* in the table, from 1 */
    _Atomic uint32_t next; /* place of the chunk below, 0: none */
} chunk_link;

typedef struct chunk_table {
    _Atomic uint32_t count;
    chunk_link *links[chunk_table_most];
} chunk_table;

/* High half: number of changes, so that a head seen before is not taken for the same head. Low
 * half: place of the top chunk. */
typedef struct chunk_stack {
    _Atomic uint64_t head;
} chunk_stack;

/* Gives a new chunk (from malloc) to the table. False if the table is full; it is the caller's
 * then. */
bool chunk_table_enter(chunk_table *table, chunk_link *chunk);
/* Frees every chunk. No thread may use any. */
void chunk_table_free(chunk_table *table);

void chunk_stack_push(chunk_stack *stack, chunk_link *chunk);
chunk_link *chunk_stack_pop(chunk_stack *stack, const chunk_table *table); /* NULL: empty */

#endif
