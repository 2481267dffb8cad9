/* Players and services through a gate: joining, talking both ways, being kicked and moved. */
#include "gate_stage.h"
#include "log_capture.h"

static gate_stage stage;
static service arena, second, other;
static player players[16];

static void open_all(void) {
    stage_init(&stage, hub_open_default());
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
}

static void close_all(void) {
    tp__hub *hub = stage.hub;
    stage_close(&stage);
    service_leave(&arena);
    hub_close(hub);
}

/* One after the other, so that the service has them in this order. */
static void join_players(service *of, unsigned from, unsigned count) {
    for (unsigned i = from; i < from + count; i++) {
        unsigned joins = of->joins;
        player_join(&stage, &players[i]);
        AWAIT(of->joins == joins + 1);
    }
}

static void says_who_comes_and_why_he_goes(void) {
    open_all();
    join_players(&arena, 0, 1);
    tp_player name = arena.info.player;
    CHECK_EQ(arena.info.flags, TP_PLAYER_IDENTIFIED);
    CHECK_EQ(arena.info.account, name.session ^ 0xabcdef);
    CHECK_EQ(arena.info.account_flags, 7);
    CHECK_EQ(arena.info.user_data[0], name.session & 0x7f);
    CHECK_EQ(arena.info.user_data[TP_PLAYER_USER_DATA - 1], name.session & 0x7f);
    CHECK_EQ(arena.info.blob_size, 0);
    CHECK(tp_address_is_private(&arena.info.address) && arena.info.address.port != 0);
    CHECK_EQ(name.gate, tp_lanclient_self(tp__gate_client(stage.gate)));
    CHECK_EQ(tp_backend_player_count(arena.backend), 1);

    tp_player_info info = {.size = sizeof info};
    CHECK(tp_backend_player_info(arena.backend, &name, &info));
    CHECK(tp_player_same(&info.player, &name));
    CHECK_EQ(info.account, arena.info.account);

    player_quit(&stage, &players[0]);
    AWAIT(arena.leaves == 1);
    CHECK_EQ(arena.why, TP_LEAVE_ENDED);
    CHECK_EQ(arena.end, TP_END_PEER_CLOSED);
    CHECK(tp_player_same(&arena.last, &name));
    CHECK(!tp_backend_player_info(arena.backend, &name, &info));
    CHECK_EQ(tp_backend_kick(arena.backend, &name, TP_CLOSE_KICKED), TP_ERR_NO_SESSION);
    CHECK_EQ(
        tp_backend_move(arena.backend, &name, "other", TP_NO_PEER, NULL, 0), TP_ERR_NO_SESSION);
    close_all();
}

static void carries_messages_both_ways(void) {
    open_all();
    arena.greet = true;
    join_players(&arena, 0, 2);
    tp_player name = arena.last;
    AWAIT(players[0].messages == 1 && players[1].messages == 1);
    CHECK_STR(players[1].text, "welcome");
    CHECK(player_say(&stage, &players[1], "hello"));
    AWAIT(arena.messages == 1);
    CHECK_STR(arena.text, "hello");
    CHECK(tp_player_same(&arena.last, &name));
    CHECK_EQ(tell(&arena, &name, "hi"), TP_OK);
    AWAIT(players[1].messages == 2);
    CHECK_STR(players[1].text, "hi");
    CHECK_EQ(tell(&arena, &name, ""), TP_OK); /* empty messages are messages */
    CHECK(player_say(&stage, &players[1], ""));
    AWAIT(players[1].messages == 3 && arena.messages == 2);
    CHECK_STR(players[1].text, "");
    CHECK_STR(arena.text, "");
    CHECK_EQ(players[0].messages, 1);
    close_all();
}

/* What one says behind the other arrives in this order. */
static void keeps_the_order(void) {
    open_all();
    join_players(&arena, 0, 1);
    tp_player name = arena.last;
    for (unsigned i = 1; i <= 500; i++) {
        char text[16];
        snprintf(text, sizeof text, "%u", i);
        CHECK(player_say(&stage, &players[0], text));
        CHECK_EQ(tell(&arena, &name, text), TP_OK);
    }
    AWAIT(arena.messages == 500 && players[0].messages == 500);
    CHECK_STR(arena.text, "500");
    CHECK_STR(players[0].text, "500");
    close_all();
}

