/*
 * The waiting room: positions, their notices, and the order of admission; and that players whose
 * connections are being ended take no slot of the gate.
 */
#include "gate_fixture.h"
#include "log_catch.h"
#include "os/clock.h"
#include "raw_peer.h"

enum { PLAYERS = 2, WAITING = 6, ALL = PLAYERS + WAITING };

static gate_fixture fixture;
static service arena;
static player players[ALL + 1];

/* One after another, so that their order is known. */
static void arrive(unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++) {
        player_join(&fixture, &players[i]);
        AWAIT(players[i].notices > 0 || players[i].left);
    }
}

static void open_all(void) {
    memset(players, 0, sizeof players);
    fixture_init(&fixture, hub_open_default());
    fixture.options.max_players = PLAYERS;
    fixture.options.max_waiting = WAITING;
    fixture.options.keep_players = PLAYERS;
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    AWAIT(fixture_stats(&fixture).peers == 1);
}

static void close_all(void) {
    tp__hub *hub = fixture.hub;
    fixture_close(&fixture);
    service_leave(&arena);
    hub_close(hub);
}

static void positions_are_told_and_admission_keeps_the_order(void) {
    open_all();
    arrive(0, ALL);
    AWAIT(arena.joins == PLAYERS);
    CHECK(players[0].in && players[1].in);
    CHECK_EQ(players[0].notices, 1); /* admission is a notice, too: position 0 */
    for (unsigned i = PLAYERS; i < ALL; i++) {
        CHECK(!players[i].in);
        CHECK_EQ(players[i].position, i - PLAYERS + 1);
        CHECK_EQ(players[i].waiting, i - PLAYERS + 1);
    }
    CHECK_EQ(fixture_stats(&fixture).waiting, WAITING);

    player_quit(&fixture, &players[1]); /* one of the players inside */
    AWAIT(players[2].in);
    AWAIT(players[3].position == 1 && players[7].position == 5 && players[7].waiting == 5);
    CHECK(!players[3].in);
    AWAIT(arena.joins == PLAYERS + 1 && arena.leaves == 1);

    player_quit(&fixture, &players[5]); /* one of those waiting; those ahead of it get no notice */
    AWAIT(players[6].position == 3 && players[7].position == 4);
    CHECK_EQ(players[4].position, 2);
    CHECK_EQ(players[4].notices, 2);

    CHECK(player_send(&fixture, &players[2], "at last"));
    AWAIT(arena.messages == 1);
    CHECK_EQ(service_send(&arena, &arena.last, "welcome"), TP_OK);
    AWAIT(players[2].messages == 1);

    player_quit(&fixture, &players[0]);
    player_quit(&fixture, &players[2]);
    AWAIT(players[3].in && players[4].in && !players[6].in);
    AWAIT(players[6].position == 1 && players[7].position == 2);
    tp__gate_stats stats = fixture_stats(&fixture);
    CHECK_EQ(stats.waited, WAITING);
    CHECK_EQ(stats.admitted, 3);
    CHECK_EQ(stats.gave_up, 1);
    close_all();
}

/* The address is the player's, as its own end of the connection has it. */
static bool refusal_is_logged(const char *reason) {
    return log_caught("info", "gate: refused 127.0.0.1:", reason) == 1;
}

static void a_player_is_refused_when_the_waiting_room_is_full(void) {
    log_catch_open();
    open_all();
    arrive(0, ALL);
    player_join(&fixture, &players[ALL]);
    AWAIT(players[ALL].left);
    CHECK_EQ(players[ALL].close_code, TP_CLOSE_FULL);
    CHECK_EQ(players[ALL].notices, 0);
    CHECK_EQ(fixture_stats(&fixture).turned_away, 1);
    CHECK(refusal_is_logged("the waiting room is full"));
    close_all();
    log_catch_close();
}

static void without_a_waiting_room_a_player_is_refused(void) {
    log_catch_open();
    memset(players, 0, sizeof players);
    fixture_init(&fixture, hub_open_default());
    fixture.options.max_players = 1;
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    player_join(&fixture, &players[0]);
    AWAIT(arena.joins == 1);
    player_join(&fixture, &players[1]);
    AWAIT(players[1].left);
    CHECK_EQ(players[1].close_code, TP_CLOSE_FULL);
    CHECK_EQ(fixture_stats(&fixture).turned_away, 1);
    CHECK(refusal_is_logged("full: max_players reached"));
    close_all();
    log_catch_close();
}

