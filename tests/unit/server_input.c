/* What the server makes of bytes: whole, in pieces, wrong, cut off; and of silence. */
#include "server_stage.h"

static server_stage stage;

static void open_echo(void) {
    server_stage_init(&stage);
    stage.options.max_frame = 70000;
    stage.options.drain_timeout_ms = 600000; /* peers here close: none is cut for being slow */
    server_stage_open(&stage);
}

static void fill(uint8_t *bytes, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(seed + i * 7 + (i >> 8));
    }
}

static uint8_t out[80000];
static uint8_t in[80000];

static void takes_frames_of_every_size(void) {
    open_echo();
    raw_peer *peer = stage_connect_peer(&stage);
    static const size_t sizes[] = {
        0, 1, 3, 4, 5, 64, 1000, 16384, 16385, 65531, 65532, 65536, 70000};
    unsigned type;
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        fill(out, sizes[i], i);
        CHECK(raw_send_frame(peer, TP_FRAME_DATA, out, sizes[i]));
        CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), (long)sizes[i]);
        CHECK_MEM(in, out, sizes[i]);
    }
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* One byte at a time: header and payload assemble across deliveries. */
static void takes_bytes_one_by_one(void) {
    open_echo();
    raw_peer *peer = stage_connect_peer(&stage);
    uint8_t stream[64];
    size_t length = 0;
    for (uint32_t size = 0; size < 6; size++) {
        tp_frame_write(stream + length, TP_FRAME_DATA, size);
        fill(stream + length + TP_FRAME_HEADER, size, size);
        length += TP_FRAME_HEADER + size;
    }
    for (size_t i = 0; i < length; i++) {
        CHECK(raw_send(peer, stream + i, 1));
    }
    CHECK(raw_receive(peer, in, length));
    CHECK_MEM(in, stream, length);
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* Two frames, split in two at every point. */
static void takes_frames_split_anywhere(void) {
    open_echo();
    uint8_t stream[2 * (TP_FRAME_HEADER + 9)];
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *frame = stream + i * (TP_FRAME_HEADER + 9);
        tp_frame_write(frame, TP_FRAME_DATA, 9);
        fill(frame + TP_FRAME_HEADER, 9, i);
    }
    raw_peer *peer = stage_connect_peer(&stage);
    for (size_t split = 0; split <= sizeof stream; split++) {
        CHECK(raw_send(peer, stream, split));
        STAGE_WAIT(atomic_load(&stage.messages) >= 2 * split / sizeof stream);
        CHECK(raw_send(peer, stream + split, sizeof stream - split));
        CHECK(raw_receive(peer, in, sizeof stream));
        CHECK_MEM(in, stream, sizeof stream);
    }
    raw_close(peer, false);
    server_stage_close(&stage);
}

static void answers_ping_and_ignores_pad(void) {
    open_echo();
    raw_peer *peer = stage_connect_peer(&stage);
    unsigned type;
    CHECK(raw_send_frame(peer, TP_FRAME_PAD, out, 5000));
    CHECK(raw_send_frame(peer, TP_FRAME_PONG, "x", 1));
    CHECK(raw_send_frame(peer, TP_FRAME_PING, "0123456789abcdef0123456789abcdef", 32));
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 32);
    CHECK_EQ(type, TP_FRAME_PONG);
    CHECK_MEM(in, "0123456789abcdef0123456789abcdef", 32);
    CHECK_EQ(atomic_load(&stage.messages), 0);
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* Sends something that is no frame for this server and expects CLOSE protocol and the end. */
static void check_refused(const void *bytes, size_t count) {
    unsigned before = atomic_load(&stage.messages);
    unsigned left = atomic_load(&stage.leaves);
    raw_peer *peer = stage_connect_peer(&stage);
    unsigned type;
    CHECK(raw_send(peer, bytes, count));
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(tp_frame_close_reason(in), TP_CLOSE_PROTOCOL);
    raw_finish(peer); /* whoever is told hangs up */
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    STAGE_WAIT(atomic_load(&stage.leaves) == left + 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_PROTOCOL);
    CHECK_EQ(atomic_load(&stage.messages), before);
}

