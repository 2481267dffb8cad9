/*
 * A stalled worker makes no peer of the bus late: not a HELLO that waits in the hub's socket, not a
 * reply that waits in a client's. The server's second worker runs meanwhile and looks at the clock,
 * which the test moves (stall_fixture.h).
 */
#include "stall_fixture.h"

#include "bus_fixture.h"
#include "raw_peer.h"

enum { HELLO_MS = 1000, REQUEST_MS = 1000, CATCH_UP_MS = 2000 };

static void close_hub(tp__hub *hub) {
    atomic_store(&stall_stopped_at_ms, 0);
    hub_close(hub);
}

static tp__hub *open_for_pending(void) {
    tp__hub_options options;
    hub_options(&options);
    options.hello_timeout_ms = HELLO_MS;
    clock_stop();
    return hub_open(&options);
}

static tp_session_id first_pending(tp__hub *hub) {
    tp_mutex_lock(&hub->connections.mutex);
    const tp__hub_connection *first = tp__hub_connection_of(hub->connections.list.first);
    tp_session_id session = first ? first->session : TP_NO_SESSION;
    tp_mutex_unlock(&hub->connections.mutex);
    return session;
}

/* A connection that has sent nothing; `*session` is the hub's session of it. */
static raw_peer *connect_pending(tp__hub *hub, tp_session_id *session) {
    tp_address address = tp_server_address(hub->server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    STALL_WAIT((*session = first_pending(hub)) != TP_NO_SESSION);
    return peer;
}

static uint64_t late_count(tp__hub *hub) {
    return atomic_load(&hub->connections.late);
}

static void a_hello_in_the_socket_of_a_stalled_worker_is_not_late(void) {
    tp__hub *hub = open_for_pending();
    tp_session_id session;
    raw_peer *peer = connect_pending(hub, &session);
    if (!owner_of(hub->server, session)) {
        raw_close(peer, true);
        close_hub(hub);
        SKIP("any worker may serve any session here");
    }
    stall_worker_of(hub->server, session);
    pass_time(hub->server, 2 * HELLO_MS);
    CHECK_EQ(late_count(hub), 0);
    end_stall(hub->server);
    pass_time(hub->server, CATCH_UP_MS + HELLO_MS / 2);
    CHECK_EQ(late_count(hub), 0);
    /* A peer that really sends nothing is late in the end. */
    PASS_UNTIL(hub->server, late_count(hub) == 1);
    raw_close(peer, false);
    close_hub(hub);
}

/* The same after a stop of the whole process, on any system. */
static void a_hello_is_not_late_after_the_process_was_stopped(void) {
    tp__hub *hub = open_for_pending();
    tp_session_id session;
    raw_peer *peer = connect_pending(hub, &session);
    clock_jump(5 * HELLO_MS);
    await_sweep(hub->server);
    pass_time(hub->server, HELLO_MS / 2);
    CHECK_EQ(late_count(hub), 0);
    PASS_UNTIL(hub->server, late_count(hub) == 1);
    raw_close(peer, false);
    close_hub(hub);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void join(party *of, tp__hub *hub, const char *service) {
    party_init(of, hub, service, "1");
    of->options.workers = 2;
    party_start(of);
    AWAIT(of->ups == 1);
}

/* Both on the bus. `b` keeps the request until the case answers it. */
static tp__hub *open_for_requests(party *a, party *b) {
    tp__hub *hub = hub_open_default();
    join(a, hub, "asks");
    join(b, hub, "answers");
    AWAIT(a->peer_ups == 1);
    b->answer = false;
    clock_stop();
    CHECK_EQ(party_request(a, party_id(b), "how late is it", REQUEST_MS), TP_OK);
    AWAIT(b->requests == 1);
    return hub;
}

static unsigned replies_of(const party *of) {
    tp_mutex_lock(&fixture_mutex);
    unsigned replies = of->replies;
    tp_mutex_unlock(&fixture_mutex);
    return replies;
}

static void a_reply_in_the_socket_of_a_stalled_worker_is_not_late(void) {
    party a, b;
    tp__hub *hub = open_for_requests(&a, &b);
    tp_server *network = a.client->network;
    stall_worker_of(network, a.client->session);
    tp_packet *reply = text_packet("not late");
    CHECK_EQ(tp_lanclient_reply(b.client, &b.asked, reply, NULL), TP_OK);
    tp_packet_release(reply);
    if (owner_of(network, a.client->session)) {
        pass_time(network, 2 * REQUEST_MS); /* the second worker runs and sees the time pass */
    } else {
        clock_jump(2 * REQUEST_MS); /* any worker may receive the reply: both stall */
    }
    CHECK_EQ(replies_of(&a), 0);
    end_stall(network);
    await_sweep(network);
    AWAIT(a.replies == 1);
    CHECK_EQ(a.reply_error, TP_OK);
    atomic_store(&stall_stopped_at_ms, 0);
    party_leave(&a);
    party_leave(&b);
    close_hub(hub);
}

static void only_served_time_counts_against_a_request(void) {
    party a, b;
    tp__hub *hub = open_for_requests(&a, &b);
    tp_server *network = a.client->network;
    clock_jump(5 * REQUEST_MS);
    await_sweep(network);
    pass_time(network, CATCH_UP_MS + REQUEST_MS / 2);
    CHECK_EQ(replies_of(&a), 0);
    PASS_UNTIL(network, replies_of(&a) == 1);
    CHECK_EQ(a.reply_error, TP_ERR_TIMED_OUT);
    atomic_store(&stall_stopped_at_ms, 0);
    party_leave(&a);
    party_leave(&b);
    close_hub(hub);
}

CHECK_MAIN(CASE(a_hello_in_the_socket_of_a_stalled_worker_is_not_late),
    CASE(a_hello_is_not_late_after_the_process_was_stopped),
    CASE(a_reply_in_the_socket_of_a_stalled_worker_is_not_late),
    CASE(only_served_time_counts_against_a_request))
