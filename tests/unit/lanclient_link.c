/* lanclient's link: away, coming back, refused, stopped, started again, idle. */
#include "bus_stage.h"
#include "log_capture.h"

/* A hub on the same port as one that was closed. */
static tp__hub *hub_reopen(uint16_t port) {
    tp__hub_options options;
    hub_options(&options);
    options.server.address.port = port;
    return hub_open(&options);
}

static uint16_t port_of(tp__hub *hub) {
    return tp_server_address(tp__hub_server(hub)).port;
}

/* An address at which nobody listens, and nobody else can: the other end of `of`'s connection,
 * while it lasts. */
static tp_address nobodys_address(tp__hub *hub, const party *of) {
    tp_session_info info = {.size = sizeof info};
    CHECK(tp_server_session_info(hub->server, hub_session_of(hub, self(of)), &info));
    return info.peer;
}

static void away_from_the_bus_nothing_is_taken(void) {
    tp__hub *hub = hub_open_default();
    party a, other;
    party_join(&other, hub, "chat", "other");
    party_init(&a, hub, "chat", "a");
    a.options.address = nobodys_address(hub, &other);
    party_start(&a);
    tp_ticket ticket = 99;
    CHECK_EQ(tp_lanclient_self(a.client), TP_NO_PEER);
    CHECK_EQ(say(&a, 5, "x", &ticket), TP_ERR_NOT_CONNECTED);
    CHECK_EQ(ticket, 99);
    CHECK_EQ(say_all(&a, NULL, "x", NULL), TP_ERR_NOT_CONNECTED);
    CHECK_EQ(ask(&a, 5, "x", 0), TP_ERR_NOT_CONNECTED);
    tp_lanclient_stats stats = {.size = sizeof stats};
    AWAIT((tp_lanclient_get_stats(a.client, &stats), stats.connect_failures >= 3));
    party_leave(&a);
    CHECK_EQ(a.ups, 0);
    CHECK_EQ(a.downs, 0);
    CHECK_EQ(a.returns, 0);
    CHECK_EQ(a.replies, 0);
    party_leave(&other);
    hub_close(hub);
}

static void clients_find_a_hub_that_comes_later_and_again(void) {
    tp__hub *hub = hub_open_default();
    uint16_t port = port_of(hub);
    party a, b;
    party_init(&a, hub, "chat", "a");
    party_init(&b, hub, "db", "b");
    hub_close(hub);
    party_start(&a);
    party_start(&b);
    hub = hub_reopen(port);
    AWAIT(a.ups == 1 && b.ups == 1 && a.peer_ups == 1 && b.peer_ups == 1);
    CHECK_EQ(ask_any(&a, "db", TP_NO_KEY, "first"), TP_OK);
    AWAIT(a.replies == 1);

    hub_close(hub);
    AWAIT(a.downs == 1 && b.downs == 1 && a.peer_downs == 1);
    CHECK_NE(a.down_reason, TP_OK);
    CHECK_EQ(tp_lanclient_peers(a.client, NULL, NULL, 0), 0);
    CHECK_EQ(say(&a, 5, "x", NULL), TP_ERR_NOT_CONNECTED);

    hub = hub_reopen(port);
    AWAIT(a.ups == 2 && b.ups == 2 && a.peer_ups == 2);
    CHECK_EQ(ask_any(&a, "db", TP_NO_KEY, "second"), TP_OK);
    AWAIT(a.replies == 2);
    CHECK_EQ(a.reply_error, TP_OK);
    CHECK_STR(a.reply, "second");
    party_leave(&a);
    party_leave(&b);
    hub_close(hub);
}

static void an_answer_for_a_lost_hub_goes_nowhere(void) {
    tp__hub *hub = hub_open_default();
    uint16_t port = port_of(hub);
    party a, b;
    party_join(&a, hub, "chat", "a");
    party_init(&b, hub, "db", "b");
    b.answer = false;
    party_start(&b);
    AWAIT(b.ups == 1);
    CHECK_EQ(ask_any(&a, "db", TP_NO_KEY, "slow"), TP_OK);
    AWAIT(b.requests == 1);
    hub_close(hub);
    AWAIT(a.replies == 1 && a.downs == 1);
    CHECK_EQ(a.reply_error, TP_ERR_PEER_LOST);
    hub = hub_reopen(port);
    AWAIT(a.ups == 2 && b.ups == 2);
    tp_packet *packet = text_packet("done");
    CHECK_EQ(tp_lanclient_reply(b.client, &b.asked, packet, NULL), TP_ERR_PEER_LOST);
    CHECK_EQ(tp_lanclient_refuse(b.client, &b.asked, TP_ERR_FULL), TP_ERR_PEER_LOST);
    tp_packet_release(packet);
    party_leave(&a);
    party_leave(&b);
    hub_close(hub);
}

