/* The waiting room: who waits, what he is told, and who comes in. */
#include "gate_stage.h"
#include "log_catch.h"
#include "os/clock.h"
#include "raw_peer.h"

enum { PLAYERS = 2, WAITING = 6, ALL = PLAYERS + WAITING };

static gate_stage stage;
static service arena;
static player players[ALL + 1];

/* One after the other, so that their order is known. */
static void arrive(unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++) {
        player_join(&stage, &players[i]);
        AWAIT(players[i].places > 0 || players[i].left);
    }
}

static void open_all(void) {
    memset(players, 0, sizeof players);
    stage_init(&stage, hub_open_default());
    stage.options.max_players = PLAYERS;
    stage.options.max_waiting = WAITING;
    stage.options.keep_players = PLAYERS;
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
    AWAIT(stage_account(&stage).peers == 1);
}

static void close_all(void) {
    tp__hub *hub = stage.hub;
    stage_close(&stage);
    service_leave(&arena);
    hub_close(hub);
}

static void tells_places_and_admits_in_order(void) {
    open_all();
    arrive(0, ALL);
    AWAIT(arena.joins == PLAYERS);
    CHECK(players[0].in && players[1].in);
    CHECK_EQ(players[0].places, 1); /* they are told that they are in, too */
    for (unsigned i = PLAYERS; i < ALL; i++) {
        CHECK(!players[i].in);
        CHECK_EQ(players[i].place, i - PLAYERS + 1);
        CHECK_EQ(players[i].waiting, i - PLAYERS + 1);
    }
    CHECK_EQ(stage_account(&stage).waiting, WAITING);

    player_quit(&stage, &players[1]); /* of those who play */
    AWAIT(players[2].in);
    AWAIT(players[3].place == 1 && players[7].place == 5 && players[7].waiting == 5);
    CHECK(!players[3].in);
    AWAIT(arena.joins == PLAYERS + 1 && arena.leaves == 1);

    player_quit(&stage, &players[5]); /* of those who wait: who is ahead of him hears nothing */
    AWAIT(players[6].place == 3 && players[7].place == 4);
    CHECK_EQ(players[4].place, 2);
    CHECK_EQ(players[4].places, 2);

    CHECK(player_say(&stage, &players[2], "at last"));
    AWAIT(arena.messages == 1);
    CHECK_EQ(tell(&arena, &arena.last, "welcome"), TP_OK);
    AWAIT(players[2].messages == 1);

    player_quit(&stage, &players[0]);
    player_quit(&stage, &players[2]);
    AWAIT(players[3].in && players[4].in && !players[6].in);
    AWAIT(players[6].place == 1 && players[7].place == 2);
    tp__gate_account account = stage_account(&stage);
    CHECK_EQ(account.waited, WAITING);
    CHECK_EQ(account.admitted, 3);
    CHECK_EQ(account.gave_up, 1);
    close_all();
}

/* The address is the player's, as he has it at his own end. */
static bool is_said_of_somebody(const char *reason) {
    return log_caught("info", "gate: refused 127.0.0.1:", reason) == 1;
}

static void turns_away_who_finds_it_full(void) {
    log_catch_open();
    open_all();
    arrive(0, ALL);
    player_join(&stage, &players[ALL]);
    AWAIT(players[ALL].left);
    CHECK_EQ(players[ALL].close_code, TP_CLOSE_FULL);
    CHECK_EQ(players[ALL].places, 0);
    CHECK_EQ(stage_account(&stage).turned_away, 1);
    CHECK(is_said_of_somebody("the waiting room is full"));
    close_all();
    log_catch_close();
}

static void turns_away_where_nobody_can_wait(void) {
    log_catch_open();
    memset(players, 0, sizeof players);
    stage_init(&stage, hub_open_default());
    stage.options.max_players = 1;
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
    player_join(&stage, &players[0]);
    AWAIT(arena.joins == 1);
    player_join(&stage, &players[1]);
    AWAIT(players[1].left);
    CHECK_EQ(players[1].close_code, TP_CLOSE_FULL);
    CHECK_EQ(stage_account(&stage).turned_away, 1);
    CHECK(is_said_of_somebody("full: max_players are here"));
    close_all();
    log_catch_close();
}

