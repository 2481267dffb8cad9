/* What becomes of the players when a service, the bus or the gate goes away, and when it comes
 * back. */
#include "wanserver/gate/gate_internal.h"

#include "gate_stage.h" /* last: its `player` is a type, others' a name */

enum { COUNT = 6 };

static gate_stage stage;
static service arena, second;
static player players[COUNT];

static void init(void) {
    memset(players, 0, sizeof players);
    stage_init(&stage, hub_open_default());
}

static void start(void) {
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
    AWAIT(stage_account(&stage).peers == 1); /* so that nobody is kept at first */
}

static void join_all(void) {
    for (unsigned i = 0; i < COUNT; i++) {
        player_join(&stage, &players[i]);
    }
    AWAIT(arena.joins == COUNT);
}

static void close_all(void) {
    tp__hub *hub = stage.hub;
    stage_close(&stage);
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

/* Each of those who are there says something, and is answered. */
static void talk_again(service *of) {
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned messages = of->messages;
        unsigned answers = players[i].messages;
        if (!players[i].left) {
            CHECK(player_say(&stage, &players[i], "again"));
            AWAIT(of->messages == messages + 1);
            CHECK_EQ(tell(of, &of->last, "and again"), TP_OK);
            AWAIT(players[i].messages == answers + 1);
        }
    }
}

static void keeps_players_while_the_service_is_away(void) {
    init();
    start();
    join_all();
    CHECK_EQ(arena.info.flags & TP_PLAYER_RETURNS, 0);
    service_kill(&arena);
    CHECK_EQ(arena.why, TP_LEAVE_STOPPED);
    AWAIT(stage_account(&stage).kept == COUNT);
    CHECK_EQ(stage_account(&stage).players, COUNT);
    CHECK(player_say(&stage, &players[0], "anybody?"));
    AWAIT(stage_account(&stage).dropped[TP__GATE_DROP_NO_SERVICE] == 1);

    arena.joins = arena.leaves = 0;
    service_start(&arena);
    AWAIT(arena.joins == COUNT);
    CHECK_EQ(arena.info.flags, TP_PLAYER_RETURNS | TP_PLAYER_IDENTIFIED);
    CHECK_EQ(left_count(), 0);
    talk_again(&arena);
    AWAIT(stage_account(&stage).kept == 0);
    CHECK_EQ(stage_account(&stage).returns, COUNT);
    CHECK_EQ(stage_account(&stage).lost_visits, COUNT);
    CHECK_EQ(service_stats(&arena).returned_players, COUNT);
    close_all();
}

/* Those who have come while nobody was there do not return: they come. */
static void keeps_players_until_the_service_comes_at_all(void) {
    init();
    stage_start(&stage);
    for (unsigned i = 0; i < COUNT; i++) {
        player_join(&stage, &players[i]);
    }
    AWAIT(stage_account(&stage).kept == COUNT);
    player_quit(&stage, &players[0]);
    AWAIT(stage_account(&stage).kept == COUNT - 1);
    service_join(&arena, stage.hub, "arena");
    AWAIT(arena.joins == COUNT - 1);
    CHECK_EQ(arena.info.flags, TP_PLAYER_IDENTIFIED);
    close_all();
}

static void gives_the_players_of_a_lost_peer_to_another(void) {
    init();
    start();
    service_join(&second, stage.hub, "arena");
    AWAIT(stage_account(&stage).peers == 2);
    for (unsigned i = 0; i < COUNT; i++) {
        player_join(&stage, &players[i]);
    }
    AWAIT(arena.joins + second.joins == COUNT);
    service_kill(&arena);
    AWAIT(second.joins == COUNT);
    talk_again(&second);
    CHECK_EQ(stage_account(&stage).kept_total, 0);
    close_all();
    service_leave(&second);
}

static void keeps_no_more_than_it_may(void) {
    init();
    stage.options.keep_players = 2;
    stage.options.lost_close = 400;
    start();
    join_all();
    service_kill(&arena);
    AWAIT(left_count() == COUNT - 2);
    for (unsigned i = 0; i < COUNT; i++) {
        CHECK_EQ(players[i].close_code, players[i].left ? 400 : 0);
    }
    AWAIT(stage_account(&stage).players == 2);
    CHECK_EQ(stage_account(&stage).kept, 2);
    CHECK_EQ(stage_account(&stage).lost_closed, COUNT - 2);
    arena.joins = arena.leaves = 0;
    service_start(&arena);
    AWAIT(arena.joins == 2);
    close_all();
}

