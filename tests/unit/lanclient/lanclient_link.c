/*
 * lanclient's link to the hub: disconnected, reconnecting, refused, stopped, restarted, idle; and a
 * hub whose limits do not fit.
 */
#include "bus_fixture.h"
#include "log_capture.h"

/* Opens a hub on the port of one that was closed. */
static tp__hub *hub_open_on_port(uint16_t port) {
    tp__hub_options options;
    hub_options(&options);
    options.server.address.port = port;
    return hub_open(&options);
}

static uint16_t port_of(tp__hub *hub) {
    return tp_server_address(tp__hub_server(hub)).port;
}

/* An address at which no socket listens and none can: the other end of the party's connection,
 * while it lasts. */
static tp_address unused_address(tp__hub *hub, const party *of) {
    tp_session_info info = {.size = sizeof info};
    CHECK(tp_server_session_info(hub->server, hub_session_of(hub, party_id(of)), &info));
    return info.peer;
}

static void without_a_link_nothing_is_accepted(void) {
    tp__hub *hub = hub_open_default();
    party a, other;
    party_join(&other, hub, "chat", "other");
    party_init(&a, hub, "chat", "a");
    a.options.address = unused_address(hub, &other);
    party_start(&a);
    tp_ticket ticket = 99;
    CHECK_EQ(tp_lanclient_self(a.client), TP_NO_PEER);
    CHECK_EQ(party_send(&a, 5, "x", &ticket), TP_ERR_NOT_CONNECTED);
    CHECK_EQ(ticket, 99);
    CHECK_EQ(party_send_all(&a, NULL, "x", NULL), TP_ERR_NOT_CONNECTED);
    CHECK_EQ(party_request(&a, 5, "x", 0), TP_ERR_NOT_CONNECTED);
    AWAIT(party_stats(&a).connect_failures >= 3);
    party_leave(&a);
    CHECK_EQ(a.ups, 0);
    CHECK_EQ(a.downs, 0);
    CHECK_EQ(a.returns, 0);
    CHECK_EQ(a.replies, 0);
    BUS_CLOSE(hub, &other);
}

static void clients_connect_and_reconnect_to_a_later_hub(void) {
    tp__hub *hub = hub_open_default();
    uint16_t port = port_of(hub);
    party a, b;
    party_init(&a, hub, "chat", "a");
    party_init(&b, hub, "db", "b");
    hub_close(hub);
    party_start(&a);
    party_start(&b);
    hub = hub_open_on_port(port);
    AWAIT(a.ups == 1 && b.ups == 1 && a.peer_ups == 1 && b.peer_ups == 1);
    CHECK_EQ(party_request_any(&a, "db", TP_NO_KEY, "first"), TP_OK);
    AWAIT(a.replies == 1);

    hub_close(hub);
    AWAIT(a.downs == 1 && b.downs == 1 && a.peer_downs == 1);
    CHECK_NE(a.down_reason, TP_OK);
    CHECK_EQ(tp_lanclient_peers(a.client, NULL, NULL, 0), 0);
    CHECK_EQ(party_send(&a, 5, "x", NULL), TP_ERR_NOT_CONNECTED);

    hub = hub_open_on_port(port);
    AWAIT(a.ups == 2 && b.ups == 2 && a.peer_ups == 2);
    CHECK_EQ(party_request_any(&a, "db", TP_NO_KEY, "second"), TP_OK);
    AWAIT(a.replies == 2);
    CHECK_EQ(a.reply_error, TP_OK);
    CHECK_STR(a.reply, "second");
    BUS_CLOSE(hub, &a, &b);
}

