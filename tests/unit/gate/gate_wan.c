/*
 * The gate with a real WAN server: players log in with tokens over the WAN's protocol, wait or
 * join, and exchange messages with a service on the bus.
 */
#include "gate_fixture.h"
#include "os/clock.h"
#include "os/random.h"
#include "twinport/wanserver.h"
#include "wan_peer.h"

static gate_fixture fixture;
static service arena;
static tp_key_pair key;
static tp_token_key ring;

static void open_all(unsigned max_players, unsigned max_waiting) {
    fixture_init(&fixture, hub_open_default());
    fixture.options.identity = tp_session_identity;
    fixture.options.max_players = max_players;
    fixture.options.max_waiting = max_waiting;
    REQUIRE(tp_key_pair_generate(&key) == TP_OK);
    ring.id = 1;
    tp_random_bytes(ring.key, sizeof ring.key);
    REQUIRE(tp__gate_create(&fixture.options, &fixture.gate) == TP_OK);
    tp_wanserver_options options;
    tp_wanserver_defaults(&options);
    options.server.context = fixture.gate;
    options.server.workers = 2;
    options.server.max_sessions = max_players + max_waiting;
    options.private_key = key.private_key;
    options.token_keys = &ring;
    options.token_key_count = 1;
    options.handshake_timeout_ms = 600000;
    tp_handlers handlers;
    tp__gate_handlers(&handlers);
    REQUIRE(tp_wanserver_create(&options, &handlers, &fixture.server) == TP_OK);
    REQUIRE(tp__gate_start(fixture.gate, fixture.server) == TP_OK);
    service_join(&arena, fixture.hub, "arena");
    AWAIT(fixture_stats(&fixture).peers == 1);
}

static void close_all(void) {
    fixture_gate_stop(&fixture);
    tp_server_destroy(fixture.server);
    tp__gate_destroy(fixture.gate);
    service_leave(&arena);
    hub_close(fixture.hub);
}

static wan_peer *log_in(uint64_t account) {
    wan_login login = {.suite = TP_SUITE_AES_256_GCM, .with_token = true};
    memcpy(login.server_public, key.public_key, TP_KEY_SIZE);
    tp_identity identity = {.size = sizeof identity, .account = account, .flags = 5};
    memset(identity.user_data, (int)account, sizeof identity.user_data);
    REQUIRE(tp_token_mint(&ring, tp_clock_wall_ms() / 1000 + 3600, key.public_key, &identity,
                login.token, login.secret) == TP_OK);
    tp_address address = tp_server_address(fixture.server);
    wan_peer *peer = wan_join(&address, &login);
    REQUIRE(peer != NULL);
    return peer;
}

static void check_receives(wan_peer *peer, const char *text) {
    char payload[FIXTURE_TEXT];
    unsigned type = 99;
    CHECK_EQ(wan_receive_frame(peer, &type, payload, sizeof payload), strlen(text));
    CHECK_EQ(type, TP_FRAME_DATA);
    CHECK_MEM(payload, text, strlen(text));
}

static void check_position(wan_peer *peer, uint32_t place, uint32_t waiting) {
    uint8_t payload[TP_GATE_PLACE_SIZE] = {0};
    unsigned type = 99;
    CHECK_EQ(wan_receive_frame(peer, &type, payload, sizeof payload), sizeof payload);
    CHECK_EQ(tp_bus_get_u32(payload), place);
    CHECK_EQ(tp_bus_get_u32(payload + 4), waiting);
}

static void players_exchange_messages_with_a_service(void) {
    open_all(4, 0);
    wan_peer *first = log_in(77);
    AWAIT(arena.joins == 1);
    tp_player one = arena.last;
    CHECK_EQ(arena.info.flags, TP_PLAYER_IDENTIFIED);
    CHECK_EQ(arena.info.account, 77);
    CHECK_EQ(arena.info.account_flags, 5);
    CHECK_EQ(arena.info.user_data[47], 77);
    wan_peer *second = log_in(78);
    AWAIT(arena.joins == 2);
    CHECK_EQ(arena.info.account, 78);
    tp_player both[] = {one, arena.last};

    CHECK(wan_send_frame(first, TP_FRAME_DATA, "from the first", 14));
    AWAIT(arena.messages == 1);
    CHECK_STR(arena.text, "from the first");
    CHECK(tp_player_same(&arena.last, &one));
    tp_packet *packet = text_packet("to both");
    CHECK_EQ(tp_backend_send_many(arena.backend, both, 2, packet, NULL), TP_OK);
    tp_packet_release(packet);
    check_receives(first, "to both");
    check_receives(second, "to both");

    CHECK_EQ(service_send(&arena, &one, "the last"), TP_OK);
    CHECK_EQ(tp_backend_kick(arena.backend, &one, 300), TP_OK);
    check_receives(first, "the last");
    CHECK_EQ(wan_receive_close(first), 300);
    wan_close(first, false);
    AWAIT(arena.leaves == 1);
    wan_leave(second);
    AWAIT(arena.leaves == 2);
    CHECK_EQ(arena.end, TP_END_PEER_CLOSED);
    close_all();
}

static void players_wait_and_are_admitted(void) {
    open_all(1, 2);
    wan_peer *first = log_in(1);
    check_position(first, 0, 0);
    AWAIT(arena.joins == 1);
    wan_peer *second = log_in(2);
    check_position(second, 1, 1);
    wan_peer *third = log_in(3);
    check_position(third, 2, 2);
    wan_leave(first);
    check_position(second, 0, 1);
    check_position(third, 1, 1);
    AWAIT(arena.joins == 2);
    CHECK_EQ(arena.info.account, 2);
    CHECK(wan_send_frame(third, TP_FRAME_DATA, "me", 2));
    CHECK_EQ(wan_receive_close(third), TP_CLOSE_PROTOCOL);
    wan_close(third, false);
    service_kill(&arena);
    AWAIT(fixture_stats(&fixture).kept == 1);
    arena.joins = arena.leaves = 0;
    service_start(&arena);
    AWAIT(arena.joins == 1);
    CHECK_EQ(arena.info.flags, TP_PLAYER_IDENTIFIED | TP_PLAYER_RETURNS);
    CHECK_EQ(arena.info.account, 2);
    CHECK_EQ(service_send(&arena, &arena.last, "welcome back"), TP_OK);
    check_receives(second, "welcome back");
    wan_leave(second);
    AWAIT(arena.leaves == 1);
    close_all();
}

CHECK_MAIN(CASE(players_exchange_messages_with_a_service), CASE(players_wait_and_are_admitted))
