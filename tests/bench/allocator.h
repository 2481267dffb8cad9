/* What the pool table compares: ways to get and give back blocks of one size. Each keeps one pool
 * of its own; `open` comes first, `close` last, with no other thread in between. */
#ifndef TWINPORT_BENCH_ALLOCATOR_H
#define TWINPORT_BENCH_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>

enum { allocator_chunk_blocks = 64 }; /* blocks that methods 2 and 3 move at once */

typedef struct allocator {
    const char *name;
    bool (*open)(size_t block_size); /* block_size is at least 16 */
    void *(*allocate)(void);         /* any thread; NULL: out of memory */
    void (*free)(void *block);       /* any thread */
    void (*close)(void);             /* every block must be back */
} allocator;

extern const allocator allocator_malloc;
extern const allocator allocator_tp_pool; /* the notes' method 1 */
extern const allocator allocator_method2;
extern const allocator allocator_method3;
extern const allocator allocator_tp_packet;

#endif
