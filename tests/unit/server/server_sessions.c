/*
 * Sessions as the application sees them: join, ids, sending, ending, admission, outgoing
 * connections.
 */
#include "server_fixture.h"
#include "twinport/log.h"

static server_fixture fixture;
static uint8_t in[4096];

static tp_packet *packet_of(const char *text) {
    tp_packet *packet = tp_packet_copy_of(text, strlen(text));
    REQUIRE(packet != NULL);
    return packet;
}

static bool send_text(tp_session_id session, const char *text) {
    tp_packet *packet = packet_of(text);
    bool sent = tp_server_send(fixture.server, session, packet);
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

/* Connects a peer and waits for its session; *id receives its id. */
static raw_peer *join_peer(tp_session_id *id) {
    unsigned joins = atomic_load(&fixture.joins);
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == joins + 1);
    *id = atomic_load(&fixture.last_joined);
    return peer;
}

static void send_hello(server_fixture *s, tp_session_id session) {
    (void)s;
    CHECK(send_text(session, "welcome"));
}

static void the_server_may_send_first(void) {
    server_fixture_init(&fixture);
    fixture.on_joined = send_hello;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    check_receives(peer, "welcome");
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

/* A connection that is closed before the server's first receive joins and leaves in order. */
static void a_client_may_close_before_the_first_receive(void) {
    server_fixture_init(&fixture);
    fixture.on_joined = send_hello;
    server_fixture_open(&fixture);
    for (unsigned i = 0; i < 50; i++) {
        raw_close(fixture_connect_peer(&fixture), i % 2 == 0);
    }
    /* Connections are accepted in order: when the last one has its message, all before it have
     * joined. A reset before the accept may hide a connection altogether. */
    raw_peer *last = fixture_connect_peer(&fixture);
    check_receives(last, "welcome");
    raw_close(last, false);
    FIXTURE_WAIT(tp_server_session_count(fixture.server) == 0);
    server_fixture_close(&fixture);
    CHECK_EQ(atomic_load(&fixture.joins), atomic_load(&fixture.leaves));
}

static void a_stale_id_finds_no_session(void) {
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    tp_session_id old;
    raw_close(join_peer(&old), false);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);

    tp_session_id now;
    raw_peer *peer = join_peer(&now);
    /* The same slot, so that the number makes the difference. */
    CHECK_EQ(now & 0xFFFFF, old & 0xFFFFF);
    const tp_session_id wrong[] = {
        old, TP_NO_SESSION, now + (1 << 20), now ^ 1, UINT64_MAX, now & 0xFFFFF};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        tp_session_info info = {.size = sizeof info};
        CHECK(!send_text(wrong[i], "to nobody"));
        CHECK(!tp_server_disconnect(fixture.server, wrong[i]));
        CHECK(!tp_server_disconnect_after_send(fixture.server, wrong[i], 0));
        CHECK(!tp_server_session_info(fixture.server, wrong[i], &info));
    }
    CHECK(send_text(now, "to you"));
    check_receives(peer, "to you");
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.server, &stats);
    CHECK_EQ(stats.no_session, 18);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

static void session_info_counts_what_a_session_does(void) {
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    tp_session_id id;
    raw_peer *peer = join_peer(&id);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "12345", 5));
    check_receives(peer, "12345");
    FIXTURE_WAIT(atomic_load(&fixture.sends) == 1);
    tp_session_info info = {.size = sizeof info};
    REQUIRE(tp_server_session_info(fixture.server, id, &info));
    CHECK_EQ(info.session, id);
    CHECK_EQ(info.received_messages, 1);
    CHECK_EQ(info.received_bytes, 9);
    CHECK_EQ(info.sent_messages, 1);
    CHECK_EQ(info.sent_bytes, 9);
    CHECK(tp_address_is_private(&info.peer));
    info.size = 3;
    CHECK(!tp_server_session_info(fixture.server, id, &info));
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void disconnect_own(server_fixture *s, tp_session_id session, tp_packet *packet) {
    CHECK(tp_server_disconnect(s->server, session));
    CHECK(!tp_server_disconnect(s->server, session));
    CHECK(!tp_server_send(s->server, session, packet));
}

/* Of the messages that arrive together, those behind the disconnect are not delivered. */
static void a_handler_disconnects_its_own_session(void) {
    server_fixture_init(&fixture);
    fixture.on_message = disconnect_own;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    uint8_t three[3 * TP_FRAME_HEADER] = {0};
    CHECK(raw_send(peer, three, sizeof three));
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.messages), 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_KICKED);
    raw_end(peer);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

static void disconnect_after_send_drains_the_queue(void) {
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    tp_session_id id;
    raw_peer *peer = join_peer(&id);
    for (unsigned i = 0; i < 100; i++) {
        CHECK(send_text(id, "before"));
    }
    CHECK(tp_server_disconnect_after_send(fixture.server, id, TP_CLOSE_REPLACED));
    CHECK(!tp_server_disconnect_after_send(fixture.server, id, TP_CLOSE_REPLACED));
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
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_KICKED);
    server_fixture_close(&fixture);
}

