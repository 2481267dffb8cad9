/*
 * Allocation of all memory of the core. It happens at start, when something grows, and for large
 * packets whose shelf is empty: never on the message path after warm-up.
 */
#ifndef TWINPORT_CORE_MEMORY_MEMORY_H
#define TWINPORT_CORE_MEMORY_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* `bytes` (1 or more) of memory aligned to 16, or NULL. The caller frees it with tp__free(). Any
 * thread. */
void *tp__allocate(size_t bytes);

/* `count` x `size` bytes, all zero; NULL also if the product overflows. */
void *tp__allocate_zeroed(size_t count, size_t size);

/* Any thread. NULL is ignored. */
void tp__free(void *memory);

/*
 * The same for pieces that must go back to the system when they are freed instead of staying in the
 * heap: from TP__PAGES_FROM bytes on they are pages of the system. `bytes` must be the same in both
 * calls.
 */
#define TP__PAGES_FROM ((size_t)32 << 10)
void *tp__allocate_piece(size_t bytes);
void tp__free_piece(void *memory, size_t bytes);

/*
 * Failure injection for tests, in every build, for the whole process. fail_after(n): the n-th
 * allocation from now on (1: the next) fails, once. fail_from(n): the n-th and all later ones fail.
 * -1 turns either off. The caller must make sure that no unrelated test allocates meanwhile.
 */
void tp__memory_fail_after(long n);
void tp__memory_fail_from(long n);

/* Allocations requested so far, including failed ones; allocations not yet freed. */
uint64_t tp__memory_allocations(void);
uint64_t tp__memory_live(void);

/* Bytes of pieces (tp__allocate_piece()) not yet freed: the memory of packets and of pools' blocks,
 * in use or free. */
uint64_t tp__memory_held(void);

#endif
