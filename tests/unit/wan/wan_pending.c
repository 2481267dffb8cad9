/*
 * Pending connections: their deadline, how many there may be, which are evicted for others, which
 * are refused at the listener, and which are answered with BUSY.
 */
#include "wan_fixture.h"
#include "wanserver/wan.h"

static wan_fixture fixture;

static raw_peer *connect_silent(void) {
    tp_address address = tp_server_address(fixture.base.server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    return peer;
}

static tp_server_stats core_stats(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.base.server, &stats);
    return stats;
}

/* Connects and waits for the end. The reset may come before the connection is established. */
static void connect_and_be_refused(void) {
    tp_address address = tp_server_address(fixture.base.server);
    raw_peer *peer = raw_connect(&address);
    if (peer) {
        CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
        raw_close(peer, true);
    }
}

/* ---- the deadline ---------------------------------------------------------------------------- */

/* The deadline is absolute: a peer that keeps sending single bytes gets no more time than a silent
 * one. */
static void a_connection_not_ready_in_time_is_ended(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.handshake_timeout_ms = 300;
    wan_fixture_open(&fixture);
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
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    CHECK_EQ(wan_stats(&fixture).late, 2);
    CHECK_EQ(wan_stats(&fixture).gone, 0);
    CHECK_EQ(atomic_load(&fixture.base.joins), 0);
    wan_fixture_close(&fixture);
}

/* A connection that has its WELCOME and does not send READY is late, too. One that has joined has
 * no such deadline: it connected first, so its deadline is over when the other's is. On a slow
 * machine a player may need several tries. */
static void the_deadline_ends_with_ready(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.handshake_timeout_ms = 300;
    wan_fixture_open(&fixture);
    tp_address address = tp_server_address(fixture.base.server);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    uint64_t deadline = raw_deadline();
    while (atomic_load(&fixture.base.joins) == 0 && tp_clock_ms() < deadline) {
        wan_peer *joined = wan_join(&address, &login);
        if (!joined) {
            continue;
        }
        uint64_t late = wan_stats(&fixture).late;
        wan_peer *welcomed = wan_fixture_connect(&fixture, &login);
        if (wan_send_hello(welcomed) && wan_take_reply(welcomed)) {
            CHECK_NE(raw_end(welcomed->raw), TP_ERR_TIMED_OUT);
        }
        FIXTURE_WAIT(wan_stats(&fixture).late > late);
        if (atomic_load(&fixture.base.joins) > 0) {
            wan_check_echo(joined, "still here");
        }
        wan_close(welcomed, false);
        wan_leave(joined);
    }
    CHECK_EQ(atomic_load(&fixture.base.joins), 1);
    wan_fixture_close(&fixture);
}

/* A connection that got an answer other than WELCOME has the same deadline, whether its peer closes
 * or not. */
static void an_answered_connection_has_the_same_deadline(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.handshake_timeout_ms = 300;
    fixture.options.server.drain_timeout_ms = 600000;
    wan_fixture_open(&fixture);
    raw_peer *peer = connect_silent();
    (void)raw_send(peer, "TPW2", 4);
    FIXTURE_WAIT(wan_stats(&fixture).other_version + wan_stats(&fixture).late == 1);
    FIXTURE_WAIT(atomic_load(&fixture.base.server->slots_used) == 0);
    raw_close(peer, false);
    wan_fixture_close(&fixture);
}

/* The sweep finds the connection late at the moment at which it gets its answer: the answer is its
 * end. */
static void an_answered_connection_does_not_count_as_late(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.server.drain_timeout_ms = 600000;
    wan_fixture_open(&fixture);
    raw_peer *peer = connect_silent();
    uint8_t reply[TP_REPLY_VERSION];
    CHECK(raw_send(peer, "TPW2", 4));
    CHECK(raw_receive(peer, reply, sizeof reply));
    tp__session *session = wan_pending_one(&fixture);
    REQUIRE(session != NULL);
    CHECK(tp__session_close_unjoined(session, TP_END_IDLE));
    tp__session_leave(session, TP__REFERENCE_CALL);
    FIXTURE_WAIT(atomic_load(&fixture.base.server->slots_used) == 0);
    CHECK_EQ(wan_stats(&fixture).other_version, 1);
    CHECK_EQ(wan_stats(&fixture).late, 0);
    raw_close(peer, false);
    wan_fixture_close(&fixture);
}