/* ---- connections that are being ended -------------------------------------------------------- */

/* A player that sends nothing and does not close its stream before raw_close(). */
static raw_peer *join_silently(unsigned joins) {
    tp_address address = tp_server_address(fixture.server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    AWAIT(arena.joins == joins);
    return peer;
}

static void check_closed_with(raw_peer *peer, unsigned close_code) {
    uint8_t payload[64] = {0};
    unsigned type = 99;
    while (raw_receive_frame(peer, &type, payload, sizeof payload) >= 0 && type != TP_FRAME_CLOSE) {
    }
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(tp_frame_close_reason(payload), close_code);
}

static void open_for_one(unsigned max_waiting) {
    memset(players, 0, sizeof players);
    fixture_init(&fixture, hub_open_default());
    fixture.options.max_players = 1;
    fixture.options.max_waiting = max_waiting;
    fixture.server_options.max_sessions = 1 + max_waiting;
    fixture.server_options.drain_timeout_ms = FIXTURE_PATIENCE_MS;
    fixture.server_options.ping_interval_ms = 0;
    fixture.server_options.idle_timeout_ms = 0;
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    AWAIT(fixture_stats(&fixture).peers == 1);
}

static void kick_last(unsigned close_code) {
    tp_mutex_lock(&fixture_mutex);
    const tp_player whom = arena.last;
    tp_mutex_unlock(&fixture_mutex);
    CHECK_EQ(tp_backend_kick(arena.backend, &whom, close_code), TP_OK);
}

/* The next player is admitted immediately, although the first one has hours to close its stream.
 * The service is notified of the first one's end when it has. */
static void a_kicked_player_frees_its_slot(void) {
    open_for_one(0);
    raw_peer *kicked = join_silently(1);
    kick_last(300);
    check_closed_with(kicked, 300);
    CHECK_EQ(fixture_stats(&fixture).players, 0);
    player_join(&fixture, &players[0]);
    AWAIT(arena.joins == 2);
    CHECK_EQ(fixture_stats(&fixture).turned_away, 0);
    CHECK_EQ(fixture_stats(&fixture).players, 1);
    CHECK_EQ(read_count(&arena.leaves), 0);
    raw_close(kicked, false);
    AWAIT(arena.leaves == 1);
    CHECK_EQ(fixture_stats(&fixture).players, 1); /* the slot was freed only once */
    close_all();
}

/* The gate searches all its entries. That of a player that has left does not free its slot a second
 * time. */
static void a_player_that_left_frees_its_slot_once(void) {
    open_for_one(0);
    raw_peer *kicked[2]; /* their slots are those of the last two players */
    for (unsigned i = 0; i < 2; i++) {
        kicked[i] = join_silently(i + 1);
        kick_last(300);
        check_closed_with(kicked[i], 300);
    }
    player_join(&fixture, &players[0]);
    AWAIT(arena.joins == 3);
    player_quit(&fixture, &players[0]);
    AWAIT(arena.leaves == 1);
    for (unsigned i = 0; i < 2; i++) {
        raw_close(kicked[1 - i], false);
        AWAIT(arena.leaves == i + 2);
    }
    raw_peer *rude = join_silently(4);
    CHECK(raw_send(rude, "\0\0\0\xff", 4));
    check_closed_with(rude, TP_CLOSE_PROTOCOL);
    player_join(&fixture, &players[1]);
    AWAIT(arena.joins == 5 || players[1].left);
    CHECK_EQ(fixture_stats(&fixture).players, 1);
    CHECK_EQ(fixture_stats(&fixture).turned_away, 0);
    raw_close(rude, false);
    close_all();
}

/* The server ends the session, and the gate is notified when the stream is closed. */
static void a_player_ended_by_the_server_frees_its_slot(void) {
    open_for_one(0);
    raw_peer *rude = join_silently(1);
    CHECK(raw_send(rude, "\0\0\0\xff", 4));
    check_closed_with(rude, TP_CLOSE_PROTOCOL);
    player_join(&fixture, &players[0]);
    AWAIT(arena.joins == 2);
    CHECK_EQ(fixture_stats(&fixture).turned_away, 0);
    CHECK_EQ(read_count(&arena.leaves), 0);
    raw_close(rude, false);
    AWAIT(arena.leaves == 1);
    close_all();
}

/* A waiting player is admitted when another one is being ended, without any other arrival or
 * departure; and a waiting connection that is being ended frees its position. */
static void connections_being_ended_keep_no_player_waiting(void) {
    open_for_one(1);
    raw_peer *rude = join_silently(1);
    tp_address address = tp_server_address(fixture.server);
    raw_peer *talker = raw_connect(&address); /* in the waiting room */
    REQUIRE(talker != NULL);
    AWAIT(fixture_stats(&fixture).waiting == 1);
    CHECK(raw_send_frame(talker, TP_FRAME_DATA, "let me in", 9));
    check_closed_with(talker, TP_CLOSE_PROTOCOL);
    player_join(&fixture, &players[0]);
    AWAIT(players[0].position == 1 && !players[0].in);
    CHECK(raw_send(rude, "\0\0\0\xff", 4));
    check_closed_with(rude, TP_CLOSE_PROTOCOL);
    AWAIT(players[0].in && arena.joins == 2);
    CHECK_EQ(fixture_stats(&fixture).turned_away, 0);
    CHECK_EQ(read_count(&arena.leaves), 0);
    raw_close(rude, false);
    raw_close(talker, false);
    AWAIT(arena.leaves == 1);
    close_all();
}

static void a_waiting_player_that_sends_is_closed(void) {
    open_all();
    arrive(0, PLAYERS + 2);
    CHECK(player_send(&fixture, &players[PLAYERS], "let me in"));
    AWAIT(players[PLAYERS].left);
    CHECK_EQ(players[PLAYERS].close_code, TP_CLOSE_PROTOCOL);
    AWAIT(players[PLAYERS + 1].position == 1);
    CHECK_EQ(fixture_stats(&fixture).dropped[TP__GATE_DROP_WAITING], 1);
    CHECK_EQ(read_count(&arena.messages), 0);
    close_all();
}

/* With one round of notices an hour, each player gets at most the first notice, that of one round,
 * and that of its admission. */
static void notices_are_sent_once_per_interval(void) {
    open_all();
    fixture_close(&fixture);
    fixture_init(&fixture, fixture.hub);
    fixture.options.max_players = 1;
    fixture.options.max_waiting = 3;
    fixture.options.place_interval_ms = 3600000;
    fixture_start(&fixture);
    memset(players, 0, sizeof players);
    AWAIT(fixture_stats(&fixture).peers == 1);
    arrive(0, 4);
    player_quit(&fixture, &players[0]);
    AWAIT(players[1].in);
    AWAIT(players[3].position == 2); /* the first round starts immediately */
    player_quit(&fixture, &players[1]);
    AWAIT(players[2].in);          /* an admission does not wait for a round */
    tp_mutex_lock(&fixture_mutex); /* 200 ms in which a further notice would arrive */
    uint64_t until = tp_clock_ms() + 200;
    while (tp_clock_ms() < until) {
        tp_condition_wait(&fixture_changed, &fixture_mutex, 200);
    }
    tp_mutex_unlock(&fixture_mutex);
    CHECK_LE(players[3].notices, 2);
    close_all();
}

/* After random arrivals and departures each waiting player has its right position, and they are
 * admitted in this order. */
static void positions_are_right_after_random_departures(void) {
    enum { CROWD = 200 };
    static player crowd[CROWD];
    static unsigned order[CROWD];
    fixture_init(&fixture, hub_open_default());
    fixture.options.max_players = 1;
    fixture.options.max_waiting = CROWD;
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    unsigned count = 0;
    uint32_t random = 1;
    for (unsigned i = 0; i < CROWD; i++) {
        player_join(&fixture, &crowd[i]);
        AWAIT(crowd[i].notices > 0);
        order[count++] = i;
        random = random * 1664525u + 1013904223u;
        if (count > 3 && random >> 31) { /* one of those waiting gives up */
            unsigned gone = 1 + (random >> 8) % (count - 1);
            tp_server_disconnect(fixture.crowd, crowd[order[gone]].session);
            count--;
            memmove(&order[gone], &order[gone + 1], (count - gone) * sizeof order[0]);
        }
    }
    for (unsigned i = 1; i < count; i++) {
        AWAIT(crowd[order[i]].position == i);
    }
    AWAIT(fixture_stats(&fixture).waiting == count - 1);
    for (unsigned i = 0; i + 1 < count && i < 20; i++) {
        tp_server_disconnect(fixture.crowd, crowd[order[i]].session);
        AWAIT(crowd[order[i + 1]].in);
        tp_mutex_lock(&fixture_mutex);
        CHECK(i + 2 >= count || !crowd[order[i + 2]].in);
        tp_mutex_unlock(&fixture_mutex);
    }
    close_all();
}

/* ---- messages between admission and JOIN ----------------------------------------------------- */

/* The player whose JOIN is delayed until it has sent a message, and how many have sent one. Under
 * fixture_mutex. */
static player *entering;
static unsigned senders;

static bool has_received(tp_server *server, uint64_t before) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(server, &stats);
    return stats.received_messages > before;
}

