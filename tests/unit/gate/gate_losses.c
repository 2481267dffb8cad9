/* What happens to the players when a service, the bus or the gate is lost, and when it returns. */
#include "wanserver/gate/gate_internal.h"

/* Last: its type `player` is a variable's name in the product's headers. */
#include "gate_fixture.h"

enum { COUNT = 6 };

static gate_fixture fixture;
static service arena, second;
static player players[COUNT];

static void init(void) {
    memset(players, 0, sizeof players);
    fixture_init(&fixture, hub_open_default());
}

static void start(void) {
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    AWAIT(fixture_stats(&fixture).peers == 1); /* so that no player is held at first */
}

static void join_all(void) {
    for (unsigned i = 0; i < COUNT; i++) {
        player_join(&fixture, &players[i]);
    }
    AWAIT(arena.joins == COUNT);
}

static void close_all(void) {
    tp__hub *hub = fixture.hub;
    fixture_close(&fixture);
    if (arena.backend) {
        service_leave(&arena);
    }
    hub_close(hub);
}

static unsigned left_count(void) {
    unsigned count = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        count += players[i].left;
    }
    return count;
}

/* Each connected player sends a message and receives an answer. */
static void exchange_messages(service *of) {
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned messages = of->messages;
        unsigned answers = players[i].messages;
        if (!players[i].left) {
            CHECK(player_send(&fixture, &players[i], "again"));
            AWAIT(of->messages == messages + 1);
            CHECK_EQ(service_send(of, &of->last, "and again"), TP_OK);
            AWAIT(players[i].messages == answers + 1);
        }
    }
}

static void players_are_held_while_their_service_is_away(void) {
    init();
    start();
    join_all();
    CHECK_EQ(arena.info.flags & TP_PLAYER_RETURNS, 0);
    service_kill(&arena);
    CHECK_EQ(arena.why, TP_LEAVE_STOPPED);
    AWAIT(fixture_stats(&fixture).kept == COUNT);
    CHECK_EQ(fixture_stats(&fixture).players, COUNT);
    CHECK(player_send(&fixture, &players[0], "anybody?"));
    AWAIT(fixture_stats(&fixture).dropped[TP__GATE_DROP_NO_SERVICE] == 1);

    arena.joins = arena.leaves = 0;
    service_start(&arena);
    AWAIT(arena.joins == COUNT);
    CHECK_EQ(arena.info.flags, TP_PLAYER_RETURNS | TP_PLAYER_IDENTIFIED);
    CHECK_EQ(left_count(), 0);
    exchange_messages(&arena);
    AWAIT(fixture_stats(&fixture).kept == 0);
    CHECK_EQ(fixture_stats(&fixture).returns, COUNT);
    CHECK_EQ(fixture_stats(&fixture).lost_visits, COUNT);
    CHECK_EQ(service_stats(&arena).returned_players, COUNT);
    close_all();
}

/* Players that arrived before there was a peer do not return when it comes: they join. */
static void players_are_held_until_the_first_peer_of_the_service(void) {
    init();
    fixture_start(&fixture);
    for (unsigned i = 0; i < COUNT; i++) {
        player_join(&fixture, &players[i]);
    }
    AWAIT(fixture_stats(&fixture).kept == COUNT);
    player_quit(&fixture, &players[0]);
    AWAIT(fixture_stats(&fixture).kept == COUNT - 1);
    service_join(&arena, fixture.hub, "arena");
    AWAIT(arena.joins == COUNT - 1);
    CHECK_EQ(arena.info.flags, TP_PLAYER_IDENTIFIED);
    close_all();
}

static void players_of_a_lost_peer_go_to_another_peer(void) {
    init();
    start();
    service_join(&second, fixture.hub, "arena");
    AWAIT(fixture_stats(&fixture).peers == 2);
    for (unsigned i = 0; i < COUNT; i++) {
        player_join(&fixture, &players[i]);
    }
    AWAIT(arena.joins + second.joins == COUNT);
    service_kill(&arena);
    AWAIT(second.joins == COUNT);
    exchange_messages(&second);
    CHECK_EQ(fixture_stats(&fixture).kept_total, 0);
    close_all();
    service_leave(&second);
}

static void no_more_players_than_keep_players_are_held(void) {
    init();
    fixture.options.keep_players = 2;
    fixture.options.lost_close = 400;
    start();
    join_all();
    service_kill(&arena);
    AWAIT(left_count() == COUNT - 2);
    for (unsigned i = 0; i < COUNT; i++) {
        CHECK_EQ(players[i].close_code, players[i].left ? 400 : 0);
    }
    AWAIT(fixture_stats(&fixture).players == 2);
    CHECK_EQ(fixture_stats(&fixture).kept, 2);
    CHECK_EQ(fixture_stats(&fixture).lost_closed, COUNT - 2);
    arena.joins = arena.leaves = 0;
    service_start(&arena);
    AWAIT(arena.joins == 2);
    close_all();
}

