/* lanclient against the hub in one process: peers, hubs and room that are lost, and what comes
 * back. */
#include "bus_stage.h"

/* A handler that keeps its worker until the test lets it go: a peer that confirms nothing. */
static bool held;

static void hold(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    party_on_message(client, from, packet);
    tp_mutex_lock(&stage_mutex);
    while (held) {
        tp_condition_wait(&stage_changed, &stage_mutex, 10);
    }
    tp_mutex_unlock(&stage_mutex);
}

static void set_held(bool value) {
    tp_mutex_lock(&stage_mutex);
    held = value;
    tp_condition_wake_all(&stage_changed);
    tp_mutex_unlock(&stage_mutex);
}

static unsigned seen(const unsigned *count) {
    tp_mutex_lock(&stage_mutex);
    unsigned value = *count;
    tp_mutex_unlock(&stage_mutex);
    return value;
}

static void holder_init(party *of, const tp__hub *hub, const char *instance) {
    set_held(true);
    party_init(of, hub, "slow", instance);
    of->handlers.on_message = hold;
}

static void holder_join(party *of, const tp__hub *hub, const char *instance) {
    holder_init(of, hub, instance);
    party_start(of);
    AWAIT(of->ups == 1);
}

static void what_a_lost_peer_has_not_confirmed_comes_back(void) {
    tp__hub *hub = hub_open_default();
    party a, b;
    party_join(&a, hub, "chat", "a");
    holder_join(&b, hub, "b");
    tp_peer_id lost = self(&b);
    tp_ticket ticket = 0;
    for (unsigned i = 0; i < 100; i++) {
        CHECK_EQ(say(&a, lost, "lost?", &ticket), TP_OK);
    }
    CHECK_EQ(ask(&a, lost, "lost?", 60000), TP_OK);
    AWAIT(b.messages == 1 && hub_account(hub).outstanding == 101);
    CHECK_EQ(a.returns, 0);
    hub_cut(hub, lost);
    AWAIT(a.returns == 100 && a.replies == 1 && a.peer_downs == 1);
    CHECK_EQ(a.returned.ticket, ticket);
    CHECK_EQ(a.returned.reason, TP_ERR_PEER_LOST);
    CHECK_EQ(a.returned.bus_reason, TP_BUS_PEER_LOST);
    CHECK_EQ(a.returned.peer, lost);
    CHECK_EQ(a.reply_error, TP_ERR_PEER_LOST);
    CHECK_EQ(hub_account(hub).returned_by[TP_BUS_PEER_LOST], 101);

    set_held(false);
    AWAIT(b.ups == 2); /* it comes back by itself, as somebody else */
    CHECK_NE(self(&b), lost);
    CHECK_EQ(b.downs, 1);
    CHECK_EQ(say(&a, lost, "still there?", NULL), TP_OK);
    AWAIT(a.returns == 101);
    CHECK_EQ(a.returned.reason, TP_ERR_NO_ROUTE);
    CHECK_EQ(say(&a, self(&b), "welcome back", NULL), TP_OK);
    AWAIT(strcmp(b.text, "welcome back") == 0);
    party_leave(&a);
    party_leave(&b);
    hub_close(hub);
}

/* The request has been handled and confirmed, its answer will never come. */
static void a_request_to_a_lost_peer_ends_before_its_time(void) {
    tp__hub *hub = hub_open_default();
    party a, b;
    party_join(&a, hub, "chat", "a");
    party_init(&b, hub, "db", "b");
    b.answer = false;
    party_start(&b);
    AWAIT(b.ups == 1);
    CHECK_EQ(ask(&a, self(&b), "think long", 86400000), TP_OK);
    AWAIT(b.requests == 1 && hub_account(hub).outstanding == 0);
    CHECK_EQ(a.replies, 0);
    party_leave(&b);
    AWAIT(a.replies == 1);
    CHECK_EQ(a.reply_error, TP_ERR_PEER_LOST);
    tp_lanclient_stats stats = {.size = sizeof stats};
    tp_lanclient_get_stats(a.client, &stats);
    CHECK_EQ(stats.peers_gone, 1);
    party_leave(&a);
    hub_close(hub);
}

