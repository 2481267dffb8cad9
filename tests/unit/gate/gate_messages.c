/*
 * Players and services through a gate in one process: joining, messages both ways, kicks, and what
 * is refused, too large or returned by the bus.
 */
#include "gate_fixture.h"
#include "log_capture.h"

static gate_fixture fixture;
static service arena, second;
static player players[16];

static void the_service_learns_of_joins_and_leaves(void) {
    fixture_open_arena(&fixture, &arena);
    players_join(&fixture, &arena, &players[0], 1);
    tp_player name = arena.info.player;
    CHECK_EQ(arena.info.flags, TP_PLAYER_IDENTIFIED);
    CHECK_EQ(arena.info.account, name.session ^ 0xabcdef);
    CHECK_EQ(arena.info.account_flags, 7);
    CHECK_EQ(arena.info.user_data[0], name.session & 0x7f);
    CHECK_EQ(arena.info.user_data[TP_PLAYER_USER_DATA - 1], name.session & 0x7f);
    CHECK_EQ(arena.info.blob_size, 0);
    CHECK(tp_address_is_private(&arena.info.address) && arena.info.address.port != 0);
    CHECK_EQ(name.gate, tp_lanclient_self(tp__gate_client(fixture.gate)));
    CHECK_EQ(tp_backend_player_count(arena.backend), 1);

    tp_player_info info = {.size = sizeof info};
    CHECK(tp_backend_player_info(arena.backend, &name, &info));
    CHECK(tp_player_same(&info.player, &name));
    CHECK_EQ(info.account, arena.info.account);

    player_quit(&fixture, &players[0]);
    AWAIT(arena.leaves == 1);
    CHECK_EQ(arena.why, TP_LEAVE_ENDED);
    CHECK_EQ(arena.end, TP_END_PEER_CLOSED);
    CHECK(tp_player_same(&arena.last, &name));
    CHECK(!tp_backend_player_info(arena.backend, &name, &info));
    CHECK_EQ(tp_backend_kick(arena.backend, &name, TP_CLOSE_KICKED), TP_ERR_NO_SESSION);
    CHECK_EQ(
        tp_backend_move(arena.backend, &name, "other", TP_NO_PEER, NULL, 0), TP_ERR_NO_SESSION);
    fixture_close_arena(&fixture, &arena);
}

static void messages_go_both_ways(void) {
    fixture_open_arena(&fixture, &arena);
    arena.send_welcome = true;
    players_join(&fixture, &arena, &players[0], 2);
    tp_player name = arena.last;
    AWAIT(players[0].messages == 1 && players[1].messages == 1);
    CHECK_STR(players[1].text, "welcome");
    CHECK(player_send(&fixture, &players[1], "hello"));
    AWAIT(arena.messages == 1);
    CHECK_STR(arena.text, "hello");
    CHECK(tp_player_same(&arena.last, &name));
    CHECK_EQ(service_send(&arena, &name, "hi"), TP_OK);
    AWAIT(players[1].messages == 2);
    CHECK_STR(players[1].text, "hi");
    CHECK_EQ(service_send(&arena, &name, ""), TP_OK); /* an empty message is delivered, too */
    CHECK(player_send(&fixture, &players[1], ""));
    AWAIT(players[1].messages == 3 && arena.messages == 2);
    CHECK_STR(players[1].text, "");
    CHECK_STR(arena.text, "");
    CHECK_EQ(players[0].messages, 1);
    fixture_close_arena(&fixture, &arena);
}

/* Messages of one player arrive in the order in which they were sent. */
static void a_players_messages_keep_their_order(void) {
    fixture_open_arena(&fixture, &arena);
    players_join(&fixture, &arena, &players[0], 1);
    tp_player name = arena.last;
    for (unsigned i = 1; i <= 500; i++) {
        char text[16];
        snprintf(text, sizeof text, "%u", i);
        CHECK(player_send(&fixture, &players[0], text));
        CHECK_EQ(service_send(&arena, &name, text), TP_OK);
    }
    AWAIT(arena.messages == 500 && players[0].messages == 500);
    CHECK_STR(arena.text, "500");
    CHECK_STR(players[0].text, "500");
    fixture_close_arena(&fixture, &arena);
}

static tp_err send_many(const tp_player *names, size_t count, const char *text, size_t *reached) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_backend_send_many(arena.backend, names, count, packet, reached);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    tp_packet_put_u8(packet, 0); /* still writable: it has not been sealed */
    tp_packet_release(packet);
    return error;
}