/* ---- who is being ended ---------------------------------------------------------------------- */

/* Comes in as a player, and says nothing and hangs up only when he is told to. */
static raw_peer *stubborn_join(unsigned joins) {
    tp_address address = tp_server_address(stage.server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    AWAIT(arena.joins == joins);
    return peer;
}

static void check_told(raw_peer *peer, unsigned close_code) {
    uint8_t payload[64] = {0};
    unsigned type = 99;
    while (raw_receive_frame(peer, &type, payload, sizeof payload) >= 0 && type != TP_FRAME_CLOSE) {
    }
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(tp_frame_close_reason(payload), close_code);
}

static void open_for_one(unsigned max_waiting) {
    memset(players, 0, sizeof players);
    stage_init(&stage, hub_open_default());
    stage.options.max_players = 1;
    stage.options.max_waiting = max_waiting;
    stage.server_options.max_sessions = 1 + max_waiting;
    stage.server_options.drain_timeout_ms = STAGE_PATIENCE_MS;
    stage.server_options.ping_interval_ms = 0;
    stage.server_options.idle_timeout_ms = 0;
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
    AWAIT(stage_account(&stage).peers == 1);
}

/* A count of the arena's, whose handlers write it. */
static unsigned now(const unsigned *count) {
    tp_mutex_lock(&stage_mutex);
    unsigned value = *count;
    tp_mutex_unlock(&stage_mutex);
    return value;
}

static void kick_last(unsigned close_code) {
    tp_mutex_lock(&stage_mutex);
    const tp_player whom = arena.last;
    tp_mutex_unlock(&stage_mutex);
    CHECK_EQ(tp_backend_kick(arena.backend, &whom, close_code), TP_OK);
}

/* Another comes in at once, though the first has hours to hang up; his service hears of his end
 * then. */
static void who_is_kicked_holds_no_place(void) {
    open_for_one(0);
    raw_peer *kicked = stubborn_join(1);
    kick_last(300);
    check_told(kicked, 300);
    CHECK_EQ(stage_account(&stage).players, 0);
    player_join(&stage, &players[0]);
    AWAIT(arena.joins == 2);
    CHECK_EQ(stage_account(&stage).turned_away, 0);
    CHECK_EQ(stage_account(&stage).players, 1);
    CHECK_EQ(now(&arena.leaves), 0);
    raw_close(kicked, false);
    AWAIT(arena.leaves == 1);
    CHECK_EQ(stage_account(&stage).players, 1); /* his place was given once */
    close_all();
}

/* The gate looks through all its entries: that of a player who has left holds no place a second
 * time. */
static void who_has_left_gives_no_place_again(void) {
    open_for_one(0);
    raw_peer *kicked[2]; /* their slots are those of the last two */
    for (unsigned i = 0; i < 2; i++) {
        kicked[i] = stubborn_join(i + 1);
        kick_last(300);
        check_told(kicked[i], 300);
    }
    player_join(&stage, &players[0]);
    AWAIT(arena.joins == 3);
    player_quit(&stage, &players[0]);
    AWAIT(arena.leaves == 1);
    for (unsigned i = 0; i < 2; i++) {
        raw_close(kicked[1 - i], false);
        AWAIT(arena.leaves == i + 2);
    }
    raw_peer *rude = stubborn_join(4);
    CHECK(raw_send(rude, "\0\0\0\xff", 4));
    check_told(rude, TP_CLOSE_PROTOCOL);
    player_join(&stage, &players[1]);
    AWAIT(arena.joins == 5 || players[1].left);
    CHECK_EQ(stage_account(&stage).players, 1);
    CHECK_EQ(stage_account(&stage).turned_away, 0);
    raw_close(rude, false);
    close_all();
}

/* The gate does not end him, and hears of it when he has hung up. */
static void whom_the_server_ends_holds_no_place(void) {
    open_for_one(0);
    raw_peer *rude = stubborn_join(1);
    CHECK(raw_send(rude, "\0\0\0\xff", 4));
    check_told(rude, TP_CLOSE_PROTOCOL);
    player_join(&stage, &players[0]);
    AWAIT(arena.joins == 2);
    CHECK_EQ(stage_account(&stage).turned_away, 0);
    CHECK_EQ(now(&arena.leaves), 0);
    raw_close(rude, false);
    AWAIT(arena.leaves == 1);
    close_all();
}

/* Those who wait come in without anybody's coming or going; and one of them who is being ended
 * makes room. */
static void who_is_being_ended_keeps_nobody_waiting(void) {
    open_for_one(1);
    raw_peer *rude = stubborn_join(1);
    tp_address address = tp_server_address(stage.server);
    raw_peer *talker = raw_connect(&address); /* while he waits */
    REQUIRE(talker != NULL);
    AWAIT(stage_account(&stage).waiting == 1);
    CHECK(raw_send_frame(talker, TP_FRAME_DATA, "let me in", 9));
    check_told(talker, TP_CLOSE_PROTOCOL);
    player_join(&stage, &players[0]);
    AWAIT(players[0].place == 1 && !players[0].in);
    CHECK(raw_send(rude, "\0\0\0\xff", 4));
    check_told(rude, TP_CLOSE_PROTOCOL);
    AWAIT(players[0].in && arena.joins == 2);
    CHECK_EQ(stage_account(&stage).turned_away, 0);
    CHECK_EQ(now(&arena.leaves), 0);
    raw_close(rude, false);
    raw_close(talker, false);
    AWAIT(arena.leaves == 1);
    close_all();
}

static void closes_who_talks_while_he_waits(void) {
    open_all();
    arrive(0, PLAYERS + 2);
    CHECK(player_say(&stage, &players[PLAYERS], "let me in"));
    AWAIT(players[PLAYERS].left);
    CHECK_EQ(players[PLAYERS].close_code, TP_CLOSE_PROTOCOL);
    AWAIT(players[PLAYERS + 1].place == 1);
    CHECK_EQ(stage_account(&stage).dropped[TP__GATE_DROP_WAITING], 1);
    CHECK_EQ(now(&arena.messages), 0);
    close_all();
}

/* With places told once an hour, nobody is told more than his first, one round's, and that he is
 * in. */
static void does_not_tell_more_often_than_it_may(void) {
    open_all();
    stage_close(&stage);
    stage_init(&stage, stage.hub);
    stage.options.max_players = 1;
    stage.options.max_waiting = 3;
    stage.options.tell_ms = 3600000;
    stage_start(&stage);
    memset(players, 0, sizeof players);
    AWAIT(stage_account(&stage).peers == 1);
    arrive(0, 4);
    player_quit(&stage, &players[0]);
    AWAIT(players[1].in);
    AWAIT(players[3].place == 2); /* the first round begins at once */
    player_quit(&stage, &players[1]);
    AWAIT(players[2].in);        /* this does not wait for a round */
    tp_mutex_lock(&stage_mutex); /* time for what must not happen */
    uint64_t until = tp_clock_ms() + 200;
    while (tp_clock_ms() < until) {
        tp_condition_wait(&stage_changed, &stage_mutex, 200);
    }
    tp_mutex_unlock(&stage_mutex);
    CHECK_LE(players[3].places, 2);
    close_all();
}

/* Whoever comes and goes, in the end everybody knows his place, and they come in in this order. */
static void knows_all_places_whoever_goes(void) {
    enum { CROWD = 200 };
    static player crowd[CROWD];
    static unsigned order[CROWD];
    stage_init(&stage, hub_open_default());
    stage.options.max_players = 1;
    stage.options.max_waiting = CROWD;
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
    unsigned count = 0;
    uint32_t random = 1;
    for (unsigned i = 0; i < CROWD; i++) {
        player_join(&stage, &crowd[i]);
        AWAIT(crowd[i].places > 0);
        order[count++] = i;
        random = random * 1664525u + 1013904223u;
        if (count > 3 && random >> 31) { /* one of those who wait gives up */
            unsigned gone = 1 + (random >> 8) % (count - 1);
            tp_server_disconnect(stage.crowd, crowd[order[gone]].session);
            count--;
            memmove(&order[gone], &order[gone + 1], (count - gone) * sizeof order[0]);
        }
    }
    for (unsigned i = 1; i < count; i++) {
        AWAIT(crowd[order[i]].place == i);
    }
    AWAIT(stage_account(&stage).waiting == count - 1);
    for (unsigned i = 0; i + 1 < count && i < 20; i++) {
        tp_server_disconnect(stage.crowd, crowd[order[i]].session);
        AWAIT(crowd[order[i + 1]].in);
        tp_mutex_lock(&stage_mutex);
        CHECK(i + 2 >= count || !crowd[order[i + 2]].in);
        tp_mutex_unlock(&stage_mutex);
    }
    close_all();
}

/* ---- who speaks as soon as he is told that he is in ------------------------------------------ */

/* Whose JOIN is not to be made before he has spoken, and how many have; under the stage's mutex. */
static player *entering;
static unsigned spoken;

static bool is_heard(tp_server *server, uint64_t before) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(server, &stats);
    return stats.received_messages > before;
}

