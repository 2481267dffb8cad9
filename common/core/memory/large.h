/*
 * Memory of large packets: one allocation each, in sizes that double, kept on a shelf between uses.
 */
#ifndef TWINPORT_CORE_MEMORY_LARGE_H
#define TWINPORT_CORE_MEMORY_LARGE_H

#include <stddef.h>

/* Payload classes: 32 KiB << 0 to 32 KiB << 9 = 16 MiB. */
#define TP__LARGE_CLASSES  10
#define TP__LARGE_SMALLEST ((size_t)32 << 10)
#define TP__LARGE_HEAD     ((size_t)64) /* in front of the payload */

/* The class whose payload is at least `payload` bytes (0..16 MiB). */
unsigned tp__large_class(size_t payload);

/* Memory for a packet of that class: TP__LARGE_HEAD bytes and its payload. From the shelf, or
 * allocated; NULL if memory is out. Any thread. */
void *tp__large_take(unsigned class_index);

/* Back to the shelf, or to the system if that is full. Any thread. Never fails. */
void tp__large_give(unsigned class_index, void *memory);

/* Gives back what nobody has used since the last call, at most `most` bytes, or one piece; returns
 * how much. Any thread, one at a time. */
size_t tp__large_reap(size_t most);

/* Gives everything on the shelves back to the system; returns the bytes. Any thread. */
size_t tp__large_trim(void);

#endif
