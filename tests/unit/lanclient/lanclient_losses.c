/*
 * lanclient and hub in one process: what is lost with a peer, a hub or a connection comes back
 * once, and full queues refuse or disconnect. Peers that acknowledge nothing are those of
 * slow_party.h.
 */
#include "slow_party.h"

static void messages_not_acknowledged_by_a_lost_peer_come_back(void) {
    party a, b;
    tp__hub *hub = bus_open_one(&a);
    slow_join(&b, hub, "b");
    tp_peer_id lost = party_id(&b);
    tp_ticket ticket = 0;
    for (unsigned i = 0; i < 100; i++) {
        CHECK_EQ(party_send(&a, lost, "lost?", &ticket), TP_OK);
    }
    CHECK_EQ(party_request(&a, lost, "lost?", 60000), TP_OK);
    AWAIT(b.messages == 1 && hub_stats(hub).outstanding == 101);
    CHECK_EQ(a.returns, 0);
    hub_cut(hub, lost);
    AWAIT(a.returns == 100 && a.replies == 1 && a.peer_downs == 1);
    CHECK_EQ(a.returned.ticket, ticket);
    CHECK_EQ(a.returned.reason, TP_ERR_PEER_LOST);
    CHECK_EQ(a.returned.bus_reason, TP_BUS_PEER_LOST);
    CHECK_EQ(a.returned.peer, lost);
    CHECK_EQ(a.reply_error, TP_ERR_PEER_LOST);
    CHECK_EQ(hub_stats(hub).returned_by[TP_BUS_PEER_LOST], 101);

    set_held(false);
    AWAIT(b.ups == 2); /* the peer reconnects by itself, with a new id */
    CHECK_NE(party_id(&b), lost);
    CHECK_EQ(b.downs, 1);
    CHECK_EQ(party_send(&a, lost, "still there?", NULL), TP_OK);
    AWAIT(a.returns == 101);
    CHECK_EQ(a.returned.reason, TP_ERR_NO_ROUTE);
    CHECK_EQ(party_send(&a, party_id(&b), "welcome back", NULL), TP_OK);
    AWAIT(strcmp(b.text, "welcome back") == 0);
    BUS_CLOSE(hub, &a, &b);
}

/* The request has been delivered and acknowledged, but its answer will never come. */
static void a_request_to_a_lost_peer_ends_before_its_time_out(void) {
    party a, b;
    tp__hub *hub = bus_open_one(&a);
    party_join_silent(&b, hub, "db", "b");
    CHECK_EQ(party_request(&a, party_id(&b), "think long", 86400000), TP_OK);
    AWAIT(b.requests == 1 && hub_stats(hub).outstanding == 0);
    CHECK_EQ(a.replies, 0);
    party_leave(&b);
    AWAIT(a.replies == 1);
    CHECK_EQ(a.reply_error, TP_ERR_PEER_LOST);
    tp_lanclient_stats stats = party_stats(&a);
    CHECK_EQ(stats.peers_gone, 1);
    BUS_CLOSE(hub, &a);
}

static void a_peer_that_acknowledges_nothing_gets_no_more(void) {
    tp__hub_options options;
    hub_options(&options);
    options.unconfirmed_limit = 8;
    tp__hub *hub = hub_open(&options);
    party a, b, c;
    party_join(&a, hub, "chat", "a");
    slow_join(&b, hub, "b");
    party_join(&c, hub, "quick", "c");
    for (unsigned i = 0; i < 20; i++) {
        CHECK_EQ(party_send(&a, party_id(&b), "more", NULL), TP_OK);
        CHECK_EQ(party_send(&a, party_id(&c), "more", NULL), TP_OK);
        /* One after another, and all but a few acknowledged: the limit holds for c, too. */
        AWAIT(c.messages == i + 1 && hub_stats(hub).outstanding <= (i < 8 ? i + 1 : 8) + 4);
    }
    AWAIT(a.returns == 12);
    CHECK_EQ(a.returned.reason, TP_ERR_FULL);
    CHECK_EQ(a.returned.bus_reason, TP_BUS_UNCONFIRMED_FULL);
    CHECK_EQ(a.returned.peer, party_id(&b));
    /* A send to any peer of the service skips the full one. */
    party d;
    party_init(&d, hub, "slow", "d");
    party_come_up(&d);
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQ(party_send_any(&a, "slow", TP_NO_KEY, "next", NULL), TP_OK);
    }
    AWAIT(d.messages == 4);
    CHECK_EQ(a.returns, 12);
    set_held(false);
    AWAIT(b.messages == 8);
    BUS_CLOSE(hub, &a, &b, &c, &d);
}

