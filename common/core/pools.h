/*
 * The pools that all servers of the process share.
 */
#ifndef TWINPORT_CORE_POOLS_H
#define TWINPORT_CORE_POOLS_H

#include <stdatomic.h>

#include "core/send_queue.h"
#include "os/port.h"
#include "twinport/pool.h"

#define TP__SEND_BYTES ((size_t)256 * 1024) /* a send takes no further packet beyond this */

/*
 * A gathered send: what is with the port now. In a pool, so that an idle session has none.
 *
 * The packets it holds are those that are sent (LAN), or what a layer has made of them; so what it
 * is counted for is kept apart from what it holds.
 */
typedef struct tp__flight {
    size_t count;      /* buffers */
    size_t first;      /* buffer that is not sent to its last byte; it begins with its first unsent */
    size_t held;       /* packets that hold what is in them: as many, until copies hold it */
    size_t bytes;      /* in the buffers, at first */
    size_t messages;   /* frames whose last byte is in here */
    uint64_t unqueued; /* what leaves the session's `queued` when it is over */
    bool told;         /* on_send hears of it: the session had joined when this was filled */
    tp_buffer buffers[TP_PORT_MAX_BUFFERS];
    tp_packet *packets[TP_PORT_MAX_BUFFERS]; /* each holds its buffer, until copies do */
} tp__flight;

/* Makes the pools if they do not exist yet; they stay for the life of the process. Any thread.
 * Before it has returned TP_OK once, the functions below must not be called. TP_ERR_NO_MEMORY,
 * TP_ERR_FULL. */
tp_err tp__pools_open(void);

/* Makes the pool that `slot` is for, if there is none yet. Any thread. */
tp_err tp__pools_open_one(_Atomic(tp_pool *) *slot, const char *name, size_t block_size);

tp_pool *tp__node_pool(void);   /* of tp__send_node */
tp_pool *tp__flight_pool(void); /* of tp__flight */

#endif
