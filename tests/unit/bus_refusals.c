/* Who does not get on the bus: the hub says why, and so does the client. */
#include "bus_stage.h"
#include "log_catch.h"
#include "proto/frame.h"
#include "raw_peer.h"

static tp__hub *hub;

static void open_with(const tp__hub_options *options) {
    stage_open();
    log_catch_open();
    hub = hub_open(options);
}

static void close_all(void) {
    hub_close(hub);
    log_catch_close();
}

static bool is_said(const char *level, const char *a, const char *b) {
    return log_caught(level, a, b) > 0;
}

static void a_refused_hello_is_said(void) {
    tp__hub_options options;
    hub_options(&options);
    open_with(&options);
    party a, b;
    party_join(&a, hub, "costarring", "a");
    party_init(&b, hub, "liquid", "b"); /* of the same hash */
    party_start(&b);
    AWAIT(is_said("warning", "bus: refused 127.0.0.1:", "name-collision"));
    AWAIT(is_said("error", "lanclient liquid: the hub refuses it: ", "name-collision"));
    CHECK_EQ(log_caught(NULL, "the connection was refused", NULL), 0);
    tp__hub_account account = hub_account(hub);
    CHECK_GE(account.refused_for[TP_BUS_NAME_COLLISION], 1);
    CHECK_EQ(account.refused, account.refused_for[TP_BUS_NAME_COLLISION]);
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

static void who_says_something_else_is_said(void) {
    static const uint8_t zeros[TP_BUS_HEADER];
    tp__hub_options options;
    hub_options(&options);
    open_with(&options);
    raw_peer *peer = connect_raw();
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, zeros, sizeof zeros));
    AWAIT(is_said("warning", "bus: 127.0.0.1:", "it did not begin with a HELLO"));
    raw_peer *other = connect_raw(); /* its line is another one */
    CHECK(raw_send_frame(other, TP_FRAME_DATA, zeros, 3));
    AWAIT(is_said("warning", "bus: 127.0.0.1:", "a message shorter than its header"));
    raw_close(peer, false);
    raw_close(other, false);
    close_all();
}

static void who_says_nothing_is_said(void) {
    tp__hub_options options;
    hub_options(&options);
    options.hello_timeout_ms = 100;
    open_with(&options);
    raw_peer *peer = connect_raw();
    AWAIT(is_said("warning", "bus: refused 127.0.0.1:", "it has not said HELLO within 100 ms"));
    CHECK_EQ(hub_account(hub).late, 1);
    raw_close(peer, false);
    close_all();
}

/* On the bus, then ended for what it says, and it does not hang up. */
static raw_peer *be_ended(unsigned number) {
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

/* Whoever is being ended holds no place, neither of the server's nor of the hub's own. */
static void there_is_room_beside_those_being_ended(void) {
    enum { ENDED = 16 };
    raw_peer *ended[ENDED];
    tp__hub_options options;
    hub_options(&options);
    options.server.max_sessions = 1;
    options.server.drain_timeout_ms = STAGE_PATIENCE_MS;
    open_with(&options);
    for (unsigned i = 0; i < ENDED; i++) {
        ended[i] = be_ended(i);
        AWAIT(tp_server_session_count(hub->server) == 0);
    }
    tp__hub_account account = hub_account(hub);
    CHECK_EQ(account.peers, ENDED);
    CHECK_EQ(account.refused, 0);
    for (unsigned i = 0; i < ENDED; i++) {
        raw_close(ended[i], false);
    }
    close_all();
}

/* The hub takes the connection and says CLOSE `full`: that is no refused connection. */
static void a_full_hub_is_no_refused_connection(void) {
    tp__hub_options options;
    hub_options(&options);
    options.server.max_sessions = 1;
    open_with(&options);
    party a, b;
    party_join(&a, hub, "chat", "a");
    party_init(&b, hub, "db", "b");
    party_start(&b);
    AWAIT(is_said("info", "lan: refused 127.0.0.1:", "full: max_sessions are here"));
    AWAIT(is_said("warning", "lanclient db: not on the bus: the hub closes: full", NULL));
    CHECK_EQ(log_caught(NULL, "the connection was refused", NULL), 0);
    party_leave(&b);
    party_leave(&a);
    close_all();
}

/* An address at which nobody listens, and nobody else can: the other end of a connection. */
static void a_refused_connection_is_called_so(void) {
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
    AWAIT(is_said("warning", "lanclient chat: not on the bus: the connection was refused", NULL));
    party_leave(&a);
    party_leave(&other);
    close_all();
}

/* Once it is on the bus, nothing is a refusal. */
static void a_hub_that_stops_has_refused_nobody(void) {
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

CHECK_MAIN(CASE(a_refused_hello_is_said), CASE(who_says_something_else_is_said),
    CASE(who_says_nothing_is_said), CASE(there_is_room_beside_those_being_ended),
    CASE(a_full_hub_is_no_refused_connection), CASE(a_refused_connection_is_called_so),
    CASE(a_hub_that_stops_has_refused_nobody))