/* ---- the number of pending connections ------------------------------------------------------- */

/* A flood of silent connections evicts only itself: a genuine player gets through. */
static void silent_connections_are_evicted_oldest_first(void) {
    enum { ROOM = 16, FLOOD = 40 };
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.max_pending = ROOM;
    wan_fixture_open(&fixture);
    raw_peer *flood[FLOOD];
    for (unsigned i = 0; i < FLOOD; i++) {
        flood[i] = connect_silent();
        FIXTURE_WAIT(core_stats().accepted == i + 1 &&
                     wan_stats(&fixture).pending + wan_stats(&fixture).evicted == i + 1);
    }
    CHECK_EQ(wan_stats(&fixture).pending, ROOM);
    CHECK_EQ(wan_stats(&fixture).evicted, FLOOD - ROOM);
    for (unsigned i = 0; i < FLOOD - ROOM; i++) {
        CHECK_NE(raw_end(flood[i]), TP_ERR_TIMED_OUT); /* the oldest */
    }
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "through");
    CHECK_EQ(wan_stats(&fixture).evicted, FLOOD - ROOM + 1);
    CHECK_EQ(wan_stats(&fixture).pending, ROOM - 1);
    wan_leave(player);
    for (unsigned i = 0; i < FLOOD; i++) {
        raw_close(flood[i], true);
    }
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    CHECK_EQ(wan_stats(&fixture).gone, ROOM - 1);
    wan_fixture_close(&fixture);
}

/* A connection that has sent its HELLO is not evicted for one that has not. */
static void a_connection_with_a_hello_is_not_evicted(void) {
    enum { ROOM = 16 };
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.max_pending = ROOM;
    wan_fixture_open(&fixture);
    wan_peer *welcomed[ROOM];
    for (unsigned i = 0; i < ROOM; i++) {
        const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, i);
        welcomed[i] = wan_fixture_connect(&fixture, &login);
        CHECK(wan_send_hello(welcomed[i]));
        CHECK(wan_take_reply(welcomed[i]));
    }
    CHECK_EQ(wan_stats(&fixture).pending, ROOM);
    connect_and_be_refused();
    FIXTURE_WAIT(wan_stats(&fixture).crowded == 1);
    CHECK_EQ(wan_stats(&fixture).evicted, 0);
    for (unsigned i = 0; i < ROOM; i++) {
        CHECK(wan_send_ready(welcomed[i]));
        wan_check_echo(welcomed[i], "in");
    }
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    for (unsigned i = 0; i < ROOM; i++) {
        wan_leave(welcomed[i]);
    }
    wan_fixture_close(&fixture);
}

/* Another worker has picked the connection for eviction, and its HELLO comes before that worker
 * closes it: the token is not used up. */
static void an_evicted_connection_may_use_its_token_again(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    wan_fixture_open(&fixture);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_peer *player = wan_fixture_connect(&fixture, &login);
    FIXTURE_WAIT(wan_stats(&fixture).pending == 1);
    tp__session *session = wan_pending_one(&fixture);
    REQUIRE(session != NULL);
    tp__pending_remove(&tp__wan_of(session)->pending, session); /* as one that is evicted */
    CHECK(wan_send_hello(player));
    FIXTURE_WAIT(atomic_load(&session->numbers.received_bytes) == player->hello_size);
    raw_peer *witness = connect_silent(); /* visible once the only worker is done with the HELLO */
    FIXTURE_WAIT(wan_stats(&fixture).pending == 1);
    CHECK_EQ(wan_stats(&fixture).diffie_hellman, 0);
    CHECK(tp__session_close_unjoined(session, TP_END_OVERLOAD));
    tp__session_leave(session, TP__REFERENCE_CALL);
    CHECK_NE(raw_end(player->raw), TP_ERR_TIMED_OUT);
    wan_close(player, false);
    raw_close(witness, true);

    tp_address address = tp_server_address(fixture.base.server);
    player = wan_join(&address, &login);
    REQUIRE(player != NULL);
    wan_check_echo(player, "again");
    CHECK_EQ(wan_stats(&fixture).replayed, 0);
    wan_leave(player);
    wan_fixture_close(&fixture);
}

