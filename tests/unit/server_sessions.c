/* Sessions as content sees them: join, ids, sending, ending, who is let in, connections outward. */
#include "server_stage.h"
#include "twinport/log.h"

static server_stage stage;
static uint8_t in[4096];

static tp_packet *packet_of(const char *text) {
    tp_packet *packet = tp_packet_copy_of(text, strlen(text));
    REQUIRE(packet != NULL);
    return packet;
}

static bool send_text(tp_session_id session, const char *text) {
    tp_packet *packet = packet_of(text);
    bool sent = tp_server_send(stage.server, session, packet);
    tp_packet_release(packet);
    return sent;
}

static void check_receives(raw_peer *peer, const char *text) {
    unsigned type = 99;
    long size = raw_receive_frame(peer, &type, in, sizeof in);
    CHECK_EQ(size, (long)strlen(text));
    CHECK_EQ(type, TP_FRAME_DATA);
    if (size == (long)strlen(text)) {
        CHECK_MEM(in, text, strlen(text));
    }
}

/* A peer whose session has joined; *id receives it. */
static raw_peer *join_peer(tp_session_id *id) {
    unsigned joins = atomic_load(&stage.joins);
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == joins + 1);
    *id = atomic_load(&stage.last_joined);
    return peer;
}

static void greet(server_stage *s, tp_session_id session) {
    (void)s;
    CHECK(send_text(session, "welcome"));
}

static void the_server_speaks_first(void) {
    server_stage_init(&stage);
    stage.on_joined = greet;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    check_receives(peer, "welcome");
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* A connection that is gone before its first receive still joins and leaves in order. */
static void a_client_may_be_gone_at_once(void) {
    server_stage_init(&stage);
    stage.on_joined = greet;
    server_stage_open(&stage);
    for (unsigned i = 0; i < 50; i++) {
        raw_close(stage_connect_peer(&stage), i % 2 == 0);
    }
    /* Connections are accepted in order: when the last one is greeted, those before it have come.
     * (One whose reset came before its accept may never have been seen.) */
    raw_peer *last = stage_connect_peer(&stage);
    check_receives(last, "welcome");
    raw_close(last, false);
    STAGE_WAIT(tp_server_session_count(stage.server) == 0);
    server_stage_close(&stage);
    CHECK_EQ(atomic_load(&stage.joins), atomic_load(&stage.leaves));
}

static void a_stale_id_finds_nobody(void) {
    server_stage_init(&stage);
    server_stage_open(&stage);
    tp_session_id old;
    raw_close(join_peer(&old), false);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);

    tp_session_id now;
    raw_peer *peer = join_peer(&now);
    CHECK_EQ(now & 0xFFFFF, old & 0xFFFFF); /* the same slot, so that the number is what tells */
    const tp_session_id wrong[] = {
        old, TP_NO_SESSION, now + (1 << 20), now ^ 1, UINT64_MAX, now & 0xFFFFF};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        tp_session_info info = {.size = sizeof info};
        CHECK(!send_text(wrong[i], "to nobody"));
        CHECK(!tp_server_disconnect(stage.server, wrong[i]));
        CHECK(!tp_server_disconnect_after_send(stage.server, wrong[i], 0));
        CHECK(!tp_server_session_info(stage.server, wrong[i], &info));
    }
    CHECK(send_text(now, "to you"));
    check_receives(peer, "to you");
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.server, &stats);
    CHECK_EQ(stats.no_session, 18);
    raw_close(peer, false);
    server_stage_close(&stage);
}

static void says_what_a_session_does(void) {
    server_stage_init(&stage);
    server_stage_open(&stage);
    tp_session_id id;
    raw_peer *peer = join_peer(&id);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "12345", 5));
    check_receives(peer, "12345");
    STAGE_WAIT(atomic_load(&stage.sends) == 1);
    tp_session_info info = {.size = sizeof info};
    REQUIRE(tp_server_session_info(stage.server, id, &info));
    CHECK_EQ(info.session, id);
    CHECK_EQ(info.received_messages, 1);
    CHECK_EQ(info.received_bytes, 9);
    CHECK_EQ(info.sent_messages, 1);
    CHECK_EQ(info.sent_bytes, 9);
    CHECK(tp_address_is_private(&info.peer));
    info.size = 3;
    CHECK(!tp_server_session_info(stage.server, id, &info));
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void disconnect_own(server_stage *s, tp_session_id session, tp_packet *packet) {
    CHECK(tp_server_disconnect(s->server, session));
    CHECK(!tp_server_disconnect(s->server, session));
    CHECK(!tp_server_send(s->server, session, packet));
}