static void a_peer_that_confirms_nothing_gets_no_more(void) {
    stage_open();
    tp__hub_options options;
    hub_options(&options);
    options.unconfirmed_limit = 8;
    tp__hub *hub = hub_open(&options);
    party a, b, c;
    party_join(&a, hub, "chat", "a");
    holder_join(&b, hub, "b");
    party_join(&c, hub, "quick", "c");
    for (unsigned i = 0; i < 20; i++) {
        CHECK_EQ(say(&a, self(&b), "more", NULL), TP_OK);
        CHECK_EQ(say(&a, self(&c), "more", NULL), TP_OK);
        /* One after the other, and confirmed but for a few: the limit is c's too. */
        AWAIT(c.messages == i + 1 && hub_account(hub).outstanding <= (i < 8 ? i + 1 : 8) + 4);
    }
    AWAIT(a.returns == 12);
    CHECK_EQ(a.returned.reason, TP_ERR_FULL);
    CHECK_EQ(a.returned.bus_reason, TP_BUS_UNCONFIRMED_FULL);
    CHECK_EQ(a.returned.peer, self(&b));
    /* Whoever takes turns passes it over. */
    party d;
    party_init(&d, hub, "slow", "d");
    party_start(&d);
    AWAIT(d.ups == 1);
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQ(say_any(&a, "slow", TP_NO_KEY, "next", NULL), TP_OK);
    }
    AWAIT(d.messages == 4);
    CHECK_EQ(a.returns, 12);
    set_held(false);
    AWAIT(b.messages == 8);
    party_leave(&a);
    party_leave(&b);
    party_leave(&c);
    party_leave(&d);
    hub_close(hub);
}

/* The slow peer's queue in the hub is full, whose policy is to refuse. */
static void a_full_queue_comes_back(void) {
    stage_open();
    tp__hub_options options;
    hub_options(&options);
    options.server.queue_policy = TP_QUEUE_REFUSE;
    options.server.queue_bytes = 65536;
    tp__hub *hub = hub_open(&options);
    party a, b;
    party_join(&a, hub, "chat", "a");
    holder_join(&b, hub, "b");
    unsigned sent = 0;
    static char large[32768];
    memset(large, 'x', sizeof large - 1);
    while (seen(&a.returns) == 0 &&
           sent < 4096) { /* the sockets in between take some megabytes first */
        sent += say(&a, self(&b), large, NULL) == TP_OK;
    }
    AWAIT(a.returns > 0);
    CHECK_EQ(a.returned.reason, TP_ERR_FULL);
    CHECK_EQ(a.returned.bus_reason, TP_BUS_QUEUE_FULL);
    CHECK_EQ(a.peer_downs, 0);
    set_held(false);
    AWAIT(b.messages + a.returns == sent);
    party_leave(&a);
    party_leave(&b);
    hub_close(hub);
}

/* The same under the policy to disconnect: the peer ends, and everything it had comes back. */
static void a_slow_consumer_is_ended(void) {
    stage_open();
    tp__hub_options options;
    hub_options(&options);
    options.server.queue_bytes = 65536;
    tp__hub *hub = hub_open(&options);
    party a, b;
    party_join(&a, hub, "chat", "a");
    holder_join(&b, hub, "b");
    tp_peer_id slow = self(&b);
    unsigned sent = 0;
    static char large[32768];
    memset(large, 'x', sizeof large - 1);
    while (seen(&a.peer_downs) == 0 && sent < 4096) {
        sent += say(&a, slow, large, NULL) == TP_OK;
    }
    AWAIT(a.peer_downs == 1);
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(hub->server, &stats);
    CHECK_EQ(stats.ends[TP_END_OVERLOAD], 1);
    set_held(false);
    AWAIT(b.ups == 2);
    AWAIT(a.returns == sent);
    party_leave(&a);
    party_leave(&b);
    hub_close(hub);
}