static void keeps_nobody_if_told_so(void) {
    init();
    stage.options.keep_players = 0;
    stage_start(&stage);
    player_join(&stage, &players[0]);
    AWAIT(players[0].left);
    CHECK_EQ(players[0].close_code, TP_CLOSE_SHUTDOWN);
    close_all();
}

static void keeps_no_longer_than_it_may(void) {
    init();
    stage.options.keep_ms = 300;
    stage.options.lost_close = 401;
    start();
    join_all();
    service_kill(&arena);
    AWAIT(left_count() == COUNT);
    CHECK_EQ(players[0].close_code, 401);
    AWAIT(stage_account(&stage).players == 0);
    CHECK_EQ(stage_account(&stage).lost_closed, COUNT);
    close_all();
}

/* The hub dies, and another one begins at its address. */
static void comes_back_with_the_bus(void) {
    init();
    start();
    join_all();
    tp__hub_options options;
    hub_options(&options);
    options.server.address = tp_server_address(tp__hub_server(stage.hub));
    tp__hub_destroy(stage.hub);
    AWAIT(arena.leaves == COUNT && arena.downs == 1);
    CHECK_EQ(arena.why, TP_LEAVE_BUS_LOST);
    AWAIT(stage_account(&stage).kept == COUNT);
    CHECK(player_say(&stage, &players[0], "hello?"));
    AWAIT(stage_account(&stage).dropped[TP__GATE_DROP_NO_SERVICE] == 1);
    CHECK_EQ(left_count(), 0);

    stage.hub = hub_open(&options);
    AWAIT(arena.joins == 2 * COUNT);
    CHECK_EQ(arena.info.flags & TP_PLAYER_RETURNS, TP_PLAYER_RETURNS);
    talk_again(&arena);
    CHECK_EQ(left_count(), 0);
    close_all();
}

/* As if the network had: the peer comes back by itself. */
static void cut_off_the_bus(tp_peer_id id) {
    CHECK(tp_server_disconnect(tp__hub_server(stage.hub), hub_session_of(stage.hub, id)));
}

/* All peers are known before the first player is given away. */
static void spreads_players_over_the_peers_that_come_back(void) {
    init();
    start();
    service_join(&second, stage.hub, "arena");
    AWAIT(stage_account(&stage).peers == 2);
    for (unsigned i = 0; i < COUNT; i++) {
        player_join(&stage, &players[i]);
    }
    AWAIT(arena.joins + second.joins == COUNT);
    cut_off_the_bus(tp_lanclient_self(tp__gate_client(stage.gate)));
    AWAIT(arena.leaves + second.leaves == COUNT);
    AWAIT(arena.joins + second.joins == 2 * COUNT);
    CHECK_EQ(tp_backend_player_count(arena.backend), COUNT / 2);
    CHECK_EQ(tp_backend_player_count(second.backend), COUNT / 2);
    close_all();
    service_leave(&second);
}

/* What a move handed on comes again after a loss. */
static void hands_on_again_what_the_last_move_did(void) {
    init();
    start();
    service_join(&second, stage.hub, "second");
    player_join(&stage, &players[0]);
    AWAIT(arena.joins == 1);
    tp_player name = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &name, "second", TP_NO_PEER, "state", 5), TP_OK);
    AWAIT(second.joins == 1);
    service_kill(&second);
    AWAIT(
        stage_account(&stage).kept == 1); /* the arena would be there, but he is not its any more */
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