static void the_trace_has_a_sessions_life(void) {
    static tp_trace_entry entries[TP_TRACE_ENTRIES];
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    REQUIRE(tp_trace_enable(true) == TP_OK);
    tp_session_id id;
    raw_peer *peer = join_peer(&id);
    CHECK(send_text(id, "hello"));
    check_receives(peer, "hello");
    CHECK(tp_server_disconnect(fixture.server, id));
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
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
    server_fixture_close(&fixture);
}

/* ---- many ------------------------------------------------------------------------------------ */

static void a_packet_goes_to_many_and_to_all(void) {
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    raw_peer *peers[8];
    tp_session_id ids[8];
    for (unsigned i = 0; i < 8; i++) {
        peers[i] = join_peer(&ids[i]);
    }
    tp_packet *some = packet_of("some");
    CHECK_EQ(tp_server_send_many(fixture.server, ids, 4, some), 4);
    tp_packet_release(some);
    tp_packet *all = packet_of("all");
    CHECK_EQ(tp_server_broadcast(fixture.server, all, ids[7]), 7);
    CHECK_EQ(tp_server_broadcast(fixture.server, all, TP_NO_SESSION), 8);
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
    server_fixture_close(&fixture);
}

static void invalid_packets_are_refused(void) {
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    tp_session_id id;
    raw_peer *peer = join_peer(&id);
    tp_packet *packet = tp_packet_new(2);
    REQUIRE(packet != NULL);
    tp_packet_put_u32(packet, 1); /* does not fit */
    CHECK(!tp_server_send(fixture.server, id, packet));
    CHECK_EQ(tp_server_send_many(fixture.server, &id, 1, packet), 0);
    CHECK_EQ(tp_server_broadcast(fixture.server, packet, TP_NO_SESSION), 0);
    tp_packet_release(packet);
    CHECK(send_text(id, "fine"));
    check_receives(peer, "fine");
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

/* ---- admission ------------------------------------------------------------------------------- */

static void connections_beyond_the_limit_are_refused(void) {
    server_fixture_init(&fixture);
    fixture.options.max_sessions = 2;
    server_fixture_open(&fixture);
    tp_session_id id;
    raw_peer *first = join_peer(&id);
    raw_peer *second = join_peer(&id);
    raw_peer *third = fixture_connect_peer(&fixture);
    unsigned type;
    CHECK_EQ(raw_receive_frame(third, &type, in, sizeof in), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(tp_frame_close_reason(in), TP_CLOSE_FULL);
    raw_finish(third); /* the peer ends its stream after CLOSE */
    CHECK_EQ(raw_end(third), TP_ERR_CLOSED);
    raw_close(third, false);
    CHECK_EQ(atomic_load(&fixture.joins), 2);
    raw_close(first, false);
    FIXTURE_WAIT(tp_server_session_count(fixture.server) == 1);
    raw_peer *fourth = join_peer(&id); /* the quota is free again */
    raw_close(fourth, false);
    raw_close(second, false);
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.server, &stats);
    CHECK_EQ(stats.full, 1);
    CHECK_EQ(stats.accepted, 4);
    /* The refused connection never was a session. */
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 3);
    server_fixture_close(&fixture);
}

/* A peer that is disconnected and does not close its stream. */
static raw_peer *join_and_be_kicked(void) {
    tp_session_id id;
    unsigned type;
    raw_peer *peer = join_peer(&id);
    CHECK(tp_server_turn_away(fixture.server, id, TP_CLOSE_KICKED));
    CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(tp_frame_close_reason(in), TP_CLOSE_KICKED);
    return peer;
}

static void sessions_being_ended_have_no_quota(void) {
    server_fixture_init(&fixture);
    fixture.options.max_sessions = 1;
    fixture.options.drain_timeout_ms = 600000;
    server_fixture_open(&fixture);
    raw_peer *kicked = join_and_be_kicked();
    CHECK_EQ(tp_server_session_count(fixture.server), 0);
    tp_session_id id;
    raw_peer *next = join_peer(&id);
    CHECK_EQ(tp_server_session_count(fixture.server), 1);
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    CHECK(send_text(id, "in"));
    check_receives(next, "in");
    raw_close(kicked, false);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(tp_server_session_count(fixture.server), 1); /* the quota was returned once */
    raw_close(next, false);
    FIXTURE_WAIT(tp_server_session_count(fixture.server) == 0);
    server_fixture_close(&fixture);
}

/* The slots for sessions that are being ended are fixed at create. When they are used up, the
 * oldest are reset, although they have hours left. The latest are still open. */