static void refuses_what_is_no_frame(void) {
    open_echo();
    uint8_t header[TP_FRAME_HEADER + 100] = {0};
    tp_frame_write(header, TP_FRAME_DATA, 70001); /* one over the limit */
    check_refused(header, TP_FRAME_HEADER);
    tp_frame_write(header, TP_FRAME_DATA, TP_FRAME_MAX_PAYLOAD);
    check_refused(header, TP_FRAME_HEADER);
    for (unsigned type = 4; type < 256; type += type == 4 ? 2 : 50) { /* READY is the WAN's */
        tp_frame_write(header, (tp_frame_type)type, 0);
        check_refused(header, TP_FRAME_HEADER);
    }
    tp_frame_write(header, TP_FRAME_PING, 33);
    check_refused(header, TP_FRAME_HEADER);
    tp_frame_write(header, TP_FRAME_CLOSE, 1);
    check_refused(header, TP_FRAME_HEADER);
    tp_frame_write(header, TP_FRAME_CLOSE, 67);
    check_refused(header, sizeof header); /* with more behind it, which nobody reads */
    server_stage_close(&stage);
}

static void reports_a_truncated_stream(void) {
    open_echo();
    static const size_t cuts[] = {1, 3, 4, 10};
    for (unsigned i = 0; i < 4; i++) {
        uint8_t frame[TP_FRAME_HEADER + 20] = {0};
        tp_frame_write(frame, TP_FRAME_DATA, 20);
        raw_peer *peer = stage_connect_peer(&stage);
        CHECK(raw_send(peer, frame, cuts[i]));
        raw_finish(peer);
        raw_end(peer);
        raw_close(peer, false);
        STAGE_WAIT(atomic_load(&stage.leaves) == i + 1);
        CHECK_EQ(atomic_load(&stage.last_reason), TP_END_TRUNCATED);
    }
    CHECK_EQ(atomic_load(&stage.messages), 0);
    server_stage_close(&stage);
}

static void reports_a_reset(void) {
    open_echo();
    raw_peer *peer = stage_connect_peer(&stage);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "x", 1));
    CHECK(raw_receive(peer, in, TP_FRAME_HEADER + 1));
    CHECK(raw_send(peer, "\x10", 1));
    raw_close(peer, true);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    int reason = atomic_load(&stage.last_reason);
    CHECK(reason == TP_END_PEER_RESET || reason == TP_END_TRUNCATED);
    tp_session_end end = {.size = sizeof end};
    CHECK_EQ(tp_server_read_ledger(stage.server, &end, 1), 1);
    CHECK_EQ(end.received_messages, 1);
    CHECK_EQ(end.reason, reason);
    server_stage_close(&stage);
}

static void understands_the_peers_close(void) {
    open_echo();
    static const struct {
        uint8_t payload[6];
        size_t size;
        tp_end_reason reason;
    } closes[] = {{{0, 0}, 2, TP_END_PEER_CLOSED}, {{2, 0, 'b', 'y', 'e', '!'}, 6, TP_END_REFUSED}};
    for (unsigned i = 0; i < 2; i++) {
        raw_peer *peer = stage_connect_peer(&stage);
        CHECK(raw_send_frame(peer, TP_FRAME_CLOSE, closes[i].payload, closes[i].size));
        CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
        raw_close(peer, false);
        STAGE_WAIT(atomic_load(&stage.leaves) == i + 1);
        CHECK_EQ(atomic_load(&stage.last_reason), closes[i].reason);
    }
    tp_session_end end = {.size = sizeof end};
    CHECK_EQ(tp_server_read_ledger(stage.server, &end, 1), 1);
    CHECK_EQ(end.close_code, 2);
    server_stage_close(&stage);
}

/* The peer ends its stream at once behind its question: it still gets the answer. */
static void answers_who_has_finished(void) {
    open_echo();
    raw_peer *peer = stage_connect_peer(&stage);
    fill(out, 60000, 1);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, out, 60000));
    raw_finish(peer);
    unsigned type;
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 60000);
    CHECK_MEM(in, out, 60000);
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_PEER_CLOSED);
    server_stage_close(&stage);
}

#define MUCH_PACKETS 400u
#define MUCH_SIZE    60000u

static void queue_much_and_end(server_stage *s, tp_session_id session) {
    tp_packet *packet = tp_packet_new(MUCH_SIZE);
    REQUIRE(packet != NULL);
    memset(tp_packet_put_space(packet, MUCH_SIZE), 0x77, MUCH_SIZE);
    for (unsigned i = 0; i < MUCH_PACKETS; i++) {
        CHECK(tp_server_send(s->server, session, packet));
    }
    tp_packet_release(packet);
}

