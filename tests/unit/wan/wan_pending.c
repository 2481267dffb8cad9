/*
 * Pending connections: their deadline, how many there may be, which are evicted for others, and
 * which are answered with BUSY.
 */
#include "wan_fixture.h"
#include "wanserver/wan.h"

static wan_fixture fixture;

/* ---- the deadline ---------------------------------------------------------------------------- */

/* The deadline is absolute: a peer that keeps sending single bytes gets no more time than a silent
 * one. */
static void a_connection_not_ready_in_time_is_ended(void) {
    wan_fixture_init(&fixture, TP_AUTH_TOKEN);
    fixture.options.handshake_timeout_ms = 300;
    wan_fixture_open(&fixture);
    raw_peer *silent = fixture_connect_peer(&fixture.base);
    raw_peer *slow = fixture_connect_peer(&fixture.base);
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
    raw_peer *peer = fixture_connect_peer(&fixture.base);
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
    raw_peer *peer = fixture_connect_peer(&fixture.base);
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
        flood[i] = fixture_connect_peer(&fixture.base);
        FIXTURE_WAIT(wan_core_stats(&fixture).accepted == i + 1 &&
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
    wan_fixture_be_refused(&fixture);
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
    /* Visible once the only worker is done with the HELLO. */
    raw_peer *witness = fixture_connect_peer(&fixture.base);
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
    uint64_t before = wan_core_stats(&fixture).received_bytes;
    CHECK(raw_send(second->raw, much, sizeof much));
    FIXTURE_WAIT(wan_core_stats(&fixture).received_bytes >= before + sizeof much);
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
            peers[i] = fixture_connect_peer(&fixture.base);
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
        peers[i] = fixture_connect_peer(&fixture.base);
        FIXTURE_WAIT(wan_stats(&fixture).pending == i + 1);
    }
    for (unsigned i = 5; i < 8; i++) {
        raw_close(peers[i], false);
        FIXTURE_WAIT(wan_stats(&fixture).pending == ROOM - (i - 4));
    }
    for (unsigned i = 0; i < 3; i++) {
        peers[ROOM + i] = fixture_connect_peer(&fixture.base);
        FIXTURE_WAIT(wan_stats(&fixture).pending == ROOM - 2 + i);
    }
    for (unsigned i = 0; i < 5; i++) { /* each evicts the next one */
        raw_peer *next = fixture_connect_peer(&fixture.base);
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
        answered[i] = fixture_connect_peer(&fixture.base);
        CHECK(raw_send(answered[i], "TPW2", 4));
        CHECK(raw_receive(answered[i], reply, sizeof reply));
        CHECK_EQ(wan_stats(&fixture).pending, 0);
    }
    raw_peer *silent[ROOM];
    for (unsigned i = 0; i < ROOM; i++) {
        silent[i] = fixture_connect_peer(&fixture.base);
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
    CASE(an_ended_connection_does_not_change_the_order), CASE(a_full_handshake_queue_answers_busy))
