/*
 * Connections that have not joined: how long and how many of them there may be, who makes room for
 * whom, who is turned away at the door, and who is told to come again.
 */
#include "wan_stage.h"
#include "wanserver/wan.h"

static wan_stage stage;

static raw_peer *connect_silent(void) {
    tp_address address = tp_server_address(stage.base.server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    return peer;
}

static tp_server_stats core_stats(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.base.server, &stats);
    return stats;
}

/* The reset may come before the connection has been seen to stand. */
static void be_turned_away(void) {
    tp_address address = tp_server_address(stage.base.server);
    raw_peer *peer = raw_connect(&address);
    if (peer) {
        CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
        raw_close(peer, true);
    }
}

/* ---- the deadline ---------------------------------------------------------------------------- */

/* Absolute: whoever keeps sending a byte gets no more time for it than who says nothing. */
static void who_is_not_ready_in_time_is_gone(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.handshake_timeout_ms = 300;
    wan_stage_open(&stage);
    raw_peer *silent = connect_silent();
    raw_peer *slow = connect_silent();
    uint8_t byte;
    for (unsigned i = 0; i < 3; i++) {
        (void)raw_send(slow, &"TPW"[i], 1);
    }
    CHECK(!raw_receive(silent, &byte, 1));
    CHECK(!raw_receive(slow, &byte, 1));
    raw_close(silent, false);
    raw_close(slow, false);
    STAGE_WAIT(wan_stats(&stage).pending == 0);
    CHECK_EQ(wan_stats(&stage).late, 2);
    CHECK_EQ(wan_stats(&stage).gone, 0);
    CHECK_EQ(atomic_load(&stage.base.joins), 0);
    wan_stage_close(&stage);
}

/* Who has been welcomed and does not say READY is late as well; who has joined has no such
 * deadline: it came first, so its own is over too. On a slow machine a player may need several
 * tries. */
static void the_deadline_ends_with_ready(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.handshake_timeout_ms = 300;
    wan_stage_open(&stage);
    tp_address address = tp_server_address(stage.base.server);
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    uint64_t deadline = raw_deadline();
    while (atomic_load(&stage.base.joins) == 0 && tp_clock_ms() < deadline) {
        wan_peer *joined = wan_join(&address, &login);
        if (!joined) {
            continue;
        }
        uint64_t late = wan_stats(&stage).late;
        wan_peer *welcomed = wan_stage_connect(&stage, &login);
        if (wan_send_hello(welcomed) && wan_take_reply(welcomed)) {
            CHECK_NE(raw_end(welcomed->raw), TP_ERR_TIMED_OUT);
        }
        STAGE_WAIT(wan_stats(&stage).late > late);
        if (atomic_load(&stage.base.joins) > 0) {
            wan_check_echo(joined, "still here");
        }
        wan_close(welcomed, false);
        wan_leave(joined);
    }
    CHECK_EQ(atomic_load(&stage.base.joins), 1);
    wan_stage_close(&stage);
}

/* Who was told that it cannot join has no longer: it need not go by itself. */
static void who_was_told_has_the_same_deadline(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.handshake_timeout_ms = 300;
    stage.options.server.drain_timeout_ms = 600000;
    wan_stage_open(&stage);
    raw_peer *peer = connect_silent();
    (void)raw_send(peer, "TPW2", 4);
    STAGE_WAIT(wan_stats(&stage).other_version + wan_stats(&stage).late == 1);
    STAGE_WAIT(atomic_load(&stage.base.server->slots_used) == 0);
    raw_close(peer, false);
    wan_stage_close(&stage);
}

/* The sweep has read that it is late, and at this moment it is told something: that is its end. */
static void who_was_told_is_not_late(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.server.drain_timeout_ms = 600000;
    wan_stage_open(&stage);
    raw_peer *peer = connect_silent();
    uint8_t reply[TP_REPLY_VERSION];
    CHECK(raw_send(peer, "TPW2", 4));
    CHECK(raw_receive(peer, reply, sizeof reply));
    tp__session *session = wan_pending_one(&stage);
    REQUIRE(session != NULL);
    CHECK(tp__session_close_unjoined(session, TP_END_IDLE));
    tp__session_leave(session);
    STAGE_WAIT(atomic_load(&stage.base.server->slots_used) == 0);
    CHECK_EQ(wan_stats(&stage).other_version, 1);
    CHECK_EQ(wan_stats(&stage).late, 0);
    raw_close(peer, false);
    wan_stage_close(&stage);
}

