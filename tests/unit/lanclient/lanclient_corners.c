/*
 * Edge cases of the bus: receivers that are full or about to end, malformed messages from peers and
 * from a hub, answers that cannot be sent, and memory that fails at any allocation of a client's
 * life.
 */
#include "bus_fixture.h"
#include "core/memory/memory.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"
#include "lanclient/client/client.h"
#include "proto/frame.h"
#include "raw_peer.h"

/* ---- receivers that accept nothing ----------------------------------------------------------- */

static bool held;
static unsigned no_peers; /* messages that came back with the bus's reason no-peer */

static void set_held(bool value) {
    tp_mutex_lock(&fixture_mutex);
    held = value;
    tp_condition_wake_all(&fixture_changed);
    tp_mutex_unlock(&fixture_mutex);
}

static void block_while_held(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    party_on_message(client, from, packet);
    tp_mutex_lock(&fixture_mutex);
    while (held) {
        tp_condition_wait(&fixture_changed, &fixture_mutex, 10);
    }
    tp_mutex_unlock(&fixture_mutex);
}

static void count_no_peers(tp_lanclient *client, const tp_returned *returned) {
    tp_mutex_lock(&fixture_mutex);
    no_peers += returned->bus_reason == TP_BUS_NO_PEER;
    tp_mutex_unlock(&fixture_mutex);
    party_on_returned(client, returned);
}

static unsigned read_count(const unsigned *count) {
    tp_mutex_lock(&fixture_mutex);
    unsigned value = *count;
    tp_mutex_unlock(&fixture_mutex);
    return value;
}

static char large[32768];
static const char small[] = "a message as long as the ones that follow";

/* A hub with small queues, and a peer of the service "slow" whose handler blocks. The hub has one
 * worker, so that a queue is full because of its reader, not because of a stalled worker. */
static tp__hub *open_with_holder(tp_queue_policy policy, party *holder) {
    fixture_open();
    tp__hub_options options;
    hub_options(&options);
    options.server.queue_policy = policy;
    options.server.queue_bytes = 65536;
    options.server.workers = 1;
    options.server.drain_timeout_ms = 60000;
    tp__hub *hub = hub_open(&options);
    memset(large, 'x', sizeof large - 1);
    set_held(true);
    party_init(holder, hub, "slow", "holder");
    holder->handlers.on_message = block_while_held;
    party_start(holder);
    AWAIT(holder->ups == 1);
    return hub;
}

/* Waits until the hub has processed all that was sent before, and this party has received what came
 * back. */
static void await_processed(party *from) {
    unsigned replies = read_count(&from->replies);
    CHECK_EQ(party_request(from, TP_HUB, "stats", 0), TP_OK);
    AWAIT(from->replies == replies + 1);
}

/* Sends one message at a time, so that no more than one comes back. Returns how many did not. */
static unsigned send_until_returned(party *from, tp_peer_id to, const char *text) {
    unsigned before = read_count(&from->returns);
    unsigned said = 0;
    while (said < 10000 && read_count(&from->returns) == before) {
        CHECK_EQ(party_send(from, to, text, NULL), TP_OK);
        said++;
        await_processed(from);
    }
    CHECK_EQ(read_count(&from->returns), before + 1);
    return said - 1;
}

/* Fills the holder's queue until not even a small message is accepted. Returns how many were. */
static unsigned fill_queue(party *from, tp_peer_id holder) {
    unsigned accepted = 0;
    for (size_t size = sizeof large - 1; size > sizeof small; size /= 4) {
        accepted += send_until_returned(from, holder, large + sizeof large - 1 - size);
    }
    return accepted + send_until_returned(from, holder, small);
}

static void send_any_32(party *from, bool keyed) {
    for (int32_t i = 0; i < 32; i++) {
        CHECK_EQ(party_send_any(from, "slow", keyed ? i : TP_NO_KEY, small, NULL), TP_OK);
    }
}

