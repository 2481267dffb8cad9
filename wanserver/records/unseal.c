/*
 * From bytes to records to frames: the receiving half of a session that has its keys.
 *
 * Runs on the worker that has the session's receive delivery. A record that is whole in the lent
 * bytes is opened into the worker's own buffer; one that comes in pieces is assembled in a packet
 * of just its size, in memory of its own, which exists from its two length bytes to its last
 * one, and is opened in place. No byte of a record that does not open is looked at.
 */
#include <string.h>

#include "core/packet/packet_internal.h"
#include "proto/frame.h"
#include "wanserver/wan.h"

static bool awaits_ready(const tp__session *session) {
    const tp__player *player = tp__player_of(session);
    return atomic_load_explicit(&player->stage, memory_order_relaxed) == TP__PLAYER_WELCOMED;
}

/* What ends a connection before READY is counted as not_ready. */
static void tampered(tp__session *session) {
    if (awaits_ready(session)) {
        tp__wan_refuse(tp__wan_of(session), TP__REFUSAL_NOT_READY, &session->peer);
    }
    tp__session_close(session, TP_END_TAMPERED, 0);
}

/* ---- READY ----------------------------------------------------------------------------------- */

static void become_ready(tp__session *session, tp__worker *worker) {
    tp__wan *wan = tp__wan_of(session);
    tp__player *player = tp__player_of(session);
    player->framed = true;
    atomic_store_explicit(&player->stage, TP__PLAYER_READY, memory_order_release);
    TP__WAN_COUNT(wan, established);
    if (wan->mode == TP_MODE_TOKEN) {
        tp__identity_publish(&player->identity, tp__session_id(session));
    }
    (void)tp__session_join(session, worker); /* or it is told that there is no place */
    tp__pending_remove(&wan->pending, session);
}

/* Takes what of these bytes belongs to the first frame, which must be READY; returns how many. */
static size_t take_ready(
    tp__session *session, tp__worker *worker, const uint8_t *plain, size_t count) {
    tp__receive_state *receive = &session->receive;
    size_t missing = TP_FRAME_HEADER - receive->header_filled;
    size_t taken = count < missing ? count : missing;
    memcpy(receive->header + receive->header_filled, plain, taken);
    receive->header_filled = (uint8_t)(receive->header_filled + taken);
    if (taken < missing) {
        return taken;
    }
    receive->header_filled = 0;
    tp_frame_header header = tp_frame_read(receive->header);
    if (header.type == TP_FRAME_READY && header.length == 0) {
        become_ready(session, worker);
    } else {
        tp__wan_refuse(tp__wan_of(session), TP__REFUSAL_NOT_READY, &session->peer);
        tp__session_close(session, TP_END_PROTOCOL, 0);
    }
    return taken;
}

/* ---- records --------------------------------------------------------------------------------- */

static void take_plain(
    tp__session *session, tp__worker *worker, const uint8_t *plain, size_t count) {
    tp__player *player = tp__player_of(session);
    size_t taken = 0;
    if (TP_UNLIKELY(
            atomic_load_explicit(&player->stage, memory_order_relaxed) != TP__PLAYER_READY)) {
        taken = take_ready(session, worker, plain, count);
    }
    tp__session_take_frames(session, worker, plain + taken, count - taken);
    if (TP_UNLIKELY(tp_record_near_end(&player->opening))) {
        tp__session_finish(session, TP_END_KEY_LIMIT, TP_CLOSE_KEY_LIMIT);
    }
}

/* Before READY it is cut in silence, as by a record that does not open. It could not be told:
 * where two workers serve it (iocp), its REPLY may not be queued yet. */
static void end_for_rate(tp__session *session) {
    if (awaits_ready(session)) {
        tp__wan_refuse(tp__wan_of(session), TP__REFUSAL_NOT_READY, &session->peer);
        tp__session_close(session, TP_END_RATE, 0);
    } else {
        tp__session_turn_away(session, TP_END_RATE, TP_CLOSE_RATE);
    }
}

static bool take_once(
    tp__bucket *bucket, tp__worker *worker, uint32_t count, uint32_t rate, uint32_t burst) {
    if (TP_UNLIKELY(worker->stall_ms > 0)) {
        burst = tp__bucket_room(rate, burst, worker->stall_ms);
    }
    return tp__bucket_take(bucket, count, rate, burst, tp__worker_now_ms(worker));
}

/* Before anybody is told that he says too much: it may have come while a handler of this very round
 * held up the worker. */
static bool take(
    tp__bucket *bucket, tp__worker *worker, uint32_t count, uint32_t rate, uint32_t burst) {
    return take_once(bucket, worker, count, rate, burst) ||
           (tp__worker_looks_again(worker) && take_once(bucket, worker, count, rate, burst));
}

