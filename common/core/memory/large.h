/*
 * Memory for large packets: one allocation each, in size classes that double. Between uses an
 * allocation stays on its class's shelf, a bounded store of free memory.
 */
#ifndef TWINPORT_CORE_MEMORY_LARGE_H
#define TWINPORT_CORE_MEMORY_LARGE_H

#include <stddef.h>

/* Payload classes: 32 KiB << 0 to 32 KiB << 9 = 16 MiB. */
#define TP__LARGE_CLASSES  10
#define TP__LARGE_SMALLEST ((size_t)32 << 10)
#define TP__LARGE_HEAD     ((size_t)64) /* in front of the payload */

/* The smallest class for a payload of `payload` bytes (0..16 MiB). */
unsigned tp__large_class(size_t payload);

/* Memory for a packet of that class, TP__LARGE_HEAD bytes and the payload: from the shelf, or newly
 * allocated. The caller returns it with tp__large_give(). NULL if memory is out. Any thread. */
void *tp__large_take(unsigned class_index);

/* Returns memory to the shelf, or to the system if the shelf is full. Any thread. Never fails. */
void tp__large_give(unsigned class_index, void *memory);

/* Returns to the system what was not used since the last call, and stops when `most` bytes are
 * reached, so the last piece may exceed it; returns the bytes. Any thread, one at a time. */
size_t tp__large_reap(size_t most);

/* Returns everything on the shelves to the system; returns the bytes. Any thread. */
size_t tp__large_trim(void);

#endif