static tp_err tell_many(const tp_player *names, size_t count, const char *text, size_t *reached) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_backend_send_many(arena.backend, names, count, packet, reached);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    tp_packet_put_u8(packet, 0); /* it is not sealed */
    tp_packet_release(packet);
    return error;
}

static tp_err tell_all(const tp_player *except, const char *text, size_t *reached) {
    tp_packet *packet = text_packet(text);
    tp_err error = tp_backend_send_all(arena.backend, except, packet, reached);
    tp_packet_release(packet);
    return error;
}

/* Two gates, whose players come by turns: one message on the bus for each gate. */
static void tells_many_by_one_message_for_each_gate(void) {
    open_all();
    static gate_stage more;
    stage_init(&more, stage.hub);
    stage_start(&more);
    tp_player names[8] = {0};
    for (unsigned i = 0; i < 6; i++) {
        player_join(i % 2 ? &more : &stage, &players[i]);
        AWAIT(arena.joins == i + 1);
        names[i] = arena.last;
    }
    CHECK_NE(names[0].gate, names[1].gate);
    names[6] = (tp_player){.session = 12345, .gate = names[0].gate, .index = 4};
    names[7] = names[2];
    size_t reached = 99;
    CHECK_EQ(tell_many(names, 8, "many", &reached), TP_OK);
    CHECK_EQ(reached, 7);
    AWAIT(players[0].messages == 1 && players[1].messages == 1 && players[2].messages == 2 &&
          players[3].messages == 1 && players[4].messages == 1 && players[5].messages == 1);
    CHECK_STR(players[5].text, "many");
    CHECK_EQ(service_stats(&arena).bus_messages, 2);
    CHECK_EQ(service_stats(&arena).sent, 7);

    CHECK_EQ(tell_all(&names[3], "all", &reached), TP_OK);
    CHECK_EQ(reached, 5);
    AWAIT(players[0].messages == 2 && players[1].messages == 2 && players[2].messages == 3 &&
          players[4].messages == 2 && players[5].messages == 2);
    CHECK_EQ(players[3].messages, 1);
    CHECK_EQ(service_stats(&arena).bus_messages, 4);

    CHECK_EQ(tell_many(&names[6], 1, "nobody", &reached), TP_OK);
    CHECK_EQ(reached, 0);
    CHECK_EQ(tell_many(NULL, 0, "nobody", &reached), TP_OK);
    CHECK_EQ(tell_many(NULL, 1, "nobody", &reached), TP_ERR_INVALID);
    stage_close(&more);
    close_all();
}

/* More than the gate looks up at a time. */
static void tells_a_crowd(void) {
    enum { CROWD = 600 };
    static player crowd[CROWD];
    open_all();
    for (unsigned i = 0; i < CROWD; i++) {
        player_connect(&stage, &crowd[i]);
    }
    AWAIT(arena.joins == CROWD);
    size_t reached = 0;
    CHECK_EQ(tell_all(NULL, "everybody", &reached), TP_OK);
    CHECK_EQ(reached, CROWD);
    for (unsigned i = 0; i < CROWD; i++) {
        AWAIT(crowd[i].messages == 1);
        CHECK_STR(crowd[i].text, "everybody");
    }
    CHECK_EQ(service_stats(&arena).bus_messages, 1);
    close_all();
}

static void kicks_with_a_code(void) {
    open_all();
    join_players(&arena, 0, 1);
    tp_player name = arena.last;
    CHECK_EQ(tell(&arena, &name, "off with you"), TP_OK);
    CHECK_EQ(tp_backend_kick(arena.backend, &name, 65536), TP_ERR_INVALID);
    CHECK_EQ(tp_backend_kick(arena.backend, &name, 300), TP_OK);
    AWAIT(players[0].left && arena.leaves == 1);
    CHECK_STR(players[0].text, "off with you");
    CHECK_EQ(players[0].end, TP_END_REFUSED);
    CHECK_EQ(players[0].close_code, 300);
    CHECK_EQ(arena.why, TP_LEAVE_ENDED);
    CHECK_EQ(arena.end, TP_END_KICKED);
    CHECK_EQ(arena.stays, 0);

    arena.turn_away = 301; /* and as soon as he comes */
    player_join(&stage, &players[1]);
    AWAIT(players[1].left && arena.leaves == 2);
    CHECK_EQ(players[1].close_code, 301);
    CHECK_EQ(stage_account(&stage).kicked, 2);
    close_all();
}