/* ---- room ------------------------------------------------------------------------------------ */

/* A flood of silent sockets pushes out only itself: an honest player comes through it. */
static void silent_ones_make_room_oldest_first(void) {
    enum { ROOM = 16, FLOOD = 40 };
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.max_pending = ROOM;
    wan_stage_open(&stage);
    raw_peer *flood[FLOOD];
    for (unsigned i = 0; i < FLOOD; i++) {
        flood[i] = connect_silent();
        STAGE_WAIT(core_stats().accepted == i + 1 &&
                   wan_stats(&stage).pending + wan_stats(&stage).evicted == i + 1);
    }
    CHECK_EQ(wan_stats(&stage).pending, ROOM);
    CHECK_EQ(wan_stats(&stage).evicted, FLOOD - ROOM);
    for (unsigned i = 0; i < FLOOD - ROOM; i++) {
        CHECK_NE(raw_end(flood[i]), TP_ERR_TIMED_OUT); /* the oldest */
    }
    wan_peer *player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "through");
    CHECK_EQ(wan_stats(&stage).evicted, FLOOD - ROOM + 1);
    CHECK_EQ(wan_stats(&stage).pending, ROOM - 1);
    wan_leave(player);
    for (unsigned i = 0; i < FLOOD; i++) {
        raw_close(flood[i], true);
    }
    STAGE_WAIT(wan_stats(&stage).pending == 0);
    CHECK_EQ(wan_stats(&stage).gone, ROOM - 1);
    wan_stage_close(&stage);
}

/* Who has said HELLO is not pushed out by who has not. */
static void who_has_said_hello_stays(void) {
    enum { ROOM = 16 };
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.max_pending = ROOM;
    wan_stage_open(&stage);
    wan_peer *welcomed[ROOM];
    for (unsigned i = 0; i < ROOM; i++) {
        const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, i);
        welcomed[i] = wan_stage_connect(&stage, &login);
        CHECK(wan_send_hello(welcomed[i]));
        CHECK(wan_take_reply(welcomed[i]));
    }
    CHECK_EQ(wan_stats(&stage).pending, ROOM);
    be_turned_away();
    STAGE_WAIT(wan_stats(&stage).crowded == 1);
    CHECK_EQ(wan_stats(&stage).evicted, 0);
    for (unsigned i = 0; i < ROOM; i++) {
        CHECK(wan_send_ready(welcomed[i]));
        wan_check_echo(welcomed[i], "in");
    }
    STAGE_WAIT(wan_stats(&stage).pending == 0);
    for (unsigned i = 0; i < ROOM; i++) {
        wan_leave(welcomed[i]);
    }
    wan_stage_close(&stage);
}

/* Another worker has picked it to make room, and its HELLO comes before that worker closes it:
 * its token is still good afterwards. */
static void who_makes_room_may_come_again_with_the_same_token(void) {
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    wan_stage_open(&stage);
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_peer *player = wan_stage_connect(&stage, &login);
    STAGE_WAIT(wan_stats(&stage).pending == 1);
    tp__session *session = wan_pending_one(&stage);
    REQUIRE(session != NULL);
    tp__pending_remove(&tp__wan_of(session)->pending, session); /* as one that is evicted */
    CHECK(wan_send_hello(player));
    STAGE_WAIT(atomic_load(&session->numbers.received_bytes) == player->hello_size);
    raw_peer *witness = connect_silent(); /* seen once the one worker is done with the HELLO */
    STAGE_WAIT(wan_stats(&stage).pending == 1);
    CHECK_EQ(wan_stats(&stage).diffie_hellman, 0);
    CHECK(tp__session_close_unjoined(session, TP_END_OVERLOAD));
    tp__session_leave(session);
    CHECK_NE(raw_end(player->raw), TP_ERR_TIMED_OUT);
    wan_close(player, false);
    raw_close(witness, true);

    tp_address address = tp_server_address(stage.base.server);
    player = wan_join(&address, &login);
    REQUIRE(player != NULL);
    wan_check_echo(player, "again");
    CHECK_EQ(wan_stats(&stage).replayed, 0);
    wan_leave(player);
    wan_stage_close(&stage);
}