static tp_err send_all(const tp_player *except, const char *text, size_t *reached) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_backend_send_all(arena.backend, except, packet, reached);
    tp_packet_release(packet);
    return error;
}

/* Two gates with players in turn: one message on the bus for each gate. */
static void a_send_to_many_is_one_message_for_each_gate(void) {
    fixture_open_arena(&fixture, &arena);
    static gate_fixture more;
    fixture_init(&more, fixture.hub);
    fixture_start(&more);
    tp_player names[8] = {0};
    for (unsigned i = 0; i < 6; i++) {
        player_join(i % 2 ? &more : &fixture, &players[i]);
        AWAIT(arena.joins == i + 1);
        names[i] = arena.last;
    }
    CHECK_NE(names[0].gate, names[1].gate);
    names[6] = (tp_player){.session = 12345, .gate = names[0].gate, .index = 4};
    names[7] = names[2];
    size_t reached = 99;
    CHECK_EQ(send_many(names, 8, "many", &reached), TP_OK);
    CHECK_EQ(reached, 7);
    AWAIT(players[0].messages == 1 && players[1].messages == 1 && players[2].messages == 2 &&
          players[3].messages == 1 && players[4].messages == 1 && players[5].messages == 1);
    CHECK_STR(players[5].text, "many");
    CHECK_EQ(service_stats(&arena).bus_messages, 2);
    CHECK_EQ(service_stats(&arena).sent, 7);

    CHECK_EQ(send_all(&names[3], "all", &reached), TP_OK);
    CHECK_EQ(reached, 5);
    AWAIT(players[0].messages == 2 && players[1].messages == 2 && players[2].messages == 3 &&
          players[4].messages == 2 && players[5].messages == 2);
    CHECK_EQ(players[3].messages, 1);
    CHECK_EQ(service_stats(&arena).bus_messages, 4);

    CHECK_EQ(send_many(&names[6], 1, "nobody", &reached), TP_OK);
    CHECK_EQ(reached, 0);
    CHECK_EQ(send_many(NULL, 0, "nobody", &reached), TP_OK);
    CHECK_EQ(send_many(NULL, 1, "nobody", &reached), TP_ERR_INVALID);
    fixture_close(&more);
    fixture_close_arena(&fixture, &arena);
}

/* More recipients than the gate looks up in one step. */
static void a_message_to_all_reaches_600_players(void) {
    enum { CROWD = 600 };
    static player crowd[CROWD];
    fixture_open_arena(&fixture, &arena);
    for (unsigned i = 0; i < CROWD; i++) {
        player_connect(&fixture, &crowd[i]);
    }
    AWAIT(arena.joins == CROWD);
    size_t reached = 0;
    CHECK_EQ(send_all(NULL, "everybody", &reached), TP_OK);
    CHECK_EQ(reached, CROWD);
    for (unsigned i = 0; i < CROWD; i++) {
        AWAIT(crowd[i].messages == 1);
        CHECK_STR(crowd[i].text, "everybody");
    }
    CHECK_EQ(service_stats(&arena).bus_messages, 1);
    fixture_close_arena(&fixture, &arena);
}

static void a_kick_carries_its_code(void) {
    fixture_open_arena(&fixture, &arena);
    players_join(&fixture, &arena, &players[0], 1);
    tp_player name = arena.last;
    CHECK_EQ(service_send(&arena, &name, "off with you"), TP_OK);
    CHECK_EQ(tp_backend_kick(arena.backend, &name, 65536), TP_ERR_INVALID);
    CHECK_EQ(tp_backend_kick(arena.backend, &name, 300), TP_OK);
    AWAIT(players[0].left && arena.leaves == 1);
    CHECK_STR(players[0].text, "off with you");
    CHECK_EQ(players[0].end, TP_END_REFUSED);
    CHECK_EQ(players[0].close_code, 300);
    CHECK_EQ(arena.why, TP_LEAVE_ENDED);
    CHECK_EQ(arena.end, TP_END_KICKED);
    CHECK_EQ(arena.stays, 0);

    arena.kick_code = 301; /* a kick inside on_player_join */
    player_join(&fixture, &players[1]);
    AWAIT(players[1].left && arena.leaves == 2);
    CHECK_EQ(players[1].close_code, 301);
    CHECK_EQ(fixture_stats(&fixture).kicked, 2);
    fixture_close_arena(&fixture, &arena);
}

