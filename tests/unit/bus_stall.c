/*
 * We stood still, and nobody on the bus pays for it: a HELLO that lies in the hub's socket, a reply
 * that lies in a client's. The other worker of each goes on, and looks at the clock. By a clock
 * that the test moves: stall_stage.h.
 */
#include "stall_stage.h"

#include "bus_stage.h"
#include "raw_peer.h"

enum { HELLO_MS = 1000, REQUEST_MS = 1000, CATCH_UP_MS = 2000 };

static void close_hub(tp__hub *hub) {
    atomic_store(&stall_stopped_at_ms, 0);
    hub_close(hub);
}

static tp__hub *open_for_guests(void) {
    tp__hub_options options;
    hub_options(&options);
    options.hello_timeout_ms = HELLO_MS;
    clock_stop();
    return hub_open(&options);
}

static tp_session_id first_guest(tp__hub *hub) {
    tp_mutex_lock(&hub->guests.mutex);
    tp_session_id session = hub->guests.first ? hub->guests.first->session : TP_NO_SESSION;
    tp_mutex_unlock(&hub->guests.mutex);
    return session;
}

/* A connection that has said nothing; `*session` is the hub's end of it. */
static raw_peer *connect_guest(tp__hub *hub, tp_session_id *session) {
    tp_address address = tp_server_address(hub->server);
    raw_peer *guest = raw_connect(&address);
    REQUIRE(guest != NULL);
    STALL_WAIT((*session = first_guest(hub)) != TP_NO_SESSION);
    return guest;
}

static uint64_t late(tp__hub *hub) {
    return atomic_load(&hub->guests.late);
}

static void a_hello_that_lies_in_the_socket_is_not_late(void) {
    tp__hub *hub = open_for_guests();
    tp_session_id session;
    raw_peer *guest = connect_guest(hub, &session);
    if (!home_of(hub->server, session)) {
        raw_close(guest, true);
        close_hub(hub);
        SKIP("any worker hears any guest here");
    }
    hold_worker_of(hub->server, session);
    pass(hub->server, 2 * HELLO_MS);
    CHECK_EQ(late(hub), 0);
    let_worker_go(hub->server);
    pass(hub->server, CATCH_UP_MS + HELLO_MS / 2);
    CHECK_EQ(late(hub), 0);
    /* And who has nothing to say is late. */
    PASS_UNTIL(hub->server, late(hub) == 1);
    raw_close(guest, false);
    close_hub(hub);
}

/* The same for the whole process, on any system. */
static void nor_is_one_after_the_process_was_stopped(void) {
    tp__hub *hub = open_for_guests();
    tp_session_id session;
    raw_peer *guest = connect_guest(hub, &session);
    clock_jump(5 * HELLO_MS);
    let_sweep(hub->server);
    pass(hub->server, HELLO_MS / 2);
    CHECK_EQ(late(hub), 0);
    PASS_UNTIL(hub->server, late(hub) == 1);
    raw_close(guest, false);
    close_hub(hub);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void join(party *of, tp__hub *hub, const char *service) {
    party_init(of, hub, service, "1");
    of->options.workers = 2;
    party_start(of);
    AWAIT(of->ups == 1);
}

/* Both on the bus, which takes time; `b` answers when it is told. */
static tp__hub *open_for_requests(party *a, party *b) {
    tp__hub *hub = hub_open_default();
    join(a, hub, "asks");
    join(b, hub, "answers");
    AWAIT(a->peer_ups == 1);
    b->answer = false;
    clock_stop();
    CHECK_EQ(ask(a, self(b), "how late is it", REQUEST_MS), TP_OK);
    AWAIT(b->requests == 1);
    return hub;
}

static unsigned replies_of(const party *of) {
    tp_mutex_lock(&stage_mutex);
    unsigned replies = of->replies;
    tp_mutex_unlock(&stage_mutex);
    return replies;
}

static void a_reply_that_lies_in_the_socket_is_not_late(void) {
    party a, b;
    tp__hub *hub = open_for_requests(&a, &b);
    tp_server *network = a.client->network;
    hold_worker_of(network, a.client->session);
    tp_packet *reply = text_packet("not late");
    CHECK_EQ(tp_lanclient_reply(b.client, &b.asked, reply, NULL), TP_OK);
    tp_packet_release(reply);
    if (home_of(network, a.client->session)) {
        pass(network, 2 * REQUEST_MS); /* the other worker sees it pass */
    } else {
        clock_jump(2 * REQUEST_MS); /* any worker hears: both stand still */
    }
    CHECK_EQ(replies_of(&a), 0);
    let_worker_go(network);
    let_sweep(network);
    AWAIT(a.replies == 1);
    CHECK_EQ(a.reply_error, TP_OK);
    atomic_store(&stall_stopped_at_ms, 0);
    party_leave(&a);
    party_leave(&b);
    close_hub(hub);
}

static void who_does_not_answer_is_late_by_what_we_could_hear(void) {
    party a, b;
    tp__hub *hub = open_for_requests(&a, &b);
    tp_server *network = a.client->network;
    clock_jump(5 * REQUEST_MS);
    let_sweep(network);
    pass(network, CATCH_UP_MS + REQUEST_MS / 2);
    CHECK_EQ(replies_of(&a), 0);
    PASS_UNTIL(network, replies_of(&a) == 1);
    CHECK_EQ(a.reply_error, TP_ERR_TIMED_OUT);
    atomic_store(&stall_stopped_at_ms, 0);
    party_leave(&a);
    party_leave(&b);
    close_hub(hub);
}

CHECK_MAIN(CASE(a_hello_that_lies_in_the_socket_is_not_late),
    CASE(nor_is_one_after_the_process_was_stopped),
    CASE(a_reply_that_lies_in_the_socket_is_not_late),
    CASE(who_does_not_answer_is_late_by_what_we_could_hear))