static void without_keep_players_no_player_is_held(void) {
    init();
    fixture.options.keep_players = 0;
    fixture_start(&fixture);
    player_join(&fixture, &players[0]);
    AWAIT(players[0].left);
    CHECK_EQ(players[0].close_code, TP_CLOSE_SHUTDOWN);
    close_all();
}

static void players_are_held_no_longer_than_keep_ms(void) {
    init();
    fixture.options.keep_ms = 300;
    fixture.options.lost_close = 401;
    start();
    join_all();
    service_kill(&arena);
    AWAIT(left_count() == COUNT);
    CHECK_EQ(players[0].close_code, 401);
    AWAIT(fixture_stats(&fixture).players == 0);
    CHECK_EQ(fixture_stats(&fixture).lost_closed, COUNT);
    close_all();
}

/* The hub is killed, and another one starts at its address. */
static void players_return_when_the_bus_returns(void) {
    init();
    start();
    join_all();
    tp__hub_options options;
    hub_options(&options);
    options.server.address = tp_server_address(tp__hub_server(fixture.hub));
    tp__hub_destroy(fixture.hub);
    AWAIT(arena.leaves == COUNT && arena.downs == 1);
    CHECK_EQ(arena.why, TP_LEAVE_BUS_LOST);
    AWAIT(fixture_stats(&fixture).kept == COUNT);
    CHECK(player_send(&fixture, &players[0], "hello?"));
    AWAIT(fixture_stats(&fixture).dropped[TP__GATE_DROP_NO_SERVICE] == 1);
    CHECK_EQ(left_count(), 0);

    fixture.hub = hub_open(&options);
    AWAIT(arena.joins == 2 * COUNT);
    CHECK_EQ(arena.info.flags & TP_PLAYER_RETURNS, TP_PLAYER_RETURNS);
    exchange_messages(&arena);
    CHECK_EQ(left_count(), 0);
    close_all();
}

/* Cuts a peer's connection as a network failure would; the peer reconnects by itself. */
static void cut_connection_of(tp_peer_id id) {
    CHECK(tp_server_disconnect(tp__hub_server(fixture.hub), hub_session_of(fixture.hub, id)));
}

/* After the gate has reconnected, all peers are known before the first player is assigned. */
static void returning_players_are_spread_over_all_peers(void) {
    init();
    start();
    service_join(&second, fixture.hub, "arena");
    AWAIT(fixture_stats(&fixture).peers == 2);
    for (unsigned i = 0; i < COUNT; i++) {
        player_join(&fixture, &players[i]);
    }
    AWAIT(arena.joins + second.joins == COUNT);
    cut_connection_of(tp_lanclient_self(tp__gate_client(fixture.gate)));
    AWAIT(arena.leaves + second.leaves == COUNT);
    AWAIT(arena.joins + second.joins == 2 * COUNT);
    CHECK_EQ(tp_backend_player_count(arena.backend), COUNT / 2);
    CHECK_EQ(tp_backend_player_count(second.backend), COUNT / 2);
    close_all();
    service_leave(&second);
}

/* The blob of the last move is sent again when the player is assigned again after a loss. */
static void the_blob_of_a_move_is_sent_again_after_a_loss(void) {
    init();
    start();
    service_join(&second, fixture.hub, "second");
    player_join(&fixture, &players[0]);
    AWAIT(arena.joins == 1);
    tp_player name = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &name, "second", TP_NO_PEER, "state", 5), TP_OK);
    AWAIT(second.joins == 1);
    service_kill(&second);
    AWAIT(fixture_stats(&fixture).kept ==
          1); /* the arena is connected, but the player has moved to "second" */
    second.joins = second.leaves = 0;
    service_start(&second);
    AWAIT(second.joins == 1);
    CHECK_EQ(second.info.flags, TP_PLAYER_MOVED | TP_PLAYER_RETURNS | TP_PLAYER_IDENTIFIED);
    CHECK_EQ(second.info.blob_size, 5);
    CHECK_MEM(second.blob, "state", 5);
    CHECK_EQ(tp_backend_player_count(arena.backend), 0);
    close_all();
    service_kill(&second);
}