static void players_go_to_the_peer_with_the_fewest(void) {
    fixture_open_arena(&fixture, &arena);
    service_join(&second, fixture.hub, "arena");
    AWAIT(fixture_stats(&fixture).peers == 2);
    for (unsigned i = 0; i < 6; i++) {
        player_join(&fixture, &players[i]);
    }
    AWAIT(arena.joins == 3 && second.joins == 3);
    service_leave(&second);
    AWAIT(arena.joins == 6);
    CHECK_EQ(arena.info.flags & TP_PLAYER_RETURNS, TP_PLAYER_RETURNS);
    fixture_close_arena(&fixture, &arena);
}

/* ---- messages that are not delivered --------------------------------------------------------- */

static bool released;

static void block_until_released(tp_backend *backend, const tp_player *name, tp_packet *packet) {
    unsigned looks = 0;
    tp_mutex_lock(&fixture_mutex);
    while (!released && fixture_wait_more(&looks)) {
    }
    tp_mutex_unlock(&fixture_mutex);
    service_on_player_message(backend, name, packet);
}

/* The service blocks in its first message: the hub accepts a few more for it and returns the
 * others. */
static void messages_returned_by_the_bus_are_counted(void) {
    enum { SAID = 50, HELD = 8 };
    fixture_open();
    tp__hub_options options;
    hub_options(&options);
    options.unconfirmed_limit = HELD;
    fixture_init(&fixture, hub_open(&options));
    fixture_start(&fixture);
    released = false;
    service_init(&arena, fixture.hub, "arena");
    arena.handlers.on_player_message = block_until_released;
    service_start(&arena);
    players_join(&fixture, &arena, &players[0], 1);
    for (unsigned i = 0; i < SAID; i++) {
        CHECK(player_send(&fixture, &players[0], "listen"));
    }
    AWAIT(fixture_stats(&fixture).from_players == SAID);
    AWAIT(fixture_stats(&fixture).returned > 0);
    tp_mutex_lock(&fixture_mutex);
    released = true;
    tp_mutex_unlock(&fixture_mutex);
    AWAIT(arena.messages + fixture_stats(&fixture).returned == fixture_stats(&fixture).forwarded);
    fixture_close_arena(&fixture, &arena);
}

/* A message larger than the bus carries. */
static void messages_too_large_for_the_bus_are_counted(void) {
    fixture_open();
    tp__hub_options options;
    hub_options(&options);
    options.server.max_frame = 2000;
    fixture_init(&fixture, hub_open(&options));
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    players_join(&fixture, &arena, &players[0], 1);
    tp_packet *packet = tp_packet_new(2000);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, 2000) != NULL);
    CHECK(tp_server_send(fixture.crowd, players[0].session, packet));
    tp_packet_release(packet);
    AWAIT(fixture_stats(&fixture).dropped[TP__GATE_DROP_TOO_LARGE] == 1);
    CHECK(player_send(&fixture, &players[0], "smaller"));
    AWAIT(arena.messages == 1);
    fixture_close_arena(&fixture, &arena);
}

/* A max_frame that the hub does not carry is logged when the gate joins the bus. */
static void a_max_frame_above_the_hubs_is_logged(void) {
    for (size_t largest = 1972; largest <= 1973; largest++) {
        fixture_open();
        tp__hub_options options;
        hub_options(&options);
        options.server.max_frame = 2000;
        fixture_init(&fixture, hub_open(&options));
        fixture.options.largest_message = largest;
        capture_log();
        fixture_start(&fixture);
        service_join(&arena, fixture.hub, "arena"); /* when this returns, the gate is on the bus */
        players_join(&fixture, &arena, &players[0], 1);
        fixture_close_arena(&fixture, &arena);
        end_log();
        CHECK_EQ(was_logged("gate: max_frame is 1973 and the hub accepts messages of 1984 bytes: "
                            "with a header of 12 bytes"),
            largest == 1973);
        CHECK_EQ(was_logged("a max_frame of at most 1972 here, or of at least 2001 at the hub"),
            largest == 1973);
    }
}

static void contradictory_options_are_refused(void) {
    fixture_open();
    fixture_init(&fixture, hub_open_default());
    tp_log_set_level(TP_LOG_OFF);
    tp__gate *gate = NULL;
    fixture.options.service = "gate";
    CHECK_EQ(tp__gate_create(&fixture.options, &gate), TP_ERR_INVALID);
    CHECK(gate == NULL);
    fixture.options.service = "arena";
    fixture.options.max_players = 1000;
    fixture.options.max_waiting = TP_MAX_SESSIONS - 999;
    CHECK_EQ(tp__gate_create(&fixture.options, &gate), TP_ERR_INVALID);
    CHECK(gate == NULL);
    tp_log_set_level(TP_LOG_WARNING);
    hub_close(fixture.hub);
}

