/*
 * Input of the server: frames of every size, in pieces, malformed and truncated; the peer's end in
 * all its forms; and silence.
 */
#include "server_fixture.h"

static server_fixture fixture;

static void open_echo(void) {
    server_fixture_init(&fixture);
    fixture.options.max_frame = 70000;
    /* Peers here close by themselves, so none may be cut for being slow. */
    fixture.options.drain_timeout_ms = 600000;
    server_fixture_open(&fixture);
}

static void fill(uint8_t *bytes, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(seed + i * 7 + (i >> 8));
    }
}

static uint8_t out[80000];
static uint8_t in[80000];

static void frames_of_every_size_are_received(void) {
    open_echo();
    raw_peer *peer = fixture_connect_peer(&fixture);
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
    server_fixture_close(&fixture);
}

/* One byte at a time: header and payload are assembled across deliveries. */
static void frames_may_come_byte_by_byte(void) {
    open_echo();
    raw_peer *peer = fixture_connect_peer(&fixture);
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
    server_fixture_close(&fixture);
}

/* Two frames, split in two at every position. */
static void frames_may_be_split_anywhere(void) {
    open_echo();
    uint8_t stream[2 * (TP_FRAME_HEADER + 9)];
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *frame = stream + i * (TP_FRAME_HEADER + 9);
        tp_frame_write(frame, TP_FRAME_DATA, 9);
        fill(frame + TP_FRAME_HEADER, 9, i);
    }
    raw_peer *peer = fixture_connect_peer(&fixture);
    for (size_t split = 0; split <= sizeof stream; split++) {
        CHECK(raw_send(peer, stream, split));
        FIXTURE_WAIT(atomic_load(&fixture.messages) >= 2 * split / sizeof stream);
        CHECK(raw_send(peer, stream + split, sizeof stream - split));
        CHECK(raw_receive(peer, in, sizeof stream));
        CHECK_MEM(in, stream, sizeof stream);
    }
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

static void ping_is_answered_and_pad_ignored(void) {
    open_echo();
    raw_peer *peer = fixture_connect_peer(&fixture);
    unsigned type;
    CHECK(raw_send_frame(peer, TP_FRAME_PAD, out, 5000));
    CHECK(raw_send_frame(peer, TP_FRAME_PONG, "x", 1));
    CHECK(raw_send_frame(peer, TP_FRAME_PING, "0123456789abcdef0123456789abcdef", 32));
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 32);
    CHECK_EQ(type, TP_FRAME_PONG);
    CHECK_MEM(in, "0123456789abcdef0123456789abcdef", 32);
    CHECK_EQ(atomic_load(&fixture.messages), 0);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

/* Sends bytes that are no frame for this server; expects CLOSE protocol and the end. */
static void check_refused(const void *bytes, size_t count) {
    unsigned before = atomic_load(&fixture.messages);
    unsigned left = atomic_load(&fixture.leaves);
    raw_peer *peer = fixture_connect_peer(&fixture);
    unsigned type;
    CHECK(raw_send(peer, bytes, count));
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(tp_frame_close_reason(in), TP_CLOSE_PROTOCOL);
    raw_finish(peer); /* the peer ends its stream after CLOSE */
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == left + 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_PROTOCOL);
    CHECK_EQ(atomic_load(&fixture.messages), before);
}

static void malformed_frames_end_the_session(void) {
    open_echo();
    uint8_t header[TP_FRAME_HEADER + 100] = {0};
    tp_frame_write(header, TP_FRAME_DATA, 70001); /* one above the limit */
    check_refused(header, TP_FRAME_HEADER);
    tp_frame_write(header, TP_FRAME_DATA, TP_FRAME_MAX_PAYLOAD);
    check_refused(header, TP_FRAME_HEADER);
    for (unsigned type = 4; type < 256; type += type == 4 ? 2 : 50) { /* READY belongs to the WAN */
        tp_frame_write(header, (tp_frame_type)type, 0);
        check_refused(header, TP_FRAME_HEADER);
    }
    tp_frame_write(header, TP_FRAME_PING, 33);
    check_refused(header, TP_FRAME_HEADER);
    tp_frame_write(header, TP_FRAME_CLOSE, 1);
    check_refused(header, TP_FRAME_HEADER);
    tp_frame_write(header, TP_FRAME_CLOSE, 67);
    check_refused(header, sizeof header); /* with more bytes behind it, which are not read */
    server_fixture_close(&fixture);
}