static void a_client_reaches_its_own_limits(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.max_requests = 2;
    a.answer = false;
    party_start(&a);
    AWAIT(a.ups == 1);
    CHECK_EQ(ask(&a, self(&a), "one", 0), TP_OK);
    CHECK_EQ(ask(&a, self(&a), "two", 0), TP_OK);
    CHECK_EQ(ask(&a, self(&a), "three", 0), TP_ERR_FULL);
    AWAIT(a.requests == 2);
    party_leave(&a);
    CHECK_EQ(a.replies, 2);
    CHECK_EQ(a.reply_error, TP_ERR_CANCELLED);
    hub_close(hub);
}

static void a_message_that_found_no_room_can_be_sent_again(void) {
    tp__hub *hub = hub_open_default();
    party a, b;
    holder_init(&a, hub, "a");
    a.options.max_unconfirmed = 1;
    party_start(&a);
    party_join(&b, hub, "chat", "b");
    AWAIT(a.ups == 1);
    tp_packet *packet = text_packet("again");
    tp_err error = TP_OK;
    unsigned sent = 0;
    while (error == TP_OK && sent < 100000) {
        error = say(&a, self(&b), "fill", NULL);
        sent += error == TP_OK;
    }
    CHECK_EQ(error, TP_ERR_FULL);
    error = tp_lanclient_send(a.client, self(&b), packet, NULL);
    while (error == TP_ERR_FULL) {
        REQUIRE(tp_packet_size(packet) == 5);
        tp_thread_yield();
        error = tp_lanclient_send(a.client, self(&b), packet, NULL);
    }
    CHECK_EQ(error, TP_OK);
    tp_packet_release(packet);
    AWAIT(b.messages == sent + 1);
    CHECK_STR(b.text, "again");
    set_held(false);
    party_leave(&a);
    party_leave(&b);
    hub_close(hub);
}

/* ---- one message that is larger than every queue --------------------------------------------- */

static char huge[200000];

static bool nothing_queued_for(tp__hub *hub, const party *of) {
    tp_session_id session = hub_session_of(hub, self(of));
    REQUIRE(session != TP_NO_SESSION);
    return tp__queue_size_now(&hub->server->sessions[tp_session_slot(session)].queued) == 0;
}

/* The hub passes it on, and ends nobody for it: not even one after the other of a service. What has
 * arrived may still count as queued until the hub's worker has seen that it was sent. */
static void one_message_ends_nobody(void) {
    stage_open();
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
        CHECK_EQ(say_any(&a, "db", TP_NO_KEY, huge, NULL), TP_OK);
        AWAIT(b.messages + c.messages + a.returns + a.peer_downs == i + 1);
    }
    CHECK_EQ(a.returns, 0);
    CHECK_EQ(a.peer_downs, 0);
    CHECK_EQ(b.messages + c.messages, 4);
    party_leave(&a);
    party_leave(&b);
    party_leave(&c);
    hub_close(hub);
}

/* The client sends it as soon as nothing else is queued: it is not told FULL for ever. */
static void one_message_is_not_full_for_ever(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.queue_bytes = 1024;
    party_start(&a);
    AWAIT(a.ups == 1);
    memset(huge, 'x', sizeof huge - 1);
    for (unsigned i = 0; i < 4; i++) {
        AWAIT(say(&a, self(&a), huge, NULL) == TP_OK);
        AWAIT(a.messages == i + 1);
    }
    party_leave(&a);
    hub_close(hub);
}

/* The client's own send queue does not take it: the packet is as it was before. */
static void a_packet_that_was_not_queued_is_untouched(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.queue_bytes = 1024;
    party_start(&a);
    AWAIT(a.ups == 1);
    tp_packet *packet = tp_packet_new(2048);
    memset(tp_packet_put_space(packet, 2000), 'x', 2000);
    (void)tp__queue_size_add(party_queued(&a), TP__QUEUED_ONE); /* as if another one were queued */
    for (unsigned i = 0; i < 3; i++) {
        tp_ticket ticket = 0;
        CHECK_EQ(tp_lanclient_send(a.client, self(&a), packet, &ticket), TP_ERR_FULL);
        CHECK_EQ(tp_lanclient_request(a.client, self(&a), packet, 0, party_on_reply, &a, &ticket),
            TP_ERR_FULL);
        CHECK_EQ(tp_packet_size(packet), 2000);
        CHECK_EQ(tp_packet_bytes(packet)[0], 'x');
        CHECK_EQ(tp_packet_error(packet), TP_OK);
    }
    tp__queue_size_take_off(party_queued(&a), TP__QUEUED_ONE);
    tp_packet_release(packet);
    CHECK_EQ(say(&a, self(&a), "small", NULL), TP_OK);
    AWAIT(a.messages == 1);
    party_leave(&a);
    CHECK_EQ(a.returns + a.replies, 0);
    CHECK_EQ(hub_account(hub).accepted, 1);
    hub_close(hub);
}

