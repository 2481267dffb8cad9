/*
 * Edge cases of messages and calls: malformed messages from a peer and from a hub, answers and
 * sends that are refused or cannot be sent, and clients without a name.
 */
#include "raw_bus.h"

/* ---- malformed messages from a peer ---------------------------------------------------------- */

/* It goes back to its sender, and the peer for which it was meant is not disconnected. */
static void a_malformed_error_goes_back(void) {
    party a;
    tp__hub *hub = bus_open_one(&a);
    raw_peer *peer = raw_join(hub);
    static const struct {
        uint8_t kind;
        size_t size;
        bool good;
    } errors[] = {{6, 0, false}, {6, 11, false}, {0, 12, false}, {5, 12, false}, {11, 12, false},
        {77, 12, false}, {10, 12, true}, {6, 40, true}};
    for (uint32_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        uint8_t body[40] = {0};
        body[8] = errors[i].kind;
        tp_bus_header error = {.kind = TP_BUS_ERROR,
            .key = TP_BUS_NO_HANDLER,
            .destination = party_id(&a),
            .correlation = i + 1};
        raw_send_bus(peer, error, body, errors[i].size);
        if (errors[i].good) {
            AWAIT(a.returned.ticket == i + 1);
            continue;
        }
        tp_bus_header back = raw_receive_bus(peer, TP_BUS_ERROR);
        CHECK_EQ(back.correlation, i + 1);
        CHECK_EQ(back.key, TP_BUS_MALFORMED);
    }
    CHECK_EQ(a.returns, 2);
    CHECK_EQ(a.downs, 0);
    raw_close(peer, false);
    BUS_CLOSE(hub, &a);
}

/* ---- malformed messages from a hub ----------------------------------------------------------- */

/* Sent after a WELCOME that announces one peer, instead of that peer's PEER_UP. */
static tp_bus_header hub_message;

static void send_bus_message(tp_server *server, tp_session_id session, const tp_bus_header *header,
    const void *body, size_t size) {
    tp_packet *packet = tp_packet_new(TP_BUS_HEADER + size);
    REQUIRE(packet != NULL);
    tp_bus_write(tp_packet_put_space(packet, TP_BUS_HEADER), header);
    tp_packet_put_bytes(packet, body, size);
    tp_server_send(server, session, packet);
    tp_packet_release(packet);
}

static void false_hub(tp_server *server, tp_session_id session, tp_packet *packet) {
    static const uint8_t body[64];
    uint8_t bytes[TP_BUS_WELCOME_SIZE];
    if (tp_bus_read(tp_packet_bytes(packet)).kind != TP_BUS_HELLO) {
        return;
    }
    tp_bus_welcome welcome = {
        .version = TP_BUS_VERSION, .peer = 1, .hub = 1, .max_payload = 65536, .peers = 1};
    tp_bus_write_welcome(bytes, &welcome);
    send_bus_message(
        server, session, &(tp_bus_header){.kind = TP_BUS_WELCOME}, bytes, sizeof bytes);
    send_bus_message(server, session, &hub_message, body, sizeof body);
}

/* The user is notified of nothing, because the client never was on the bus. */
static void a_hub_that_sends_before_the_peer_list_is_left(void) {
    fixture_open();
    const tp_handlers handlers = {.size = sizeof handlers, .on_recv = false_hub};
    tp_server_options options;
    tp_server_defaults(&options);
    options.listen = true;
    REQUIRE(tp_address_parse("127.0.0.1:0", &options.address) == TP_OK);
    options.workers = 1;
    for (uint8_t kind = TP_BUS_SEND; kind <= TP_BUS_ERROR; kind++) {
        tp_server *server = NULL;
        hub_message = (tp_bus_header){.kind = kind, .source = 7, .correlation = 1};
        REQUIRE(tp_server_create(&options, &handlers, &server) == TP_OK);
        REQUIRE(tp_server_start(server) == TP_OK);
        party a;
        memset(&a, 0, sizeof a);
        tp__hub only_its_server = {.server = server};
        party_init(&a, &only_its_server, "chat", "a");
        party_start(&a);
        AWAIT(party_stats(&a).connect_failures >= 2);
        party_leave(&a);
        CHECK_EQ(a.ups + a.downs + a.messages + a.requests + a.returns + a.replies, 0);
        tp_server_destroy(server);
    }
}