/* The connection's byte limit is used up before it is ready: it is cut without a CLOSE, as for a
 * record that does not open. The only worker is blocked while the bucket is emptied and the bytes
 * arrive. */
static void too_many_bytes_before_ready_are_cut_in_silence(void) {
    static const uint8_t much[16384];
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.byte_rate = 1;
    fixture.base.on_message = fixture_block_on_b;
    wan_fixture_open(&fixture);
    wan_peer *blocker = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 2);
    wan_peer *player = wan_fixture_connect(&fixture, &login);
    CHECK(wan_send_hello(player));
    REQUIRE(wan_take_reply(player));
    CHECK(wan_send_frame(blocker, TP_FRAME_DATA, "b", 1));
    FIXTURE_WAIT(atomic_load(&fixture.base.blocked));
    uint32_t slot = tp_session_slot(player->terms.session);
    tp__connection_of(&fixture.base.server->sessions[slot])->bytes.tokens = 0;
    CHECK(wan_send_ready(player));
    CHECK(raw_send(player->raw, much, sizeof much)); /* hours of byte_rate */
    atomic_store(&fixture.base.unblock, true);
    uint8_t byte;
    CHECK(!raw_receive(player->raw, &byte, 1));
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    CHECK_EQ(wan_stats(&fixture).not_ready, 1);
    CHECK_EQ(wan_stats(&fixture).established, 1); /* the blocker's */
    wan_close(player, true);
    wan_leave(blocker);
    wan_fixture_close(&fixture);
}

/* The player got CLOSE `full`. However much it still sends, it receives the CLOSE, and the
 * connection ends in order. */
static void a_connection_told_full_gets_its_close_whatever_it_sends(void) {
    enum { BURST = 65536 };
    static const uint8_t much[2 * BURST];
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.byte_rate = 1;
    fixture.options.byte_burst = BURST;
    fixture.options.server.max_frame = BURST / 2;
    fixture.options.server.max_sessions = 1;
    fixture.options.server.drain_timeout_ms = 600000;
    wan_fixture_open(&fixture);
    wan_peer *first = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(first, "in");
    wan_peer *second = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    CHECK_EQ(wan_receive_close(second), TP_CLOSE_FULL);
    uint64_t before = core_stats().received_bytes;
    CHECK(raw_send(second->raw, much, sizeof much));
    FIXTURE_WAIT(core_stats().received_bytes >= before + sizeof much);
    CHECK_EQ(wan_stats(&fixture).pending, 0);
    CHECK_EQ(wan_stats(&fixture).not_ready, 0);
    raw_finish(second->raw);
    CHECK_EQ(raw_end(second->raw), TP_ERR_CLOSED);
    wan_close(second, false);
    wan_leave(first);
    wan_fixture_close(&fixture);
}

/* Pending connections may end in any order: at both ends and in the middle of the list. */
static void pending_connections_end_in_any_order(void) {
    enum { PEERS = 12 };
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    for (unsigned round = 0; round < 4; round++) {
        raw_peer *peers[PEERS];
        static const unsigned steps[] = {1, 5, 7, 11};
        for (unsigned i = 0; i < PEERS; i++) {
            peers[i] = connect_silent();
        }
        FIXTURE_WAIT(wan_stats(&fixture).pending == PEERS);
        for (unsigned i = 0; i < PEERS; i++) {
            raw_close(peers[i * steps[round] % PEERS], i % 2);
            FIXTURE_WAIT(wan_stats(&fixture).pending == PEERS - 1 - i);
        }
    }
    CHECK_EQ(wan_stats(&fixture).gone, 4 * PEERS);
    wan_fixture_close(&fixture);
}