static void gives_players_to_the_peer_with_the_fewest(void) {
    open_all();
    service_join(&second, stage.hub, "arena");
    AWAIT(stage_account(&stage).peers == 2);
    for (unsigned i = 0; i < 6; i++) {
        player_join(&stage, &players[i]);
    }
    AWAIT(arena.joins == 3 && second.joins == 3);
    service_leave(&second);
    AWAIT(arena.joins == 6);
    CHECK_EQ(arena.info.flags & TP_PLAYER_RETURNS, TP_PLAYER_RETURNS);
    close_all();
}

/* ---- what does not arrive -------------------------------------------------------------------- */

static bool released;

static void listen_slowly(tp_backend *backend, const tp_player *name, tp_packet *packet) {
    unsigned looks = 0;
    tp_mutex_lock(&stage_mutex);
    while (!released && stage_look_again(&looks)) {
    }
    tp_mutex_unlock(&stage_mutex);
    service_on_player_message(backend, name, packet);
}

/* The service is busy with the first message: the hub holds a few for it and returns the others. */
static void counts_what_the_bus_gives_back(void) {
    enum { SAID = 50, HELD = 8 };
    stage_open();
    tp__hub_options options;
    hub_options(&options);
    options.unconfirmed_limit = HELD;
    stage_init(&stage, hub_open(&options));
    stage_start(&stage);
    released = false;
    service_init(&arena, stage.hub, "arena");
    arena.handlers.on_player_message = listen_slowly;
    service_start(&arena);
    join_players(&arena, 0, 1);
    for (unsigned i = 0; i < SAID; i++) {
        CHECK(player_say(&stage, &players[0], "listen"));
    }
    AWAIT(stage_account(&stage).from_players == SAID);
    AWAIT(stage_account(&stage).returned > 0);
    tp_mutex_lock(&stage_mutex);
    released = true;
    tp_mutex_unlock(&stage_mutex);
    AWAIT(arena.messages + stage_account(&stage).returned == stage_account(&stage).forwarded);
    close_all();
}

/* A message larger than the bus takes. */
static void counts_what_is_too_large(void) {
    stage_open();
    tp__hub_options options;
    hub_options(&options);
    options.server.max_frame = 2000;
    stage_init(&stage, hub_open(&options));
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
    join_players(&arena, 0, 1);
    tp_packet *packet = tp_packet_new(2000);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, 2000) != NULL);
    CHECK(tp_server_send(stage.crowd, players[0].session, packet));
    tp_packet_release(packet);
    AWAIT(stage_account(&stage).dropped[TP__GATE_DROP_TOO_LARGE] == 1);
    CHECK(player_say(&stage, &players[0], "smaller"));
    AWAIT(arena.messages == 1);
    close_all();
}

/* What the bus has no room for is found when the gate comes to it, not message by message. */
static void says_when_the_hub_takes_less_than_players_say(void) {
    for (size_t largest = 1972; largest <= 1973; largest++) {
        stage_open();
        tp__hub_options options;
        hub_options(&options);
        options.server.max_frame = 2000;
        stage_init(&stage, hub_open(&options));
        stage.options.largest_message = largest;
        capture_log();
        stage_start(&stage);
        service_join(&arena, stage.hub, "arena"); /* by then the gate has said what it has to */
        join_players(&arena, 0, 1);
        close_all();
        end_log();
        CHECK_EQ(was_said("gate: max_frame is 1973 and the hub takes messages of 1984: with a "
                          "header of 12 bytes"),
            largest == 1973);
        CHECK_EQ(was_said("a max_frame of at most 1972 here, or of at least 2001 there"),
            largest == 1973);
    }
}

static void refuses_options_that_contradict_each_other(void) {
    stage_open();
    stage_init(&stage, hub_open_default());
    tp_log_set_level(TP_LOG_OFF);
    tp__gate *gate = NULL;
    stage.options.service = "gate";
    CHECK_EQ(tp__gate_create(&stage.options, &gate), TP_ERR_INVALID);
    CHECK(gate == NULL);
    stage.options.service = "arena";
    stage.options.max_players = 1000;
    stage.options.max_waiting = TP_MAX_SESSIONS - 999;
    CHECK_EQ(tp__gate_create(&stage.options, &gate), TP_ERR_INVALID);
    CHECK(gate == NULL);
    tp_log_set_level(TP_LOG_WARNING);
    hub_close(stage.hub);
}

