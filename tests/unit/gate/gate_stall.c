/*
 * A stalled worker of the gate's bus client costs no kept player its connection: the news that a
 * service has come may wait in the socket. Time is the test's own (stall_fixture.h).
 */
#include "stall_fixture.h"

#include "gate_fixture.h"

enum { COUNT = 3, KEEP_MS = 1000 };

static gate_fixture fixture;
static player players[COUNT];

static uint64_t closed_without_service(void) {
    return fixture_stats(&fixture).lost_closed;
}

/* Lets time pass for the gate's server and for its bus client. */
static void pass_time_for_both(tp_lanclient *client, unsigned ms) {
    for (unsigned passed = 0; passed < ms; passed += STALL_STEP_MS) {
        pass_time(client->network, STALL_STEP_MS);
        await_sweep(fixture.server);
    }
}

/* The bus client's worker stalls while the gate's own clock goes on: players are not closed for
 * want of a service until the client has been served again. */
static void held_players_stay_while_the_bus_client_stalls(void) {
    fixture_init(&fixture, hub_open_default());
    fixture.options.keep_ms = KEEP_MS;
    clock_stop(); /* before a player is held; the link comes up when the clock goes on */
    fixture_start_gate(&fixture);
    fixture_crowd_start(&fixture);
    tp_lanclient *client = tp__gate_client(fixture.gate);
    PASS_UNTIL(client->network, tp_lanclient_self(client) != TP_NO_PEER);
    for (unsigned i = 0; i < COUNT; i++) {
        player_connect(&fixture, &players[i]);
    }
    STALL_WAIT(fixture_stats(&fixture).kept == COUNT);
    stall_worker_of(client->network, client->session);
    pass_time(fixture.server, 3 * KEEP_MS);
    CHECK_EQ(closed_without_service(), 0);
    end_stall(client->network);
    await_sweep(client->network);
    pass_time_for_both(client, KEEP_MS / 2);
    CHECK_EQ(closed_without_service(), 0);
    for (unsigned i = 0; i < 100 && closed_without_service() < COUNT; i++) {
        pass_time_for_both(client, 4 * STALL_STEP_MS);
    }
    CHECK_EQ(closed_without_service(), COUNT);
    atomic_store(&stall_stopped_at_ms, 0);
    fixture_close(&fixture);
}

CHECK_MAIN(CASE(held_players_stay_while_the_bus_client_stalls))
