/*
 * Memory that runs out on the bus: at any allocation of a client's life, one after another, and in
 * the hub when it announces that a peer has left.
 */
#include "core/memory/memory.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"
#include "raw_bus.h"

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
    party_come_up(&asker);
    long n = 1;
    while (n < 1000 && attempt(hub, &asker, n)) {
        n++;
    }
    CHECK_LT(n, 1000);
    CHECK_GT(n, 10);
    printf("    %ld allocations failed one by one\n", n - 1);
    BUS_CLOSE(hub, &asker);
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

CHECK_MAIN(CASE(a_client_survives_every_failed_allocation),
    CASE(without_memory_for_peer_down_the_peers_are_disconnected))