static tp_err say_to_gate(party *from, const void *bytes, size_t size) {
    tp_packet *packet = tp_packet_copy_of(bytes, size);
    REQUIRE(packet != NULL);
    tp_peer_id gate = tp_lanclient_self(tp__gate_client(stage.gate));
    tp_err error = tp_lanclient_send(from->client, gate, packet, NULL);
    tp_packet_release(packet);
    return error;
}

/* Only the peer that has him may. Anybody else is not heard, and what is no message goes back. */
static void lets_nobody_else_talk_to_players(void) {
    open_all();
    join_players(&arena, 0, 1);
    tp_player name = arena.last;
    party stranger;
    party_join(&stranger, stage.hub, "stranger", "s");
    uint8_t bytes[TP_GATE_SEND_FIXED + 8 + 2] = {0};
    tp_gate_write_send(bytes, 1);
    tp_gate_put_session(bytes, 0, name.session);
    CHECK_EQ(say_to_gate(&stranger, bytes, sizeof bytes), TP_OK);
    AWAIT(stage_account(&stage).refused[TP__GATE_REFUSED_NO_PLAYER] == 1);
    CHECK_EQ(say_to_gate(&stranger, bytes, 5), TP_OK);
    CHECK_EQ(say_to_gate(&stranger, "", 0), TP_OK);
    AWAIT(stranger.returns == 2);
    CHECK_EQ(stranger.returned.reason, TP_ERR_PROTOCOL);
    CHECK_EQ(ask(&stranger, name.gate, "what is this?", 0), TP_OK);
    AWAIT(stranger.replies == 1);
    CHECK_EQ(stranger.reply_error, TP_ERR_PROTOCOL);
    CHECK_EQ(stage_account(&stage).malformed, 3);

    /* behind a kick nothing is taken for him any more, by the gate or, if he is gone already,
     * here */
    CHECK_EQ(tp_backend_kick(arena.backend, &name, 300), TP_OK);
    tp_err late = tell(&arena, &name, "too late");
    CHECK(late == TP_OK || late == TP_ERR_NO_SESSION);
    unsigned refused = late == TP_OK ? 2 : 1;
    AWAIT(sum_of(stage_account(&stage).refused, TP__GATE_REFUSAL_COUNT) == refused);
    AWAIT(players[0].left);
    CHECK_EQ(players[0].messages, 0);
    party_leave(&stranger);
    close_all();
}

/* ---- moves ----------------------------------------------------------------------------------- */

static void moves_to_another_service(void) {
    open_all();
    service_join(&other, stage.hub, "other");
    join_players(&arena, 0, 1);
    tp_player name = arena.last;
    uint8_t blob[TP_PLAYER_BLOB_MAX];
    memset(blob, 0x5a, sizeof blob);
    CHECK_EQ(tp_backend_move(arena.backend, &name, "other", TP_NO_PEER, blob, sizeof blob + 1),
        TP_ERR_INVALID);
    CHECK_EQ(tp_backend_move(arena.backend, &name, "other", TP_NO_PEER, blob, sizeof blob), TP_OK);
    AWAIT(arena.leaves == 1 && other.joins == 1);
    CHECK_EQ(arena.why, TP_LEAVE_MOVED);
    CHECK_EQ(arena.end, TP_END_NONE);
    CHECK_EQ(other.info.flags, TP_PLAYER_MOVED | TP_PLAYER_IDENTIFIED);
    CHECK_EQ(other.info.blob_size, sizeof blob);
    CHECK_MEM(other.blob, blob, sizeof blob);
    CHECK_EQ(other.info.player.session, name.session);
    CHECK(player_say(&stage, &players[0], "here"));
    AWAIT(other.messages == 1);
    CHECK_EQ(tell(&other, &other.last, "there"), TP_OK);
    AWAIT(players[0].messages == 1);
    CHECK_STR(players[0].text, "there");
    CHECK_EQ(tell(&arena, &name, "no more"), TP_ERR_NO_SESSION);

    /* and back, to a peer by its id, without a word for it */
    name = other.last;
    CHECK_EQ(tp_backend_move(other.backend, &name, NULL, service_peer(&arena), NULL, 0), TP_OK);
    AWAIT(arena.joins == 2 && other.leaves == 1);
    CHECK_EQ(arena.info.blob_size, 0);
    CHECK(player_say(&stage, &players[0], "back"));
    AWAIT(arena.messages == 1);
    player_quit(&stage, &players[0]);
    AWAIT(arena.leaves == 2);
    CHECK_EQ(other.stays + arena.stays, 0);
    CHECK_EQ(stage_account(&stage).moved, 2);
    close_all();
    service_kill(&other);
}