static void a_stop_closes_every_player_and_assignment(void) {
    init();
    start();
    join_all();
    fixture_gate_stop(&fixture);
    AWAIT(arena.leaves == COUNT && left_count() == COUNT);
    CHECK_EQ(arena.why, TP_LEAVE_ENDED);
    CHECK_EQ(arena.end, TP_END_SHUTDOWN);
    CHECK_EQ(players[0].close_code, TP_CLOSE_SHUTDOWN);
    tp__gate_stats stats = fixture_stats(&fixture);
    CHECK_EQ(stats.lost_visits, 0); /* each assignment was ended by an answer of the service */
    CHECK_EQ(stats.confirmed_leaves, COUNT);

    /* The gate can be started again. */
    memset(players, 0, sizeof players);
    arena.joins = arena.leaves = 0;
    REQUIRE(tp__gate_start(fixture.gate, fixture.server) == TP_OK);
    CHECK_EQ(tp__gate_start(fixture.gate, fixture.server), TP_ERR_STATE);
    join_all();
    exchange_messages(&arena);
    tp__gate_stop(fixture.gate);
    CHECK_EQ(tp__gate_wait(fixture.gate, -1), TP_OK);
    CHECK_EQ(tp__gate_wait(fixture.gate, 0), TP_ERR_STATE);
    tp_server_destroy(fixture.crowd);
    tp_server_destroy(fixture.server);
    tp__gate_destroy(fixture.gate);
    service_leave(&arena);
    hub_close(fixture.hub);
}

/* A slow service: its handler of the first leave blocks until `released`. */
static bool released;

static void leave_slowly(
    tp_backend *backend, const tp_player *name, tp_leave why, tp_end_reason end) {
    unsigned looks = 0;
    tp_mutex_lock(&fixture_mutex);
    while (!released && fixture_wait_more(&looks)) {
    }
    tp_mutex_unlock(&fixture_mutex);
    service_on_player_leave(backend, name, why, end);
}

static void a_stop_waits_for_the_answers_of_services(void) {
    init();
    fixture.options.drain_ms = 600000;
    fixture_start(&fixture);
    released = false;
    service_init(&arena, fixture.hub, "arena");
    arena.handlers.on_player_leave = leave_slowly;
    service_start(&arena);
    AWAIT(fixture_stats(&fixture).peers == 1);
    join_all();
    tp__gate_stop(fixture.gate);
    CHECK_EQ(tp__gate_wait(fixture.gate, 300), TP_ERR_TIMED_OUT);
    tp_mutex_lock(&fixture_mutex);
    released = true;
    tp_mutex_unlock(&fixture_mutex);
    fixture_close(&fixture);
    CHECK_EQ(arena.leaves, COUNT);
    CHECK_EQ(arena.why, TP_LEAVE_ENDED); /* each by its LEAVE, not by the loss of the gate */
    service_leave(&arena);
    hub_close(fixture.hub);
}

/* All players of a gate leave when the gate is lost. */
static void a_lost_gate_ends_its_players_at_the_service(void) {
    init();
    start();
    static gate_fixture more;
    fixture_init(&more, fixture.hub);
    fixture_start(&more);
    join_all();
    player theirs;
    player_join(&more, &theirs);
    AWAIT(arena.joins == COUNT + 1);
    tp_player name = arena.last;
    tp_lanclient_stop(tp__gate_client(more.gate));
    AWAIT(arena.leaves == 1);
    CHECK(tp_player_same(&arena.last, &name));
    CHECK_EQ(arena.why, TP_LEAVE_GATE_LOST);
    CHECK_EQ(service_send(&arena, &name, "hello?"), TP_ERR_NO_SESSION);
    CHECK_EQ(tp_backend_player_count(arena.backend), COUNT);
    fixture_close(&more);
    close_all();
}

/* A peer that does not answer JOIN as a service does gets no players. */
static void an_incompatible_peer_gets_no_players(void) {
    init();
    fixture_start(&fixture);
    party incompatible;
    party_init(&incompatible, fixture.hub, "arena", "incompatible");
    incompatible.handlers.on_request = NULL;
    party_start(&incompatible);
    player_join(&fixture, &players[0]);
    AWAIT(fixture_stats(&fixture).lost_visits == 1);
    party wrong; /* answers every request with the request itself */
    party_join(&wrong, fixture.hub, "arena", "wrong");
    AWAIT(fixture_stats(&fixture).lost_visits == 2);
    AWAIT(fixture_stats(&fixture).kept == 1);
    service_join(&arena, fixture.hub, "arena");
    AWAIT(arena.joins == 1);
    CHECK_EQ(arena.info.flags & TP_PLAYER_RETURNS, 0);
    party_leave(&incompatible);
    party_leave(&wrong);
    close_all();
}