/*
 * The server ends the session in the middle of one of the peer's frames and reads on without taking
 * anything. The peer, too, ends in order: what is queued for it must still come.
 */
static void a_frame_begun_before_the_end_does_not_cut_it(void) {
    server_stage_init(&stage);
    stage.on_joined = queue_much_and_end;
    stage.options.queue_bytes = (size_t)64 << 20;
    stage.options.drain_timeout_ms = 600000;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    uint8_t frame[TP_FRAME_HEADER + 9] = {0};
    tp_frame_write(frame, TP_FRAME_DATA, 9);
    CHECK(raw_send(peer, frame, 6));
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    tp_session_id id = atomic_load(&stage.last_joined);
    tp_session_info info = {.size = sizeof info};
    STAGE_WAIT(tp_server_session_info(stage.server, id, &info) && info.received_bytes == 6);
    CHECK(tp_server_disconnect_after_send(stage.server, id, TP_CLOSE_REPLACED));
    CHECK(raw_send(peer, frame + 6, sizeof frame - 6));
    raw_finish(peer);
    STAGE_WAIT(
        !tp_server_session_info(stage.server, id, &info) || info.received_bytes == sizeof frame);
    unsigned type;
    for (unsigned i = 0; i < MUCH_PACKETS; i++) {
        REQUIRE(raw_receive_frame(peer, &type, in, sizeof in) == MUCH_SIZE);
    }
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_KICKED);
    CHECK_EQ(atomic_load(&stage.messages), 0);
    server_stage_close(&stage);
}

#define PING_MS  150u
#define IDLE_MS  900u
#define ATTEMPTS 20u

/* PING, or CLOSE for having been silent. */
static unsigned ping_or_close(raw_peer *peer) {
    unsigned type = 99;
    long size = raw_receive_frame(peer, &type, in, sizeof in);
    CHECK(type == TP_FRAME_PING ? size == 0 : type == TP_FRAME_CLOSE && size == 2);
    CHECK(type == TP_FRAME_PING || tp_frame_close_reason(in) == TP_CLOSE_IDLE);
    return type;
}

/*
 * A peer that answers one PING and no other. False: this machine stalled for so long that the peer
 * was silent before it could answer. The times are those before which nothing may happen: counted
 * from before the session is there, and from the PONG's PING, which came before what was heard
 * last.
 */
static bool is_pinged_and_ended(void) {
    unsigned left = atomic_load(&stage.leaves);
    uint64_t began = tp_clock_ms();
    raw_peer *peer = stage_connect_peer(&stage);
    CHECK_EQ(ping_or_close(peer), TP_FRAME_PING); /* before any end, whatever has stalled */
    CHECK_GE(tp_clock_ms() - began, PING_MS);
    (void)raw_send_frame(peer, TP_FRAME_PONG, NULL, 0); /* heard: the time starts anew */
    bool answered = ping_or_close(peer) == TP_FRAME_PING;
    CHECK_GE(tp_clock_ms() - began, answered ? 2 * PING_MS : IDLE_MS);
    if (answered) {
        CHECK_EQ(ping_or_close(peer), TP_FRAME_CLOSE);
        CHECK_GE(tp_clock_ms() - began, PING_MS + IDLE_MS);
    }
    STAGE_WAIT(
        atomic_load(&stage.leaves) == left + 1); /* it is cut though the peer does not close */
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_IDLE);
    raw_close(peer, false);
    return answered;
}

static void pings_the_silent_and_ends_them(void) {
    server_stage_init(&stage);
    stage.options.ping_interval_ms = PING_MS;
    stage.options.idle_timeout_ms = IDLE_MS;
    stage.options.drain_timeout_ms = 100;
    server_stage_open(&stage);
    bool done = false;
    for (unsigned i = 0; i < ATTEMPTS && !done; i++) {
        done = is_pinged_and_ended();
    }
    CHECK(done);
    server_stage_close(&stage);
}

CHECK_MAIN(CASE(takes_frames_of_every_size), CASE(takes_bytes_one_by_one),
    CASE(takes_frames_split_anywhere), CASE(answers_ping_and_ignores_pad),
    CASE(refuses_what_is_no_frame), CASE(reports_a_truncated_stream), CASE(reports_a_reset),
    CASE(understands_the_peers_close), CASE(answers_who_has_finished),
    CASE(a_frame_begun_before_the_end_does_not_cut_it), CASE(pings_the_silent_and_ends_them))