/* Connections that end in the middle of the list leave the others in their order: the oldest is
 * still evicted first. */
static void an_ended_connection_does_not_change_the_order(void) {
    enum { ROOM = 16 };
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.max_pending = ROOM;
    wan_fixture_open(&fixture);
    raw_peer *peers[ROOM + 3];
    for (unsigned i = 0; i < ROOM; i++) {
        peers[i] = connect_silent();
        FIXTURE_WAIT(wan_stats(&fixture).pending == i + 1);
    }
    for (unsigned i = 5; i < 8; i++) {
        raw_close(peers[i], false);
        FIXTURE_WAIT(wan_stats(&fixture).pending == ROOM - (i - 4));
    }
    for (unsigned i = 0; i < 3; i++) {
        peers[ROOM + i] = connect_silent();
        FIXTURE_WAIT(wan_stats(&fixture).pending == ROOM - 2 + i);
    }
    for (unsigned i = 0; i < 5; i++) { /* each evicts the next one */
        raw_peer *next = connect_silent();
        FIXTURE_WAIT(wan_stats(&fixture).evicted == i + 1);
        CHECK_NE(raw_end(peers[i]), TP_ERR_TIMED_OUT);
        raw_close(peers[i], false);
        peers[i] = next;
    }
    for (unsigned i = 0; i < ROOM + 3; i++) {
        if (i < 5 || i > 7) {
            raw_close(peers[i], true);
        }
    }
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    CHECK_EQ(wan_stats(&fixture).gone, ROOM + 3);
    wan_fixture_close(&fixture);
}

/* ---- at the listener ------------------------------------------------------------------------- */

static void connections_per_address_are_limited(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.connections_per_address = 2;
    wan_fixture_open(&fixture);
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "x");
    raw_peer *silent = connect_silent();
    FIXTURE_WAIT(wan_stats(&fixture).pending == 1);
    connect_and_be_refused();
    FIXTURE_WAIT(wan_stats(&fixture).limited == 1);
    CHECK_EQ(core_stats().denied, 1);
    raw_close(silent, false);
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    wan_peer *second = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    wan_check_echo(second, "x");
    wan_leave(second);
    wan_leave(player);
    wan_fixture_close(&fixture);
}

/* The handler is asked last, and a connection that it refuses frees its place in the limit. */
static void the_handler_is_asked_last(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.connections_per_address = 1;
    atomic_store(&fixture.base.deny, true);
    wan_fixture_open(&fixture);
    for (unsigned i = 0; i < 3; i++) {
        connect_and_be_refused();
        FIXTURE_WAIT(atomic_load(&fixture.base.requests) == i + 1);
    }
    atomic_store(&fixture.base.deny, false);
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "x");
    CHECK_EQ(atomic_load(&fixture.base.requests), 4);
    connect_and_be_refused();
    FIXTURE_WAIT(wan_stats(&fixture).limited == 1);
    CHECK_EQ(atomic_load(&fixture.base.requests), 4); /* the limits were checked before */
    wan_leave(player);
    wan_fixture_close(&fixture);
}

/* One connection a second is earned, so a slow machine needs more tries than the burst. */
static void connections_are_limited_by_rate(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.accept_rate = 1;
    fixture.options.accept_burst = 3;
    wan_fixture_open(&fixture);
    tp_address address = tp_server_address(fixture.base.server);
    uint64_t deadline = raw_deadline();
    while (wan_stats(&fixture).limited == 0 && tp_clock_ms() < deadline) {
        raw_peer *peer = raw_connect(&address);
        if (peer) {
            raw_close(peer, true);
        }
    }
    CHECK_GE(wan_stats(&fixture).limited, 1);
    CHECK_GE(core_stats().accepted, 4);
    wan_fixture_close(&fixture);
}

