/*
 * The receiving half of a session that has its keys: from bytes to records to frames.
 *
 * Runs on the worker that has the session's receive delivery. A record that is whole in the
 * received bytes is opened into the worker's own buffer. A record that arrives in pieces is
 * assembled in a packet of exactly its size, with memory of its own, which exists from the record's
 * two length bytes to its last byte, and is opened in place. No byte of a record that does not open
 * is used.
 */
#include <assert.h>
#include <string.h>

#include "proto/frame.h"
#include "wanserver/wan.h"

/* One call of `take`, with what the core tells about it. */
typedef struct delivery {
    tp__session *session;
    tp__worker *worker;
    tp__wan *wan;
    tp__connection *connection;
    tp__wan_worker *own;
    tp__layer_times times; /* the worker's */
} delivery;

static bool awaits_ready(const delivery *from) {
    return atomic_load_explicit(&from->connection->state, memory_order_relaxed) ==
           TP__CONNECTION_WELCOMED;
}

/* A connection that is not ready yet does not become so. */
static void ready_refuse(const delivery *from) {
    tp__wan_refuse(from->wan, TP__REFUSAL_NOT_READY, tp__layer_peer(from->session));
}

/* Ends the session because of a record that does not open. Before READY it is counted as
 * not_ready. */
static void records_tampered(delivery *from) {
    if (awaits_ready(from)) {
        ready_refuse(from);
    }
    tp__session_close(from->session, TP_END_TAMPERED, 0);
}

/* ---- READY ----------------------------------------------------------------------------------- */

static void ready_accept(delivery *from) {
    assert(awaits_ready(from));
    tp__wan *wan = from->wan;
    tp__connection *connection = from->connection;
    connection->framed = true;
    atomic_store_explicit(&connection->state, TP__CONNECTION_READY, memory_order_release);
    TP__WAN_COUNT(wan, established);
    if (wan->mode == TP_MODE_TOKEN) {
        tp__identity_publish(&connection->identity, tp__layer_id(from->session));
    }
    /* It joins, or CLOSE is sent because max_sessions is reached. */
    (void)tp__session_join(from->session, from->worker);
    tp__pending_remove(&wan->pending, from->session);
}

/* Takes those of the bytes that belong to the first frame, which must be READY; returns their
 * number. */
static size_t ready_take(delivery *from, const uint8_t *plain, size_t count) {
    assert(awaits_ready(from));
    bool whole = false;
    tp_frame_header header;
    size_t taken = tp__layer_take_header(from->session, plain, count, &whole, &header);
    if (!whole) {
        return taken;
    }
    if (header.type == TP_FRAME_READY && header.length == 0) {
        ready_accept(from);
    } else {
        ready_refuse(from);
        tp__session_close(from->session, TP_END_PROTOCOL, 0);
    }
    return taken;
}

/* ---- records --------------------------------------------------------------------------------- */

static void records_take_plain(delivery *from, const uint8_t *plain, size_t count) {
    tp__connection *connection = from->connection;
    size_t taken = 0;
    if (TP_UNLIKELY(atomic_load_explicit(&connection->state, memory_order_relaxed) !=
                    TP__CONNECTION_READY)) {
        taken = ready_take(from, plain, count);
    }
    tp__layer_take_frames(from->session, from->worker, from, plain + taken, count - taken);
    if (TP_UNLIKELY(tp_record_near_end(&connection->opening))) {
        tp__session_finish(from->session, TP_END_KEY_LIMIT, TP_CLOSE_KEY_LIMIT);
    }
}

/* Ends the session because of a rate. Before READY it is closed without an answer, as for a record
 * that does not open: CLOSE cannot be sent then, because where two workers serve the session
 * (iocp), REPLY may not be queued yet. */
static void records_end_for_rate(delivery *from) {
    if (awaits_ready(from)) {
        ready_refuse(from);
        tp__session_close(from->session, TP_END_RATE, 0);
    } else {
        tp__session_turn_away(from->session, TP_END_RATE, TP_CLOSE_RATE);
    }
}

static bool rate_take_once(
    tp__bucket *bucket, const delivery *from, uint32_t count, uint32_t rate, uint32_t burst) {
    if (TP_UNLIKELY(from->times.stall_ms > 0)) {
        burst = tp__bucket_capacity(rate, burst, from->times.stall_ms);
    }
    return tp__bucket_take(bucket, count, rate, burst, from->times.now_ms);
}

/* Measures the worker's stall now. True: it has stalled recently. */
static bool rate_check_stall(delivery *from) {
    bool stalled = tp__worker_check_stall(from->worker);
    from->times = tp__layer_worker_times(from->worker);
    return stalled;
}

/* Takes from a bucket. If it has not enough, the bytes may have arrived while a handler of this
 * very round blocked the worker: the worker then measures its stall, and the bucket is asked once
 * more. */
static bool rate_take(
    tp__bucket *bucket, delivery *from, uint32_t count, uint32_t rate, uint32_t burst) {
    return rate_take_once(bucket, from, count, rate, burst) ||
           (rate_check_stall(from) && rate_take_once(bucket, from, count, rate, burst));
}

/* Takes from the bucket of bytes; false: it has not enough, and the session ends. */
static bool rate_take_bytes(delivery *from, size_t count) {
    const tp_wanserver_options *options = &from->wan->options;
    tp__connection *connection = from->connection;
    if (options->byte_rate == 0 ||
        rate_take(&connection->bytes, from, (uint32_t)count, (uint32_t)options->byte_rate,
            (uint32_t)options->byte_burst)) {
        return true;
    }
    records_end_for_rate(from);
    return false;
}