static void an_answer_to_a_request_of_an_earlier_link_fails(void) {
    tp__hub *hub = hub_open_default();
    uint16_t port = port_of(hub);
    party a, b;
    party_join(&a, hub, "chat", "a");
    party_join_silent(&b, hub, "db", "b");
    CHECK_EQ(party_request_any(&a, "db", TP_NO_KEY, "slow"), TP_OK);
    AWAIT(b.requests == 1);
    hub_close(hub);
    AWAIT(a.replies == 1 && a.downs == 1);
    CHECK_EQ(a.reply_error, TP_ERR_PEER_LOST);
    hub = hub_open_on_port(port);
    AWAIT(a.ups == 2 && b.ups == 2);
    tp_packet *packet = text_packet("done");
    CHECK_EQ(tp_lanclient_reply(b.client, &b.asked, packet, NULL), TP_ERR_PEER_LOST);
    CHECK_EQ(tp_lanclient_refuse(b.client, &b.asked, TP_ERR_FULL), TP_ERR_PEER_LOST);
    tp_packet_release(packet);
    BUS_CLOSE(hub, &a, &b);
}

/* Two service names with one hash: the second is refused with this reason, and keeps trying. */
static void a_colliding_service_name_is_refused(void) {
    tp__hub *hub = hub_open_default();
    party a, b;
    party_join(&a, hub, "costarring", "a");
    party_init(&b, hub, "liquid", "b");
    party_start(&b);
    AWAIT(party_stats(&b).connect_failures >= 2);
    CHECK_EQ(b.ups, 0);
    BUS_CLOSE(hub, &b, &a);
}

static void a_stop_waits_for_acknowledgements(void) {
    party a, b;
    tp__hub *hub = bus_open_pair(&a, &b);
    for (unsigned i = 0; i < 1000; i++) {
        CHECK_EQ(party_send(&a, party_id(&b), "last words", NULL), TP_OK);
    }
    tp_lanclient_stop(a.client);
    tp_lanclient_stop(a.client);
    CHECK_EQ(party_send(&a, party_id(&b), "too late", NULL), TP_ERR_NOT_CONNECTED);
    CHECK_EQ(tp_lanclient_wait(a.client, -1), TP_OK);
    AWAIT(b.messages == 1000);
    CHECK_EQ(a.returns, 0);
    CHECK_EQ(a.downs, 1);
    CHECK_EQ(tp_lanclient_wait(a.client, 0), TP_ERR_STATE);
    tp_lanclient_destroy(a.client);
    party_leave(&b);
    CHECK_EQ(hub_stats(hub).delivered, 1000);
    hub_close(hub);
}

static void destroy_waits_for_a_requested_stop(void) {
    party a, b;
    tp__hub *hub = bus_open_pair(&a, &b);
    for (unsigned i = 0; i < 1000; i++) {
        CHECK_EQ(party_send(&a, party_id(&b), "last words", NULL), TP_OK);
    }
    tp_lanclient_stop(a.client);
    tp_lanclient_destroy(a.client);
    AWAIT(b.messages == 1000);
    CHECK_EQ(a.returns, 0);
    BUS_CLOSE(hub, &b);
}

/* The hub acknowledges nothing; without the given time the stop would take the client's own ten
 * minutes. */
static void a_stop_within_a_time_ends_in_time(void) {
    tp__hub *hub = hub_open_default();
    party a, b;
    for (unsigned hurry = 0; hurry < 2; hurry++) {
        party_join(&b, hub, "db", "b");
        party_init(&a, hub, "chat", "a");
        a.options.drain_timeout_ms = 600000;
        party_come_up(&a);
        hub_pause_acks(hub);
        CHECK_EQ(party_send(&a, party_id(&b), "never confirmed", NULL), TP_OK);
        if (hurry) {
            tp_lanclient_stop(a.client);
            CHECK_EQ(tp_lanclient_wait(a.client, 300), TP_ERR_TIMED_OUT);
        }
        tp_lanclient_stop_within(a.client, 100);
        CHECK_EQ(tp_lanclient_wait(a.client, -1), TP_OK);
        CHECK_EQ(a.downs, 1);
        tp_lanclient_destroy(a.client);
        hub_resume_acks(hub);
        party_leave(&b);
    }
    hub_close(hub);
}