static void check_all_reach(party *from, party *other, bool keyed) {
    unsigned returns = read_count(&from->returns);
    unsigned messages = read_count(&other->messages);
    send_any_32(from, keyed);
    AWAIT(other->messages + from->returns == messages + returns + 32);
    CHECK_EQ(from->returns, returns);
}

/* The holder's system may take a few more bytes at any time, by compacting its socket's buffer, and
 * the queue then accepts a few of the messages after all. So the case checks that none came back,
 * that the other peer received all of its own turns, and that none is missing in the end. */
static void a_full_peer_is_skipped(void) {
    party a, b, d;
    tp__hub *hub = open_with_holder(TP_QUEUE_REFUSE, &b);
    party_join(&a, hub, "chat", "a");
    /* Before the queue is full: a peer that cannot receive an announcement is disconnected. */
    party_join(&d, hub, "slow", "d");
    AWAIT(b.peer_ups == 2);
    unsigned accepted = fill_queue(&a, party_id(&b));
    CHECK_EQ(a.returned.bus_reason, TP_BUS_QUEUE_FULL);
    unsigned returns = read_count(&a.returns);
    send_any_32(&a, false);
    await_processed(&a);
    CHECK_EQ(read_count(&a.returns), returns);
    set_held(false);
    AWAIT(b.messages + d.messages + a.returns == accepted + returns + 32);
    CHECK_EQ(read_count(&a.returns), returns);
    CHECK(read_count(&d.messages) >= 16);
    party_leave(&a);
    party_leave(&b);
    party_leave(&d);
    hub_close(hub);
}

static void a_peer_that_is_being_ended_is_skipped(void) {
    party a, b, d;
    tp__hub *hub = open_with_holder(TP_QUEUE_REFUSE, &b);
    tp_peer_id ending = party_id(&b);
    party_join(&a, hub, "chat", "a");
    party_join(&d, hub, "slow", "d");
    send_until_returned(&a, ending, large);
    CHECK(
        tp_server_disconnect_after_send(hub->server, hub_session_of(hub, ending), TP_CLOSE_KICKED));
    check_all_reach(&a, &d, false);
    check_all_reach(&a, &d, true);
    unsigned returns = read_count(&a.returns);
    CHECK_EQ(party_send(&a, ending, small, NULL), TP_OK);
    AWAIT(a.returns == returns + 1);
    CHECK_EQ(a.returned.reason, TP_ERR_NO_ROUTE);
    CHECK_EQ(a.peer_downs, 0);
    set_held(false);
    party_leave(&a);
    party_leave(&b);
    party_leave(&d);
    hub_close(hub);
}

/* The copy that overflows the receiver's queue ends the receiver: it was not delivered, so it comes
 * back. */
static void a_copy_that_overflows_its_queue_comes_back(void) {
    party a, b, c;
    tp__hub *hub = open_with_holder(TP_QUEUE_DISCONNECT, &b);
    party_init(&a, hub, "chat", "a");
    a.handlers.on_returned = count_no_peers;
    no_peers = 0;
    party_start(&a);
    party_join(&c, hub, "quick", "c");
    AWAIT(a.ups == 1 && a.peer_ups == 2);
    unsigned sent = 0;
    while (read_count(&a.peer_downs) == 0 && sent < 4096) {
        /* A quarter of the queue's limit: the previous copy, which may still be counted, does no
         * harm. */
        CHECK_EQ(party_send_all(&a, NULL, large + sizeof large / 2, NULL), TP_OK);
        sent++;
        AWAIT(c.messages == sent);
    }
    AWAIT(a.peer_downs == 1 && no_peers >= 1);
    set_held(false);
    party_leave(&a);
    party_leave(&b);
    party_leave(&c);
    hub_close(hub);
}

/* ---- malformed messages from a peer ---------------------------------------------------------- */

static uint8_t raw_in[4096];

