/*
 * Refused connections: what hub and client log when a peer does not get on the bus, and that a
 * refused or ending peer takes no slot.
 */
#include "bus_fixture.h"
#include "log_catch.h"
#include "proto/frame.h"
#include "raw_peer.h"

static tp__hub *hub;

static void open_with(const tp__hub_options *options) {
    fixture_open();
    log_catch_open();
    hub = hub_open(options);
}

static void close_all(void) {
    hub_close(hub);
    log_catch_close();
}

static bool is_logged(const char *level, const char *a, const char *b) {
    return log_caught(level, a, b) > 0;
}

static void a_refused_hello_is_logged(void) {
    tp__hub_options options;
    hub_options(&options);
    open_with(&options);
    party a, b;
    party_join(&a, hub, "costarring", "a");
    party_init(&b, hub, "liquid", "b"); /* another name with the same hash */
    party_start(&b);
    AWAIT(is_logged("warning", "bus: refused 127.0.0.1:", "name-collision"));
    AWAIT(is_logged("error", "lanclient liquid: refused by the hub: ", "name-collision"));
    CHECK_EQ(log_caught(NULL, "the connection was refused", NULL), 0);
    tp__hub_stats stats = hub_stats(hub);
    CHECK_GE(stats.refused_for[TP_BUS_NAME_COLLISION], 1);
    CHECK_EQ(stats.refused, stats.refused_for[TP_BUS_NAME_COLLISION]);
    party_leave(&b);
    party_leave(&a);
    close_all();
}

static raw_peer *connect_raw(void) {
    tp_address address = tp_server_address(hub->server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    return peer;
}

static void a_first_message_that_is_no_hello_is_logged(void) {
    static const uint8_t zeros[TP_BUS_HEADER];
    tp__hub_options options;
    hub_options(&options);
    open_with(&options);
    raw_peer *peer = connect_raw();
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, zeros, sizeof zeros));
    AWAIT(is_logged(
        "warning", "bus: protocol error from 127.0.0.1:", "first message is not a HELLO"));
    raw_peer *other = connect_raw(); /* a second connection, because its log line is another one */
    CHECK(raw_send_frame(other, TP_FRAME_DATA, zeros, 3));
    AWAIT(is_logged(
        "warning", "bus: protocol error from 127.0.0.1:", "message shorter than its header"));
    raw_close(peer, false);
    raw_close(other, false);
    close_all();
}

static void a_peer_that_sends_no_hello_is_logged(void) {
    tp__hub_options options;
    hub_options(&options);
    options.hello_timeout_ms = 100;
    open_with(&options);
    raw_peer *peer = connect_raw();
    AWAIT(is_logged("warning", "bus: refused 127.0.0.1:", "no HELLO within 100 ms"));
    CHECK_EQ(hub_stats(hub).late, 1);
    raw_close(peer, false);
    close_all();
}

/* A peer that joins the bus, is then disconnected for a malformed message, and does not close its
 * stream. */
static raw_peer *join_and_be_ended(unsigned number) {
    uint8_t bytes[256];
    char instance[16];
    unsigned type;
    raw_peer *peer = connect_raw();
    tp_packet *hello = tp_packet_new(TP_BUS_HEADER + TP_BUS_HELLO_FIXED + 64);
    REQUIRE(hello != NULL);
    const tp_bus_header header = {.kind = TP_BUS_HELLO};
    snprintf(instance, sizeof instance, "p%u", number);
    tp_bus_write(tp_packet_put_space(hello, TP_BUS_HEADER), &header);
    tp_packet_put_u16(hello, TP_BUS_VERSION);
    tp_packet_put_u16(hello, 0);
    tp_packet_put_u32(hello, 65536);
    tp_packet_put_string(hello, "chat");
    tp_packet_put_string(hello, instance);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, tp_packet_bytes(hello), tp_packet_size(hello)));
    tp_packet_release(hello);
    CHECK_GE(raw_receive_frame(peer, &type, bytes, sizeof bytes), TP_BUS_HEADER);
    CHECK_EQ(tp_bus_read(bytes).kind, TP_BUS_WELCOME);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, bytes, 3));
    return peer;
}

/* A connection that is being ended takes no quota, neither in the server nor in the hub. */
static void connections_being_ended_take_no_quota(void) {
    enum { ENDED = 16 };
    raw_peer *ended[ENDED];
    tp__hub_options options;
    hub_options(&options);
    options.server.max_sessions = 1;
    options.server.drain_timeout_ms = FIXTURE_PATIENCE_MS;
    open_with(&options);
    for (unsigned i = 0; i < ENDED; i++) {
        ended[i] = join_and_be_ended(i);
        AWAIT(tp_server_session_count(hub->server) == 0);
    }
    tp__hub_stats stats = hub_stats(hub);
    CHECK_EQ(stats.peers, ENDED);
    CHECK_EQ(stats.refused, 0);
    for (unsigned i = 0; i < ENDED; i++) {
        raw_close(ended[i], false);
    }
    close_all();
}

/* The hub accepts the connection and sends CLOSE `full`: not the same as a refused connection. */
static void a_full_hub_is_not_logged_as_a_refused_connection(void) {
    tp__hub_options options;
    hub_options(&options);
    options.server.max_sessions = 1;
    open_with(&options);
    party a, b;
    party_join(&a, hub, "chat", "a");
    party_init(&b, hub, "db", "b");
    party_start(&b);
    AWAIT(is_logged("info", "lan: refused 127.0.0.1:", "full: max_sessions reached"));
    AWAIT(is_logged("warning", "lanclient db: connect failed: closed by the hub: full", NULL));
    CHECK_EQ(log_caught(NULL, "the connection was refused", NULL), 0);
    party_leave(&b);
    party_leave(&a);
    close_all();
}

/* An address at which no socket listens and none can: the other end of a connection. */
static void a_refused_connection_is_logged_as_one(void) {
    tp__hub_options options;
    hub_options(&options);
    open_with(&options);
    party a, other;
    party_join(&other, hub, "chat", "other");
    tp_session_info info = {.size = sizeof info};
    CHECK(tp_server_session_info(
        hub->server, hub_session_of(hub, tp_lanclient_self(other.client)), &info));
    party_init(&a, hub, "chat", "a");
    a.options.address = info.peer;
    party_start(&a);
    AWAIT(is_logged("warning", "lanclient chat: connect failed: the connection was refused", NULL));
    party_leave(&a);
    party_leave(&other);
    close_all();
}

/* After it has joined, the client reports no refusal. */
static void a_hub_that_stops_is_not_logged_as_a_refusal(void) {
    tp__hub_options options;
    hub_options(&options);
    open_with(&options);
    party a;
    party_join(&a, hub, "chat", "a");
    tp__hub_stop(hub);
    AWAIT(a.downs == 1);
    CHECK_EQ(a.down_reason, TP_ERR_CLOSED);
    party_leave(&a);
    close_all();
}

CHECK_MAIN(CASE(a_refused_hello_is_logged), CASE(a_first_message_that_is_no_hello_is_logged),
    CASE(a_peer_that_sends_no_hello_is_logged), CASE(connections_being_ended_take_no_quota),
    CASE(a_full_hub_is_not_logged_as_a_refused_connection),
    CASE(a_refused_connection_is_logged_as_one), CASE(a_hub_that_stops_is_not_logged_as_a_refusal))