static void moves_to_another_peer_of_the_same_service(void) {
    open_all();
    join_players(&arena, 0, 1);
    service_join(&second, stage.hub, "arena");
    tp_player name = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &name, "arena", TP_NO_PEER, "x", 1), TP_OK);
    AWAIT(arena.leaves == 1 && second.joins == 1);
    CHECK_EQ(second.info.blob_size, 1);
    close_all();
    service_kill(&second);
}

static void await_stays(unsigned count, tp_err why) {
    AWAIT(arena.stays == count);
    CHECK_EQ(arena.stays_because, why);
}

static void says_when_there_is_nowhere_to_move(void) {
    open_all();
    join_players(&arena, 0, 1);
    tp_player name = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &name, "nowhere", TP_NO_PEER, NULL, 0), TP_OK);
    await_stays(1, TP_ERR_NO_ROUTE);
    CHECK_EQ(tp_backend_move(arena.backend, &name, "arena", TP_NO_PEER, NULL, 0), TP_OK);
    await_stays(2, TP_ERR_NO_ROUTE); /* he is with the only one */
    CHECK_EQ(tp_backend_move(arena.backend, &name, NULL, service_peer(&arena), NULL, 0), TP_OK);
    await_stays(3, TP_ERR_NO_ROUTE);
    CHECK_EQ(tp_backend_move(arena.backend, &name, NULL, name.gate + 77, NULL, 0), TP_OK);
    await_stays(4, TP_ERR_NO_ROUTE);
    CHECK_EQ(tp_backend_move(arena.backend, &name, "other", service_peer(&arena), NULL, 0), TP_OK);
    await_stays(5, TP_ERR_NO_ROUTE); /* that peer is of another service */
    CHECK_EQ(
        tp_backend_move(arena.backend, &name, "NOT A NAME", TP_NO_PEER, NULL, 0), TP_ERR_INVALID);
    CHECK_EQ(tp_backend_move(arena.backend, &name, NULL, TP_NO_PEER, NULL, 0), TP_ERR_INVALID);
    CHECK(player_say(&stage, &players[0], "still here"));
    AWAIT(arena.messages == 1);
    CHECK_EQ(stage_account(&stage).not_moved, 5);
    CHECK_EQ(stage_account(&stage).services, 1);
    close_all();
}

static void knows_no_more_services_than_it_may(void) {
    stage_init(&stage, hub_open_default());
    stage.options.max_services = 1;
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
    service_join(&other, stage.hub, "other");
    join_players(&arena, 0, 1);
    tp_player name = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &name, "other", TP_NO_PEER, NULL, 0), TP_OK);
    await_stays(1, TP_ERR_FULL);
    CHECK_EQ(tp_backend_move(arena.backend, &name, NULL, service_peer(&other), NULL, 0), TP_OK);
    await_stays(2, TP_ERR_FULL);
    CHECK_EQ(tp_backend_move(arena.backend, &name, "nowhere", TP_NO_PEER, NULL, 0), TP_OK);
    await_stays(3, TP_ERR_NO_ROUTE); /* that is not for want of room */
    close_all();
    service_kill(&other);
}

/* Services with names that are new each time, as of a match: those that are over make room for
 * others. */