/* Two names with one hash: the second is told why it cannot come, and keeps trying. */
static void a_name_that_collides_is_refused(void) {
    tp__hub *hub = hub_open_default();
    party a, b;
    party_join(&a, hub, "costarring", "a");
    party_init(&b, hub, "liquid", "b");
    party_start(&b);
    tp_lanclient_stats stats = {.size = sizeof stats};
    AWAIT((tp_lanclient_get_stats(b.client, &stats), stats.connect_failures >= 2));
    CHECK_EQ(b.ups, 0);
    party_leave(&b);
    party_leave(&a);
    hub_close(hub);
}

static void a_stop_waits_for_confirmation(void) {
    tp__hub *hub = hub_open_default();
    party a, b;
    party_join(&a, hub, "chat", "a");
    party_join(&b, hub, "db", "b");
    for (unsigned i = 0; i < 1000; i++) {
        CHECK_EQ(say(&a, self(&b), "last words", NULL), TP_OK);
    }
    tp_lanclient_stop(a.client);
    tp_lanclient_stop(a.client);
    CHECK_EQ(say(&a, self(&b), "too late", NULL), TP_ERR_NOT_CONNECTED);
    CHECK_EQ(tp_lanclient_wait(a.client, -1), TP_OK);
    AWAIT(b.messages == 1000);
    CHECK_EQ(a.returns, 0);
    CHECK_EQ(a.downs, 1);
    CHECK_EQ(tp_lanclient_wait(a.client, 0), TP_ERR_STATE);
    tp_lanclient_destroy(a.client);
    party_leave(&b);
    CHECK_EQ(hub_account(hub).delivered, 1000);
    hub_close(hub);
}

static void destroy_waits_for_a_stop_that_was_asked_for(void) {
    tp__hub *hub = hub_open_default();
    party a, b;
    party_join(&a, hub, "chat", "a");
    party_join(&b, hub, "db", "b");
    for (unsigned i = 0; i < 1000; i++) {
        CHECK_EQ(say(&a, self(&b), "last words", NULL), TP_OK);
    }
    tp_lanclient_stop(a.client);
    tp_lanclient_destroy(a.client);
    AWAIT(b.messages == 1000);
    CHECK_EQ(a.returns, 0);
    party_leave(&b);
    hub_close(hub);
}

