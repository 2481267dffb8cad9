/*
 * Any bytes, in any pieces, through a session's real receive path, with sends and ends in between.
 * What the session delivers is compared with a second parser below that reads the same bytes in one
 * piece; everything it sends must be frames.
 *
 *     byte 0       the largest frame, and how the stream ends
 *     byte 1       n, 0..15
 *     n bytes      the sizes of the pieces, in turn; some values mean another event first
 *     the rest     the stream
 */
#include "fuzz_port.h"

/* ---- the server ------------------------------------------------------------------------------ */

static tp_server *server;
static fuzz_stream *const peer = &fuzz_port.streams[0];
static tp__session *session;
static tp_session_id id;
static unsigned joins, leaves;
static tp_end_reason reason;
static uint64_t messages, digest;

static uint64_t add(uint64_t sum, const uint8_t *bytes, size_t size) {
    sum = (sum ^ size) * UINT64_C(1099511628211);
    for (size_t i = 0; i < size; i++) {
        sum = (sum ^ bytes[i]) * UINT64_C(1099511628211);
    }
    return sum;
}

static void on_join(tp_server *at, tp_session_id joined) {
    REQUIRE(at == server && joined == id);
    joins++;
}

static void on_recv(tp_server *at, tp_session_id from, tp_packet *packet) {
    REQUIRE(at == server && from == id && joins == 1 && leaves == 0);
    messages++;
    digest = add(digest, tp_packet_bytes(packet), tp_packet_size(packet));
    if (tp_packet_size(packet) < 1000) {
        tp_server_send(server, id, packet);
    }
}

static void on_leave(tp_server *at, tp_session_id left, tp_end_reason why) {
    REQUIRE(at == server && left == id && joins == 1);
    leaves++;
    reason = why;
}

static void make_server(void) {
    tp_server_options options;
    tp_server_defaults(&options);
    options.workers = 1;
    options.max_sessions = 4;
    options.queue_bytes = 65536;
    options.queue_policy = TP_QUEUE_DROP;
    const tp_handlers handlers = {
        .size = sizeof handlers, .on_join = on_join, .on_leave = on_leave, .on_recv = on_recv};
    REQUIRE(tp_server_create(&options, &handlers, &server) == TP_OK);
    fuzz_attach_worker(server);
}

static void connect_session(void) {
    joins = leaves = 0;
    messages = digest = 0;
    reason = TP_END_NONE;
    session = fuzz_accept(server, 0);
    id = tp__session_id(session);
    tp__session_start(session, fuzz_worker);
    REQUIRE(joins == 1);
}

/* ---- the second parser ----------------------------------------------------------------------- */

typedef struct reading {
    uint64_t messages;
    uint64_t digest;
    tp_end_reason end; /* TP_END_NONE: the bytes end between two frames */
} reading;

static reading parse_in_one_piece(const uint8_t *bytes, size_t size, size_t limit) {
    reading all = {0};
    for (size_t at = 0; at < size;) {
        if (size - at < 4) {
            all.end = TP_END_TRUNCATED;
            return all;
        }
        size_t length = bytes[at] + bytes[at + 1] * 256u + bytes[at + 2] * 65536u;
        unsigned type = bytes[at + 3];
        bool small = (type != 1 && type != 2) || length <= 32;
        bool close_fits = type != 3 || (length >= 2 && length <= 66);
        if (length > limit || type > 5 || type == 4 || !small || !close_fits) {
            all.end = TP_END_PROTOCOL;
            return all;
        }
        at += 4;
        if (size - at < length) {
            all.end = TP_END_TRUNCATED;
            return all;
        }
        if (type == 0) {
            all.messages++;
            all.digest = add(all.digest, bytes + at, length);
        } else if (type == 3) {
            all.end = bytes[at] + bytes[at + 1] == 0 ? TP_END_PEER_CLOSED : TP_END_REFUSED;
            return all;
        }
        at += length;
    }
    return all;
}

static void check_sent(void) {
    const uint8_t *bytes = peer->out;
    for (size_t at = 0; at < peer->out_size;) {
        REQUIRE(peer->out_size - at >= TP_FRAME_HEADER);
        tp_frame_header header = tp_frame_read(bytes + at);
        REQUIRE(header.type == TP_FRAME_DATA || header.type == TP_FRAME_PING ||
                header.type == TP_FRAME_PONG || header.type == TP_FRAME_CLOSE);
        at += TP_FRAME_HEADER;
        REQUIRE(peer->out_size - at >= header.length);
        at += header.length;
        REQUIRE(header.type != TP_FRAME_CLOSE || at == peer->out_size); /* nothing follows it */
    }
}

/* ---- one input ------------------------------------------------------------------------------- */

/* Other meanings of a piece's size: an event at the session before the next bytes. */
enum { DISCONNECT = 255, DISCONNECT_AFTER = 254, NO_MEMORY = 253, NO_FLUSH = 252 };

static bool disturb(uint8_t what) {
    switch (what) {
    case DISCONNECT:
        tp_server_disconnect(server, id);
        return true;
    case DISCONNECT_AFTER:
        tp_server_disconnect_after_send(server, id, TP_CLOSE_REPLACED);
        return true;
    case NO_MEMORY:
        tp__memory_fail_after(1);
        return true;
    default:
        return false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!server) {
        make_server();
    }
    if (size < 2) {
        return 0;
    }
    static const size_t limits[] = {1, 16, 300, 5000, 70000, 1000000, TP_PACKET_MAX, 4};
    server->options.max_frame = limits[data[0] & 7];
    static const tp_err ends[] = {TP_ERR_CLOSED, TP_ERR_RESET, TP_ERR_OS, TP_ERR_CLOSED};
    tp_err end = ends[data[0] >> 3 & 3];
    size_t turns = data[1] & 15u;
    if (size < 2 + turns) {
        return 0;
    }
    const uint8_t *sizes = data + 2;
    const uint8_t *stream = sizes + turns;
    size_t left = size - 2 - turns;
    reading whole = parse_in_one_piece(stream, left, server->options.max_frame);

    connect_session();
    bool disturbed = false;
    for (size_t turn = 0; left > 0 && peer->receive; turn++) {
        uint8_t wish = turns ? sizes[turn % turns] : 0;
        size_t count = wish ? wish : left;
        disturbed |= disturb(wish);
        count = count < left ? count : left;
        if (peer->receive) {
            fuzz_deliver(peer, stream, count);
        }
        tp__memory_fail_after(-1);
        stream += count;
        left -= count;
        if (wish != NO_FLUSH) {
            fuzz_run();
        }
    }
    fuzz_end(peer, end);
    fuzz_run();
    REQUIRE(leaves == 1 || end == TP_ERR_CLOSED);
    REQUIRE(leaves == 1 && atomic_load(&server->slots_used) == 0);
    REQUIRE(atomic_load(&server->callers) == 0);
    check_sent();
    if (!disturbed) {
        REQUIRE(messages == whole.messages && digest == whole.digest);
        if (whole.end == TP_END_PROTOCOL || whole.end == TP_END_REFUSED ||
            (whole.end == TP_END_TRUNCATED && end == TP_ERR_CLOSED)) {
            REQUIRE(reason == whole.end);
        }
    }
    return 0;
}
