/*
 * The sending half: puts frames into records.
 *
 * Runs in the session's flusher, on a worker that serves its socket. Frames are copied into packets
 * of exactly the records' sizes and sealed there, many frames to a record; a frame that does not
 * fit continues in the next record. So the messages themselves are released at once, however many
 * other sessions they are for, while the session's limits count them until the send has completed.
 *
 * A sealed record is sent once, or the session ends: no counter is ever used for two plaintexts.
 */
#include <assert.h>

#include "proto/frame.h"
#include "wanserver/wan.h"

_Static_assert(
    TP__SEAL_PLAIN_MAX <= TP_RECORD_PLAIN_MAX, "a record must not be larger than allowed");
_Static_assert(TP__SEAL_RECORDS <= TP__LAYER_FILL_PACKETS, "one fill is one send batch");

/* One call of `fill`. */
typedef struct filling {
    tp__session *session;
    tp__send_batch *batch;
    tp__connection *connection;
    tp__wan_worker *own;
    unsigned packets; /* in the batch */
    tp_err *error;
} filling;

/* REPLY is sent as it is, neither as a frame nor in a record. It is the first packet of a session,
 * and the only one that is queued raw. */
static tp_end_reason seal_put_reply(filling *fill) {
    assert(fill->connection->sealing.counter == 0 && fill->packets == 0);
    tp__layer_fill_raw(fill->session, fill->batch);
    fill->packets++;
    return TP_END_NONE;
}

static tp_end_reason seal_end_reason(filling *fill, tp_err error) {
    if (error == TP_ERR_KEY_LIMIT) {
        return TP_END_KEY_LIMIT;
    }
    *fill->error = error;
    return TP_END_OS;
}

/* Puts the backlog's next `plain` bytes into a record of their own. */
static tp_end_reason seal_put_record(filling *fill, size_t plain) {
    assert(plain >= 1 && plain <= TP__SEAL_PLAIN_MAX);
    tp__connection *connection = fill->connection;
    tp_packet *record = tp__layer_packet(plain + TP_RECORD_OVERHEAD);
    if (TP_UNLIKELY(!record)) {
        return TP_END_NO_MEMORY;
    }
    uint8_t *bytes = tp_packet_edit(record);
    connection->sent = (uint32_t)tp__layer_fill_copy(
        fill->session, fill->batch, connection->sent, bytes + TP_RECORD_HEADER, plain);
    tp_err error = tp_record_seal(&connection->sealing, bytes, plain);
    if (TP_UNLIKELY(error != TP_OK)) {
        tp_packet_release(record); /* its plaintext must not reach the network */
        return seal_end_reason(fill, error);
    }
    tp__layer_fill_add(fill->batch, record);
    fill->packets++;
    tp__count_own(&fill->own->records_sealed, 1);
    return TP_END_NONE;
}

/* Puts the next part of the backlog into the send batch: REPLY, a record, or the session's end.
 * False: there is no more, or *failure is why the session must end. */
static bool seal_put_next(filling *fill, tp_end_reason *failure) {
    size_t plain = 0;
    switch (
        tp__layer_fill_next(fill->session, fill->connection->sent, TP__SEAL_PLAIN_MAX, &plain)) {
    case TP__LAYER_EMPTY:
        return false;
    case TP__LAYER_END:
        tp__layer_fill_end(fill->session);
        return false;
    case TP__LAYER_RAW:
        *failure = seal_put_reply(fill);
        break;
    case TP__LAYER_FRAMES:
        *failure = seal_put_record(fill, plain);
        break;
    }
    return *failure == TP_END_NONE;
}

tp_end_reason tp__seal_fill(
    tp__session *session, tp__worker *worker, tp__send_batch *batch, tp_err *error) {
    filling fill = {
        .session = session,
        .batch = batch,
        .connection = tp__connection_of(session),
        .own = tp__wan_worker_of(tp__wan_of(session), worker),
        .error = error,
    };
    tp_end_reason failure = TP_END_NONE;
    while (fill.packets < TP__SEAL_RECORDS && seal_put_next(&fill, &failure)) {
    }
    /* CLOSE follows what is queued: enough counters are left for that. */
    if (TP_UNLIKELY(tp_record_near_end(&fill.connection->sealing))) {
        tp__session_finish(session, TP_END_KEY_LIMIT, TP_CLOSE_KEY_LIMIT);
    }
    return failure;
}