/* The hub refuses for a full queue: the policy is to refuse. */
static void messages_to_a_full_queue_come_back(void) {
    tp__hub_options options;
    hub_options(&options);
    options.server.queue_policy = TP_QUEUE_REFUSE;
    options.server.queue_bytes = 65536;
    tp__hub *hub = hub_open(&options);
    party a, b;
    party_join(&a, hub, "chat", "a");
    slow_join(&b, hub, "b");
    unsigned sent = 0;
    static char large[32768];
    memset(large, 'x', sizeof large - 1);
    while (read_count(&a.returns) == 0 &&
           sent < 4096) { /* the sockets in between take some megabytes first */
        sent += party_send(&a, party_id(&b), large, NULL) == TP_OK;
    }
    AWAIT(a.returns > 0);
    CHECK_EQ(a.returned.reason, TP_ERR_FULL);
    CHECK_EQ(a.returned.bus_reason, TP_BUS_QUEUE_FULL);
    CHECK_EQ(a.peer_downs, 0);
    set_held(false);
    AWAIT(b.messages + a.returns == sent);
    BUS_CLOSE(hub, &a, &b);
}

/* The same with the policy to disconnect: the peer is disconnected, and everything queued for it
 * comes back. */
static void a_slow_consumer_is_disconnected(void) {
    tp__hub_options options;
    hub_options(&options);
    options.server.queue_bytes = 65536;
    tp__hub *hub = hub_open(&options);
    party a, b;
    party_join(&a, hub, "chat", "a");
    slow_join(&b, hub, "b");
    tp_peer_id slow = party_id(&b);
    unsigned sent = 0;
    static char large[32768];
    memset(large, 'x', sizeof large - 1);
    while (read_count(&a.peer_downs) == 0 && sent < 4096) {
        sent += party_send(&a, slow, large, NULL) == TP_OK;
    }
    AWAIT(a.peer_downs == 1);
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(hub->server, &stats);
    CHECK_EQ(stats.ends[TP_END_OVERLOAD], 1);
    set_held(false);
    AWAIT(b.ups == 2);
    AWAIT(a.returns == sent);
    BUS_CLOSE(hub, &a, &b);
}

static void a_client_reaches_its_own_limits(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.max_requests = 2;
    a.answer = false;
    party_come_up(&a);
    CHECK_EQ(party_request(&a, party_id(&a), "one", 0), TP_OK);
    CHECK_EQ(party_request(&a, party_id(&a), "two", 0), TP_OK);
    CHECK_EQ(party_request(&a, party_id(&a), "three", 0), TP_ERR_FULL);
    AWAIT(a.requests == 2);
    party_leave(&a);
    CHECK_EQ(a.replies, 2);
    CHECK_EQ(a.reply_error, TP_ERR_CANCELLED);
    hub_close(hub);
}