static void a_truncated_stream_has_its_end_reason(void) {
    open_echo();
    static const size_t cuts[] = {1, 3, 4, 10};
    for (unsigned i = 0; i < 4; i++) {
        uint8_t frame[TP_FRAME_HEADER + 20] = {0};
        tp_frame_write(frame, TP_FRAME_DATA, 20);
        raw_peer *peer = fixture_connect_peer(&fixture);
        CHECK(raw_send(peer, frame, cuts[i]));
        raw_finish(peer);
        raw_end(peer);
        raw_close(peer, false);
        FIXTURE_WAIT(atomic_load(&fixture.leaves) == i + 1);
        CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_TRUNCATED);
    }
    CHECK_EQ(atomic_load(&fixture.messages), 0);
    server_fixture_close(&fixture);
}

static void a_reset_has_its_end_reason(void) {
    open_echo();
    raw_peer *peer = fixture_connect_peer(&fixture);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "x", 1));
    CHECK(raw_receive(peer, in, TP_FRAME_HEADER + 1));
    CHECK(raw_send(peer, "\x10", 1));
    raw_close(peer, true);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    int reason = atomic_load(&fixture.last_reason);
    CHECK(reason == TP_END_PEER_RESET || reason == TP_END_TRUNCATED);
    tp_session_end end = {.size = sizeof end};
    CHECK_EQ(tp_server_read_ledger(fixture.server, &end, 1), 1);
    CHECK_EQ(end.received_messages, 1);
    CHECK_EQ(end.reason, reason);
    server_fixture_close(&fixture);
}

static void the_peers_close_has_its_end_reason(void) {
    open_echo();
    static const struct {
        uint8_t payload[6];
        size_t size;
        tp_end_reason reason;
    } closes[] = {{{0, 0}, 2, TP_END_PEER_CLOSED}, {{2, 0, 'b', 'y', 'e', '!'}, 6, TP_END_REFUSED}};
    for (unsigned i = 0; i < 2; i++) {
        raw_peer *peer = fixture_connect_peer(&fixture);
        CHECK(raw_send_frame(peer, TP_FRAME_CLOSE, closes[i].payload, closes[i].size));
        CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
        raw_close(peer, false);
        FIXTURE_WAIT(atomic_load(&fixture.leaves) == i + 1);
        CHECK_EQ(atomic_load(&fixture.last_reason), closes[i].reason);
    }
    tp_session_end end = {.size = sizeof end};
    CHECK_EQ(tp_server_read_ledger(fixture.server, &end, 1), 1);
    CHECK_EQ(end.close_code, 2);
    server_fixture_close(&fixture);
}

/* A peer that ends its stream directly behind its message still gets the answer. */
static void a_peer_that_ended_its_stream_gets_its_answer(void) {
    open_echo();
    raw_peer *peer = fixture_connect_peer(&fixture);
    fill(out, 60000, 1);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, out, 60000));
    raw_finish(peer);
    unsigned type;
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 60000);
    CHECK_MEM(in, out, 60000);
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_PEER_CLOSED);
    server_fixture_close(&fixture);
}

#define MUCH_PACKETS 400u
#define MUCH_SIZE    60000u

static void queue_much_and_end(server_fixture *s, tp_session_id session) {
    tp_packet *packet = tp_packet_new(MUCH_SIZE);
    REQUIRE(packet != NULL);
    memset(tp_packet_put_space(packet, MUCH_SIZE), 0x77, MUCH_SIZE);
    for (unsigned i = 0; i < MUCH_PACKETS; i++) {
        CHECK(tp_server_send(s->server, session, packet));
    }
    tp_packet_release(packet);
}

/*
 * The server ends the session in the middle of a frame of the peer, and reads on without
 * delivering. The peer ends its stream in order, too: what is queued for it must still arrive.
 */