/* Of the messages that arrived together, those behind the disconnect are not delivered. */
static void a_handler_disconnects_its_own_session(void) {
    server_stage_init(&stage);
    stage.on_message = disconnect_own;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    uint8_t three[3 * TP_FRAME_HEADER] = {0};
    CHECK(raw_send(peer, three, sizeof three));
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.messages), 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_KICKED);
    raw_end(peer);
    raw_close(peer, false);
    server_stage_close(&stage);
}

static void disconnects_after_what_is_queued(void) {
    server_stage_init(&stage);
    server_stage_open(&stage);
    tp_session_id id;
    raw_peer *peer = join_peer(&id);
    for (unsigned i = 0; i < 100; i++) {
        CHECK(send_text(id, "before"));
    }
    CHECK(tp_server_disconnect_after_send(stage.server, id, TP_CLOSE_REPLACED));
    CHECK(!tp_server_disconnect_after_send(stage.server, id, TP_CLOSE_REPLACED));
    CHECK(!send_text(id, "behind"));
    for (unsigned i = 0; i < 100; i++) {
        check_receives(peer, "before");
    }
    unsigned type;
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(tp_frame_close_reason(in), TP_CLOSE_REPLACED);
    CHECK_EQ(raw_end(peer), TP_ERR_CLOSED);
    raw_close(peer, false);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_KICKED);
    server_stage_close(&stage);
}