static void sessions_being_ended_are_bounded(void) {
    enum { KICKED = 4 * TP_SERVER_ENDING(1), LATEST = 16 };
    static raw_peer *kicked[KICKED];
    server_fixture_init(&fixture);
    fixture.options.max_sessions = 1;
    fixture.options.drain_timeout_ms = 600000;
    server_fixture_open(&fixture);
    for (unsigned i = 0; i < KICKED; i++) {
        uint64_t now = tp_clock_ms();
        /* So that their deadlines are later. */
        FIXTURE_WAIT(i != KICKED - LATEST || tp_clock_ms() > now);
        kicked[i] = join_and_be_kicked();
    }
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.server, &stats);
    CHECK_EQ(stats.full, 0);
    CHECK_EQ(stats.joined, KICKED);
    CHECK_GE(stats.cut_short, KICKED - (TP_SERVER_ENDING(1) + 1));
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == stats.cut_short); /* and no other reason */
    CHECK_NE(raw_end(kicked[0]), TP_ERR_TIMED_OUT);
    for (unsigned i = KICKED - LATEST; i < KICKED; i++) {
        raw_finish(kicked[i]); /* a reset would arrive before the answer to this */
        CHECK_EQ(raw_end(kicked[i]), TP_ERR_CLOSED);
    }
    for (unsigned i = 0; i < KICKED; i++) {
        raw_close(kicked[i], false);
    }
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == KICKED);
    server_fixture_close(&fixture);
}

/* Connects and waits for the end. The reset may come before the connection is established. */
static void connect_and_be_denied(void) {
    tp_address address = tp_server_address(fixture.server);
    raw_peer *peer = raw_connect(&address);
    if (peer) {
        CHECK_NE(raw_end(peer), TP_ERR_TIMED_OUT);
        raw_close(peer, false);
    }
}

static void addresses_are_denied_by_list_and_by_handler(void) {
    server_fixture_init(&fixture);
    tp_network elsewhere, here;
    REQUIRE(tp_network_parse("10.0.0.0/8", &elsewhere) == TP_OK);
    REQUIRE(tp_network_parse("127.0.0.0/8", &here) == TP_OK);
    fixture.options.access.allow = &elsewhere;
    fixture.options.access.allow_count = 1;
    server_fixture_open(&fixture);
    connect_and_be_denied();
    tp_server_stats stats = {.size = sizeof stats};
    FIXTURE_WAIT((tp_server_get_stats(fixture.server, &stats), stats.denied == 1));
    CHECK_EQ(atomic_load(&fixture.requests), 0);
    server_fixture_close(&fixture);

    server_fixture_init(&fixture);
    fixture.options.access.allow = &here;
    fixture.options.access.allow_count = 1;
    server_fixture_open(&fixture);
    memset(&here, 0, sizeof here); /* the server has a copy */
    atomic_store(&fixture.deny, true);
    connect_and_be_denied();
    FIXTURE_WAIT(atomic_load(&fixture.requests) == 1);
    CHECK_EQ(atomic_load(&fixture.joins), 0);
    atomic_store(&fixture.deny, false);
    tp_session_id id;
    raw_close(join_peer(&id), false);
    tp_server_get_stats(fixture.server, &stats);
    CHECK_EQ(stats.denied, 1);
    server_fixture_close(&fixture);
}

/* ---- outgoing connections -------------------------------------------------------------------- */

static void a_server_connects_to_another(void) {
    static server_fixture client;
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    server_fixture_init(&client);
    client.options.listen = false;
    atomic_store(&client.echo, false);
    server_fixture_open(&client);
    tp_address address = tp_server_address(fixture.server);
    tp_session_id id;
    CHECK_EQ(tp_server_connect(client.server, &address, &id), TP_OK);
    FIXTURE_WAIT(atomic_load(&client.joins) == 1);
    CHECK_EQ(atomic_load(&client.last_joined), id);
    tp_packet *packet = packet_of("across");
    CHECK(tp_server_send(client.server, id, packet));
    tp_packet_release(packet);
    FIXTURE_WAIT(atomic_load(&client.messages) == 1);
    server_fixture_close(&fixture);
    FIXTURE_WAIT(atomic_load(&client.leaves) == 1);
    CHECK_EQ(atomic_load(&client.last_reason), TP_END_REFUSED); /* CLOSE shutdown was received */

    /* No server listens any more: no join, one leave. */
    CHECK_EQ(tp_server_connect(client.server, &address, &id), TP_OK);
    FIXTURE_WAIT(atomic_load(&client.leaves) == 2);
    CHECK_EQ(atomic_load(&client.last_reason), TP_END_CONNECT_FAILED);
    CHECK_EQ(atomic_load(&client.joins), 1);
    tp_server_stop(client.server);
    CHECK_EQ(tp_server_wait(client.server, -1), TP_OK);
    CHECK_EQ(tp_server_connect(client.server, &address, &id), TP_ERR_STATE);
    tp_server_destroy(client.server);
}

CHECK_MAIN(CASE(the_server_may_send_first), CASE(a_client_may_close_before_the_first_receive),
    CASE(a_stale_id_finds_no_session), CASE(session_info_counts_what_a_session_does),
    CASE(a_handler_disconnects_its_own_session), CASE(disconnect_after_send_drains_the_queue),
    CASE(the_trace_has_a_sessions_life), CASE(a_packet_goes_to_many_and_to_all),
    CASE(invalid_packets_are_refused), CASE(connections_beyond_the_limit_are_refused),
    CASE(sessions_being_ended_have_no_quota), CASE(sessions_being_ended_are_bounded),
    CASE(addresses_are_denied_by_list_and_by_handler), CASE(a_server_connects_to_another))