/* What it may send at once is used up before it is ready: it is cut without a word, as by a record
 * that does not open. The one worker is held up while its bucket is emptied and all of it comes. */
static void who_says_too_much_before_ready_is_cut_in_silence(void) {
    static const uint8_t much[16384];
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.byte_rate = 1;
    stage.base.on_message = stage_block_on_b;
    wan_stage_open(&stage);
    wan_peer *blocker = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 2);
    wan_peer *player = wan_stage_connect(&stage, &login);
    CHECK(wan_send_hello(player));
    REQUIRE(wan_take_reply(player));
    CHECK(wan_send_frame(blocker, TP_FRAME_DATA, "b", 1));
    STAGE_WAIT(atomic_load(&stage.base.blocked));
    uint32_t slot = tp_session_slot(player->terms.session);
    tp__player_of(&stage.base.server->sessions[slot])->bytes.tokens = 0;
    CHECK(wan_send_ready(player));
    CHECK(raw_send(player->raw, much, sizeof much)); /* hours of byte_rate */
    atomic_store(&stage.base.let_go, true);
    uint8_t byte;
    CHECK(!raw_receive(player->raw, &byte, 1));
    STAGE_WAIT(wan_stats(&stage).pending == 0);
    CHECK_EQ(wan_stats(&stage).not_ready, 1);
    CHECK_EQ(wan_stats(&stage).established, 1); /* the blocker's */
    wan_close(player, true);
    wan_leave(blocker);
    wan_stage_close(&stage);
}

/* Told that there is no place: what it still sends, however much, takes nothing from its CLOSE. The
 * end is its own: it is in order. */
static void who_was_told_full_may_say_what_it_likes(void) {
    enum { BURST = 65536 };
    static const uint8_t much[2 * BURST];
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.byte_rate = 1;
    stage.options.byte_burst = BURST;
    stage.options.server.max_frame = BURST / 2;
    stage.options.server.max_sessions = 1;
    stage.options.server.drain_timeout_ms = 600000;
    wan_stage_open(&stage);
    wan_peer *first = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(first, "in");
    wan_peer *second = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 2);
    CHECK_EQ(wan_receive_close(second), TP_CLOSE_FULL);
    uint64_t before = core_stats().received_bytes;
    CHECK(raw_send(second->raw, much, sizeof much));
    STAGE_WAIT(core_stats().received_bytes >= before + sizeof much);
    CHECK_EQ(wan_stats(&stage).pending, 0);
    CHECK_EQ(wan_stats(&stage).not_ready, 0);
    raw_finish(second->raw);
    CHECK_EQ(raw_end(second->raw), TP_ERR_CLOSED);
    wan_close(second, false);
    wan_leave(first);
    wan_stage_close(&stage);
}

/* Any that waits may go, from either end and the middle of the list. */
static void they_go_in_any_order(void) {
    enum { PEERS = 12 };
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    for (unsigned round = 0; round < 4; round++) {
        raw_peer *peers[PEERS];
        static const unsigned steps[] = {1, 5, 7, 11};
        for (unsigned i = 0; i < PEERS; i++) {
            peers[i] = connect_silent();
        }
        STAGE_WAIT(wan_stats(&stage).pending == PEERS);
        for (unsigned i = 0; i < PEERS; i++) {
            raw_close(peers[i * steps[round] % PEERS], i % 2);
            STAGE_WAIT(wan_stats(&stage).pending == PEERS - 1 - i);
        }
    }
    CHECK_EQ(wan_stats(&stage).gone, 4 * PEERS);
    wan_stage_close(&stage);
}

