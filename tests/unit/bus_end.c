/*
 * What its clients see of a hub that ends.
 *
 * Its connections go one after another, and slowly here, so that some are still there while it
 * hears that others are gone.
 */
#include "bus_stage.h"
#include "faulty_port.h"
#include "os/clock.h"

enum { FAMILY = 6, SLOW_MS = 50 };

static party family[FAMILY];
static unsigned told; /* how often a client that was on the bus heard that a peer is gone */

static void count_told(tp_lanclient *client, const tp_peer *peer) {
    tp_mutex_lock(&stage_mutex);
    told += tp_lanclient_self(client) != TP_NO_PEER;
    tp_mutex_unlock(&stage_mutex);
    party_on_peer_down(client, peer);
}

/* Inside the port, where a connection is closed. */
static void take_time(void) {
    uint64_t end_ms = tp_clock_ms() + SLOW_MS;
    tp_mutex_lock(&stage_mutex);
    while (tp_clock_ms() < end_ms) {
        tp_condition_wait(&stage_changed, &stage_mutex, 1);
    }
    tp_mutex_unlock(&stage_mutex);
}

/* Each loses the hub, and nobody before it: nothing is set off that is meant for a peer who goes
 * alone. */
static void a_hub_that_ends_takes_no_peer_away_before(void) {
    faulty_port_reset();
    faulty.on_close = take_time;
    tp__hub *hub = hub_open_default();
    for (unsigned i = 0; i < FAMILY; i++) {
        party_init(&family[i], hub, "family", NULL);
        family[i].handlers.on_peer_down = count_told;
        party_start(&family[i]);
    }
    for (unsigned i = 0; i < FAMILY; i++) {
        AWAIT(family[i].peer_ups == FAMILY - 1);
    }
    tp__hub_destroy(hub);
    for (unsigned i = 0; i < FAMILY; i++) {
        AWAIT(family[i].downs == 1 && family[i].peer_downs == FAMILY - 1);
    }
    CHECK_EQ(told, 0);
    for (unsigned i = 0; i < FAMILY; i++) {
        party_leave(&family[i]);
    }
}

CHECK_MAIN(CASE(a_hub_that_ends_takes_no_peer_away_before))