static void a_ban_ends_present_and_refuses_new_connections(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    tp_network here, elsewhere;
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    REQUIRE(tp_network_parse("10.0.0.0/8", &elsewhere) == TP_OK);
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_check_echo(player, "x");
    raw_peer *silent = connect_silent();
    FIXTURE_WAIT(wan_stats(&fixture).pending == 1);

    CHECK_EQ(tp_wanserver_ban(fixture.base.server, &elsewhere, 3600), TP_OK);
    wan_check_echo(player, "not me");
    CHECK_EQ(tp_wanserver_ban(fixture.base.server, &here, 3600), TP_OK);
    CHECK_EQ(wan_receive_close(player), TP_CLOSE_KICKED);
    CHECK_NE(raw_end(silent), TP_ERR_TIMED_OUT);
    wan_close(player, false);
    raw_close(silent, false);
    FIXTURE_WAIT(atomic_load(&fixture.base.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.base.last_reason), TP_END_KICKED);
    CHECK_EQ(wan_stats(&fixture).banned, 1); /* the silent one */
    connect_and_be_refused();
    FIXTURE_WAIT(wan_stats(&fixture).banned == 2);

    CHECK_EQ(tp_wanserver_ban(fixture.base.server, &here, UINT64_MAX), TP_ERR_INVALID);
    CHECK(tp_wanserver_lift_ban(fixture.base.server, &here));
    CHECK(!tp_wanserver_lift_ban(fixture.base.server, &here));
    player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    wan_check_echo(player, "back");
    wan_leave(player);
    wan_fixture_close(&fixture);
}

static void bans_are_set_as_a_whole(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    tp_ban bans[] = {{.seconds = 3600}, {.seconds = 0}};
    REQUIRE(tp_network_parse("10.0.0.0/8", &bans[0].network) == TP_OK);
    REQUIRE(tp_network_parse("127.0.0.0/8", &bans[1].network) == TP_OK);
    wan_peer *player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
    tp_server *server = fixture.base.server;

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
    connect_and_be_refused();
    CHECK_EQ(tp_wanserver_set_bans(server, NULL, 0), TP_OK);
    CHECK(!tp_wanserver_lift_ban(server, &bans[0].network));
    player = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 2);
    wan_leave(player);
    wan_fixture_close(&fixture);
}

/* A connection whose deadline passed a moment before it joins is ended by a ban, too. */
static void a_ban_ends_a_joining_connection(void) {
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    wan_fixture_open(&fixture);
    tp_network here;
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    wan_peer *player = wan_fixture_connect(&fixture, &login);
    CHECK(wan_send_hello(player));
    REQUIRE(wan_take_reply(player));
    uint32_t slot = tp_session_slot(player->terms.session);
    atomic_store(&fixture.base.server->sessions[slot].finish_by_ms, 0);
    CHECK_EQ(tp_wanserver_ban(fixture.base.server, &here, 3600), TP_OK);
    FIXTURE_WAIT(wan_stats(&fixture).pending == 0);
    CHECK_EQ(atomic_load(&fixture.base.joins), 0);
    wan_close(player, false);
    wan_fixture_close(&fixture);
}

/* A connection that got its answer is not pending any more, whether its peer closes or not: no
 * other one is refused or evicted because of it. */
