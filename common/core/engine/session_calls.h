/*
 * What can be done with a session, its worker and its server by code that does not see their
 * structures: the calls that the core's own files and a layer (layer.h) share.
 *
 * Unless a call says otherwise, its caller has a reference to the session, or runs on the worker
 * that owns it.
 */
#ifndef TWINPORT_CORE_ENGINE_SESSION_CALLS_H
#define TWINPORT_CORE_ENGINE_SESSION_CALLS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/engine/references.h"
#include "twinport/server.h"

typedef struct tp__session tp__session;
typedef struct tp__worker tp__worker;

/* ---- open.c, finish.c, end.c ----------------------------------------------------------------- */

/* For a layer, inside `take`: the pending session takes a quota and joins; without a quota it is
 * turned away with CLOSE `full`. False: it has not joined. */
bool tp__session_join(tp__session *session, tp__worker *worker);

/* Closes the session now and cancels everything in progress. The caller has a reference, or is the
 * owner. False: it was closing already. */
bool tp__session_close(tp__session *session, tp_end_reason reason, int os_error);

/* Closes a session that has not joined. Does nothing and returns false if it has joined or is
 * closing. If it was finishing, its reason stays. The caller has a reference, and the socket is
 * attached. */
bool tp__session_close_unjoined(tp__session *session, tp_end_reason reason);

/* Begins an end in order: after what is queued, a CLOSE frame with `close_code` (none if it is
 * negative), then the end of the stream, then a wait for the peer's. The caller has a reference, or
 * is the owner. False: it was ending already. */
bool tp__session_finish(tp__session *session, tp_end_reason reason, int close_code);

/* The same for a peer that is not wanted, but the stream is not ended from here. A peer that gets
 * CLOSE is expected to end the stream, and then TIME_WAIT is on its side; one that does not is
 * reset at the deadline. In neither case is a connection left in TIME_WAIT here, except an outgoing
 * one, which is closed in order. */
bool tp__session_turn_away(tp__session *session, tp_end_reason reason, int close_code);

/* Gives the caller's reference of this kind back. If it was the last one, the release is left to a
 * worker. Any thread. */
void tp__session_leave(tp__session *session, tp__reference kind);

/* The same, but releases the session here if it was the last one: for the top level of a
 * completion, on a worker's thread. */
void tp__session_drop(tp__session *session, tp__reference kind, tp__worker *worker);

/* ---- frames.c -------------------------------------------------------------------------------- */

/* No memory for what has arrived: reports it and ends the session. */
void tp__session_out_of_memory(tp__session *session, tp__worker *worker);

/* ---- server_error.c, served.c ---------------------------------------------------------------- */

/* An error that no call can return: counts it, logs it and calls on_error. On the worker's thread,
 * or with NULL on the thread inside start. */
void tp__server_error(
    tp_server *server, tp__worker *worker, tp_err error, int os_error, const char *where);

/* Reads the clock in the middle of a round, before a peer is refused for what may have arrived
 * while a handler of this round blocked the worker. True: the worker has stalled recently. On its
 * own thread. */
bool tp__worker_check_stall(tp__worker *worker);

/* How long all workers at once have stood still recently, a stall in progress at now_ms included;
 * 0: they have not. A stall that no worker has noticed yet counts too. For what all workers share:
 * each of them gets the same answer, whether it has come back from the stall or not. A stall of one
 * worker does not count, because the others serve meanwhile. Any thread, while the server runs. */
uint64_t tp__server_stall_ms(const tp_server *server, uint64_t now_ms);

#endif
