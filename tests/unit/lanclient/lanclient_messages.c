/*
 * lanclient and hub in one process: every way to send a message, every way to answer one, and every
 * reason for which one comes back.
 */
#include "bus_fixture.h"
#include "os/clock.h"

static void peers_see_each_other_come_and_go(void) {
    party a, b;
    tp__hub *hub = bus_open_pair(&a, &b);
    AWAIT(a.peer_ups == 1 && b.peer_ups == 1);
    CHECK_STR(a.last_peer.service, "db");
    CHECK_STR(a.last_peer.instance, "b");
    CHECK_EQ(a.last_peer.id, party_id(&b));
    CHECK_EQ(b.last_peer.id, party_id(&a));
    CHECK_NE(party_id(&a), party_id(&b));

    tp_peer peers[3] = {{.size = sizeof peers[0]}};
    CHECK_EQ(tp_lanclient_peers(a.client, NULL, peers, 3), 1);
    CHECK_STR(peers[0].service, "db");
    CHECK_EQ(tp_lanclient_peers(a.client, "chat", NULL, 0), 0);
    CHECK_EQ(tp_lanclient_peers(a.client, "db", NULL, 0), 1);
    tp_peer found = {.size = sizeof found};
    CHECK(tp_lanclient_find_peer(a.client, party_id(&b), &found));
    CHECK_STR(found.instance, "b");
    CHECK(!tp_lanclient_find_peer(a.client, party_id(&a), &found));

    party_leave(&b);
    AWAIT(a.peer_downs == 1);
    CHECK_STR(a.last_peer.service, "db");
    CHECK_EQ(tp_lanclient_peers(a.client, NULL, NULL, 0), 0);
    party_leave(&a);
    CHECK_EQ(a.downs, 1);
    CHECK_EQ(a.down_reason, TP_OK);
    hub_close(hub);
}

static void a_message_reaches_its_peer(void) {
    party a, b;
    tp__hub *hub = bus_open_pair(&a, &b);
    tp_ticket first = 0;
    tp_ticket second = 0;
    CHECK_EQ(party_send(&a, party_id(&b), "one", &first), TP_OK);
    CHECK_EQ(party_send(&a, party_id(&b), "two", &second), TP_OK);
    AWAIT(b.messages == 2);
    CHECK_STR(b.text, "two");
    CHECK_EQ(b.from.peer, party_id(&a));
    CHECK_EQ(b.from.ticket, second);
    CHECK_EQ(b.from.kind, TP_MESSAGE_SEND);
    CHECK_EQ(b.from.key, TP_NO_KEY);
    CHECK_NE(first, 0);
    CHECK_NE(first, second);
    CHECK_EQ(party_send(&a, party_id(&a), "to myself", NULL), TP_OK);
    AWAIT(a.messages == 1);
    CHECK_STR(a.text, "to myself");
    party_leave(&a);
    party_leave(&b);
    CHECK_EQ(hub_stats(hub).accepted, 3);
    CHECK_EQ(hub_stats(hub).delivered, 3);
    hub_close(hub);
}

/* Sends the received packet on, without a copy. */
static void forward(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    CHECK_EQ(tp_lanclient_send(client, from->peer, packet, NULL), TP_OK);
}

static void a_received_packet_can_be_sent_on(void) {
    party a, b;
    tp__hub *hub = bus_open_one(&a);
    party_init(&b, hub, "mirror", "b");
    b.handlers.on_message = forward;
    party_come_up(&b);
    CHECK_EQ(party_send(&a, party_id(&b), "there and back", NULL), TP_OK);
    AWAIT(a.messages == 1);
    CHECK_STR(a.text, "there and back");
    BUS_CLOSE(hub, &a, &b);
}

static void a_send_to_any_takes_turns_and_a_key_stays(void) {
    party a, b[3];
    tp__hub *hub = bus_open_one(&a);
    for (unsigned i = 0; i < 3; i++) {
        static const char *const names[] = {"b0", "b1", "b2"};
        party_join(&b[i], hub, "db", names[i]);
    }
    for (unsigned i = 0; i < 30; i++) {
        CHECK_EQ(party_send_any(&a, "db", TP_NO_KEY, "turn", NULL), TP_OK);
    }
    AWAIT(b[0].messages == 10 && b[1].messages == 10 && b[2].messages == 10);
    for (unsigned i = 0; i < 30; i++) {
        CHECK_EQ(party_send_any(&a, "db", 77, "key", NULL), TP_OK);
    }
    AWAIT(b[0].messages + b[1].messages + b[2].messages == 60);
    unsigned all = 0;
    for (unsigned i = 0; i < 3; i++) {
        all += b[i].messages == 40;
        CHECK(b[i].messages == 40 || b[i].messages == 10);
        CHECK(b[i].messages == 10 || b[i].from.key == 77);
        CHECK_EQ(b[i].from.kind, TP_MESSAGE_ANY);
    }
    CHECK_EQ(all, 1);
    party_leave(&a);
    for (unsigned i = 0; i < 3; i++) {
        party_leave(&b[i]);
    }
    hub_close(hub);
}