static void stop_here(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    (void)from, (void)packet;
    tp_lanclient_stop(client);
    CHECK_EQ(tp_lanclient_wait(client, 0), TP_ERR_WRONG_THREAD);
}

static void a_handler_can_stop_its_client(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.handlers.on_message = stop_here;
    CHECK_EQ(tp_lanclient_create(&a.options, &a.handlers, &a.client), TP_OK);
    CHECK_EQ(tp_lanclient_wait(a.client, 0), TP_ERR_STATE);
    CHECK_EQ(tp_lanclient_start(a.client), TP_OK);
    CHECK_EQ(tp_lanclient_start(a.client), TP_ERR_STATE);
    AWAIT(a.ups == 1);
    CHECK_EQ(party_send(&a, party_id(&a), "stop", NULL), TP_OK);
    AWAIT(a.downs == 1);
    CHECK_EQ(a.down_reason, TP_OK);
    CHECK_EQ(tp_lanclient_wait(a.client, -1), TP_OK);
    tp_lanclient_destroy(a.client);
    hub_close(hub);
}

static void a_client_starts_again(void) {
    party a;
    tp__hub *hub = bus_open_one(&a);
    for (unsigned i = 2; i < 6; i++) {
        tp_lanclient_stop(a.client);
        CHECK_EQ(tp_lanclient_wait(a.client, -1), TP_OK);
        CHECK_EQ(a.downs, i - 1);
        CHECK_EQ(tp_lanclient_start(a.client), TP_OK);
        AWAIT(a.ups == i);
        CHECK_EQ(party_request(&a, party_id(&a), "again", 0), TP_OK);
        AWAIT(a.replies == i - 1);
        CHECK_EQ(a.reply_error, TP_OK);
    }
    BUS_CLOSE(hub, &a);
}

static void an_idle_client_gives_memory_back(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.idle_trim_ms = 50;
    party_come_up(&a);
    CHECK_EQ(party_request(&a, party_id(&a), "busy", 0), TP_OK);
    AWAIT(a.replies == 1);
    tp_lanclient_stats stats = {.size = sizeof stats};
    AWAIT((tp_lanclient_get_stats(a.client, &stats), stats.trims >= 1));
    uint64_t trims = stats.trims;
    CHECK_EQ(party_request(&a, party_id(&a), "busy again", 0), TP_OK);
    AWAIT(a.replies == 2);
    AWAIT((tp_lanclient_get_stats(a.client, &stats), stats.trims > trims));
    BUS_CLOSE(hub, &a);
}

/* ---- a hub that sends WELCOME and closes ----------------------------------------------------- */

#define LINKS 8u

/* What the fake hub has recorded: for each connection, how many attempts its client had counted by
 * then. */
static struct {
    tp_lanclient *client; /* the client that connects; set before the hub is started */
    unsigned count;
    unsigned attempts[LINKS];
} visits;

static void note_attempt(void) {
    tp_mutex_lock(&visits.client->mutex);
    unsigned attempts = visits.client->attempts;
    tp_mutex_unlock(&visits.client->mutex);
    tp_mutex_lock(&fixture_mutex);
    if (visits.count < LINKS) {
        visits.attempts[visits.count] = attempts;
    }
    party_note(&visits.count);
}

/* Answers HELLO with the WELCOME of an empty bus, and closes the connection. */
static void welcome_and_hang_up(tp_server *server, tp_session_id session, tp_packet *hello) {
    (void)hello;
    note_attempt();
    const tp_bus_header header = {.kind = TP_BUS_WELCOME};
    const tp_bus_welcome welcome = {
        .version = TP_BUS_VERSION, .peer = 7, .hub = 1, .max_payload = 1u << 20};
    uint8_t bytes[TP_BUS_HEADER + TP_BUS_WELCOME_SIZE];
    tp_bus_write(bytes, &header);
    tp_bus_write_welcome(bytes + TP_BUS_HEADER, &welcome);
    tp_packet *packet = tp_packet_copy_of(bytes, sizeof bytes);
    REQUIRE(packet != NULL);
    CHECK(tp_server_send(server, session, packet));
    tp_packet_release(packet);
    CHECK(tp_server_disconnect_after_send(server, session, 0));
}