static void raw_send_bus(raw_peer *peer, tp_bus_header header, const void *body, size_t size) {
    uint8_t out[256];
    tp_bus_write(out, &header);
    memcpy(out + TP_BUS_HEADER, body, size);
    REQUIRE(raw_send_frame(peer, TP_FRAME_DATA, out, TP_BUS_HEADER + size));
}

static tp_bus_header raw_receive_bus(raw_peer *peer, uint8_t kind) {
    tp_bus_header header = {0};
    while (header.kind != kind) {
        unsigned type = 99;
        long size = raw_receive_frame(peer, &type, raw_in, sizeof raw_in);
        REQUIRE(size >= (long)TP_BUS_HEADER);
        header = tp_bus_read(raw_in);
    }
    return header;
}

static raw_peer *raw_join(tp__hub *hub) {
    static const uint8_t hello[] = {1, 0, 0, 0, 0, 0, 1, 0, 3, 0, 'r', 'a', 'w', 1, 0, 'r'};
    tp_address address = tp_server_address(hub->server);
    raw_peer *peer = raw_connect(&address);
    REQUIRE(peer != NULL);
    raw_send_bus(peer, (tp_bus_header){.kind = TP_BUS_HELLO}, hello, sizeof hello);
    raw_receive_bus(peer, TP_BUS_WELCOME);
    return peer;
}

/* It goes back to its sender, and the peer for which it was meant is not disconnected. */
static void a_malformed_error_goes_back(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_join(&a, hub, "chat", "a");
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
    party_leave(&a);
    hub_close(hub);
}

static unsigned unconfirmed_full; /* messages that came back with this reason */

static void count_unconfirmed_full(tp_lanclient *client, const tp_returned *returned) {
    tp_mutex_lock(&fixture_mutex);
    unconfirmed_full += returned->bus_reason == TP_BUS_UNCONFIRMED_FULL;
    tp_mutex_unlock(&fixture_mutex);
    party_on_returned(client, returned);
}

/* One peer is at its limit, another one is being ended and keeps its socket open. Whichever of them
 * has its turn, the reason is the same: the service exists and its peer is full. */
static void the_reason_of_a_return_does_not_depend_on_turns(void) {
    fixture_open();
    tp__hub_options options;
    hub_options(&options);
    options.unconfirmed_limit = 1;
    tp__hub *hub = hub_open(&options);
    party a;
    party_init(&a, hub, "chat", "a");
    a.handlers.on_returned = count_unconfirmed_full;
    party_start(&a);
    AWAIT(a.ups == 1);
    raw_peer *full = raw_join(hub);
    uint32_t full_id = tp_bus_get_u32(raw_in + TP_BUS_HEADER + 4);
    raw_peer *ending = raw_join(hub);
    uint32_t ending_id = tp_bus_get_u32(raw_in + TP_BUS_HEADER + 4);
    CHECK_EQ(party_send(&a, full_id, "the one", NULL), TP_OK);
    CHECK(tp_server_disconnect_after_send(
        hub->server, hub_session_of(hub, ending_id), TP_CLOSE_KICKED));
    for (unsigned i = 1; i <= 4; i++) {
        CHECK_EQ(party_send_any(&a, "raw", TP_NO_KEY, "one more", NULL), TP_OK);
        AWAIT(a.returns == i);
        /* So that "the one", which comes back when its peer ends, cannot come in between. */
        tp_mutex_lock(&fixture_mutex);
        CHECK_EQ(a.returned.reason, TP_ERR_FULL);
        CHECK_EQ(a.returned.peer, full_id);
        CHECK_EQ(unconfirmed_full, i);
        tp_mutex_unlock(&fixture_mutex);
    }
    raw_close(full, false);
    raw_close(ending, false);
    party_leave(&a);
    hub_close(hub);
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
        tp_lanclient_stats stats = {.size = sizeof stats};
        AWAIT((tp_lanclient_get_stats(a.client, &stats), stats.connect_failures >= 2));
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
    party_start(&a);
    AWAIT(a.ups == 1);
    party_join(&b, hub, "chat", "b");
    tp_peer_id no_handler = party_id(&a);
    for (unsigned i = 0; i < MESSAGES; i++) {
        CHECK_EQ(party_send(&b, no_handler, "hello?", NULL), TP_OK);
    }
    AWAIT(b.returns == MESSAGES);
    party_leave(&a);
    party_leave(&b);
    hub_close(hub);
}