static void tells_everybody_when_it_stops(void) {
    init();
    start();
    join_all();
    stage_gate_stop(&stage);
    AWAIT(arena.leaves == COUNT && left_count() == COUNT);
    CHECK_EQ(arena.why, TP_LEAVE_ENDED);
    CHECK_EQ(arena.end, TP_END_SHUTDOWN);
    CHECK_EQ(players[0].close_code, TP_CLOSE_SHUTDOWN);
    tp__gate_account account = stage_account(&stage);
    CHECK_EQ(account.lost_visits, 0); /* each of them by a word of the service's */
    CHECK_EQ(account.confirmed_leaves, COUNT);

    /* and starts again */
    memset(players, 0, sizeof players);
    arena.joins = arena.leaves = 0;
    REQUIRE(tp__gate_start(stage.gate, stage.server) == TP_OK);
    CHECK_EQ(tp__gate_start(stage.gate, stage.server), TP_ERR_STATE);
    join_all();
    talk_again(&arena);
    tp__gate_stop(stage.gate);
    CHECK_EQ(tp__gate_wait(stage.gate, -1), TP_OK);
    CHECK_EQ(tp__gate_wait(stage.gate, 0), TP_ERR_STATE);
    tp_server_destroy(stage.crowd);
    tp_server_destroy(stage.server);
    tp__gate_destroy(stage.gate);
    service_leave(&arena);
    hub_close(stage.hub);
}

/* A service that takes its time: the first one who leaves is still in its handler. */
static bool released;

static void leave_slowly(
    tp_backend *backend, const tp_player *name, tp_leave why, tp_end_reason end) {
    unsigned looks = 0;
    tp_mutex_lock(&stage_mutex);
    while (!released && stage_look_again(&looks)) {
    }
    tp_mutex_unlock(&stage_mutex);
    service_on_player_leave(backend, name, why, end);
}

static void waits_for_the_word_of_the_services(void) {
    init();
    stage.options.drain_ms = 600000;
    stage_start(&stage);
    released = false;
    service_init(&arena, stage.hub, "arena");
    arena.handlers.on_player_leave = leave_slowly;
    service_start(&arena);
    AWAIT(stage_account(&stage).peers == 1);
    join_all();
    tp__gate_stop(stage.gate);
    CHECK_EQ(tp__gate_wait(stage.gate, 300), TP_ERR_TIMED_OUT);
    tp_mutex_lock(&stage_mutex);
    released = true;
    tp_mutex_unlock(&stage_mutex);
    stage_close(&stage);
    CHECK_EQ(arena.leaves, COUNT);
    CHECK_EQ(arena.why, TP_LEAVE_ENDED); /* each by its LEAVE, and not because the gate is lost */
    service_leave(&arena);
    hub_close(stage.hub);
}

/* A gate is lost with all its players. */
static void loses_the_players_of_a_gate(void) {
    init();
    start();
    static gate_stage more;
    stage_init(&more, stage.hub);
    stage_start(&more);
    join_all();
    player theirs;
    player_join(&more, &theirs);
    AWAIT(arena.joins == COUNT + 1);
    tp_player name = arena.last;
    tp_lanclient_stop(tp__gate_client(more.gate));
    AWAIT(arena.leaves == 1);
    CHECK(tp_player_same(&arena.last, &name));
    CHECK_EQ(arena.why, TP_LEAVE_GATE_LOST);
    CHECK_EQ(tell(&arena, &name, "hello?"), TP_ERR_NO_SESSION);
    CHECK_EQ(tp_backend_player_count(arena.backend), COUNT);
    stage_close(&more);
    close_all();
}

/* A service that does not speak like one gets no players. */
static void gives_no_players_to_who_does_not_understand(void) {
    init();
    stage_start(&stage);
    party deaf;
    party_init(&deaf, stage.hub, "arena", "deaf");
    deaf.handlers.on_request = NULL;
    party_start(&deaf);
    player_join(&stage, &players[0]);
    AWAIT(stage_account(&stage).lost_visits == 1);
    party wrong; /* answers with the question */
    party_join(&wrong, stage.hub, "arena", "wrong");
    AWAIT(stage_account(&stage).lost_visits == 2);
    AWAIT(stage_account(&stage).kept == 1);
    service_join(&arena, stage.hub, "arena");
    AWAIT(arena.joins == 1);
    CHECK_EQ(arena.info.flags & TP_PLAYER_RETURNS, 0);
    party_leave(&deaf);
    party_leave(&wrong);
    close_all();
}