static void a_message_that_was_refused_can_be_sent_again(void) {
    tp__hub *hub = hub_open_default();
    party a, b;
    slow_init(&a, hub, "a");
    a.options.max_unconfirmed = 1;
    party_start(&a);
    party_join(&b, hub, "chat", "b");
    AWAIT(a.ups == 1);
    tp_packet *packet = text_packet("again");
    tp_err error = TP_OK;
    unsigned sent = 0;
    while (error == TP_OK && sent < 100000) {
        error = party_send(&a, party_id(&b), "fill", NULL);
        sent += error == TP_OK;
    }
    CHECK_EQ(error, TP_ERR_FULL);
    error = tp_lanclient_send(a.client, party_id(&b), packet, NULL);
    while (error == TP_ERR_FULL) {
        REQUIRE(tp_packet_size(packet) == 5);
        tp_thread_yield();
        error = tp_lanclient_send(a.client, party_id(&b), packet, NULL);
    }
    CHECK_EQ(error, TP_OK);
    tp_packet_release(packet);
    AWAIT(b.messages == sent + 1);
    CHECK_STR(b.text, "again");
    set_held(false);
    BUS_CLOSE(hub, &a, &b);
}

/* ---- one message that is larger than every queue --------------------------------------------- */

static char huge[200000];

static bool nothing_queued_for(tp__hub *hub, const party *of) {
    tp_session_id session = hub_session_of(hub, party_id(of));
    REQUIRE(session != TP_NO_SESSION);
    return tp__queue_size_now(&hub->server->sessions[tp_session_slot(session)].queued) == 0;
}

/* The hub forwards a message larger than the queue limit and disconnects no peer, even if one
 * message follows another to a service. A delivered message may still count as queued until the
 * hub's worker has processed the completion of its send. */
static void one_oversized_message_disconnects_no_peer(void) {
    tp__hub_options options;
    hub_options(&options);
    options.server.queue_bytes = 65536;
    tp__hub *hub = hub_open(&options);
    party a, b, c;
    party_join(&a, hub, "chat", "a");
    party_join(&b, hub, "db", "b");
    party_join(&c, hub, "db", "c");
    AWAIT(a.peer_ups == 2);
    memset(huge, 'x', sizeof huge - 1);
    for (unsigned i = 0; i < 4; i++) {
        AWAIT(nothing_queued_for(hub, &b) && nothing_queued_for(hub, &c));
        CHECK_EQ(party_send_any(&a, "db", TP_NO_KEY, huge, NULL), TP_OK);
        AWAIT(b.messages + c.messages + a.returns + a.peer_downs == i + 1);
    }
    CHECK_EQ(a.returns, 0);
    CHECK_EQ(a.peer_downs, 0);
    CHECK_EQ(b.messages + c.messages, 4);
    BUS_CLOSE(hub, &a, &b, &c);
}

/* The client sends it as soon as nothing else is queued, so that the caller does not get FULL for
 * ever. */
static void one_oversized_message_is_accepted_by_an_empty_queue(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.queue_bytes = 1024;
    party_come_up(&a);
    memset(huge, 'x', sizeof huge - 1);
    for (unsigned i = 0; i < 4; i++) {
        AWAIT(party_send(&a, party_id(&a), huge, NULL) == TP_OK);
        AWAIT(a.messages == i + 1);
    }
    BUS_CLOSE(hub, &a);
}

/* When the client's own send queue does not accept it, the packet stays as it was. */
static void a_packet_that_was_not_queued_is_unchanged(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.queue_bytes = 1024;
    party_come_up(&a);
    tp_packet *packet = tp_packet_new(2048);
    memset(tp_packet_put_space(packet, 2000), 'x', 2000);
    /* As if another packet were queued. */
    (void)tp__queue_size_add(party_queued(&a), TP__QUEUED_ONE);
    for (unsigned i = 0; i < 3; i++) {
        tp_ticket ticket = 0;
        CHECK_EQ(tp_lanclient_send(a.client, party_id(&a), packet, &ticket), TP_ERR_FULL);
        CHECK_EQ(
            tp_lanclient_request(a.client, party_id(&a), packet, 0, party_on_reply, &a, &ticket),
            TP_ERR_FULL);
        CHECK_EQ(tp_packet_size(packet), 2000);
        CHECK_EQ(tp_packet_bytes(packet)[0], 'x');
        CHECK_EQ(tp_packet_error(packet), TP_OK);
    }
    tp__queue_size_subtract(party_queued(&a), TP__QUEUED_ONE);
    tp_packet_release(packet);
    CHECK_EQ(party_send(&a, party_id(&a), "small", NULL), TP_OK);
    AWAIT(a.messages == 1);
    party_leave(&a);
    CHECK_EQ(a.returns + a.replies, 0);
    CHECK_EQ(hub_stats(hub).accepted, 1);
    hub_close(hub);
}