static void the_trace_tells_a_sessions_life(void) {
    static tp_trace_entry entries[TP_TRACE_ENTRIES];
    server_stage_init(&stage);
    server_stage_open(&stage);
    REQUIRE(tp_trace_enable(true) == TP_OK);
    tp_session_id id;
    raw_peer *peer = join_peer(&id);
    CHECK(send_text(id, "hello"));
    check_receives(peer, "hello");
    CHECK(tp_server_disconnect(stage.server, id));
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(tp_trace_enable(false), TP_OK);
    static const uint64_t life[][2] = {{TP_TRACE_OPEN, 0}, {TP_TRACE_JOIN, 0}, {TP_TRACE_SEND, 9},
        {TP_TRACE_CLOSE, TP_END_KICKED}, {TP_TRACE_RELEASE, TP_END_KICKED}};
    unsigned found = 0;
    size_t count = tp_trace_read(entries, TP_TRACE_ENTRIES);
    for (size_t i = 0; i < count; i++) {
        if (entries[i].first == id && found < 5) {
            CHECK_EQ(entries[i].event, life[found][0]);
            CHECK_EQ(entries[i].second, life[found][1]);
            found++;
        }
    }
    CHECK_EQ(found, 5);
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* ---- many ------------------------------------------------------------------------------------ */

static void sends_to_many_and_to_all(void) {
    server_stage_init(&stage);
    server_stage_open(&stage);
    raw_peer *peers[8];
    tp_session_id ids[8];
    for (unsigned i = 0; i < 8; i++) {
        peers[i] = join_peer(&ids[i]);
    }
    tp_packet *some = packet_of("some");
    CHECK_EQ(tp_server_send_many(stage.server, ids, 4, some), 4);
    tp_packet_release(some);
    tp_packet *all = packet_of("all");
    CHECK_EQ(tp_server_broadcast(stage.server, all, ids[7]), 7);
    CHECK_EQ(tp_server_broadcast(stage.server, all, TP_NO_SESSION), 8);
    tp_packet_release(all);
    for (unsigned i = 0; i < 8; i++) {
        if (i < 4) {
            check_receives(peers[i], "some");
        }
        if (i != 7) {
            check_receives(peers[i], "all");
        }
        check_receives(peers[i], "all");
        raw_close(peers[i], false);
    }
    server_stage_close(&stage);
}

static void refuses_packets_that_are_wrong(void) {
    server_stage_init(&stage);
    server_stage_open(&stage);
    tp_session_id id;
    raw_peer *peer = join_peer(&id);
    tp_packet *packet = tp_packet_new(2);
    REQUIRE(packet != NULL);
    tp_packet_put_u32(packet, 1); /* does not fit */
    CHECK(!tp_server_send(stage.server, id, packet));
    CHECK_EQ(tp_server_send_many(stage.server, &id, 1, packet), 0);
    CHECK_EQ(tp_server_broadcast(stage.server, packet, TP_NO_SESSION), 0);
    tp_packet_release(packet);
    CHECK(send_text(id, "fine"));
    check_receives(peer, "fine");
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* ---- who is let in --------------------------------------------------------------------------- */

static void turns_away_beyond_the_limit(void) {
    server_stage_init(&stage);
    stage.options.max_sessions = 2;
    server_stage_open(&stage);
    tp_session_id id;
    raw_peer *first = join_peer(&id);
    raw_peer *second = join_peer(&id);
    raw_peer *third = stage_connect_peer(&stage);
    unsigned type;
    CHECK_EQ(raw_receive_frame(third, &type, in, sizeof in), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(tp_frame_close_reason(in), TP_CLOSE_FULL);
    raw_finish(third); /* a peer that is told hangs up */
    CHECK_EQ(raw_end(third), TP_ERR_CLOSED);
    raw_close(third, false);
    CHECK_EQ(atomic_load(&stage.joins), 2);
    raw_close(first, false);
    STAGE_WAIT(tp_server_session_count(stage.server) == 1);
    raw_peer *fourth = join_peer(&id); /* there is room again */
    raw_close(fourth, false);
    raw_close(second, false);
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.server, &stats);
    CHECK_EQ(stats.full, 1);
    CHECK_EQ(stats.accepted, 4);
    STAGE_WAIT(atomic_load(&stage.leaves) == 3); /* the one turned away never was a session */
    server_stage_close(&stage);
}

/* Ended, and does not hang up. */
static raw_peer *be_kicked(void) {
    tp_session_id id;
    unsigned type;
    raw_peer *peer = join_peer(&id);
    CHECK(tp_server_turn_away(stage.server, id, TP_CLOSE_KICKED));
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(tp_frame_close_reason(in), TP_CLOSE_KICKED);
    return peer;
}

static void who_is_being_ended_holds_no_place(void) {
    server_stage_init(&stage);
    stage.options.max_sessions = 1;
    stage.options.drain_timeout_ms = 600000;
    server_stage_open(&stage);
    raw_peer *kicked = be_kicked();
    CHECK_EQ(tp_server_session_count(stage.server), 0);
    tp_session_id id;
    raw_peer *next = join_peer(&id);
    CHECK_EQ(tp_server_session_count(stage.server), 1);
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    CHECK(send_text(id, "in"));
    check_receives(next, "in");
    raw_close(kicked, false);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(tp_server_session_count(stage.server), 1); /* its place was given back once */
    raw_close(next, false);
    STAGE_WAIT(tp_server_session_count(stage.server) == 0);
    server_stage_close(&stage);
}

/* Their slots are as many as they were at create: those whose time is over first make room, by a
 * reset, though they have hours left. The latest are still there. */
static void those_being_ended_are_bounded(void) {
    enum { KICKED = 4 * TP_SERVER_ENDING(1), LATEST = 16 };
    static raw_peer *kicked[KICKED];
    server_stage_init(&stage);
    stage.options.max_sessions = 1;
    stage.options.drain_timeout_ms = 600000;
    server_stage_open(&stage);
    for (unsigned i = 0; i < KICKED; i++) {
        uint64_t now = tp_clock_ms();
        STAGE_WAIT(i != KICKED - LATEST || tp_clock_ms() > now); /* their time is over later */
        kicked[i] = be_kicked();
    }
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.server, &stats);
    CHECK_EQ(stats.full, 0);
    CHECK_EQ(stats.joined, KICKED);
    CHECK_GE(stats.cut_short, KICKED - (TP_SERVER_ENDING(1) + 1));
    STAGE_WAIT(atomic_load(&stage.leaves) == stats.cut_short); /* and by nothing else */
    CHECK_NE(raw_end(kicked[0]), TP_ERR_TIMED_OUT);
    for (unsigned i = KICKED - LATEST; i < KICKED; i++) {
        raw_finish(kicked[i]); /* a reset would have come before the answer to this */
        CHECK_EQ(raw_end(kicked[i]), TP_ERR_CLOSED);
    }
    for (unsigned i = 0; i < KICKED; i++) {
        raw_close(kicked[i], false);
    }
    STAGE_WAIT(atomic_load(&stage.leaves) == KICKED);
    server_stage_close(&stage);
}

/* The reset may come before the connection has been seen to stand. */
static void be_denied(void) {
    tp_address address = tp_server_address(stage.server);
    raw_peer *peer = raw_connect(&address);
    if (peer) {
        CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
        raw_close(peer, false);
    }
}

static void denies_by_list_and_by_handler(void) {
    server_stage_init(&stage);
    tp_network elsewhere, here;
    REQUIRE(tp_network_parse("10.0.0.0/8", &elsewhere) == TP_OK);
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    stage.options.access.allow = &elsewhere;
    stage.options.access.allow_count = 1;
    server_stage_open(&stage);
    be_denied();
    tp_server_stats stats = {.size = sizeof stats};
    STAGE_WAIT((tp_server_get_stats(stage.server, &stats), stats.denied == 1));
    CHECK_EQ(atomic_load(&stage.requests), 0);
    server_stage_close(&stage);

    server_stage_init(&stage);
    stage.options.access.allow = &here;
    stage.options.access.allow_count = 1;
    server_stage_open(&stage);
    memset(&here, 0, sizeof here); /* the server has its own copy */
    atomic_store(&stage.deny, true);
    be_denied();
    STAGE_WAIT(atomic_load(&stage.requests) == 1);
    CHECK_EQ(atomic_load(&stage.joins), 0);
    atomic_store(&stage.deny, false);
    tp_session_id id;
    raw_close(join_peer(&id), false);
    tp_server_get_stats(stage.server, &stats);
    CHECK_EQ(stats.denied, 1);
    server_stage_close(&stage);
}

/* ---- outward --------------------------------------------------------------------------------- */

static void connects_outward(void) {
    static server_stage client;
    server_stage_init(&stage);
    server_stage_open(&stage);
    server_stage_init(&client);
    client.options.listen = false;
    atomic_store(&client.echo, false);
    server_stage_open(&client);
    tp_address address = tp_server_address(stage.server);
    tp_session_id id;
    CHECK_EQ(tp_server_connect(client.server, &address, &id), TP_OK);
    STAGE_WAIT(atomic_load(&client.joins) == 1);
    CHECK_EQ(atomic_load(&client.last_joined), id);
    tp_packet *packet = packet_of("across");
    CHECK(tp_server_send(client.server, id, packet));
    tp_packet_release(packet);
    STAGE_WAIT(atomic_load(&client.messages) == 1);
    server_stage_close(&stage);
    STAGE_WAIT(atomic_load(&client.leaves) == 1);
    CHECK_EQ(atomic_load(&client.last_reason), TP_END_REFUSED); /* it said: shutdown */

    /* nobody there any more: no join, one leave */
    CHECK_EQ(tp_server_connect(client.server, &address, &id), TP_OK);
    STAGE_WAIT(atomic_load(&client.leaves) == 2);
    CHECK_EQ(atomic_load(&client.last_reason), TP_END_CONNECT_FAILED);
    CHECK_EQ(atomic_load(&client.joins), 1);
    tp_server_stop(client.server);
    CHECK_EQ(tp_server_wait(client.server, -1), TP_OK);
    CHECK_EQ(tp_server_connect(client.server, &address, &id), TP_ERR_STATE);
    tp_server_destroy(client.server);
}

CHECK_MAIN(CASE(the_server_speaks_first), CASE(a_client_may_be_gone_at_once),
    CASE(a_stale_id_finds_nobody), CASE(says_what_a_session_does),
    CASE(a_handler_disconnects_its_own_session), CASE(disconnects_after_what_is_queued),
    CASE(the_trace_tells_a_sessions_life), CASE(sends_to_many_and_to_all),
    CASE(refuses_packets_that_are_wrong), CASE(turns_away_beyond_the_limit),
    CASE(who_is_being_ended_holds_no_place), CASE(those_being_ended_are_bounded),
    CASE(denies_by_list_and_by_handler), CASE(connects_outward))
