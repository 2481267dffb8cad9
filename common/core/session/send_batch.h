/*
 * A flight: what one gathered send carries. The session's flush owner's.
 */
#ifndef TWINPORT_CORE_SESSION_SEND_BATCH_H
#define TWINPORT_CORE_SESSION_SEND_BATCH_H

#include "core/engine/session_state.h"
#include "os/port.h"

#define TP__SEND_BYTES ((size_t)256 * 1024) /* a send takes no further packet beyond this */

/*
 * A gathered send: what is with the port now. In a pool, so that an idle session has none.
 *
 * The packets it holds are those that are sent (LAN), or what a layer has made of them; so what it
 * is counted for is kept apart from what it holds.
 */
typedef struct tp__flight {
    size_t count;    /* buffers */
    size_t first;    /* buffer that is not sent to its last byte; it begins with its first unsent */
    size_t held;     /* packets that hold what is in them: as many, until copies hold it */
    size_t bytes;    /* in the buffers, at first */
    size_t messages; /* frames whose last byte is in here */
    uint64_t unqueued; /* what leaves the session's `queued` when it is over */
    bool told;         /* on_send hears of it: the session had joined when this was filled */
    tp_buffer buffers[TP_PORT_MAX_BUFFERS];
    tp_packet *packets[TP_PORT_MAX_BUFFERS]; /* each holds its buffer, until copies do */
} tp__flight;

/* Takes what is pending into the session's flight, which it has none of. TP_END_NONE, or why the
 * session must end; session->failure then says what on_error is to hear of. */
tp_end_reason tp__flight_fill(tp__session *session, struct tp__worker *worker);

/* `sent` more bytes are with the system. True: nothing is left. */
bool tp__flight_advance(tp__flight *flight, size_t sent);

/* The flight is given to the system, which may not take all of it: by the time when that was, it is
 * told who is slow, the peer or we (served.c). */
void tp__flight_waits(tp__session *session, const struct tp__worker *worker);

/* All of the flight is with the system: it is counted, owed to on_send, and released. */
void tp__flight_sent(tp__session *session, struct tp__worker *worker);

/* Releases the session's flight, if it has one, and takes it off what is queued. */
void tp__flight_release(tp__session *session);

/* Why the session ends whose send has failed with this. */
tp_end_reason tp__flight_failure(tp_err error);

#endif