static void invalid_answers_and_sends_are_refused(void) {
    tp__hub *hub = hub_open_default();
    party a, b;
    party_join(&a, hub, "chat", "a");
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
    party_leave(&a);
    party_leave(&b);
    party_leave(&c);
    hub_close(hub);
}

/* A packet that was not accepted is unchanged, its read cursor included. */
static void a_packet_not_accepted_keeps_its_cursor(void) {
    tp__hub *hub = hub_open_default();
    party a;
    party_init(&a, hub, "chat", "a");
    a.options.queue_bytes = 1024;
    party_start(&a);
    AWAIT(a.ups == 1);
    tp_packet *packet = tp_packet_new(2048);
    memset(tp_packet_put_space(packet, 2000), 'x', 2000);
    tp_packet_seek(packet, 100);
    /* As if another packet were queued. */
    (void)tp__queue_size_add(party_queued(&a), TP__QUEUED_ONE);
    CHECK_EQ(tp_lanclient_send(a.client, party_id(&a), packet, NULL), TP_ERR_FULL);
    tp__queue_size_subtract(party_queued(&a), TP__QUEUED_ONE);
    CHECK_EQ(tp_packet_left(packet), 1900);
    tp_packet_release(packet);
    party_leave(&a);
    hub_close(hub);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* The life of a service that only answers: it never sends first. */
static void request_once(party *a, party *asker) {
    AWAIT(a->ups > 0 && tp_lanclient_self(a->client) != TP_NO_PEER);
    unsigned replies = read_count(&asker->replies);
    while (party_request_any(asker, "db", TP_NO_KEY, "?") != TP_OK) {
        tp_thread_yield();
    }
    AWAIT(asker->replies == replies + 1);
}

/* The requesting peer gets an error in any case, if only a time-out. */
static void answer_if_possible(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
    tp_err error = tp_lanclient_reply(client, from, packet, NULL);
    CHECK(error == TP_OK || error == TP_ERR_NO_MEMORY || error == TP_ERR_FULL ||
          error == TP_ERR_NOT_CONNECTED);
}

static void trim_all_memory(void) {
    REQUIRE(tp__pools_open() == TP_OK);
    tp__packets_trim();
    tp_pool_trim(tp__node_pool());
    tp_pool_trim(tp__send_batch_pool());
}

/* One life with the n-th allocation of the process failing. True: there were n allocations. */
static bool attempt(tp__hub *hub, party *asker, long n) {
    party a;
    party_init(&a, hub, "db", "a");
    a.handlers.on_request = answer_if_possible;
    a.options.idle_trim_ms = 0;
    a.options.request_timeout_ms = 200;
    trim_all_memory();
    uint64_t before = tp__memory_allocations();
    tp__memory_fail_after(n);
    tp_err error = tp_lanclient_create(&a.options, &a.handlers, &a.client);
    if (!error) {
        error = tp_lanclient_start(a.client);
    }
    if (!error) {
        request_once(&a, asker); /* whatever the answer is, there is one */
        AWAIT(tp_lanclient_self(a.client) != TP_NO_PEER);
        tp_err asked = party_request(&a, party_id(&a), "myself", 100);
        if (!asked) {
            AWAIT(a.replies == 1);
        }
    }
    tp__memory_fail_after(-1);
    bool failed = tp__memory_allocations() - before >= (uint64_t)n;
    CHECK(!error || (failed && error == TP_ERR_NO_MEMORY));
    if (error && a.client) {
        CHECK_EQ(tp_lanclient_start(a.client), TP_OK);
    }
    if (a.client) {
        do {
            request_once(&a, asker);
        } while (asker->reply_error != TP_OK); /* with memory available again, requests succeed */
        party_leave(&a);
    }
    return failed;
}

static void a_client_survives_every_failed_allocation(void) {
    tp__hub *hub = hub_open_default();
    party asker;
    party_init(&asker, hub, "chat", "asker");
    asker.options.request_timeout_ms = 500;
    party_start(&asker);
    AWAIT(asker.ups == 1);
    long n = 1;
    while (n < 1000 && attempt(hub, &asker, n)) {
        n++;
    }
    CHECK_LT(n, 1000);
    CHECK_GT(n, 10);
    printf("    %ld allocations failed one by one\n", n - 1);
    party_leave(&asker);
    hub_close(hub);
}

static tp_packet *kept[65536];
static unsigned kept_count;
static bool used_up;

/* Runs on the hub's only worker: afterwards not even the smallest packet can be made there. */
static void use_up_memory(void *context) {
    (void)context;
    trim_all_memory();
    tp__memory_fail_from(1);
    unsigned count = 0;
    while (count < sizeof kept / sizeof kept[0] && (kept[count] = tp_packet_new(0)) != NULL) {
        count++;
    }
    tp_mutex_lock(&fixture_mutex);
    kept_count = count;
    used_up = true;
    tp_condition_wake_all(&fixture_changed);
    tp_mutex_unlock(&fixture_mutex);
}

/* Waits for PEER_DOWN of this peer, or for the end of the connection. */
static bool is_notified_or_ended(raw_peer *peer, uint32_t gone) {
    for (;;) {
        unsigned type = 99;
        long size = raw_receive_frame(peer, &type, raw_in, sizeof raw_in);
        if (size < 0) {
            return raw_end(peer) != TP_ERR_TIMED_OUT;
        }
        bool word = type == TP_FRAME_DATA && raw_in[0] == TP_BUS_PEER_DOWN &&
                    tp_bus_get_u32(raw_in + TP_BUS_HEADER) == gone;
        if (word || type == TP_FRAME_CLOSE) {
            return true;
        }
    }
}

/* The hub has no memory to announce that a peer has left: it disconnects the peer that it cannot
 * notify, which gets the whole list when it reconnects. */
static void without_memory_for_peer_down_the_peers_are_disconnected(void) {
    fixture_open();
    tp__hub_options options;
    hub_options(&options);
    options.server.workers = 1;
    tp__hub *hub = hub_open(&options);
    raw_peer *bystander = raw_join(hub);
    raw_peer *visitor = raw_join(hub);
    uint32_t id = tp_bus_get_u32(raw_in + TP_BUS_HEADER + 4);
    raw_receive_bus(bystander, TP_BUS_PEER_UP);

    CHECK_EQ(tp_server_post(hub->server, 1, use_up_memory, NULL), TP_OK);
    AWAIT(used_up);
    CHECK_LT(kept_count, sizeof kept / sizeof kept[0]);
    raw_close(visitor, true);
    AWAIT(hub_stats(hub).peers < 2);
    tp__memory_fail_from(-1);
    while (kept_count > 0) {
        tp_packet_release(kept[--kept_count]);
    }
    CHECK(is_notified_or_ended(bystander, id));
    raw_close(bystander, false);
    hub_close(hub);
}

CHECK_MAIN(CASE(a_full_peer_is_skipped), CASE(a_peer_that_is_being_ended_is_skipped),
    CASE(a_copy_that_overflows_its_queue_comes_back), CASE(a_malformed_error_goes_back),
    CASE(the_reason_of_a_return_does_not_depend_on_turns),
    CASE(a_hub_that_sends_before_the_peer_list_is_left),
    CASE(messages_that_cannot_be_refused_come_back), CASE(invalid_answers_and_sends_are_refused),
    CASE(clients_without_a_name_share_the_keys), CASE(a_packet_not_accepted_keeps_its_cursor),
    CASE(a_client_survives_every_failed_allocation),
    CASE(without_memory_for_peer_down_the_peers_are_disconnected))