static tp_err send_to_gate(party *from, const void *bytes, size_t size) {
    tp_packet *packet = tp_packet_copy_of(bytes, size);
    REQUIRE(packet != NULL);
    tp_peer_id gate = tp_lanclient_self(tp__gate_client(fixture.gate));
    tp_err error = tp_lanclient_send(from->client, gate, packet, NULL);
    tp_packet_release(packet);
    return error;
}

/* Only the peer that a player is assigned to may send to it. A message from another peer is
 * dropped, a malformed one is returned. */
static void only_the_assigned_peer_can_send_to_a_player(void) {
    fixture_open_arena(&fixture, &arena);
    players_join(&fixture, &arena, &players[0], 1);
    tp_player name = arena.last;
    party stranger;
    party_join(&stranger, fixture.hub, "stranger", "s");
    uint8_t bytes[TP_GATE_SEND_FIXED + 8 + 2] = {0};
    tp_gate_write_send(bytes, 1);
    tp_gate_put_session(bytes, 0, name.session);
    CHECK_EQ(send_to_gate(&stranger, bytes, sizeof bytes), TP_OK);
    AWAIT(fixture_stats(&fixture).refused[TP__GATE_REFUSED_NO_PLAYER] == 1);
    CHECK_EQ(send_to_gate(&stranger, bytes, 5), TP_OK);
    CHECK_EQ(send_to_gate(&stranger, "", 0), TP_OK);
    AWAIT(stranger.returns == 2);
    CHECK_EQ(stranger.returned.reason, TP_ERR_PROTOCOL);
    CHECK_EQ(party_request(&stranger, name.gate, "what is this?", 0), TP_OK);
    AWAIT(stranger.replies == 1);
    CHECK_EQ(stranger.reply_error, TP_ERR_PROTOCOL);
    CHECK_EQ(fixture_stats(&fixture).malformed, 3);

    /* Behind a kick no message for the player is accepted: by the gate, or by the backend if the
     * player has left it already. */
    CHECK_EQ(tp_backend_kick(arena.backend, &name, 300), TP_OK);
    tp_err late = service_send(&arena, &name, "too late");
    CHECK(late == TP_OK || late == TP_ERR_NO_SESSION);
    unsigned refused = late == TP_OK ? 2 : 1;
    AWAIT(sum_of(fixture_stats(&fixture).refused, TP__GATE_REFUSAL_COUNT) == refused);
    AWAIT(players[0].left);
    CHECK_EQ(players[0].messages, 0);
    party_leave(&stranger);
    fixture_close_arena(&fixture, &arena);
}

/* The gate's ERROR returns the message and acknowledges it, too: when the connection is then cut,
 * the message must not come back a second time. */
static void a_malformed_message_comes_back_once(void) {
    party odd;
    fixture_open_arena(&fixture, &arena);
    tp_lanclient *client = tp__gate_client(fixture.gate);
    party_join(&odd, fixture.hub, "odd", "o");
    AWAIT(odd.peer_ups == 2);
    client_pause_acks(client);
    CHECK_EQ(party_send(&odd, tp_lanclient_self(client), "nonsense", NULL), TP_OK);
    AWAIT(odd.returns == 1);
    CHECK_EQ(odd.returned.reason, TP_ERR_PROTOCOL);
    hub_cut(fixture.hub, tp_lanclient_self(client));
    AWAIT(odd.peer_downs == 1);
    CHECK_EQ(odd.returns, 1);
    AWAIT(odd.peer_ups == 3);
    client_resume_acks(client);
    CHECK_EQ(fixture_stats(&fixture).malformed, 1);
    party_leave(&odd);
    fixture_close_arena(&fixture, &arena);
}

CHECK_MAIN(CASE(the_service_learns_of_joins_and_leaves), CASE(messages_go_both_ways),
    CASE(a_players_messages_keep_their_order), CASE(a_send_to_many_is_one_message_for_each_gate),
    CASE(a_message_to_all_reaches_600_players), CASE(a_kick_carries_its_code),
    CASE(players_go_to_the_peer_with_the_fewest), CASE(messages_returned_by_the_bus_are_counted),
    CASE(messages_too_large_for_the_bus_are_counted), CASE(a_max_frame_above_the_hubs_is_logged),
    CASE(contradictory_options_are_refused), CASE(only_the_assigned_peer_can_send_to_a_player),
    CASE(a_malformed_message_comes_back_once))