static void an_unfinished_frame_does_not_cut_the_drain(void) {
    server_fixture_init(&fixture);
    fixture.on_joined = queue_much_and_end;
    fixture.options.queue_bytes = (size_t)64 << 20;
    fixture.options.drain_timeout_ms = 600000;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    uint8_t frame[TP_FRAME_HEADER + 9] = {0};
    tp_frame_write(frame, TP_FRAME_DATA, 9);
    CHECK(raw_send(peer, frame, 6));
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    tp_session_id id = atomic_load(&fixture.last_joined);
    tp_session_info info = {.size = sizeof info};
    FIXTURE_WAIT(tp_server_session_info(fixture.server, id, &info) && info.received_bytes == 6);
    CHECK(tp_server_disconnect_after_send(fixture.server, id, TP_CLOSE_REPLACED));
    CHECK(raw_send(peer, frame + 6, sizeof frame - 6));
    raw_finish(peer);
    FIXTURE_WAIT(
        !tp_server_session_info(fixture.server, id, &info) || info.received_bytes == sizeof frame);
    unsigned type;
    for (unsigned i = 0; i < MUCH_PACKETS; i++) {
        REQUIRE(raw_receive_frame(peer, &type, in, sizeof in) == MUCH_SIZE);
    }
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_KICKED);
    CHECK_EQ(atomic_load(&fixture.messages), 0);
    server_fixture_close(&fixture);
}

#define PING_MS  150u
#define IDLE_MS  900u
#define ATTEMPTS 20u

/* Receives PING, or CLOSE for idleness. */
static unsigned ping_or_close(raw_peer *peer) {
    unsigned type = 99;
    long size = raw_receive_frame(peer, &type, in, sizeof in);
    CHECK(type == TP_FRAME_PING ? size == 0 : type == TP_FRAME_CLOSE && size == 2);
    CHECK(type == TP_FRAME_PING || tp_frame_close_reason(in) == TP_CLOSE_IDLE);
    return type;
}

/*
 * One peer that answers the first PING only. False: the machine stalled so long that the peer was
 * idle before it could answer.
 *
 * All times checked are minima: counted from before the session exists, and from the PING that the
 * PONG answers, which came before the last bytes received.
 */
static bool is_pinged_and_ended(void) {
    unsigned left = atomic_load(&fixture.leaves);
    uint64_t began = tp_clock_ms();
    raw_peer *peer = fixture_connect_peer(&fixture);
    /* Before the end in any case, whatever has stalled. */
    CHECK_EQ(ping_or_close(peer), TP_FRAME_PING);
    CHECK_GE(tp_clock_ms() - began, PING_MS);
    (void)raw_send_frame(peer, TP_FRAME_PONG, NULL, 0); /* received: the time starts over */
    bool answered = ping_or_close(peer) == TP_FRAME_PING;
    CHECK_GE(tp_clock_ms() - began, answered ? 2 * PING_MS : IDLE_MS);
    if (answered) {
        CHECK_EQ(ping_or_close(peer), TP_FRAME_CLOSE);
        CHECK_GE(tp_clock_ms() - began, PING_MS + IDLE_MS);
    }
    FIXTURE_WAIT(
        atomic_load(&fixture.leaves) == left + 1); /* ended although the peer does not close */
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_IDLE);
    raw_close(peer, false);
    return answered;
}

static void a_silent_peer_gets_a_ping_and_is_ended(void) {
    server_fixture_init(&fixture);
    fixture.options.ping_interval_ms = PING_MS;
    fixture.options.idle_timeout_ms = IDLE_MS;
    fixture.options.drain_timeout_ms = 100;
    server_fixture_open(&fixture);
    bool done = false;
    for (unsigned i = 0; i < ATTEMPTS && !done; i++) {
        done = is_pinged_and_ended();
    }
    CHECK(done);
    server_fixture_close(&fixture);
}

CHECK_MAIN(CASE(frames_of_every_size_are_received), CASE(frames_may_come_byte_by_byte),
    CASE(frames_may_be_split_anywhere), CASE(ping_is_answered_and_pad_ignored),
    CASE(malformed_frames_end_the_session), CASE(a_truncated_stream_has_its_end_reason),
    CASE(a_reset_has_its_end_reason), CASE(the_peers_close_has_its_end_reason),
    CASE(a_peer_that_ended_its_stream_gets_its_answer),
    CASE(an_unfinished_frame_does_not_cut_the_drain), CASE(a_silent_peer_gets_a_ping_and_is_ended))
