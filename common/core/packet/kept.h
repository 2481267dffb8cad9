/*
 * Memory of packets that wait: for a slow reader, or for the rest of their bytes.
 *
 * What is cut from a thread's chunk holds the whole chunk, 64 KiB, for as long as it lives. That is
 * no matter for a packet that is gone when the batch is done; one that waits must cost about its
 * own size. So it has memory of its own, from pools of blocks whose sizes double: at most twice
 * what it asked for, and no call of the allocator's once the pools are warm.
 */
#ifndef TWINPORT_CORE_PACKET_KEPT_H
#define TWINPORT_CORE_PACKET_KEPT_H

#include <stddef.h>
#include <stdint.h>

#include "twinport/error.h"
#include "twinport/packet.h"
#include "twinport/pool.h"

/* Payload classes: 128 << 0 to 128 << 7 = 16 KiB, and as much more as a packet's payload may have
 * grown at its head. */
#define TP__KEPT_CLASSES  8
#define TP__KEPT_SMALLEST ((size_t)128)
#define TP__KEPT_MOST     ((TP__KEPT_SMALLEST << (TP__KEPT_CLASSES - 1)) + TP_PACKET_HEAD)
#define TP__KEPT_HEAD     ((size_t)64) /* in front of the payload */

/* Makes the pools if they do not exist yet. Any thread. TP_ERR_NO_MEMORY, TP_ERR_FULL. */
tp_err tp__kept_open(void);

/* The class whose payload is at least `payload` bytes (0..TP__KEPT_MOST). */
unsigned tp__kept_class(size_t payload);

static inline size_t tp__kept_bytes(unsigned class_index) {
    return (TP__KEPT_SMALLEST << class_index) + TP_PACKET_HEAD;
}

/* Memory for a packet of that class: TP__KEPT_HEAD bytes and its payload. NULL if memory is out, or
 * the pools have not been opened. Any thread. */
void *tp__kept_take(unsigned class_index);

/* Any thread. Never fails. */
void tp__kept_give(unsigned class_index, void *memory);

/* Gives what nobody uses back to the system; returns the bytes. Any thread. */
size_t tp__kept_trim(void);

/* The pool of a class, or NULL before it was opened. */
tp_pool *tp__kept_pool(unsigned class_index);

#endif
