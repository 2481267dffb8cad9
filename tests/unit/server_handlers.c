/*
 * What is sent from inside a handler leaves before the handler returns, once it is more than one
 * send takes: a handler that sends much, or waits for room, does not wait for itself.
 */
#include "core/engine/queue_size.h"
#include "core/engine/server_state.h"
#include "server_stage.h"

static server_stage stage;

static tp_session_id only_session(void) {
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    return atomic_load(&stage.last_joined);
}

static tp_packet *numbered(uint32_t number) {
    tp_packet *packet = tp_packet_new(sizeof number);
    REQUIRE(packet != NULL);
    tp_packet_put_u32(packet, number);
    return packet;
}

/* The numbers from `from` on, in order. */
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

static void send_many(server_stage *on, tp_session_id session, tp_packet *asked) {
    (void)asked;
    for (uint32_t i = 0; i < to_send; i++) {
        tp_packet *packet = numbered(i);
        atomic_fetch_add(&failed_sends, tp_server_send(on->server, session, packet) ? 0 : 1);
        tp_packet_release(packet);
    }
    if (atomic_load(&on->echo)) {
        stage_block(on);
    }
}

static raw_peer *open_and_ask(uint32_t count, bool block) {
    to_send = count;
    atomic_store(&failed_sends, 0);
    stage.on_message = send_many;
    atomic_store(&stage.echo, block);
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    only_session();
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    return peer;
}

static void what_one_send_takes_arrives_while_the_handler_runs(void) {
    enum { SENDS = 3 };
    server_stage_init(&stage);
    raw_peer *peer = open_and_ask(SENDS * TP_PORT_MAX_BUFFERS + 1, true);
    STAGE_WAIT(atomic_load(&stage.blocked));
    check_arrive(peer, 0, SENDS * TP_PORT_MAX_BUFFERS);
    atomic_store(&stage.let_go, true);
    check_arrive(peer, SENDS * TP_PORT_MAX_BUFFERS, SENDS * TP_PORT_MAX_BUFFERS + 1);
    STAGE_WAIT(atomic_load(&stage.sends) == SENDS * TP_PORT_MAX_BUFFERS + 1); /* on_send's sum */
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* More than queue_packets by default: what has left makes room. */
static void seventy_thousand_sends_in_one_handler_arrive(void) {
    server_stage_init(&stage);
    raw_peer *peer = open_and_ask(70000, false);
    check_arrive(peer, 0, 70000);
    CHECK_EQ(atomic_load(&failed_sends), 0);
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    STAGE_WAIT(atomic_load(&stage.sends) == 70000);
    tp_session_info info = {.size = sizeof info};
    REQUIRE(tp_server_session_info(stage.server, atomic_load(&stage.last_joined), &info));
    CHECK_EQ(info.queued_packets, 0);
    CHECK_EQ(info.queued_bytes, 0);
    CHECK_EQ(info.sent_messages, 70000);
    CHECK_EQ(info.sent_bytes, 70000 * 8);
    raw_close(peer, false);
    server_stage_close(&stage);
}

#define LARGE 60000u

static void fill_packet(tp_packet **packet) {
    *packet = tp_packet_new(LARGE);
    REQUIRE(*packet != NULL);
    memset(tp_packet_put_space(*packet, LARGE), 0x5a, LARGE);
}

static bool is_there(tp_session_id session) {
    tp_session_info info = {.size = sizeof info};
    return tp_server_session_info(stage.server, session, &info);
}

/* Until 64 MiB are sent: more than any system buffers, so this waits for the peer to read. */
static void send_and_wait_for_room(server_stage *on, tp_session_id session, tp_packet *asked) {
    tp_packet *packet;
    (void)asked;
    fill_packet(&packet);
    uint64_t deadline = raw_deadline();
    for (uint32_t i = 0; i < to_send; i++) {
        while (!tp_server_send(on->server, session, packet)) {
            if (tp_clock_ms() > deadline || !is_there(session)) {
                atomic_fetch_add(&failed_sends, 1);
                i = to_send;
                break;
            }
            tp_thread_yield();
        }
    }
    tp_packet_release(packet);
    stage_block(on);
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
    server_stage_init(&stage);
    stage.options.queue_bytes = 4 * LARGE;
    stage.options.queue_policy = TP_QUEUE_REFUSE;
    stage.on_message = send_and_wait_for_room;
    to_send = (64u << 20) / LARGE;
    atomic_store(&failed_sends, 0);
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    only_session();
    return peer;
}

static void a_handler_that_waits_for_room_waits_for_the_peer(void) {
    raw_peer *peer = open_waiting();
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    receive_large(peer, to_send - 4); /* the last ones may leave when the handler has returned */
    STAGE_WAIT(atomic_load(&stage.blocked));
    atomic_store(&stage.let_go, true);
    receive_large(peer, 4);
    CHECK_EQ(atomic_load(&failed_sends), 0);
    STAGE_WAIT(atomic_load(&stage.sends) == to_send);
    raw_close(peer, false);
    server_stage_close(&stage);
}

static uint64_t queued_of(tp_session_id id) {
    return tp__queue_size_now(&stage.server->sessions[tp_session_slot(id)].queued);
}

/* Fills the queue until a send is in progress that the system does not take to its end. */
static uint32_t fill_from_outside(tp_session_id id) {
    tp_packet *packet;
    uint32_t sent = 0;
    fill_packet(&packet);
    uint64_t full_since = 0;
    while (full_since == 0 || tp_clock_ms() < full_since + 50) {
        bool taken = tp_server_send(stage.server, id, packet);
        sent += taken;
        full_since = taken ? 0 : full_since != 0 ? full_since : tp_clock_ms();
    }
    tp_packet_release(packet);
    CHECK_GT(queued_of(id), 0);
    return sent;
}

static void a_send_that_is_in_progress_goes_on_from_inside_a_handler(void) {
    raw_peer *peer = open_waiting();
    if (!tp_port_binds(stage.server->port)) {
        raw_close(peer, false);
        server_stage_close(&stage);
        SKIP("the system has the buffers of a send in progress");
    }
    uint32_t before = fill_from_outside(only_session());
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    receive_large(peer, before + to_send - 4);
    STAGE_WAIT(atomic_load(&stage.blocked));
    atomic_store(&stage.let_go, true);
    receive_large(peer, 4);
    CHECK_EQ(atomic_load(&failed_sends), 0);
    STAGE_WAIT(atomic_load(&stage.sends) == before + to_send);
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* A peer that has gone is found inside the handler: the session ends, and once. */
static void a_peer_that_is_gone_ends_the_session(void) {
    raw_peer *peer = open_waiting();
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "go", 2));
    receive_large(peer, 8);
    raw_close(peer, true);
    STAGE_WAIT(atomic_load(&stage.blocked));
    CHECK(!is_there(atomic_load(&stage.last_joined)));
    atomic_store(&stage.let_go, true);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_PEER_RESET);
    server_stage_close(&stage);
}

CHECK_MAIN(CASE(what_one_send_takes_arrives_while_the_handler_runs),
    CASE(seventy_thousand_sends_in_one_handler_arrive),
    CASE(a_handler_that_waits_for_room_waits_for_the_peer),
    CASE(a_send_that_is_in_progress_goes_on_from_inside_a_handler),
    CASE(a_peer_that_is_gone_ends_the_session))
