/*
 * What clients observe when their hub ends.
 *
 * The hub's connections are closed one after another, and slowly (faulty_port.h), so that some
 * clients are still connected while the hub notices that others are gone.
 */
#include "bus_fixture.h"
#include "faulty_port.h"
#include "os/clock.h"

enum { FAMILY = 6, SLOW_MS = 50 };

static party family[FAMILY];
/* how often a client that was still on the bus was notified that a peer left */
static unsigned notifications;

static void count_notifications(tp_lanclient *client, const tp_peer *peer) {
    tp_mutex_lock(&fixture_mutex);
    notifications += tp_lanclient_self(client) != TP_NO_PEER;
    tp_mutex_unlock(&fixture_mutex);
    party_on_peer_down(client, peer);
}

/* Called inside the port whenever a connection is closed. */
static void close_slowly(void) {
    uint64_t end_ms = tp_clock_ms() + SLOW_MS;
    tp_mutex_lock(&fixture_mutex);
    while (tp_clock_ms() < end_ms) {
        tp_condition_wait(&fixture_changed, &fixture_mutex, 1);
    }
    tp_mutex_unlock(&fixture_mutex);
}

/* Each client loses the hub first: no client that is still on the bus is notified of a peer's end,
 * which would start what is meant for a single lost peer. */
static void a_hub_that_ends_announces_no_lost_peers(void) {
    faulty_port_reset();
    faulty.on_close = close_slowly;
    tp__hub *hub = hub_open_default();
    for (unsigned i = 0; i < FAMILY; i++) {
        party_init(&family[i], hub, "family", NULL);
        family[i].handlers.on_peer_down = count_notifications;
        party_start(&family[i]);
    }
    for (unsigned i = 0; i < FAMILY; i++) {
        AWAIT(family[i].peer_ups == FAMILY - 1);
    }
    tp__hub_destroy(hub);
    for (unsigned i = 0; i < FAMILY; i++) {
        AWAIT(family[i].downs == 1 && family[i].peer_downs == FAMILY - 1);
    }
    CHECK_EQ(notifications, 0);
    for (unsigned i = 0; i < FAMILY; i++) {
        party_leave(&family[i]);
    }
}

CHECK_MAIN(CASE(a_hub_that_ends_announces_no_lost_peers))