static void a_broadcast_reaches_every_other_peer(void) {
    party a, b, c;
    tp__hub *hub = bus_open_one(&a);
    party_join(&b, hub, "chat", "b");
    party_join(&c, hub, "db", "c");
    CHECK_EQ(party_send_all(&a, "chat", "to chat", NULL), TP_OK);
    CHECK_EQ(party_send_all(&a, NULL, "to all", NULL), TP_OK);
    AWAIT(b.messages == 2 && c.messages == 1);
    CHECK_STR(c.text, "to all");
    CHECK_EQ(c.from.kind, TP_MESSAGE_ALL);
    CHECK_EQ(c.from.peer, party_id(&a));
    CHECK_EQ(a.messages, 0);
    party_leave(&c);
    party_leave(&b);
    party_leave(&a);
    CHECK_EQ(hub_stats(hub).accepted, 3); /* each copy counts */
    hub_close(hub);
}

static void requests_are_answered(void) {
    party a, b;
    tp__hub *hub = bus_open_pair(&a, &b);
    CHECK_EQ(party_request(&a, party_id(&b), "to a peer", 0), TP_OK);
    AWAIT(a.replies == 1);
    CHECK_EQ(a.reply_error, TP_OK);
    CHECK_STR(a.reply, "to a peer");
    CHECK_EQ(party_request_any(&a, "db", TP_NO_KEY, "to a service"), TP_OK);
    AWAIT(a.replies == 2);
    CHECK_STR(a.reply, "to a service");
    CHECK_EQ(party_request_any(&a, "db", 5, "with a key"), TP_OK);
    AWAIT(a.replies == 3);
    CHECK_EQ(b.from.key, 5);
    CHECK_EQ(b.from.kind, TP_MESSAGE_REQUEST);
    CHECK_EQ(party_request(&a, TP_HUB, "stats", 0), TP_OK);
    AWAIT(a.replies == 4);
    CHECK_EQ(a.reply_error, TP_OK);
    CHECK(strstr(a.reply, "peers=2\n") != NULL);
    tp_lanclient_stats stats = party_stats(&a);
    CHECK_EQ(stats.requests, 4);
    CHECK_EQ(stats.replies, 4);
    CHECK_EQ(stats.requests_open, 0);
    BUS_CLOSE(hub, &a, &b);
}

static void an_answer_may_come_later_from_any_thread(void) {
    party a, b;
    tp__hub *hub = bus_open_one(&a);
    party_join_silent(&b, hub, "db", "b");
    CHECK_EQ(party_request(&a, party_id(&b), "think", 0), TP_OK);
    AWAIT(b.requests == 1);
    tp_packet *packet = text_packet("thought");
    CHECK_EQ(tp_lanclient_reply(b.client, &b.asked, packet, NULL), TP_OK);
    tp_packet_release(packet);
    AWAIT(a.replies == 1);
    CHECK_STR(a.reply, "thought");
    BUS_CLOSE(hub, &a, &b);
}

static void a_request_times_out_once(void) {
    party a, b;
    tp__hub *hub = bus_open_one(&a);
    party_join_silent(&b, hub, "db", "b");
    uint64_t begin = tp_clock_ms();
    CHECK_EQ(party_request(&a, party_id(&b), "forget it", 60), TP_OK);
    AWAIT(a.replies == 1 && b.requests == 1);
    CHECK_GE(tp_clock_ms() - begin, 60);
    CHECK_EQ(a.reply_error, TP_ERR_TIMED_OUT);
    tp_packet *packet = text_packet("too late");
    CHECK_EQ(tp_lanclient_reply(b.client, &b.asked, packet, NULL), TP_OK);
    tp_packet_release(packet);
    tp_lanclient_stats stats = {.size = sizeof stats};
    AWAIT((tp_lanclient_get_stats(a.client, &stats), stats.late == 1));
    CHECK_EQ(a.replies, 1);
    CHECK_EQ(stats.timed_out, 1);
    BUS_CLOSE(hub, &a, &b);
}