/* Nobody confirms, and by its own time-out it would wait for ten minutes. */
static void a_stop_can_be_given_a_time(void) {
    tp__hub *hub = hub_open_default();
    party a, b;
    for (unsigned hurry = 0; hurry < 2; hurry++) {
        party_join(&b, hub, "db", "b");
        party_init(&a, hub, "chat", "a");
        a.options.drain_timeout_ms = 600000;
        party_start(&a);
        AWAIT(a.ups == 1);
        hub_confirm_no_more(hub);
        CHECK_EQ(say(&a, self(&b), "never confirmed", NULL), TP_OK);
        if (hurry) {
            tp_lanclient_stop(a.client);
            CHECK_EQ(tp_lanclient_wait(a.client, 300), TP_ERR_TIMED_OUT);
        }
        tp_lanclient_stop_within(a.client, 100);
        CHECK_EQ(tp_lanclient_wait(a.client, -1), TP_OK);
        CHECK_EQ(a.downs, 1);
        tp_lanclient_destroy(a.client);
        hub_confirm_again(hub);
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
    CHECK_EQ(say(&a, self(&a), "stop", NULL), TP_OK);
    AWAIT(a.downs == 1);
    CHECK_EQ(a.down_reason, TP_OK);
    CHECK_EQ(tp_lanclient_wait(a.client, -1), TP_OK);
    tp_lanclient_destroy(a.client);
    hub_close(hub);
}

static void a_client_starts_again(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_join(&a, hub, "chat", "a");
    for (unsigned i = 2; i < 6; i++) {
        tp_lanclient_stop(a.client);
        CHECK_EQ(tp_lanclient_wait(a.client, -1), TP_OK);
        CHECK_EQ(a.downs, i - 1);
        CHECK_EQ(tp_lanclient_start(a.client), TP_OK);
        AWAIT(a.ups == i);
        CHECK_EQ(ask(&a, self(&a), "again", 0), TP_OK);
        AWAIT(a.replies == i - 1);
        CHECK_EQ(a.reply_error, TP_OK);
    }
    party_leave(&a);
    hub_close(hub);
}

static void an_idle_client_gives_memory_back(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.idle_trim_ms = 50;
    party_start(&a);
    AWAIT(a.ups == 1);
    CHECK_EQ(ask(&a, self(&a), "busy", 0), TP_OK);
    AWAIT(a.replies == 1);
    tp_lanclient_stats stats = {.size = sizeof stats};
    AWAIT((tp_lanclient_get_stats(a.client, &stats), stats.trims >= 1));
    uint64_t trims = stats.trims;
    CHECK_EQ(ask(&a, self(&a), "busy again", 0), TP_OK);
    AWAIT(a.replies == 2);
    AWAIT((tp_lanclient_get_stats(a.client, &stats), stats.trims > trims));
    party_leave(&a);
    hub_close(hub);
}

/* ---- a hub that welcomes and hangs up -------------------------------------------------------- */

#define LINKS 8u

/* What a fake hub saw: for each connection, how many attempts its client had counted. */
static struct {
    tp_lanclient *client; /* the one that comes; set before the hub is started */
    unsigned count;
    unsigned attempts[LINKS];
} visits;

static void note_visit(void) {
    tp_mutex_lock(&visits.client->mutex);
    unsigned attempts = visits.client->attempts;
    tp_mutex_unlock(&visits.client->mutex);
    tp_mutex_lock(&stage_mutex);
    if (visits.count < LINKS) {
        visits.attempts[visits.count] = attempts;
    }
    party_note(&visits.count);
}

/* HELLO has come: WELCOME to an empty bus, and the end. */
static void welcome_and_hang_up(tp_server *server, tp_session_id session, tp_packet *hello) {
    (void)hello;
    note_visit();
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
    tp__hub *hub = hub_open_default(); /* for what a party takes from one */
    party_init(a, hub, "chat", "a");
    hub_close(hub);
    a->options.address = tp_server_address(server);
    a->options.backoff_min_ms = 1; /* eight of them take a quarter of a second at most */
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

/* Being welcomed is no success yet: each wait may be longer than the one before. */
static void a_hub_that_hangs_up_is_asked_more_and_more_rarely(void) {
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

/* A link that has lasted was a success: what it took to get there is forgotten with it. */
static void attempts_are_forgotten_when_a_link_has_lasted(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.backoff_max_ms = 100;
    party_start(&a);
    AWAIT(a.ups == 1);
    tp_mutex_lock(&a.client->mutex);
    a.client->attempts = 1000;
    a.client->up_since_ms -= 100; /* as if it had been up for so long */
    tp_mutex_unlock(&a.client->mutex);
    hub_cut(hub, self(&a));
    AWAIT(a.ups == 2);
    tp_mutex_lock(&a.client->mutex);
    CHECK_EQ(a.client->attempts, 1);
    tp_mutex_unlock(&a.client->mutex);
    party_leave(&a);
    hub_close(hub);
}

/* ---- a hub whose settings are not the client's ----------------------------------------------- */

/* Joins a bus with these limits, and leaves it; what was said is in the log. */
static void meet(size_t hub_frame, unsigned hub_ping_ms, size_t own_frame, unsigned own_idle_ms) {
    stage_open();
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
    party_start(&a);
    AWAIT(a.ups == 1);
    CHECK_EQ(tp_lanclient_max_message(a.client), hub_frame - TP_BUS_HEADER);
    tp_lanclient_stop(a.client);
    CHECK_EQ(tp_lanclient_wait(a.client, -1), TP_OK);
    CHECK_EQ(tp_lanclient_max_message(a.client), 0);
    tp_lanclient_destroy(a.client);
    hub_close(hub);
    end_log();
}

static void what_does_not_fit_the_hub_is_said_when_they_meet(void) {
    meet(8192, 1000000, 1u << 20, 0);
    CHECK(was_said("lanclient chat: max_frame is 1048576 and the hub's is 8192: expected the "));
    meet(2u << 20, 1000000, 1u << 20, 0);
    CHECK(was_said("max_frame is 1048576 and the hub's is 2097152: expected the same"));
    meet(1u << 20, 0, 1u << 20, 0);
    CHECK(was_said("ends a silent session after 3000000 ms without asking, and idle_timeout_ms "));
    meet(1u << 20, 0, 1u << 20, 6000000);
    CHECK(was_said("ends a silent session after 3000000 ms without asking"));
    meet(1u << 20, 0, 1u << 20, 5999999);
    CHECK(!was_said("expected"));
    meet(1u << 20, 1000000, 1u << 20, 0);
    CHECK(!was_said("expected"));
}

static void wrong_options_are_refused(void) {
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
    a.options.idle_timeout_ms = 100; /* the least there is: half of it is the least for PING */
    CHECK_EQ(tp_lanclient_create(&a.options, &a.handlers, &client), TP_OK);
    tp_lanclient_destroy(client);
    hub_close(hub);
}

CHECK_MAIN(CASE(away_from_the_bus_nothing_is_taken),
    CASE(clients_find_a_hub_that_comes_later_and_again),
    CASE(an_answer_for_a_lost_hub_goes_nowhere), CASE(a_name_that_collides_is_refused),
    CASE(a_stop_waits_for_confirmation), CASE(a_stop_can_be_given_a_time),
    CASE(destroy_waits_for_a_stop_that_was_asked_for), CASE(a_handler_can_stop_its_client),
    CASE(a_client_starts_again), CASE(an_idle_client_gives_memory_back),
    CASE(a_hub_that_hangs_up_is_asked_more_and_more_rarely),
    CASE(attempts_are_forgotten_when_a_link_has_lasted),
    CASE(what_does_not_fit_the_hub_is_said_when_they_meet), CASE(wrong_options_are_refused))
