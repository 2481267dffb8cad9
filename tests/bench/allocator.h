/*
 * The allocators that the pool table compares: ways to allocate and free blocks of one size. Each
 * has one pool of its own. `open` is called first and `close` last, with no other thread in
 * between.
 */
#ifndef TWINPORT_BENCH_ALLOCATOR_H
#define TWINPORT_BENCH_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>

enum { allocator_chunk_blocks = 64 }; /* blocks that methods 2 and 3 move in one step */

typedef struct allocator {
    const char *name;
    bool (*open)(size_t block_size); /* block_size is at least 16 */
    void *(*allocate)(void);         /* any thread; NULL: out of memory */
    void (*free)(void *block);       /* any thread */
    void (*close)(void);             /* every block must have been freed */
} allocator;

extern const allocator allocator_malloc;
extern const allocator allocator_tp_pool; /* method 1 of the notes */
extern const allocator allocator_method2;
extern const allocator allocator_method3;
extern const allocator allocator_tp_packet;

#endif
