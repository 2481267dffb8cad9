/*
 * Races of the gate's start, stop and clock, played out at the one moment at which they matter:
 * another thread acts between two steps of the gate.
 *
 * The __wrap_... functions below and in slow_thread.h are in place of the product's (wrapped.h).
 */
#include "wanserver/gate/gate_internal.h"

#include "gate_fixture.h"
#include "lanclient/client/client.h"
#include "lanclient/client/link_clock.h"
#include "os/clock.h"
#include "slow_thread.h"
#include "wrapped.h"

enum { COUNT = 6 };

static gate_fixture fixture;
static service arena, second;
static player players[COUNT];

/* ---- the clock ------------------------------------------------------------------------------- */

static atomic_bool clock_blocked; /* the next tick that reads the link's clock is held up */
static atomic_uint clock_held, reads;

/* The gate's tick runs on a worker of its server; the others that read the link's clock are on
 * workers of a client. */
static bool is_gate_tick(void) {
    return tp__worker_here(fixture.server) != NULL;
}

/* A tick that is held up gets the time at which it called. */
WRAPPED(uint64_t, tp__lanclient_now_ms, tp_lanclient *client);
uint64_t __wrap_tp__lanclient_now_ms(tp_lanclient *client) {
    uint64_t now_ms = __real_tp__lanclient_now_ms(client);
    if (!is_gate_tick()) {
        return now_ms;
    }
    if (atomic_load(&clock_blocked)) {
        atomic_fetch_add(&clock_held, 1);
        while (atomic_load(&clock_blocked)) {
            tp_thread_yield();
        }
    }
    atomic_fetch_add(&reads, 1);
    return now_ms;
}

/* The first player is held so that the gate's tick looks at the clock. The other players become
 * held while that tick is held up. */
static void a_player_held_during_a_tick_is_not_overdue(void) {
    fixture_init(&fixture, hub_open_default());
    fixture_start(&fixture);
    service_join(&arena, fixture.hub, "arena");
    service_join(&second, fixture.hub, "second");
    for (unsigned i = 0; i < COUNT; i++) {
        player_join(&fixture, &players[i]);
        AWAIT(arena.joins == i + 1);
    }
    tp_player name = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &name, "second", TP_NO_PEER, NULL, 0), TP_OK);
    AWAIT(second.joins == 1);
    service_kill(&second);
    AWAIT(fixture_stats(&fixture).kept == 1);

    atomic_store(&clock_blocked, true);
    AWAIT(atomic_load(&clock_held) == 1);
    uint64_t later_ms = tp_clock_ms() + 2;
    AWAIT(tp_clock_ms() >= later_ms);
    service_kill(&arena);
    AWAIT(fixture_stats(&fixture).kept == COUNT);
    unsigned before = atomic_load(&reads);
    atomic_store(&clock_blocked, false);
    AWAIT(atomic_load(&reads) >= before + 2); /* that tick has ended, and another one has started */
    CHECK_EQ(fixture_stats(&fixture).lost_closed, 0);
    CHECK_EQ(fixture_stats(&fixture).kept, COUNT);
    tp__hub *hub = fixture.hub;
    fixture_close(&fixture);
    hub_close(hub);
}

/* ---- the start ------------------------------------------------------------------------------- */

static bool stop_before_start;
static bool stop_slowly_before_start;

static bool wait_in_handler;
static tp_err waited_in_handler;
static atomic_bool handler_done;

static void stop(void) {
    tp__gate_stop(fixture.gate);
}

/* On a worker of the gate's client. */
static void stop_and_wait(void *context) {
    (void)context;
    stop();
    waited_in_handler = tp__gate_wait(fixture.gate, 1000);
    atomic_store(&handler_done, true);
}

WRAPPED(tp_err, tp_server_start, tp_server *server);
tp_err __wrap_tp_server_start(tp_server *server) {
    if (server != fixture.server) {
        return __real_tp_server_start(server);
    }
    if (stop_before_start) {
        tp__gate_stop(fixture.gate);
    }
    if (stop_slowly_before_start) {
        slow_begin(stop, &fixture.gate->mutex);
    }
    if (wait_in_handler) {
        CHECK_EQ(tp_server_post(fixture.gate->client->network, 0, stop_and_wait, NULL), TP_OK);
        while (!atomic_load(&handler_done)) {
            tp_thread_yield();
        }
    }
    return __real_tp_server_start(server);
}

static void a_handler_that_waits_during_the_start_is_turned_away(void) {
    fixture_init(&fixture, hub_open_default());
    wait_in_handler = true;
    fixture_start_gate(&fixture);
    wait_in_handler = false;
    CHECK_EQ(waited_in_handler, TP_ERR_WRONG_THREAD);
    CHECK_EQ(tp__gate_wait(fixture.gate, -1), TP_OK);
    REQUIRE(tp__gate_start(fixture.gate, fixture.server) == TP_OK);
    tp__hub *hub = fixture.hub;
    fixture_close(&fixture);
    hub_close(hub);
}

static void stop_until_over(void *over) {
    while (!atomic_load((atomic_bool *)over)) {
        stop();
    }
}

/* A stop may be asked for again at any moment of the wait: for the thread sanitizer. */
static void a_stop_may_be_repeated_during_the_wait(void) {
    fixture_init(&fixture, hub_open_default());
    fixture_start_gate(&fixture);
    stop();
    atomic_bool over = false;
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "stopper", stop_until_over, &over) == TP_OK);
    CHECK_EQ(tp__gate_wait(fixture.gate, -1), TP_OK);
    atomic_store(&over, true);
    tp_thread_join(&thread);
    REQUIRE(tp__gate_start(fixture.gate, fixture.server) == TP_OK);
    tp__hub *hub = fixture.hub;
    fixture_close(&fixture);
    hub_close(hub);
}

static void a_stop_during_the_start_is_not_lost(void) {
    fixture_init(&fixture, hub_open_default());
    stop_before_start = true;
    fixture_start_gate(&fixture);
    stop_before_start = false;
    CHECK_EQ(tp__gate_wait(fixture.gate, -1), TP_OK);
    CHECK_EQ(tp__gate_start(fixture.gate, fixture.server), TP_OK); /* nothing of the stop is left */
    AWAIT(tp_lanclient_self(tp__gate_client(fixture.gate)) != TP_NO_PEER);
    tp__hub *hub = fixture.hub;
    fixture_close(&fixture);
    hub_close(hub);
}

/* The thread that stops the gate is held up from the first start to the second one. */
static void a_slow_stop_does_not_end_the_next_run(void) {
    fixture_init(&fixture, hub_open_default());
    stop_slowly_before_start = true;
    fixture_start_gate(&fixture);
    stop_slowly_before_start = false;
    CHECK_EQ(tp__gate_wait(fixture.gate, -1), TP_OK);
    CHECK_EQ(tp__gate_start(fixture.gate, fixture.server), TP_OK);
    slow_end();
    CHECK_EQ(tp_server_wait(fixture.server, 0), TP_ERR_STATE); /* it still runs */
    AWAIT(tp_lanclient_self(tp__gate_client(fixture.gate)) != TP_NO_PEER);
    tp__hub *hub = fixture.hub;
    fixture_close(&fixture);
    hub_close(hub);
}

CHECK_MAIN(CASE(a_player_held_during_a_tick_is_not_overdue),
    CASE(a_handler_that_waits_during_the_start_is_turned_away),
    CASE(a_stop_may_be_repeated_during_the_wait), CASE(a_stop_during_the_start_is_not_lost),
    CASE(a_slow_stop_does_not_end_the_next_run))
