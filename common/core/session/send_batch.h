/*
 * A send batch: what one gathered send carries. It belongs to the session's flusher.
 */
#ifndef TWINPORT_CORE_SESSION_SEND_BATCH_H
#define TWINPORT_CORE_SESSION_SEND_BATCH_H

#include "core/engine/session_state.h"
#include "os/port.h"

#define TP__SEND_BYTES ((size_t)256 * 1024) /* a batch that has this much takes no further packet */

/*
 * What is with the port now. From a pool, so that an idle session has none.
 *
 * The packets are those that are sent (LAN), or what a layer has made of them. `unqueued` is what
 * leaves the session's `queued` when the batch is done. It differs from `messages` and `bytes` when
 * a layer has re-framed the packets.
 */
typedef struct tp__send_batch {
    size_t count;      /* buffers */
    size_t first;      /* not sent in whole; it begins with its first unsent byte */
    size_t held;       /* of `packets`: one for each buffer, until compact.c copies */
    size_t bytes;      /* in the buffers when filled */
    size_t messages;   /* frames whose last byte is in here */
    uint64_t unqueued; /* packets and bytes, in the form of `queued` */
    bool reported;     /* on_send reports it: the session had joined when this was filled */
    tp_buffer buffers[TP_PORT_MAX_BUFFERS];
    tp_packet *packets[TP_PORT_MAX_BUFFERS]; /* each keeps its buffer, until compact.c copies */
} tp__send_batch;

/* One for each session that is sending. */
_Static_assert(sizeof(void *) != 8 || sizeof(tp__send_batch) <= 1600, "a send batch has grown");

/* Fills a send batch from the backlog; the session has none. Returns TP_END_NONE, or why the
 * session must end; then session->failure is the tp_err for on_error, or TP_OK. */
tp_end_reason tp__send_batch_fill(tp__session *session, struct tp__worker *worker);

/* `sent` more bytes are with the system. True: nothing is left. */
bool tp__send_batch_advance(tp__send_batch *batch, size_t sent);

/* Called when the batch is given to the system, which may not take all of it. The time of the first
 * such call tells whether the peer or the server is slow (served.c). */
void tp__send_batch_waits(tp__session *session, const struct tp__worker *worker);

/* All of the batch is with the system: counts it, adds it to what on_send is owed, and releases
 * it. */
void tp__send_batch_sent(tp__session *session, struct tp__worker *worker);

/* Releases the session's send batch, if it has one, and subtracts it from what is queued. */
void tp__send_batch_release(tp__session *session);

/* session_check.c: the batch's own equations. Returns the first condition that is false, or NULL.
 * The flusher only. */
const char *tp__send_batch_check(const tp__send_batch *batch);

/* The end reason of a session whose send has failed with `error`. */
tp_end_reason tp__send_batch_failure(tp_err error);

#endif