/* Those that go from the middle leave the others in their order: the oldest still goes first. */
static void who_goes_does_not_change_the_order(void) {
    enum { ROOM = 16 };
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.max_pending = ROOM;
    wan_stage_open(&stage);
    raw_peer *peers[ROOM + 3];
    for (unsigned i = 0; i < ROOM; i++) {
        peers[i] = connect_silent();
        STAGE_WAIT(wan_stats(&stage).pending == i + 1);
    }
    for (unsigned i = 5; i < 8; i++) {
        raw_close(peers[i], false);
        STAGE_WAIT(wan_stats(&stage).pending == ROOM - (i - 4));
    }
    for (unsigned i = 0; i < 3; i++) {
        peers[ROOM + i] = connect_silent();
        STAGE_WAIT(wan_stats(&stage).pending == ROOM - 2 + i);
    }
    for (unsigned i = 0; i < 5; i++) { /* each makes room for the next */
        raw_peer *next = connect_silent();
        STAGE_WAIT(wan_stats(&stage).evicted == i + 1);
        CHECK_NE(raw_end(peers[i]), TP_ERR_TIMED_OUT);
        raw_close(peers[i], false);
        peers[i] = next;
    }
    for (unsigned i = 0; i < ROOM + 3; i++) {
        if (i < 5 || i > 7) {
            raw_close(peers[i], true);
        }
    }
    STAGE_WAIT(wan_stats(&stage).pending == 0);
    CHECK_EQ(wan_stats(&stage).gone, ROOM + 3);
    wan_stage_close(&stage);
}

/* ---- at the door ----------------------------------------------------------------------------- */

static void addresses_have_as_many_connections_as_they_may(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.connections_per_address = 2;
    wan_stage_open(&stage);
    wan_peer *player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "x");
    raw_peer *silent = connect_silent();
    STAGE_WAIT(wan_stats(&stage).pending == 1);
    be_turned_away();
    STAGE_WAIT(wan_stats(&stage).limited == 1);
    CHECK_EQ(core_stats().denied, 1);
    raw_close(silent, false);
    STAGE_WAIT(wan_stats(&stage).pending == 0);
    wan_peer *second = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 2);
    wan_check_echo(second, "x");
    wan_leave(second);
    wan_leave(player);
    wan_stage_close(&stage);
}

/* The handler is asked last, and who it turns away has no connection: its place is another's. */
static void the_handler_is_asked_last(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.connections_per_address = 1;
    atomic_store(&stage.base.deny, true);
    wan_stage_open(&stage);
    for (unsigned i = 0; i < 3; i++) {
        be_turned_away();
        STAGE_WAIT(atomic_load(&stage.base.requests) == i + 1);
    }
    atomic_store(&stage.base.deny, false);
    wan_peer *player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "x");
    CHECK_EQ(atomic_load(&stage.base.requests), 4);
    be_turned_away();
    STAGE_WAIT(wan_stats(&stage).limited == 1);
    CHECK_EQ(atomic_load(&stage.base.requests), 4); /* the limits were asked before */
    wan_leave(player);
    wan_stage_close(&stage);
}

/* One a second is earned, so on a slow machine it takes more tries than the burst to be limited. */
static void a_storm_is_limited_by_rate(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.accept_rate = 1;
    stage.options.accept_burst = 3;
    wan_stage_open(&stage);
    tp_address address = tp_server_address(stage.base.server);
    uint64_t deadline = raw_deadline();
    while (wan_stats(&stage).limited == 0 && tp_clock_ms() < deadline) {
        raw_peer *peer = raw_connect(&address);
        if (peer) {
            raw_close(peer, true);
        }
    }
    CHECK_GE(wan_stats(&stage).limited, 1);
    CHECK_GE(core_stats().accepted, 4);
    wan_stage_close(&stage);
}

static void a_ban_ends_who_is_there_and_keeps_out_who_comes(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    tp_network here, elsewhere;
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    REQUIRE(tp_network_parse("10.0.0.0/8", &elsewhere) == TP_OK);
    wan_peer *player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "x");
    raw_peer *silent = connect_silent();
    STAGE_WAIT(wan_stats(&stage).pending == 1);

    CHECK_EQ(tp_wanserver_ban(stage.base.server, &elsewhere, 3600), TP_OK);
    wan_check_echo(player, "not me");
    CHECK_EQ(tp_wanserver_ban(stage.base.server, &here, 3600), TP_OK);
    CHECK_EQ(wan_receive_close(player), TP_CLOSE_KICKED);
    CHECK_NE(raw_end(silent), TP_ERR_TIMED_OUT);
    wan_close(player, false);
    raw_close(silent, false);
    STAGE_WAIT(atomic_load(&stage.base.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.base.last_reason), TP_END_KICKED);
    CHECK_EQ(wan_stats(&stage).banned, 1); /* the silent one */
    be_turned_away();
    STAGE_WAIT(wan_stats(&stage).banned == 2);

    CHECK_EQ(tp_wanserver_ban(stage.base.server, &here, UINT64_MAX), TP_ERR_INVALID);
    CHECK(tp_wanserver_lift_ban(stage.base.server, &here));
    CHECK(!tp_wanserver_lift_ban(stage.base.server, &here));
    player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 2);
    wan_check_echo(player, "back");
    wan_leave(player);
    wan_stage_close(&stage);
}

