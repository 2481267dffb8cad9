/*
 * Memory for packets that wait, for a slow reader or for the rest of their bytes.
 *
 * A packet that is cut from a thread's chunk keeps the whole chunk, 64 KiB, from reuse as long as
 * it lives. That does not matter for a packet that is released when the batch is done; one that
 * waits must cost about its own size. So it has memory of its own, from pools with block sizes that
 * double: at most about twice the size that was asked for, and no call of the allocator after
 * warm-up.
 */
#ifndef TWINPORT_CORE_PACKET_KEPT_H
#define TWINPORT_CORE_PACKET_KEPT_H

#include <stddef.h>
#include <stdint.h>

#include "twinport/error.h"
#include "twinport/packet.h"
#include "twinport/pool.h"

/* Payload classes: 128 << 0 to 128 << 7 = 16 KiB, plus TP_PACKET_HEAD, by which push_head may have
 * extended a payload. */
#define TP__KEPT_CLASSES  8
#define TP__KEPT_SMALLEST ((size_t)128)
#define TP__KEPT_MOST     ((TP__KEPT_SMALLEST << (TP__KEPT_CLASSES - 1)) + TP_PACKET_HEAD)
#define TP__KEPT_HEAD     ((size_t)64) /* in front of the payload */

/* Creates the pools if they do not exist yet. Any thread. TP_ERR_NO_MEMORY, TP_ERR_FULL. */
tp_err tp__kept_open(void);

/* The smallest class for a payload of `payload` bytes (0..TP__KEPT_MOST). */
unsigned tp__kept_class(size_t payload);

static inline size_t tp__kept_bytes(unsigned class_index) {
    return (TP__KEPT_SMALLEST << class_index) + TP_PACKET_HEAD;
}

/* Memory for a packet of that class: TP__KEPT_HEAD bytes and the payload. The caller returns it
 * with tp__kept_give(). NULL if memory is out, or if the pools do not exist. Any thread. */
void *tp__kept_take(unsigned class_index);

/* Returns memory of tp__kept_take(). Any thread. Never fails. */
void tp__kept_give(unsigned class_index, void *memory);

/* Returns free memory to the system (tp_pool_trim()); returns the bytes. Any thread. */
size_t tp__kept_trim(void);

/* The pool of a class, or NULL before tp__kept_open(). */
tp_pool *tp__kept_pool(unsigned class_index);

#endif
