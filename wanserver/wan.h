/*
 * The internals of a WAN server: what its files share.
 *
 *     accept, admit  ->  pending: HELLO  ->  handshake job    ->  welcomed   ->  joined: records
 *     wanserver.c        hello.c             handshake_job.c      unseal.c       unseal.c, seal.c
 *
 * There is one tp__wan per server. tp_wanserver_create() makes it, and it is freed with the server.
 * It is the context of the core's layer (core/engine/layer.h). The state of one connection is its
 * tp__connection, which lies beside its session.
 */
#ifndef TWINPORT_WANSERVER_WAN_H
#define TWINPORT_WANSERVER_WAN_H

#include <stdatomic.h>

#include "core/base/counter.h"
#include "core/engine/layer.h"
#include "os/compiler.h"
#include "proto/handshake.h"
#include "proto/record.h"
#include "twinport/wanserver.h"
#include "wanserver/guard/bans.h"
#include "wanserver/guard/limiter.h"
#include "wanserver/guard/replay.h"
#include "wanserver/handshake/handshakes.h"
#include "wanserver/handshake/pending.h"
#include "wanserver/handshake/token_keys.h"
#include "wanserver/handshake/wan_connection.h"
#include "wanserver/wan_refusal.h"
#include "wanserver/wan_stats.h"

/* The data of one worker. Only that worker writes it. */
typedef struct tp__wan_worker {
    TP__WAN_STATS(TP__STATS_NONE, TP__STATS_NONE, TP__STATS_NONE, TP__STATS_ATOMIC)
    uint8_t plain[TP_RECORD_PLAIN_MAX]; /* plaintext of the record that was opened last */
} tp__wan_worker;

typedef struct tp__wan {
    tp_server *server;
    tp_wanserver_options options; /* a copy; its pointers must not be used */
    tp_mode mode;
    tp_gateway_key key;
    tp__token_keys token_keys;
    tp__bans *bans;
    tp__limiter *limiter;
    tp__replay *replay; /* only in mode token */
    tp__handshakes *handshakes;
    tp__pending pending;
    _Atomic unsigned handshake_jobs; /* jobs that exist or are reserved (handshake_job.c) */
    tp__wan_worker *workers;         /* one for each worker of the server */
    /* One connection raises each once at most: all workers share them. */
    TP__WAN_STATS(TP__STATS_NONE, TP__STATS_ATOMIC, TP__STATS_NONE, TP__STATS_NONE)
} tp__wan;

static inline tp__wan *tp__wan_of(const tp__session *session) {
    return tp__layer_context(session);
}

static inline tp__connection *tp__connection_of(const tp__session *session) {
    return tp__layer_state(session);
}

static inline tp__wan_worker *tp__wan_worker_of(const tp__wan *wan, const tp__worker *worker) {
    return &wan->workers[tp__layer_worker_index(worker)];
}

/* The tp__wan of a server; NULL if the server is not a WAN server. Any thread. */
tp__wan *tp__wan_of_server(const tp_server *server);

/* Adds 1 to a counter that does not count refusals: those are counted by tp__wan_refuse()
 * (wan_refusal.h). */
#define TP__WAN_COUNT(wan, counter) tp__count_shared(&(wan)->counter, 1)

/* ---- wan_options.c --------------------------------------------------------------------------- */

/* Checks that the options of the WAN are in their ranges. TP_ERR_INVALID: the log names the
 * option. */
tp_err tp__wan_check_options(const tp_wanserver_options *options);

/* ---- hello.c --------------------------------------------------------------------------------- */

/* The layer's `take` until the HELLO has been answered. A byte behind the HELLO ends the
 * connection. */
void tp__hello_take(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count);

/* ---- handshake_job.c ------------------------------------------------------------------------- */

/* Reserves one of the handshake jobs that may exist at a time; false: all are in use. Unreserve
 * gives the reservation back if the job is not started. */
bool tp__handshake_job_reserve(struct tp__wan *wan);
void tp__handshake_job_unreserve(struct tp__wan *wan);

/* Starts the job of a HELLO that has passed its checks. A job must have been reserved. False: out
 * of memory, and the reservation is still the caller's. */
bool tp__handshake_job_start(tp__session *session, const tp_hello *hello);

/* The functions that the handshake threads call (handshakes.h): compute the answer of one job, post
 * `count` finished jobs to the workers of their sessions, discard one job. */
void tp__handshake_job_run(void *handshake_job);
void tp__handshake_job_deliver(void *const *handshake_jobs, unsigned count);
void tp__handshake_job_drop(void *handshake_job);

/* Queues a whole REPLY, whose bytes are sent as they are: neither as a frame nor in a record.
 * Called by a worker that serves the session. False: out of memory, and the session ends. */
bool tp__reply_queue(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t size);

/* ---- unseal.c -------------------------------------------------------------------------------- */

/* The layer's `take` from state WELCOMED on, and its `permit`. */
void tp__records_take(tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count);
bool tp__records_permit(void *delivery);

/* ---- seal.c ---------------------------------------------------------------------------------- */

/* A sealed record fills exactly one packet of the small size. One fill makes at most
 * TP__SEAL_RECORDS records. */
#define TP__SEAL_PLAIN_MAX (TP__LAYER_PACKET_MAX - TP_RECORD_OVERHEAD)
#define TP__SEAL_RECORDS   4u
/* The layer's `fill`. */
tp_end_reason tp__seal_fill(
    tp__session *session, tp__worker *worker, tp__send_batch *batch, tp_err *error);

#endif
