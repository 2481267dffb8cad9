/*
 * Sends inside a handler: what exceeds one system call is sent before the handler returns. So a
 * handler may send much, or wait for its queue to empty, without waiting for itself.
 */
#include "core/engine/queue_size.h"
#include "core/engine/server_state.h"
#include "server_fixture.h"

static server_fixture fixture;

static tp_session_id only_session(void) {
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    return atomic_load(&fixture.last_joined);
}

static tp_packet *numbered(uint32_t number) {
    tp_packet *packet = tp_packet_new(sizeof number);
    REQUIRE(packet != NULL);
    tp_packet_put_u32(packet, number);
    return packet;
}

/* Receives the numbers `from` to `to`, in this order. */
static void check_arrive(raw_peer *peer, uint32_t from, uint32_t to) {
    for (uint32_t number = from; number < to; number++) {
        uint8_t bytes[4] = {0};
        unsigned type;
        REQUIRE(raw_receive_frame(peer, &type, bytes, sizeof bytes) == sizeof bytes);
        uint32_t got = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                       (uint32_t)bytes[3] << 24;
        REQUIRE(got == number);
    }
}

static atomic_uint failed_sends;
static uint32_t to_send;

static void send_many(server_fixture *on, tp_session_id session, tp_packet *asked) {
    (void)asked;
    for (uint32_t i = 0; i < to_send; i++) {
        tp_packet *packet = numbered(i);
        atomic_fetch_add(&failed_sends, tp_server_send(on->server, session, packet) ? 0 : 1);
        tp_packet_release(packet);
    }
    if (atomic_load(&on->echo)) {
        fixture_block(on);
    }
}

static raw_peer *open_and_ask(uint32_t count, bool block) {
    to_send = count;
    atomic_store(&failed_sends, 0);
    fixture.on_message = send_many;
    atomic_store(&fixture.echo, block);
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    only_session();
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    return peer;
}