/* ---- messages that came back before the connection was lost ---------------------------------- */

/* `returns` messages have come back. Cuts the connection and checks that no message comes back a
 * second time. */
static void lose_link_after(tp__hub *hub, party *a, unsigned returns) {
    AWAIT(a->returns == returns);
    hub_cut(hub, party_id(a));
    AWAIT(a->ups == 2);
    CHECK_EQ(a->downs, 1);
    CHECK_EQ(a->returns, returns);
    tp_lanclient_stats stats = party_stats(a);
    CHECK_EQ(stats.lost, 0);
    CHECK_EQ(stats.sent, stats.confirmed);
}

static void a_returned_message_comes_back_once(void) {
    tp__hub *hub = hub_open_default();
    party a;
    tp_ticket ticket = 0;
    party_join(&a, hub, "chat", "a");
    hub_pause_acks(hub);
    CHECK_EQ(party_send(&a, 12345, "anybody?", &ticket), TP_OK);
    lose_link_after(hub, &a, 1);
    CHECK_EQ(a.returned.ticket, ticket);
    CHECK_EQ(a.returned.reason, TP_ERR_NO_ROUTE);
    hub_resume_acks(hub);
    BUS_CLOSE(hub, &a);
}

static void a_request_that_the_hub_answered_is_not_lost(void) {
    party a;
    tp__hub *hub = bus_open_one(&a);
    hub_pause_acks(hub);
    CHECK_EQ(party_request(&a, TP_HUB, "stats", 0), TP_OK);
    AWAIT(a.replies == 1);
    lose_link_after(hub, &a, 0);
    hub_resume_acks(hub);
    BUS_CLOSE(hub, &a);
}

/* Both copies come back. The last ERROR also acknowledges the message. */
static void returned_copies_of_a_broadcast_come_back_once(void) {
    static char large[2000];
    tp__hub *hub = hub_open_default();
    party a, small[2];
    memset(large, 'x', sizeof large - 1);
    party_join(&a, hub, "chat", "a");
    for (unsigned i = 0; i < 2; i++) {
        party_init(&small[i], hub, "small", NULL);
        small[i].options.max_frame = 1024;
        party_come_up(&small[i]);
    }
    AWAIT(a.peer_ups == 2);
    hub_pause_acks(hub);
    CHECK_EQ(party_send_all(&a, "small", large, NULL), TP_OK);
    lose_link_after(hub, &a, 2);
    CHECK_EQ(a.returned.reason, TP_ERR_TOO_LARGE);
    hub_resume_acks(hub);
    BUS_CLOSE(hub, &a, &small[0], &small[1]);
}

CHECK_MAIN(CASE(messages_not_acknowledged_by_a_lost_peer_come_back),
    CASE(a_request_to_a_lost_peer_ends_before_its_time_out),
    CASE(a_peer_that_acknowledges_nothing_gets_no_more), CASE(messages_to_a_full_queue_come_back),
    CASE(a_slow_consumer_is_disconnected), CASE(a_client_reaches_its_own_limits),
    CASE(a_message_that_was_refused_can_be_sent_again),
    CASE(one_oversized_message_disconnects_no_peer),
    CASE(one_oversized_message_is_accepted_by_an_empty_queue),
    CASE(a_packet_that_was_not_queued_is_unchanged), CASE(a_returned_message_comes_back_once),
    CASE(a_request_that_the_hub_answered_is_not_lost),
    CASE(returned_copies_of_a_broadcast_come_back_once))