/* ---- answers and calls that are refused ------------------------------------------------------ */

/* The service has no handler for messages, and its limit of unacknowledged messages leaves no room
 * for an ERROR for each of them. */
static void messages_that_cannot_be_refused_come_back(void) {
    enum { MESSAGES = 2000 };
    tp__hub *hub = hub_open_default();
    party a, b;
    party_init(&a, hub, "no-handler", "a");
    a.handlers.on_message = NULL;
    a.options.max_unconfirmed = 1;
    party_come_up(&a);
    party_join(&b, hub, "chat", "b");
    tp_peer_id no_handler = party_id(&a);
    for (unsigned i = 0; i < MESSAGES; i++) {
        CHECK_EQ(party_send(&b, no_handler, "hello?", NULL), TP_OK);
    }
    AWAIT(b.returns == MESSAGES);
    BUS_CLOSE(hub, &a, &b);
}

static void invalid_answers_and_sends_are_refused(void) {
    party a, b;
    tp__hub *hub = bus_open_one(&a);
    party_join(&b, hub, "chat", "b");
    tp_packet *packet = text_packet("x");
    tp_delivery from = {
        .size = sizeof from, .peer = party_id(&b), .ticket = 1, .kind = TP_MESSAGE_ANY};
    CHECK_EQ(tp_lanclient_reply(a.client, NULL, packet, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_refuse(a.client, NULL, TP_ERR_FULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_reply(a.client, &from, packet, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_refuse(a.client, &from, TP_OK), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_send(a.client, party_id(&b), NULL, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_lanclient_send_all(a.client, NULL, NULL, NULL), TP_ERR_INVALID);
    CHECK_EQ(
        tp_lanclient_request(a.client, party_id(&b), packet, 0, NULL, NULL, NULL), TP_ERR_INVALID);
    /* A name whose hash is the one that addresses all services. */
    CHECK_EQ(tp_bus_service_hash("aazkh8gy", 8), 0);
    CHECK_EQ(tp_lanclient_send_all(a.client, "aazkh8gy", packet, NULL), TP_ERR_INVALID);
    CHECK_EQ(tp_packet_error(packet), TP_OK);
    tp_packet_release(packet);
    party_leave(&a);
    party_leave(&b);
    CHECK_EQ(b.messages, 0);
    hub_close(hub);
}

/* Clients without an instance name get different ones, so that keys are shared between them. */
static void clients_without_a_name_share_the_keys(void) {
    tp__hub *hub = hub_open_default();
    party a, b, c;
    party_join(&a, hub, "db", NULL);
    party_join(&b, hub, "db", NULL);
    party_join(&c, hub, "chat", "c");
    CHECK(strcmp(a.client->instance, b.client->instance) != 0);
    for (int32_t key = 0; key < 256; key++) {
        CHECK_EQ(party_send_any(&c, "db", key, "x", NULL), TP_OK);
    }
    AWAIT(a.messages + b.messages == 256);
    CHECK_GT(a.messages, 64);
    CHECK_GT(b.messages, 64);
    BUS_CLOSE(hub, &a, &b, &c);
}

/* A packet that was not accepted is unchanged, its read cursor included. */
static void a_packet_not_accepted_keeps_its_cursor(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.queue_bytes = 1024;
    party_come_up(&a);
    tp_packet *packet = tp_packet_new(2048);
    memset(tp_packet_put_space(packet, 2000), 'x', 2000);
    tp_packet_seek(packet, 100);
    /* As if another packet were queued. */
    (void)tp__queue_size_add(party_queued(&a), TP__QUEUED_ONE);
    CHECK_EQ(tp_lanclient_send(a.client, party_id(&a), packet, NULL), TP_ERR_FULL);
    tp__queue_size_subtract(party_queued(&a), TP__QUEUED_ONE);
    CHECK_EQ(tp_packet_left(packet), 1900);
    tp_packet_release(packet);
    BUS_CLOSE(hub, &a);
}

CHECK_MAIN(CASE(a_malformed_error_goes_back), CASE(a_hub_that_sends_before_the_peer_list_is_left),
    CASE(messages_that_cannot_be_refused_come_back), CASE(invalid_answers_and_sends_are_refused),
    CASE(clients_without_a_name_share_the_keys), CASE(a_packet_not_accepted_keeps_its_cursor))