static void full_send_batches_arrive_while_the_handler_runs(void) {
    enum { SENDS = 3 };
    server_fixture_init(&fixture);
    raw_peer *peer = open_and_ask(SENDS * TP_PORT_MAX_BUFFERS + 1, true);
    FIXTURE_WAIT(atomic_load(&fixture.blocked));
    check_arrive(peer, 0, SENDS * TP_PORT_MAX_BUFFERS);
    atomic_store(&fixture.unblock, true);
    check_arrive(peer, SENDS * TP_PORT_MAX_BUFFERS, SENDS * TP_PORT_MAX_BUFFERS + 1);
    FIXTURE_WAIT(
        /* The sum of on_send's arguments. */
        atomic_load(&fixture.sends) == SENDS * TP_PORT_MAX_BUFFERS + 1);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

/* More than queue_packets by default: sent packets free their share of it. */
static void seventy_thousand_sends_in_one_handler_arrive(void) {
    server_fixture_init(&fixture);
    raw_peer *peer = open_and_ask(70000, false);
    check_arrive(peer, 0, 70000);
    CHECK_EQ(atomic_load(&failed_sends), 0);
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    FIXTURE_WAIT(atomic_load(&fixture.sends) == 70000);
    tp_session_info info = {.size = sizeof info};
    REQUIRE(tp_server_session_info(fixture.server, atomic_load(&fixture.last_joined), &info));
    CHECK_EQ(info.queued_packets, 0);
    CHECK_EQ(info.queued_bytes, 0);
    CHECK_EQ(info.sent_messages, 70000);
    CHECK_EQ(info.sent_bytes, 70000 * 8);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

#define LARGE 60000u

static void fill_packet(tp_packet **packet) {
    *packet = tp_packet_new(LARGE);
    REQUIRE(*packet != NULL);
    memset(tp_packet_put_space(*packet, LARGE), 0x5a, LARGE);
}

static bool session_exists(tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    return tp_server_session_info(fixture.server, session, &info);
}

/* Sends 64 MiB, more than any system buffers, so that the handler must wait for the peer to
 * read. */
static void send_and_wait_for_space(server_fixture *on, tp_session_id session, tp_packet *asked) {
    tp_packet *packet;
    (void)asked;
    fill_packet(&packet);
    uint64_t deadline = raw_deadline();
    for (uint32_t i = 0; i < to_send; i++) {
        while (!tp_server_send(on->server, session, packet)) {
            if (tp_clock_ms() > deadline || !session_exists(session)) {
                atomic_fetch_add(&failed_sends, 1);
                i = to_send;
                break;
            }
            tp_thread_yield();
        }
    }
    tp_packet_release(packet);
    fixture_block(on);
}

static void receive_large(raw_peer *peer, uint32_t count) {
    static uint8_t bytes[LARGE];
    for (uint32_t i = 0; i < count; i++) {
        unsigned type;
        REQUIRE(raw_receive_frame(peer, &type, bytes, sizeof bytes) == LARGE);
        REQUIRE(bytes[0] == 0x5a && bytes[LARGE - 1] == 0x5a);
    }
}

static raw_peer *open_waiting(void) {
    server_fixture_init(&fixture);
    fixture.options.queue_bytes = 4 * LARGE;
    fixture.options.queue_policy = TP_QUEUE_REFUSE;
    fixture.on_message = send_and_wait_for_space;
    to_send = (64u << 20) / LARGE;
    atomic_store(&failed_sends, 0);
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    only_session();
    return peer;
}

static void a_handler_can_wait_for_space_in_its_own_queue(void) {
    raw_peer *peer = open_waiting();
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    receive_large(peer, to_send - 4); /* the last ones may be sent after the handler has returned */
    FIXTURE_WAIT(atomic_load(&fixture.blocked));
    atomic_store(&fixture.unblock, true);
    receive_large(peer, 4);
    CHECK_EQ(atomic_load(&failed_sends), 0);
    FIXTURE_WAIT(atomic_load(&fixture.sends) == to_send);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

static uint64_t queued_of(tp_session_id id) {
    return tp__queue_size_now(&fixture.server->sessions[tp_session_slot(id)].queued);
}

/* Fills the queue until a send is in progress that the system does not complete. */
static uint32_t fill_from_outside(tp_session_id id) {
    tp_packet *packet;
    uint32_t sent = 0;
    fill_packet(&packet);
    uint64_t full_since = 0;
    while (full_since == 0 || tp_clock_ms() < full_since + 50) {
        bool taken = tp_server_send(fixture.server, id, packet);
        sent += taken;
        full_since = taken ? 0 : full_since != 0 ? full_since : tp_clock_ms();
    }
    tp_packet_release(packet);
    CHECK_GT(queued_of(id), 0);
    return sent;
}

static void a_send_in_progress_is_continued_inside_a_handler(void) {
    raw_peer *peer = open_waiting();
    if (!tp_port_binds(fixture.server->port)) {
        raw_close(peer, false);
        server_fixture_close(&fixture);
        SKIP("here the system owns the buffers of a send in progress");
    }
    uint32_t before = fill_from_outside(only_session());
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    receive_large(peer, before + to_send - 4);
    FIXTURE_WAIT(atomic_load(&fixture.blocked));
    atomic_store(&fixture.unblock, true);
    receive_large(peer, 4);
    CHECK_EQ(atomic_load(&failed_sends), 0);
    FIXTURE_WAIT(atomic_load(&fixture.sends) == before + to_send);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

/* A peer's reset is found inside the handler: the session ends once. */
static void a_reset_found_inside_a_handler_ends_the_session(void) {
    raw_peer *peer = open_waiting();
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    receive_large(peer, 8);
    raw_close(peer, true);
    FIXTURE_WAIT(atomic_load(&fixture.blocked));
    CHECK(!session_exists(atomic_load(&fixture.last_joined)));
    atomic_store(&fixture.unblock, true);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_PEER_RESET);
    server_fixture_close(&fixture);
}

CHECK_MAIN(CASE(full_send_batches_arrive_while_the_handler_runs),
    CASE(seventy_thousand_sends_in_one_handler_arrive),
    CASE(a_handler_can_wait_for_space_in_its_own_queue),
    CASE(a_send_in_progress_is_continued_inside_a_handler),
    CASE(a_reset_found_inside_a_handler_ends_the_session))