/* Takes from the budget of bytes; if there are not so many, the session ends. */
static bool within_byte_rate(tp__session *session, tp__worker *worker, size_t count) {
    const tp_wanserver_options *options = &tp__wan_of(session)->options;
    tp__player *player = tp__player_of(session);
    if (options->byte_rate == 0 ||
        take(&player->bytes, worker, (uint32_t)count, (uint32_t)options->byte_rate,
            (uint32_t)options->byte_burst)) {
        return true;
    }
    end_for_rate(session);
    return false;
}

/* To open a record costs as much as some hundred bytes of it do. One that brings a frame to its end
 * has that frame counted by message_rate, if there is one; any other is counted here. */
static bool within_record_cost(tp__session *session, tp__worker *worker, size_t length) {
    size_t size = TP_RECORD_HEADER + length;
    return tp__player_of(session)->framed || size >= TP_WANSERVER_RECORD_COST ||
           !tp__session_listens(session) ||
           within_byte_rate(session, worker, TP_WANSERVER_RECORD_COST - size);
}

/* Opens the N bytes of a whole record, which may be `plain`, and delivers what is in it. */
static void open_record(tp__session *session, tp__worker *worker, const uint8_t *sealed,
    size_t length, uint8_t *plain) {
    tp__player *player = tp__player_of(session);
    tp_err error = tp_record_open(&player->opening, sealed, length, plain);
    switch (error) {
    case TP_OK:
        tp__count_own(&tp__wan_of(session)->workers[worker->index].records_opened, 1);
        player->framed = false;
        take_plain(session, worker, plain, length - TP_SECRET_TAG);
        (void)within_record_cost(session, worker, length);
        break;
    case TP_ERR_AUTH:
        tampered(session);
        break;
    case TP_ERR_KEY_LIMIT:
        tp__session_close(session, TP_END_KEY_LIMIT, 0);
        break;
    default:
        tp__server_report(session->server, worker, error, 0, "record");
        tp__session_close(session, TP_END_OS, 0);
        break;
    }
}

/* Takes bytes into the record that is arriving; returns how many. */
static size_t continue_record(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    tp__player *player = tp__player_of(session);
    tp_packet *packet = player->partial;
    uint8_t *record = tp__packet_payload(packet);
    size_t length = tp_packet_size(packet);
    size_t missing = length - player->partial_filled;
    size_t taken = count < missing ? count : missing;
    memcpy(record + player->partial_filled, bytes, taken);
    player->partial_filled += (uint32_t)taken;
    if (taken == missing) {
        player->partial = NULL;
        open_record(session, worker, record, length, record);
        tp_packet_release(packet);
    }
    return taken;
}

/* The two length bytes are there: the record is opened or begun. Returns the bytes taken behind
 * them. */
static size_t begin_record(tp__session *session, tp__worker *worker, const uint8_t *header,
    const uint8_t *bytes, size_t count) {
    tp__player *player = tp__player_of(session);
    size_t length = tp_record_length(header);
    if (length == 0) {
        tampered(session); /* nobody who has the keys says so */
        return count;
    }
    if (count >= length) {
        uint8_t *plain = tp__wan_of(session)->workers[worker->index].plain;
        open_record(session, worker, bytes, length, plain);
        return length;
    }
    player->partial = tp__packet_kept(length);
    if (!player->partial) {
        tp__session_out_of_memory(session, worker);
        return count;
    }
    memcpy(tp__packet_payload(player->partial), bytes, count);
    player->partial_filled = (uint32_t)count;
    return count;
}

/* With one byte there before, or with no more than one now. */
static size_t continue_header(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    tp__player *player = tp__player_of(session);
    if (!player->has_half) {
        player->has_half = true;
        player->half = bytes[0];
        return 1;
    }
    const uint8_t header[TP_RECORD_HEADER] = {player->half, bytes[0]};
    player->has_half = false;
    return 1 + begin_record(session, worker, header, bytes + 1, count - 1);
}

void tp__records_take(
    tp__session *session, tp__worker *worker, const uint8_t *bytes, size_t count) {
    tp__player *player = tp__player_of(session);
    if (!within_byte_rate(session, worker, count)) {
        return;
    }
    while (count > 0 && tp__session_listens(session)) {
        size_t taken;
        if (player->partial) {
            taken = continue_record(session, worker, bytes, count);
        } else if (player->has_half || count < TP_RECORD_HEADER) {
            taken = continue_header(session, worker, bytes, count);
        } else {
            taken = TP_RECORD_HEADER + begin_record(session, worker, bytes,
                                           bytes + TP_RECORD_HEADER, count - TP_RECORD_HEADER);
        }
        bytes += taken;
        count -= taken;
    }
}

bool tp__records_permit(tp__session *session, tp__worker *worker) {
    const tp_wanserver_options *options = &tp__wan_of(session)->options;
    tp__player *player = tp__player_of(session);
    player->framed = options->message_rate != 0;
    if (options->message_rate == 0 ||
        take(&player->messages, worker, 1, options->message_rate, options->message_burst)) {
        return true;
    }
    end_for_rate(session);
    return false;
}