/* ---- what has come back, and then the connection is lost ------------------------------------- */

/* So many have come back, and it stays at that when the connection is lost. */
static void lose_link_after(tp__hub *hub, party *a, unsigned returns) {
    AWAIT(a->returns == returns);
    hub_cut(hub, self(a));
    AWAIT(a->ups == 2);
    CHECK_EQ(a->downs, 1);
    CHECK_EQ(a->returns, returns);
    tp_lanclient_stats stats = {.size = sizeof stats};
    tp_lanclient_get_stats(a->client, &stats);
    CHECK_EQ(stats.lost, 0);
    CHECK_EQ(stats.sent, stats.confirmed);
}

static void what_has_come_back_does_not_come_again(void) {
    tp__hub *hub = hub_open_default();
    party a;
    tp_ticket ticket = 0;
    party_join(&a, hub, "chat", "a");
    hub_confirm_no_more(hub);
    CHECK_EQ(say(&a, 12345, "anybody?", &ticket), TP_OK);
    lose_link_after(hub, &a, 1);
    CHECK_EQ(a.returned.ticket, ticket);
    CHECK_EQ(a.returned.reason, TP_ERR_NO_ROUTE);
    hub_confirm_again(hub);
    party_leave(&a);
    hub_close(hub);
}

static void what_the_hub_has_answered_is_not_lost(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_join(&a, hub, "chat", "a");
    hub_confirm_no_more(hub);
    CHECK_EQ(ask(&a, TP_HUB, "stats", 0), TP_OK);
    AWAIT(a.replies == 1);
    lose_link_after(hub, &a, 0);
    hub_confirm_again(hub);
    party_leave(&a);
    hub_close(hub);
}

/* Both copies come back; the last word is also the one that it is taken. */
static void what_has_come_back_from_all_does_not_come_again(void) {
    static char large[2000];
    tp__hub *hub = hub_open_default();
    party a, small[2];
    memset(large, 'x', sizeof large - 1);
    party_join(&a, hub, "chat", "a");
    for (unsigned i = 0; i < 2; i++) {
        party_init(&small[i], hub, "small", NULL);
        small[i].options.max_frame = 1024;
        party_start(&small[i]);
        AWAIT(small[i].ups == 1);
    }
    AWAIT(a.peer_ups == 2);
    hub_confirm_no_more(hub);
    CHECK_EQ(say_all(&a, "small", large, NULL), TP_OK);
    lose_link_after(hub, &a, 2);
    CHECK_EQ(a.returned.reason, TP_ERR_TOO_LARGE);
    hub_confirm_again(hub);
    party_leave(&a);
    party_leave(&small[0]);
    party_leave(&small[1]);
    hub_close(hub);
}

CHECK_MAIN(CASE(what_a_lost_peer_has_not_confirmed_comes_back),
    CASE(a_request_to_a_lost_peer_ends_before_its_time),
    CASE(a_peer_that_confirms_nothing_gets_no_more), CASE(a_full_queue_comes_back),
    CASE(a_slow_consumer_is_ended), CASE(a_client_reaches_its_own_limits),
    CASE(a_message_that_found_no_room_can_be_sent_again), CASE(one_message_ends_nobody),
    CASE(one_message_is_not_full_for_ever), CASE(a_packet_that_was_not_queued_is_untouched),
    CASE(what_has_come_back_does_not_come_again), CASE(what_the_hub_has_answered_is_not_lost),
    CASE(what_has_come_back_from_all_does_not_come_again))