static void messages_without_a_receiver_come_back(void) {
    party a;
    tp__hub *hub = bus_open_one(&a);
    tp_ticket ticket = 0;
    tp_peer_id nobody = party_id(&a) + 1;
    CHECK_EQ(party_send(&a, nobody, "hello?", &ticket), TP_OK);
    AWAIT(a.returns == 1);
    CHECK_EQ(a.returned.ticket, ticket);
    CHECK_EQ(a.returned.kind, TP_MESSAGE_SEND);
    CHECK_EQ(a.returned.reason, TP_ERR_NO_ROUTE);
    CHECK_EQ(a.returned.bus_reason, TP_BUS_NO_PEER);
    CHECK_EQ(a.returned.peer, nobody);
    CHECK_EQ(party_send_any(&a, "nowhere", TP_NO_KEY, "hello?", &ticket), TP_OK);
    AWAIT(a.returns == 2);
    CHECK_EQ(a.returned.ticket, ticket);
    CHECK_EQ(a.returned.kind, TP_MESSAGE_ANY);
    CHECK_EQ(a.returned.bus_reason, TP_BUS_NO_SERVICE);
    CHECK_EQ(party_send_any(&a, "nowhere", 3, "hello?", &ticket), TP_OK);
    AWAIT(a.returns == 3);
    CHECK_EQ(party_send_all(&a, "nowhere", "hello?", &ticket), TP_OK);
    AWAIT(a.returns == 4);
    CHECK_EQ(a.returned.kind, TP_MESSAGE_ALL);
    CHECK_EQ(party_send_all(&a, NULL, "anybody?", &ticket), TP_OK);
    AWAIT(a.returns == 5);
    CHECK_EQ(a.returned.reason, TP_ERR_NO_ROUTE);
    CHECK_EQ(party_request(&a, nobody, "hello?", 0), TP_OK);
    AWAIT(a.replies == 1);
    CHECK_EQ(a.reply_error, TP_ERR_NO_ROUTE);
    CHECK_EQ(party_request_any(&a, "nowhere", TP_NO_KEY, "hello?"), TP_OK);
    AWAIT(a.replies == 2);
    CHECK_EQ(a.reply_error, TP_ERR_NO_ROUTE);
    CHECK_EQ(party_request(&a, TP_HUB, "what is the time", 0), TP_OK);
    AWAIT(a.replies == 3);
    CHECK_EQ(a.reply_error, TP_ERR_PROTOCOL);
    party_leave(&a);
    CHECK_EQ(hub_stats(hub).returned, 8);
    hub_close(hub);
}

static void messages_without_a_handler_come_back(void) {
    party a, b, c;
    tp__hub *hub = bus_open_one(&a);
    party_init(&b, hub, "db", "b");
    b.handlers.on_message = NULL;
    b.handlers.on_request = NULL;
    party_come_up(&b);
    CHECK_EQ(party_send(&a, party_id(&b), "hello?", NULL), TP_OK);
    AWAIT(a.returns == 1);
    CHECK_EQ(a.returned.reason, TP_ERR_UNSUPPORTED);
    CHECK_EQ(a.returned.peer, party_id(&b));
    CHECK_EQ(a.returned.kind, TP_MESSAGE_SEND);
    CHECK_EQ(party_request(&a, party_id(&b), "hello?", 0), TP_OK);
    AWAIT(a.replies == 1);
    CHECK_EQ(a.reply_error, TP_ERR_UNSUPPORTED);

    party_init(&c, hub, "full", "c");
    c.refuse = TP_ERR_FULL;
    party_come_up(&c);
    CHECK_EQ(party_request(&a, party_id(&c), "hello?", 0), TP_OK);
    AWAIT(a.replies == 2);
    CHECK_EQ(a.reply_error, TP_ERR_FULL);
    BUS_CLOSE(hub, &a, &b, &c);
}

static void messages_that_are_too_large_come_back(void) {
    tp__hub_options options;
    hub_options(&options);
    options.server.max_frame = 8192;
    tp__hub *hub = hub_open(&options);
    party a, b;
    party_join(&a, hub, "chat", "a");
    party_init(&b, hub, "small", "b");
    b.options.max_frame = 1024;
    party_come_up(&b);

    tp_packet *packet = tp_packet_new(8192);
    tp_packet_put_space(packet, 8192 - 15);
    CHECK_EQ(tp_lanclient_send(a.client, party_id(&b), packet, NULL), TP_ERR_TOO_LARGE);
    tp_packet_release(packet); /* not sent at all: the hub would refuse its size */
    packet = tp_packet_new(1024);
    tp_packet_put_space(packet, 1024 - 15);
    CHECK_EQ(tp_lanclient_send(a.client, party_id(&b), packet, NULL), TP_OK);
    tp_packet_release(packet);
    AWAIT(a.returns == 1);
    CHECK_EQ(a.returned.reason, TP_ERR_TOO_LARGE);
    packet = tp_packet_new(1024);
    memset(tp_packet_put_space(packet, 1024 - 16), 'x', 1024 - 16);
    CHECK_EQ(tp_lanclient_send(a.client, party_id(&b), packet, NULL), TP_OK);
    tp_packet_release(packet);
    AWAIT(b.messages == 1);
    BUS_CLOSE(hub, &a, &b);
}