static void closes_whom_the_service_refuses(void) {
    init();
    stage_start(&stage);
    service_init(&arena, stage.hub, "arena");
    arena.options.max_players = 2;
    service_start(&arena);
    for (unsigned i = 0; i < 3; i++) {
        player_join(&stage, &players[i]);
        AWAIT(stage_account(&stage).arrived == i + 1); /* in this order, also at the gate */
    }
    AWAIT(left_count() == 1 && arena.joins == 2);
    CHECK_EQ(players[2].left, true);
    CHECK_EQ(players[2].close_code, TP_CLOSE_FULL);
    AWAIT(stage_account(&stage).players == 2);
    CHECK_EQ(stage_account(&stage).refused_joins, 1);
    CHECK_EQ(service_stats(&arena).refused, 1);
    player_quit(&stage, &players[0]);
    AWAIT(arena.leaves == 1);
    player_join(&stage, &players[3]);
    AWAIT(arena.joins == 3);
    close_all();
}

/* ---- a service that is slow to let go -------------------------------------------------------- */

static unsigned unanswered; /* LEAVEs that get no answer, from the first on */
static unsigned leaves_heard;

static void leave_unanswered(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    const tp_gate_done done = {.status = TP_GATE_OK};
    tp_gate_left left;
    bool leaves = tp_gate_read_leave(tp_packet_bytes(packet), tp_packet_size(packet), &left);
    tp_mutex_lock(&stage_mutex);
    leaves_heard += leaves;
    bool answer = !leaves || leaves_heard > unanswered;
    party_note(&party_of(client)->requests);
    if (answer) {
        tp_packet *reply = tp_packet_new(TP_GATE_DONE_SIZE);
        REQUIRE(reply != NULL);
        tp_gate_write_done(tp_packet_put_space(reply, TP_GATE_DONE_SIZE), &done);
        CHECK_EQ(tp_lanclient_reply(client, from, reply, NULL), TP_OK);
        tp_packet_release(reply);
    }
}

static bool is_idle(void) {
    tp_mutex_lock(&stage.gate->mutex);
    bool idle = !stage.gate->armed;
    tp_mutex_unlock(&stage.gate->mutex);
    return idle;
}

/* One player is with it, and nothing is due by the clock. */
static void join_slow_service(party *slow) {
    stage_start(&stage);
    leaves_heard = 0;
    party_init(slow, stage.hub, "arena", "slow");
    slow->handlers.on_request = leave_unanswered;
    party_start(slow);
    AWAIT(stage_account(&stage).peers == 1);
    player_join(&stage, &players[0]);
    AWAIT(slow->requests == 1);
    AWAIT(is_idle());
}

/* The LEAVE is under way when the server goes; the bus gives it back when there is none left. */
static void a_leave_that_outlives_the_server_touches_it_no_more(void) {
    party slow;
    init();
    unanswered = UINT32_MAX;
    join_slow_service(&slow);
    tp_server_destroy(stage.server);
    AWAIT(leaves_heard == 1);
    tp__gate_destroy(stage.gate);
    tp_server_destroy(stage.crowd);
    party_leave(&slow);
    hub_close(stage.hub);
}

static void a_leave_is_said_again_though_nobody_is_left(void) {
    party slow;
    init();
    stage.options.bus.request_timeout_ms = 50;
    unanswered = 2;
    join_slow_service(&slow);
    player_quit(&stage, &players[0]);
    AWAIT(leaves_heard >= 3 && stage_account(&stage).visits == 0);
    CHECK_EQ(stage_account(&stage).lost_visits, 0);
    AWAIT(is_idle());
    stage_close(&stage);
    party_leave(&slow);
    hub_close(stage.hub);
}

CHECK_MAIN(CASE(keeps_players_while_the_service_is_away),
    CASE(keeps_players_until_the_service_comes_at_all),
    CASE(gives_the_players_of_a_lost_peer_to_another), CASE(keeps_no_more_than_it_may),
    CASE(keeps_nobody_if_told_so), CASE(keeps_no_longer_than_it_may), CASE(comes_back_with_the_bus),
    CASE(spreads_players_over_the_peers_that_come_back),
    CASE(hands_on_again_what_the_last_move_did), CASE(tells_everybody_when_it_stops),
    CASE(waits_for_the_word_of_the_services), CASE(loses_the_players_of_a_gate),
    CASE(gives_no_players_to_who_does_not_understand), CASE(closes_whom_the_service_refuses),
    CASE(a_leave_that_outlives_the_server_touches_it_no_more),
    CASE(a_leave_is_said_again_though_nobody_is_left))