static void an_answered_connection_is_not_pending(void) {
    enum { ROOM = 16 };
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.max_pending = ROOM;
    fixture.options.server.drain_timeout_ms = 600000;
    wan_fixture_open(&fixture);
    raw_peer *answered[ROOM];
    for (unsigned i = 0; i < ROOM; i++) {
        uint8_t reply[TP_REPLY_VERSION];
        answered[i] = connect_silent();
        CHECK(raw_send(answered[i], "TPW2", 4));
        CHECK(raw_receive(answered[i], reply, sizeof reply));
        CHECK_EQ(wan_stats(&fixture).pending, 0);
    }
    raw_peer *silent[ROOM];
    for (unsigned i = 0; i < ROOM; i++) {
        silent[i] = connect_silent();
        FIXTURE_WAIT(wan_stats(&fixture).pending == i + 1);
    }
    CHECK_EQ(wan_stats(&fixture).evicted, 0);
    CHECK_EQ(wan_stats(&fixture).crowded, 0);
    CHECK_EQ(atomic_load(&fixture.base.server->slots_used), 2 * ROOM);
    for (unsigned i = 0; i < ROOM; i++) {
        raw_close(silent[i], true);
        raw_close(answered[i], false);
    }
    wan_fixture_close(&fixture);
}

/* ---- busy ------------------------------------------------------------------------------------ */

/* The only worker is blocked here, in on_join of the first player, while the others send their
 * HELLOs: these are then processed together, faster than any handshake. */
static atomic_bool held;

static void block_while_held(server_fixture *base, tp_session_id session) {
    (void)base, (void)session;
    while (atomic_load(&held)) {
        tp_thread_yield();
    }
}

/* BUSY gives the time after which to come again with the same token, which was not used up. */
static void a_full_handshake_queue_answers_busy(void) {
    enum { PLAYERS = 60 };
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.handshake_queue = 1;
    fixture.options.busy_seconds = 7;
    fixture.base.on_joined = block_while_held;
    wan_fixture_open(&fixture);
    static wan_login logins[PLAYERS];
    static wan_peer *peers[PLAYERS];
    for (unsigned i = 0; i < PLAYERS; i++) {
        logins[i] = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, i);
        peers[i] = wan_fixture_connect(&fixture, &logins[i]);
    }
    FIXTURE_WAIT(wan_stats(&fixture).pending == PLAYERS);
    atomic_store(&held, true);
    wan_peer *first = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1000);
    FIXTURE_WAIT(atomic_load(&fixture.base.last_joined) != 0);
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
        raw_finish(peers[i]->raw); /* a client that gets BUSY closes */
        CHECK_NE(raw_end(peers[i]->raw), TP_ERR_TIMED_OUT);
        wan_close(peers[i], false);
    }
    for (unsigned i = 0; i < busy; i++) { /* each has its answer, so the queue is empty */
        tp_address address = tp_server_address(fixture.base.server);
        wan_peer *again = wan_join(&address, &logins[late[i]]);
        REQUIRE(again != NULL);
        wan_check_echo(again, "in");
        wan_leave(again);
    }
    CHECK_GT(busy, 0);
    CHECK_EQ(wan_stats(&fixture).busy, busy);
    CHECK_EQ(wan_stats(&fixture).replayed, 0);
    CHECK_EQ(wan_stats(&fixture).established, PLAYERS + 1);
    wan_leave(first);
    wan_fixture_close(&fixture);
}

CHECK_MAIN(CASE(a_connection_not_ready_in_time_is_ended), CASE(the_deadline_ends_with_ready),
    CASE(an_answered_connection_has_the_same_deadline),
    CASE(an_answered_connection_does_not_count_as_late),
    CASE(silent_connections_are_evicted_oldest_first),
    CASE(a_connection_with_a_hello_is_not_evicted),
    CASE(an_evicted_connection_may_use_its_token_again),
    CASE(too_many_bytes_before_ready_are_cut_in_silence),
    CASE(a_connection_told_full_gets_its_close_whatever_it_sends),
    CASE(an_answered_connection_is_not_pending), CASE(pending_connections_end_in_any_order),
    CASE(an_ended_connection_does_not_change_the_order), CASE(connections_per_address_are_limited),
    CASE(the_handler_is_asked_last), CASE(connections_are_limited_by_rate),
    CASE(a_ban_ends_present_and_refuses_new_connections), CASE(bans_are_set_as_a_whole),
    CASE(a_ban_ends_a_joining_connection), CASE(a_full_handshake_queue_answers_busy))