/* Asked for while the JOIN is made. That he is served by the very worker that makes it is possible:
 * then he hears of nothing meanwhile, and this ends by its time. */
static bool let_him_speak_first(tp_server *server, tp_session_id session, tp_identity *who) {
    uint64_t until = tp_clock_ms() + 200;
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(server, &stats);
    tp_mutex_lock(&stage_mutex);
    player *of = entering;
    entering = NULL;
    while (of && !of->in && tp_clock_ms() < until) {
        tp_condition_wait(&stage_changed, &stage_mutex, 1);
    }
    if (of && of->in && player_say(&stage, of, "here I am")) {
        spoken++;
        while (!is_heard(server, stats.received_messages) && tp_clock_ms() < until) {
            tp_condition_wait(&stage_changed, &stage_mutex, 1);
        }
    }
    tp_mutex_unlock(&stage_mutex);
    return stage_identity(server, session, who);
}

static void loses_no_word_of_who_is_in(void) {
    enum { ROUNDS = 12 };
    static player crowd[ROUNDS + 1];
    stage_init(&stage, hub_open_default());
    stage.options.max_players = 1;
    stage.options.max_waiting = ROUNDS;
    stage.options.identity = let_him_speak_first;
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
    spoken = 0;
    /* From here on the gate is not asked under the stage's mutex, which is taken under the
     * gate's. */
    for (unsigned i = 0; i <= ROUNDS; i++) {
        player_join(&stage, &crowd[i]);
        AWAIT(crowd[i].places > 0);
    }
    AWAIT(arena.joins == 1);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        tp_mutex_lock(&stage_mutex);
        entering = &crowd[i];
        tp_mutex_unlock(&stage_mutex);
        tp_server_disconnect(stage.crowd, crowd[i - 1].session);
        AWAIT(arena.joins == i + 1);
        AWAIT(arena.messages == spoken);
    }
    CHECK_EQ(stage_account(&stage).dropped[TP__GATE_DROP_NO_SERVICE], 0);
    close_all();
}

CHECK_MAIN(CASE(tells_places_and_admits_in_order), CASE(turns_away_who_finds_it_full),
    CASE(turns_away_where_nobody_can_wait), CASE(who_is_kicked_holds_no_place),
    CASE(who_has_left_gives_no_place_again), CASE(whom_the_server_ends_holds_no_place),
    CASE(who_is_being_ended_keeps_nobody_waiting), CASE(closes_who_talks_while_he_waits),
    CASE(does_not_tell_more_often_than_it_may), CASE(knows_all_places_whoever_goes),
    CASE(loses_no_word_of_who_is_in))