static tp_server *open_fake_hub(void) {
    static const tp_handlers handlers = {.size = sizeof handlers, .on_recv = welcome_and_hang_up};
    tp_server_options options;
    tp_server *server = NULL;
    tp_lanserver_defaults(&options);
    options.workers = 1;
    REQUIRE(tp_lanserver_create(&options, &handlers, &server) == TP_OK);
    REQUIRE(tp_server_start(server) == TP_OK);
    return server;
}

static void init_client_of(party *a, tp_server *server) {
    tp__hub *hub = hub_open_default(); /* party_init() takes the other settings from a hub */
    party_init(a, hub, "chat", "a");
    hub_close(hub);
    a->options.address = tp_server_address(server);
    a->options.backoff_min_ms = 1; /* eight attempts take a quarter of a second at most */
    a->options.backoff_max_ms = 3600000;
    REQUIRE(tp_lanclient_create(&a->options, &a->handlers, &a->client) == TP_OK);
    memset(&visits, 0, sizeof visits);
    visits.client = a->client;
}

static void close_fake_hub(tp_server *server) {
    tp_server_stop(server);
    CHECK_EQ(tp_server_wait(server, -1), TP_OK);
    tp_server_destroy(server);
}

/* WELCOME alone does not reset the delay: each wait may be longer than the one before. */
static void attempts_at_a_hub_that_hangs_up_become_rare(void) {
    tp_server *server = open_fake_hub();
    party a;
    init_client_of(&a, server);
    REQUIRE(tp_lanclient_start(a.client) == TP_OK);
    AWAIT(visits.count >= LINKS);
    for (unsigned i = 0; i < LINKS; i++) {
        CHECK_EQ(visits.attempts[i], i);
    }
    AWAIT(a.ups >= LINKS);
    party_leave(&a);
    close_fake_hub(server);
}

/* A link that has lasted resets the delay before the next attempt. */
static void a_link_that_lasted_resets_the_attempts(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.backoff_max_ms = 100;
    party_come_up(&a);
    tp_mutex_lock(&a.client->mutex);
    a.client->attempts = 1000;
    a.client->up_since_ms -= 100; /* as if the link had been up for that long */
    tp_mutex_unlock(&a.client->mutex);
    hub_cut(hub, party_id(&a));
    AWAIT(a.ups == 2);
    tp_mutex_lock(&a.client->mutex);
    CHECK_EQ(a.client->attempts, 1);
    tp_mutex_unlock(&a.client->mutex);
    BUS_CLOSE(hub, &a);
}

/* ---- a hub whose settings are not the client's ----------------------------------------------- */

/* Joins a bus with these limits and leaves it. What was logged can be read afterwards. */
static void join_and_leave(
    size_t hub_frame, unsigned hub_ping_ms, size_t own_frame, unsigned own_idle_ms) {
    tp__hub_options options;
    hub_options(&options);
    options.server.max_frame = hub_frame;
    options.server.idle_timeout_ms = 3000000;
    options.server.ping_interval_ms = hub_ping_ms;
    tp__hub *hub = hub_open(&options);
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.max_frame = own_frame;
    a.options.idle_timeout_ms = own_idle_ms;
    capture_log();
    party_come_up(&a);
    CHECK_EQ(tp_lanclient_max_message(a.client), hub_frame - TP_BUS_HEADER);
    tp_lanclient_stop(a.client);
    CHECK_EQ(tp_lanclient_wait(a.client, -1), TP_OK);
    CHECK_EQ(tp_lanclient_max_message(a.client), 0);
    tp_lanclient_destroy(a.client);
    hub_close(hub);
    end_log();
}

