/*
 * The pools that all servers of the process share.
 */
#ifndef TWINPORT_CORE_SESSION_POOLS_H
#define TWINPORT_CORE_SESSION_POOLS_H

#include "twinport/pool.h"

/* Makes the pools if they do not exist yet; they stay for the life of the process. Any thread. Must
 * have returned TP_OK once before the functions below are called. TP_ERR_NO_MEMORY, TP_ERR_FULL. */
tp_err tp__pools_open(void);

tp_pool *tp__node_pool(void);       /* of tp__send_node (send_queue.h) */
tp_pool *tp__send_batch_pool(void); /* of tp__send_batch (send_batch.h) */

#endif