static void bans_are_set_as_a_whole(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    tp_ban bans[] = {{.seconds = 3600}, {.seconds = 0}};
    REQUIRE(tp_network_parse("10.0.0.0/8", &bans[0].network) == TP_OK);
    REQUIRE(tp_network_parse("127.0.0.0/8", &bans[1].network) == TP_OK);
    wan_peer *player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
    tp_server *server = stage.base.server;

    bans[0].seconds = UINT64_MAX;
    CHECK_EQ(tp_wanserver_set_bans(server, bans, 2), TP_ERR_INVALID);
    bans[0].seconds = 3600;
    CHECK_EQ(tp_wanserver_set_bans(server, NULL, 1), TP_ERR_INVALID);
    CHECK_EQ(tp_wanserver_set_bans(server, bans, TP_WANSERVER_MAX_BANS + 1), TP_ERR_FULL);
    CHECK_EQ(tp_wanserver_set_bans(server, bans, 1), TP_OK);
    wan_check_echo(player, "not me");
    CHECK_EQ(tp_wanserver_set_bans(server, bans, 2), TP_OK);
    CHECK_EQ(wan_receive_close(player), TP_CLOSE_KICKED);
    wan_close(player, false);
    be_turned_away();
    CHECK_EQ(tp_wanserver_set_bans(server, NULL, 0), TP_OK);
    CHECK(!tp_wanserver_lift_ban(server, &bans[0].network));
    player = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 2);
    wan_leave(player);
    wan_stage_close(&stage);
}

/* The deadline of one that joins is over a moment before it has joined: then too it is met, as one
 * that has begun. */
static void a_ban_meets_who_is_joining(void) {
    wan_stage_init(&stage, TP_AUTH_OPEN);
    wan_stage_open(&stage);
    tp_network here;
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    wan_peer *player = wan_stage_connect(&stage, &login);
    CHECK(wan_send_hello(player));
    REQUIRE(wan_take_reply(player));
    uint32_t slot = tp_session_slot(player->terms.session);
    atomic_store(&stage.base.server->sessions[slot].finish_by_ms, 0);
    CHECK_EQ(tp_wanserver_ban(stage.base.server, &here, 3600), TP_OK);
    STAGE_WAIT(wan_stats(&stage).pending == 0);
    CHECK_EQ(atomic_load(&stage.base.joins), 0);
    wan_close(player, false);
    wan_stage_close(&stage);
}

/* A connection that was told something is pending no more, whether its peer hangs up or not: no
 * other is turned away, or makes room, because of it. */
static void what_was_told_holds_no_place(void) {
    enum { ROOM = 16 };
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.max_pending = ROOM;
    stage.options.server.drain_timeout_ms = 600000;
    wan_stage_open(&stage);
    raw_peer *told[ROOM];
    for (unsigned i = 0; i < ROOM; i++) {
        uint8_t reply[TP_REPLY_VERSION];
        told[i] = connect_silent();
        CHECK(raw_send(told[i], "TPW2", 4));
        CHECK(raw_receive(told[i], reply, sizeof reply));
        CHECK_EQ(wan_stats(&stage).pending, 0);
    }
    raw_peer *silent[ROOM];
    for (unsigned i = 0; i < ROOM; i++) {
        silent[i] = connect_silent();
        STAGE_WAIT(wan_stats(&stage).pending == i + 1);
    }
    CHECK_EQ(wan_stats(&stage).evicted, 0);
    CHECK_EQ(wan_stats(&stage).crowded, 0);
    CHECK_EQ(atomic_load(&stage.base.server->slots_used), 2 * ROOM);
    for (unsigned i = 0; i < ROOM; i++) {
        raw_close(silent[i], true);
        raw_close(told[i], false);
    }
    wan_stage_close(&stage);
}