/* Opening a record costs as much as some hundred bytes of it do. A record that completes a frame
 * which message_rate counts costs nothing more. Any other record that is smaller than
 * TP_WANSERVER_RECORD_COST is charged the difference here. */
static bool rate_take_record_cost(delivery *from, size_t length) {
    size_t size = TP_RECORD_HEADER + length;
    return from->connection->framed || size >= TP_WANSERVER_RECORD_COST ||
           !tp__layer_takes_input(from->session) ||
           rate_take_bytes(from, TP_WANSERVER_RECORD_COST - size);
}

/* Opens the `length` bytes of a whole record into `plain`, which may be `sealed`, and delivers the
 * frames in it. */
static void open_record(delivery *from, const uint8_t *sealed, size_t length, uint8_t *plain) {
    assert(length >= TP_RECORD_MIN && length <= TP_RECORD_MAX);
    tp__connection *connection = from->connection;
    tp_err error = tp_record_open(&connection->opening, sealed, length, plain);
    switch (error) {
    case TP_OK:
        tp__count_own(&from->own->records_opened, 1);
        connection->framed = false;
        records_take_plain(from, plain, length - TP_SECRET_TAG);
        (void)rate_take_record_cost(from, length);
        break;
    case TP_ERR_AUTH:
        records_tampered(from);
        break;
    case TP_ERR_KEY_LIMIT:
        tp__session_close(from->session, TP_END_KEY_LIMIT, 0);
        break;
    default:
        tp__server_error(tp__layer_server(from->session), from->worker, error, 0, "record");
        tp__session_close(from->session, TP_END_OS, 0);
        break;
    }
}

/* Adds bytes to the record that is being assembled; returns how many were taken. */
static size_t continue_record(delivery *from, const uint8_t *bytes, size_t count) {
    tp__connection *connection = from->connection;
    tp_packet *packet = connection->partial;
    uint8_t *record = tp_packet_edit(packet);
    size_t length = tp_packet_size(packet);
    assert(connection->partial_filled < length);
    size_t missing = length - connection->partial_filled;
    size_t taken = count < missing ? count : missing;
    memcpy(record + connection->partial_filled, bytes, taken);
    connection->partial_filled += (uint32_t)taken;
    if (taken == missing) {
        connection->partial = NULL;
        open_record(from, record, length, record);
        tp_packet_release(packet);
    }
    return taken;
}

/* Both length bytes have been received: opens the record, or begins to assemble it. Returns the
 * number of bytes taken behind the length. */
static size_t begin_record(
    delivery *from, const uint8_t *header, const uint8_t *bytes, size_t count) {
    tp__connection *connection = from->connection;
    assert(!connection->partial && !connection->has_length_low);
    size_t length = tp_record_length(header);
    if (length == 0) {
        records_tampered(from); /* no client that has the keys sends such a length */
        return count;
    }
    if (count >= length) {
        uint8_t *plain = from->own->plain;
        open_record(from, bytes, length, plain);
        return length;
    }
    connection->partial = tp__layer_packet_kept(length);
    if (!connection->partial) {
        tp__session_out_of_memory(from->session, from->worker);
        return count;
    }
    memcpy(tp_packet_edit(connection->partial), bytes, count);
    connection->partial_filled = (uint32_t)count;
    return count;
}

/* For a length whose bytes arrive one by one: one has been received before, or only one is there
 * now. Returns the number of bytes taken. */
static size_t continue_length(delivery *from, const uint8_t *bytes, size_t count) {
    assert(count > 0);
    tp__connection *connection = from->connection;
    if (!connection->has_length_low) {
        connection->has_length_low = true;
        connection->length_low = bytes[0];
        return 1;
    }
    const uint8_t header[TP_RECORD_HEADER] = {connection->length_low, bytes[0]};
    connection->has_length_low = false;
    return 1 + begin_record(from, header, bytes + 1, count - 1);
}

void tp__records_take(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    tp__wan *wan = tp__wan_of(session);
    delivery from = {
        .session = session,
        .worker = worker,
        .wan = wan,
        .connection = tp__connection_of(session),
        .own = tp__wan_worker_of(wan, worker),
        .times = tp__layer_worker_times(worker),
    };
    const tp__connection *connection = from.connection;
    if (!rate_take_bytes(&from, count)) {
        return;
    }
    while (count > 0 && tp__layer_takes_input(session)) {
        size_t taken;
        if (connection->partial) {
            taken = continue_record(&from, bytes, count);
        } else if (connection->has_length_low || count < TP_RECORD_HEADER) {
            taken = continue_length(&from, bytes, count);
        } else {
            taken = TP_RECORD_HEADER +
                    begin_record(&from, bytes, bytes + TP_RECORD_HEADER, count - TP_RECORD_HEADER);
        }
        bytes += taken;
        count -= taken;
    }
}

bool tp__records_permit(void *given) {
    delivery *from = given;
    const tp_wanserver_options *options = &from->wan->options;
    tp__connection *connection = from->connection;
    connection->framed = options->message_rate != 0;
    if (options->message_rate == 0 ||
        rate_take(&connection->messages, from, 1, options->message_rate, options->message_burst)) {
        return true;
    }
    records_end_for_rate(from);
    return false;
}