enum { GREETERS = 4, COMERS = 30 };

/* Sends a message to each newcomer as soon as it is announced. */
static void send_hello(tp_lanclient *client, const tp_peer *peer) {
    if (strcmp(peer->service, "comer") == 0) {
        CHECK_EQ(party_send(party_of(client), peer->id, "hello", NULL), TP_OK);
    }
}

static unsigned returned_to(const party *greeters) {
    unsigned returns = 0;
    for (unsigned i = 0; i < GREETERS; i++) {
        returns += greeters[i].returns;
    }
    return returns;
}

/* The greeters' connections are served by other workers of the hub than the newcomer's. They get
 * the announcement and send their message while the newcomer's worker may still be busy with the
 * registration. */
static void an_announced_peer_can_be_reached(void) {
    static party greeters[GREETERS];
    tp__hub_options options;
    hub_options(&options);
    options.server.workers = 4;
    tp__hub *hub = hub_open(&options);
    for (unsigned i = 0; i < GREETERS; i++) {
        char name[] = {'g', (char)('0' + i), '\0'};
        party_init(&greeters[i], hub, "greeter", name);
        greeters[i].handlers.on_peer_up = send_hello;
        party_come_up(&greeters[i]);
    }
    for (unsigned i = 0; i < COMERS; i++) {
        party comer;
        party_join(&comer, hub, "comer", "c");
        AWAIT(comer.messages == GREETERS || returned_to(greeters) > 0);
        REQUIRE(returned_to(greeters) == 0);
        party_leave(&comer);
    }
    for (unsigned i = 0; i < GREETERS; i++) {
        party_leave(&greeters[i]);
    }
    hub_close(hub);
}

static void invalid_calls_change_nothing(void) {
    party a;
    tp__hub *hub = bus_open_one(&a);
    tp_packet *packet = text_packet("x");
    tp_packet *sealed = text_packet("x");
    tp_packet *bad = tp_packet_new(1);
    tp_packet_put_u32(bad, 1); /* does not fit */
    tp_delivery none = {.size = sizeof none, .kind = TP_MESSAGE_REQUEST};
    CHECK_EQ(tp_lanclient_send(a.client, TP_NO_PEER, packet, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_send(a.client, 1, NULL, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_send_any(a.client, "No Name", TP_NO_KEY, packet, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_send_any(a.client, "db", 65536, packet, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_send_any(a.client, NULL, TP_NO_KEY, packet, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_send_all(a.client, "", packet, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_request(a.client, 1, packet, 86400001, party_on_reply, &a, NULL),
        TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_request(a.client, 1, packet, 0, NULL, &a, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_reply(a.client, &none, packet, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_refuse(a.client, &none, TP_ERR_FULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_send(a.client, party_id(&a), bad, NULL), TP_ERR_TOO_LARGE);
    CHECK_EQ(tp_lanclient_send(a.client, party_id(&a), sealed, NULL), TP_OK);
    CHECK_EQ(tp_lanclient_send(a.client, party_id(&a), sealed, NULL), TP_ERR_SEALED);
    CHECK_EQ(tp_packet_error(sealed), TP_OK);
    CHECK_EQ(tp_packet_size(packet), 1); /* unchanged by all the refused calls */
    tp_packet_release(packet);
    tp_packet_release(sealed);
    tp_packet_release(bad);
    AWAIT(a.messages == 1);
    party_leave(&a);
    CHECK_EQ(hub_stats(hub).accepted, 1);
    hub_close(hub);
}

CHECK_MAIN(CASE(peers_see_each_other_come_and_go), CASE(a_message_reaches_its_peer),
    CASE(a_received_packet_can_be_sent_on), CASE(a_send_to_any_takes_turns_and_a_key_stays),
    CASE(a_broadcast_reaches_every_other_peer), CASE(requests_are_answered),
    CASE(an_answer_may_come_later_from_any_thread), CASE(a_request_times_out_once),
    CASE(messages_without_a_receiver_come_back), CASE(messages_without_a_handler_come_back),
    CASE(messages_that_are_too_large_come_back), CASE(an_announced_peer_can_be_reached),
    CASE(invalid_calls_change_nothing))
