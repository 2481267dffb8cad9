/*
 * Where all memory of the core comes from. Allocation happens at start, at growth and in large
 * packets that no shelf had ready: never on the message path after warm-up.
 */
#ifndef TWINPORT_CORE_MEMORY_MEMORY_H
#define TWINPORT_CORE_MEMORY_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* `bytes` (1 or more) of memory aligned to 16, or NULL. The caller frees it with tp__free(). Any
 * thread. */
void *tp__allocate(size_t bytes);

/* `count` x `size` bytes, all zero; NULL also when the product overflows. */
void *tp__allocate_zeroed(size_t count, size_t size);

/* Any thread. NULL is ignored. */
void tp__free(void *memory);

/*
 * The same for pieces that are to leave the process when they are freed, not to lie in the heap:
 * from TP__PAGES_FROM bytes on they are pages of the system's. `bytes` must be the same in both
 * calls.
 */
#define TP__PAGES_FROM ((size_t)32 << 10)
void *tp__allocate_piece(size_t bytes);
void tp__free_piece(void *memory, size_t bytes);

/*
 * Failure injection for tests, in every build, for the whole process. fail_after(n): the n-th
 * following allocation (1: the very next) fails, once. fail_from(n): the n-th and all that follow
 * fail. -1 turns either off. Whoever arms it sees to it that no allocation of an unrelated test
 * runs meanwhile.
 */
void tp__memory_fail_after(long n);
void tp__memory_fail_from(long n);

/* Allocations asked for so far, those that failed included; those given out and not yet freed. */
uint64_t tp__memory_allocations(void);
uint64_t tp__memory_live(void);

/* Bytes of pieces given out and not yet freed: what packets and the blocks of pools, in use or not,
 * have of the system. */
uint64_t tp__memory_held(void);

#endif