static void a_player_that_the_service_refuses_is_closed(void) {
    init();
    fixture_start(&fixture);
    service_init(&arena, fixture.hub, "arena");
    arena.options.max_players = 2;
    service_start(&arena);
    for (unsigned i = 0; i < 3; i++) {
        player_join(&fixture, &players[i]);
        AWAIT(fixture_stats(&fixture).arrived == i + 1); /* arrived at the gate in this order */
    }
    AWAIT(left_count() == 1 && arena.joins == 2);
    CHECK_EQ(players[2].left, true);
    CHECK_EQ(players[2].close_code, TP_CLOSE_FULL);
    AWAIT(fixture_stats(&fixture).players == 2);
    CHECK_EQ(fixture_stats(&fixture).refused_joins, 1);
    CHECK_EQ(service_stats(&arena).refused, 1);
    player_quit(&fixture, &players[0]);
    AWAIT(arena.leaves == 1);
    player_join(&fixture, &players[3]);
    AWAIT(arena.joins == 3);
    close_all();
}

/* ---- LEAVEs without an answer ---------------------------------------------------------------- */

static unsigned unanswered; /* number of LEAVEs that get no answer */
static unsigned leaves_received;

static void answer_leaves_late(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    const tp_gate_done done = {.status = TP_GATE_OK};
    tp_gate_left left;
    bool leaves = tp_gate_read_leave(tp_packet_bytes(packet), tp_packet_size(packet), &left);
    tp_mutex_lock(&fixture_mutex);
    leaves_received += leaves;
    bool answer = !leaves || leaves_received > unanswered;
    party_note(&party_of(client)->requests);
    if (answer) {
        tp_packet *reply = tp_packet_new(TP_GATE_DONE_SIZE);
        REQUIRE(reply != NULL);
        tp_gate_write_done(tp_packet_put_space(reply, TP_GATE_DONE_SIZE), &done);
        CHECK_EQ(tp_lanclient_reply(client, from, reply, NULL), TP_OK);
        tp_packet_release(reply);
    }
}

static bool gate_is_idle(void) {
    tp_mutex_lock(&fixture.gate->mutex);
    bool idle = !fixture.gate->tick_scheduled;
    tp_mutex_unlock(&fixture.gate->mutex);
    return idle;
}

/* Joins one player to the service `slow` and waits until nothing is due by the gate's clock. */
static void join_slow_service(party *slow) {
    fixture_start(&fixture);
    leaves_received = 0;
    party_init(slow, fixture.hub, "arena", "slow");
    slow->handlers.on_request = answer_leaves_late;
    party_start(slow);
    AWAIT(fixture_stats(&fixture).peers == 1);
    player_join(&fixture, &players[0]);
    AWAIT(slow->requests == 1);
    AWAIT(gate_is_idle());
}

/* The LEAVE has been sent when the server is destroyed. The bus returns it after that. */
static void a_leave_may_come_back_after_the_server_is_destroyed(void) {
    party slow;
    init();
    unanswered = UINT32_MAX;
    join_slow_service(&slow);
    tp_server_destroy(fixture.server);
    AWAIT(leaves_received == 1);
    tp__gate_destroy(fixture.gate);
    tp_server_destroy(fixture.crowd);
    party_leave(&slow);
    hub_close(fixture.hub);
}

static void a_leave_is_repeated_after_the_last_player_left(void) {
    party slow;
    init();
    fixture.options.bus.request_timeout_ms = 50;
    unanswered = 2;
    join_slow_service(&slow);
    player_quit(&fixture, &players[0]);
    AWAIT(leaves_received >= 3 && fixture_stats(&fixture).visits == 0);
    CHECK_EQ(fixture_stats(&fixture).lost_visits, 0);
    AWAIT(gate_is_idle());
    fixture_close(&fixture);
    party_leave(&slow);
    hub_close(fixture.hub);
}

CHECK_MAIN(CASE(players_are_held_while_their_service_is_away),
    CASE(players_are_held_until_the_first_peer_of_the_service),
    CASE(players_of_a_lost_peer_go_to_another_peer),
    CASE(no_more_players_than_keep_players_are_held), CASE(without_keep_players_no_player_is_held),
    CASE(players_are_held_no_longer_than_keep_ms), CASE(players_return_when_the_bus_returns),
    CASE(returning_players_are_spread_over_all_peers),
    CASE(the_blob_of_a_move_is_sent_again_after_a_loss),
    CASE(a_stop_closes_every_player_and_assignment), CASE(a_stop_waits_for_the_answers_of_services),
    CASE(a_lost_gate_ends_its_players_at_the_service), CASE(an_incompatible_peer_gets_no_players),
    CASE(a_player_that_the_service_refuses_is_closed),
    CASE(a_leave_may_come_back_after_the_server_is_destroyed),
    CASE(a_leave_is_repeated_after_the_last_player_left))