static void forgets_services_that_are_gone(void) {
    stage_init(&stage, hub_open_default());
    stage.options.max_services = 2;
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
    join_players(&arena, 0, 2);
    for (unsigned i = 0; i < 3; i++) {
        char name[] = {'m', 'a', 't', 'c', 'h', '-', (char)('0' + i), '\0'};
        service_join(&other, stage.hub, name);
        AWAIT(tp_lanclient_peers(tp__gate_client(stage.gate), name, NULL, 0) == 1);
        unsigned joins = arena.joins;
        tp_player whom = arena.last;
        CHECK_EQ(tp_backend_move(arena.backend, &whom, name, TP_NO_PEER, NULL, 0), TP_OK);
        AWAIT(other.joins == 1 || arena.stays > 0);
        REQUIRE(arena.stays == 0);
        whom = other.last;
        CHECK_EQ(tp_backend_move(other.backend, &whom, "arena", TP_NO_PEER, NULL, 0), TP_OK);
        AWAIT(arena.joins == joins + 1 && other.leaves == 1);
        service_leave(&other);
        AWAIT(stage_account(&stage).peers == 1);
    }
    CHECK(player_say(&stage, &players[0], "still here"));
    CHECK(player_say(&stage, &players[1], "still here"));
    AWAIT(arena.messages == 2);
    CHECK_EQ(stage_account(&stage).services, 2);
    CHECK_EQ(stage_account(&stage).moved, 6);
    close_all();
}

/* The hub takes the MOVE with its blob, and not the JOIN, whose head is larger: whoever comes
 * behind it is not to wait for ever. */
static void holds_up_nobody_with_a_join_that_is_too_large(void) {
    static const uint8_t blob[950] = {1};
    tp__hub_options options;
    stage_open();
    hub_options(&options);
    options.server.max_frame = 1024;
    stage_init(&stage, hub_open(&options));
    stage.options.lost_close = 402;
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
    service_join(&other, stage.hub, "other");
    join_players(&arena, 0, 1);
    tp_player first = arena.last;
    join_players(&arena, 1, 1);
    tp_player next = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &first, "other", TP_NO_PEER, blob, sizeof blob), TP_OK);
    CHECK_EQ(tp_backend_move(arena.backend, &next, "other", TP_NO_PEER, "x", 1), TP_OK);
    AWAIT(other.joins == 1);
    CHECK_EQ(other.last.session, next.session);
    AWAIT(players[0].left);
    CHECK_EQ(players[0].close_code, 402);
    AWAIT(arena.leaves == 2);
    CHECK_EQ(other.joins, 1);
    close_all();
    service_kill(&other);
}

/* The gate says that it is none of a service's and that it is dealt with, both at once. */
static void returns_once_what_is_no_services_to_say(void) {
    party odd;
    open_all();
    tp_lanclient *client = tp__gate_client(stage.gate);
    party_join(&odd, stage.hub, "odd", "o");
    AWAIT(odd.peer_ups == 2);
    client_confirm_no_more(client);
    CHECK_EQ(say(&odd, tp_lanclient_self(client), "nonsense", NULL), TP_OK);
    AWAIT(odd.returns == 1);
    CHECK_EQ(odd.returned.reason, TP_ERR_PROTOCOL);
    hub_cut(stage.hub, tp_lanclient_self(client));
    AWAIT(odd.peer_downs == 1);
    CHECK_EQ(odd.returns, 1);
    AWAIT(odd.peer_ups == 3);
    client_confirm_again(client);
    CHECK_EQ(stage_account(&stage).malformed, 1);
    party_leave(&odd);
    close_all();
}

CHECK_MAIN(CASE(says_who_comes_and_why_he_goes), CASE(carries_messages_both_ways),
    CASE(keeps_the_order), CASE(tells_many_by_one_message_for_each_gate), CASE(tells_a_crowd),
    CASE(kicks_with_a_code), CASE(gives_players_to_the_peer_with_the_fewest),
    CASE(counts_what_the_bus_gives_back), CASE(counts_what_is_too_large),
    CASE(says_when_the_hub_takes_less_than_players_say),
    CASE(refuses_options_that_contradict_each_other), CASE(lets_nobody_else_talk_to_players),
    CASE(moves_to_another_service), CASE(moves_to_another_peer_of_the_same_service),
    CASE(says_when_there_is_nowhere_to_move), CASE(knows_no_more_services_than_it_may),
    CASE(forgets_services_that_are_gone), CASE(holds_up_nobody_with_a_join_that_is_too_large),
    CASE(returns_once_what_is_no_services_to_say))