/* ---- busy ------------------------------------------------------------------------------------ */

/* The one worker waits here, in on_join of the first player, while others say HELLO: what has come
 * for it is then handled at once, faster than any handshake. */
static atomic_bool held;

static void hold(server_stage *base, tp_session_id session) {
    (void)base, (void)session;
    while (atomic_load(&held)) {
        tp_thread_yield();
    }
}

/* Told when to come again, with the same token, which was not used up. */
static void who_finds_the_queue_full_is_told_to_come_again(void) {
    enum { PLAYERS = 60 };
    wan_stage_init(&stage, TP_AUTH_TOKEN);
    stage.options.handshake_queue = 1;
    stage.options.busy_seconds = 7;
    stage.base.on_joined = hold;
    wan_stage_open(&stage);
    static wan_login logins[PLAYERS];
    static wan_peer *peers[PLAYERS];
    for (unsigned i = 0; i < PLAYERS; i++) {
        logins[i] = wan_login_as(&stage, TP_SUITE_AES_256_GCM, i);
        peers[i] = wan_stage_connect(&stage, &logins[i]);
    }
    STAGE_WAIT(wan_stats(&stage).pending == PLAYERS);
    atomic_store(&held, true);
    wan_peer *first = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1000);
    STAGE_WAIT(atomic_load(&stage.base.last_joined) != 0);
    for (unsigned i = 0; i < PLAYERS; i++) {
        CHECK(wan_send_hello(peers[i]));
    }
    atomic_store(&held, false);
    unsigned late[PLAYERS];
    unsigned busy = 0;
    for (unsigned i = 0; i < PLAYERS; i++) {
        if (wan_take_reply(peers[i])) {
            CHECK(wan_send_ready(peers[i]));
            wan_check_echo(peers[i], "in");
            wan_leave(peers[i]);
            continue;
        }
        late[busy++] = i;
        CHECK_EQ(peers[i]->status, TP_REPLY_IS_BUSY);
        CHECK_EQ(peers[i]->busy_seconds, 7);
        raw_finish(peers[i]->raw); /* a client that is told hangs up */
        CHECK_NE(raw_end(peers[i]->raw), TP_ERR_TIMED_OUT);
        wan_close(peers[i], false);
    }
    for (unsigned i = 0; i < busy; i++) { /* each has been answered: there is room */
        tp_address address = tp_server_address(stage.base.server);
        wan_peer *again = wan_join(&address, &logins[late[i]]);
        REQUIRE(again != NULL);
        wan_check_echo(again, "in");
        wan_leave(again);
    }
    CHECK_GT(busy, 0);
    CHECK_EQ(wan_stats(&stage).busy, busy);
    CHECK_EQ(wan_stats(&stage).replayed, 0);
    CHECK_EQ(wan_stats(&stage).established, PLAYERS + 1);
    wan_leave(first);
    wan_stage_close(&stage);
}

CHECK_MAIN(CASE(who_is_not_ready_in_time_is_gone), CASE(the_deadline_ends_with_ready),
    CASE(who_was_told_has_the_same_deadline), CASE(who_was_told_is_not_late),
    CASE(silent_ones_make_room_oldest_first), CASE(who_has_said_hello_stays),
    CASE(who_makes_room_may_come_again_with_the_same_token),
    CASE(who_says_too_much_before_ready_is_cut_in_silence),
    CASE(who_was_told_full_may_say_what_it_likes), CASE(what_was_told_holds_no_place),
    CASE(they_go_in_any_order), CASE(who_goes_does_not_change_the_order),
    CASE(addresses_have_as_many_connections_as_they_may), CASE(the_handler_is_asked_last),
    CASE(a_storm_is_limited_by_rate), CASE(a_ban_ends_who_is_there_and_keeps_out_who_comes),
    CASE(bans_are_set_as_a_whole), CASE(a_ban_meets_who_is_joining),
    CASE(who_finds_the_queue_full_is_told_to_come_again))
