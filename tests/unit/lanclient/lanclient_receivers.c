/*
 * Receivers that accept nothing, because they are full or about to end: other peers of their
 * service get the messages, and what none gets comes back with its reason. Such receivers are a
 * party whose handler blocks (slow_party.h), and raw peers that acknowledge nothing.
 */
#include "raw_bus.h"
#include "slow_party.h"

static unsigned no_peers; /* messages that came back with the bus's reason no-peer */

static void count_no_peers(tp_lanclient *client, const tp_returned *returned) {
    tp_mutex_lock(&fixture_mutex);
    no_peers += returned->bus_reason == TP_BUS_NO_PEER;
    tp_mutex_unlock(&fixture_mutex);
    party_on_returned(client, returned);
}

static char large[32768];
static const char small[] = "a message as long as the ones that follow";

/* A hub with small queues, and a peer of the service "slow" whose handler blocks. The hub has one
 * worker, so that a queue is full because of its reader, not because of a stalled worker. */
static tp__hub *open_with_holder(tp_queue_policy policy, party *holder) {
    tp__hub_options options;
    hub_options(&options);
    options.server.queue_policy = policy;
    options.server.queue_bytes = 65536;
    options.server.workers = 1;
    options.server.drain_timeout_ms = 60000;
    tp__hub *hub = hub_open(&options);
    memset(large, 'x', sizeof large - 1);
    slow_join(holder, hub, "holder");
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
    BUS_CLOSE(hub, &a, &b, &d);
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
    BUS_CLOSE(hub, &a, &b, &d);
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
    BUS_CLOSE(hub, &a, &b, &c);
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
    tp__hub_options options;
    hub_options(&options);
    options.unconfirmed_limit = 1;
    tp__hub *hub = hub_open(&options);
    party a;
    party_init(&a, hub, "chat", "a");
    a.handlers.on_returned = count_unconfirmed_full;
    party_come_up(&a);
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
    BUS_CLOSE(hub, &a);
}

CHECK_MAIN(CASE(a_full_peer_is_skipped), CASE(a_peer_that_is_being_ended_is_skipped),
    CASE(a_copy_that_overflows_its_queue_comes_back),
    CASE(the_reason_of_a_return_does_not_depend_on_turns))