/* The identity callback, called while the gate makes the JOIN. If the worker that makes the JOIN
 * also serves the player, the player receives nothing meanwhile and this wait ends by its time. */
static bool wait_for_first_message(tp_server *server, tp_session_id session, tp_identity *who) {
    uint64_t until = tp_clock_ms() + 200;
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(server, &stats);
    tp_mutex_lock(&fixture_mutex);
    player *of = entering;
    entering = NULL;
    while (of && !of->in && tp_clock_ms() < until) {
        tp_condition_wait(&fixture_changed, &fixture_mutex, 1);
    }
    if (of && of->in && player_send(&fixture, of, "here I am")) {
        senders++;
        while (!has_received(server, stats.received_messages) && tp_clock_ms() < until) {
            tp_condition_wait(&fixture_changed, &fixture_mutex, 1);
        }
    }
    tp_mutex_unlock(&fixture_mutex);
    return fixture_identity_of(server, session, who);
}

static void no_message_after_admission_is_lost(void) {
    enum { ROUNDS = 12 };
    static player crowd[ROUNDS + 1];
    fixture_init(&fixture, hub_open_default());
    fixture.options.max_players = 1;
    fixture.options.max_waiting = ROUNDS;
    fixture.options.identity = wait_for_first_message;
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    senders = 0;
    /* From here on do not call the gate with fixture_mutex held: the gate takes it under its own
     * mutex. */
    for (unsigned i = 0; i <= ROUNDS; i++) {
        player_join(&fixture, &crowd[i]);
        AWAIT(crowd[i].notices > 0);
    }
    AWAIT(arena.joins == 1);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        tp_mutex_lock(&fixture_mutex);
        entering = &crowd[i];
        tp_mutex_unlock(&fixture_mutex);
        tp_server_disconnect(fixture.crowd, crowd[i - 1].session);
        AWAIT(arena.joins == i + 1);
        AWAIT(arena.messages == senders);
    }
    CHECK_EQ(fixture_stats(&fixture).dropped[TP__GATE_DROP_NO_SERVICE], 0);
    close_all();
}

CHECK_MAIN(CASE(positions_are_told_and_admission_keeps_the_order),
    CASE(a_player_is_refused_when_the_waiting_room_is_full),
    CASE(without_a_waiting_room_a_player_is_refused), CASE(a_kicked_player_frees_its_slot),
    CASE(a_player_that_left_frees_its_slot_once), CASE(a_player_ended_by_the_server_frees_its_slot),
    CASE(connections_being_ended_keep_no_player_waiting),
    CASE(a_waiting_player_that_sends_is_closed), CASE(notices_are_sent_once_per_interval),
    CASE(positions_are_right_after_random_departures), CASE(no_message_after_admission_is_lost))