static void limits_that_do_not_fit_the_hubs_are_logged(void) {
    join_and_leave(8192, 1000000, 1u << 20, 0);
    CHECK(was_logged("lanclient chat: max_frame is 1048576 and the hub's is 8192: expected the "));
    join_and_leave(2u << 20, 1000000, 1u << 20, 0);
    CHECK(was_logged("max_frame is 1048576 and the hub's is 2097152: expected the same"));
    join_and_leave(1u << 20, 0, 1u << 20, 0);
    CHECK(
        was_logged("ends a silent session after 3000000 ms without a PING, and idle_timeout_ms "));
    join_and_leave(1u << 20, 0, 1u << 20, 6000000);
    CHECK(was_logged("ends a silent session after 3000000 ms without a PING"));
    join_and_leave(1u << 20, 0, 1u << 20, 5999999);
    CHECK(!was_logged("expected"));
    join_and_leave(1u << 20, 1000000, 1u << 20, 0);
    CHECK(!was_logged("expected"));
}

static void invalid_options_are_refused(void) {
    tp__hub *hub = hub_open_default();
    party a;
    tp_lanclient *client = (tp_lanclient *)&a;
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        party_init(&a, hub, "chat", "a");                                                          \
        change;                                                                                    \
        client = (tp_lanclient *)&a;                                                               \
        CHECK_EQ(tp_lanclient_create(&a.options, &a.handlers, &client), TP_ERR_INVALID);           \
        CHECK(client == NULL);                                                                     \
    } while (0)
    REFUSED(a.options.size = 1);
    REFUSED(a.handlers.size = 1);
    REFUSED(a.options.service = NULL);
    REFUSED(a.options.service = "");
    REFUSED(a.options.service = "Chat");
    REFUSED(a.options.service = "a234567890123456789012345678901234567890123456789012345678901234");
    REFUSED(a.options.instance = "a b");
    REFUSED(a.options.io = NULL);
    REFUSED(a.options.address.port = 0);
    REFUSED(a.options.workers = 0);
    REFUSED(a.options.workers = 65);
    REFUSED(a.options.max_requests = 0);
    REFUSED(a.options.max_requests = TP_LANCLIENT_MAX_REQUESTS + 1);
    REFUSED(a.options.max_unconfirmed = 0);
    REFUSED(a.options.backoff_min_ms = 0);
    REFUSED(a.options.backoff_min_ms = 201);
    REFUSED(a.options.request_timeout_ms = 0);
    REFUSED(a.options.max_frame = 1023);
    REFUSED(a.options.queue_bytes = 1);
    REFUSED(a.options.idle_timeout_ms = 1);
    party_init(&a, hub, "chat", "a");
    a.options.idle_timeout_ms = 100; /* the minimum: half of it is the smallest PING interval */
    CHECK_EQ(tp_lanclient_create(&a.options, &a.handlers, &client), TP_OK);
    tp_lanclient_destroy(client);
    hub_close(hub);
}

CHECK_MAIN(CASE(without_a_link_nothing_is_accepted),
    CASE(clients_connect_and_reconnect_to_a_later_hub),
    CASE(an_answer_to_a_request_of_an_earlier_link_fails),
    CASE(a_colliding_service_name_is_refused), CASE(a_stop_waits_for_acknowledgements),
    CASE(a_stop_within_a_time_ends_in_time), CASE(destroy_waits_for_a_requested_stop),
    CASE(a_handler_can_stop_its_client), CASE(a_client_starts_again),
    CASE(an_idle_client_gives_memory_back), CASE(attempts_at_a_hub_that_hangs_up_become_rare),
    CASE(a_link_that_lasted_resets_the_attempts), CASE(limits_that_do_not_fit_the_hubs_are_logged),
    CASE(invalid_options_are_refused))
