/*
 * What happens between two steps of the gate: another thread is quicker, at the one moment at which
 * it matters.
 *
 * The gate's own gate.c calls moment_clock_ms, moment_server_start and moment_mutex_unlock for the
 * real ones.
 */
#undef tp_clock_ms
#undef tp_mutex_unlock
#undef tp_server_start
#include "gate_stage.h"
#include "os/clock.h"
#include "slow_thread.h"

enum { COUNT = 6 };

static gate_stage stage;
static service arena, second;
static player players[COUNT];

/* ---- the clock ------------------------------------------------------------------------------- */

static atomic_bool hold_clock; /* the next who reads it is held up */
static atomic_uint clock_held, reads;

/* Held up, it says the time before. No mutex: the gate's own may be held. */
uint64_t moment_clock_ms(void);
uint64_t moment_clock_ms(void) {
    uint64_t now_ms = tp_clock_ms();
    if (atomic_load(&hold_clock)) {
        atomic_fetch_add(&clock_held, 1);
        while (atomic_load(&hold_clock)) {
            tp_thread_yield();
        }
    }
    atomic_fetch_add(&reads, 1);
    return now_ms;
}

/* The first is kept so that the gate looks at its clock; the others come to be kept while it
 * does. */
static void who_is_kept_since_a_tick_began_is_not_overdue(void) {
    stage_init(&stage, hub_open_default());
    stage_start(&stage);
    service_join(&arena, stage.hub, "arena");
    service_join(&second, stage.hub, "second");
    for (unsigned i = 0; i < COUNT; i++) {
        player_join(&stage, &players[i]);
        AWAIT(arena.joins == i + 1);
    }
    tp_player name = arena.last;
    CHECK_EQ(tp_backend_move(arena.backend, &name, "second", TP_NO_PEER, NULL, 0), TP_OK);
    AWAIT(second.joins == 1);
    service_kill(&second);
    AWAIT(stage_account(&stage).kept == 1);

    atomic_store(&hold_clock, true);
    AWAIT(atomic_load(&clock_held) == 1);
    uint64_t later_ms = tp_clock_ms() + 2;
    AWAIT(tp_clock_ms() >= later_ms);
    service_kill(&arena);
    AWAIT(stage_account(&stage).kept == COUNT);
    unsigned before = atomic_load(&reads);
    atomic_store(&hold_clock, false);
    AWAIT(atomic_load(&reads) >= before + 2); /* that tick is over, and another has begun */
    CHECK_EQ(stage_account(&stage).lost_closed, 0);
    CHECK_EQ(stage_account(&stage).kept, COUNT);
    tp__hub *hub = stage.hub;
    stage_close(&stage);
    hub_close(hub);
}

/* ---- the start ------------------------------------------------------------------------------- */

static bool stop_before_start;
static bool stop_slowly_before_start;

static void stop(void) {
    tp__gate_stop(stage.gate);
}

tp_err moment_server_start(tp_server *server);
tp_err moment_server_start(tp_server *server) {
    if (stop_before_start) {
        tp__gate_stop(stage.gate);
    }
    if (stop_slowly_before_start) {
        slow_begin(stop);
    }
    return tp_server_start(server);
}

static void a_stop_while_it_starts_is_not_lost(void) {
    stage_init(&stage, hub_open_default());
    stop_before_start = true;
    stage_start_gate(&stage);
    stop_before_start = false;
    CHECK_EQ(tp__gate_wait(stage.gate, -1), TP_OK);
    CHECK_EQ(tp__gate_start(stage.gate, stage.server), TP_OK); /* and nothing of it is left */
    AWAIT(tp_lanclient_self(tp__gate_client(stage.gate)) != TP_NO_PEER);
    tp__hub *hub = stage.hub;
    stage_close(&stage);
    hub_close(hub);
}

/* It is held up from the first start to the second one. */
static void a_stop_does_not_end_the_next_run(void) {
    stage_init(&stage, hub_open_default());
    stop_slowly_before_start = true;
    stage_start_gate(&stage);
    stop_slowly_before_start = false;
    CHECK_EQ(tp__gate_wait(stage.gate, -1), TP_OK);
    CHECK_EQ(tp__gate_start(stage.gate, stage.server), TP_OK);
    slow_end();
    CHECK_EQ(tp_server_wait(stage.server, 0), TP_ERR_STATE); /* it runs */
    AWAIT(tp_lanclient_self(tp__gate_client(stage.gate)) != TP_NO_PEER);
    tp__hub *hub = stage.hub;
    stage_close(&stage);
    hub_close(hub);
}

CHECK_MAIN(CASE(who_is_kept_since_a_tick_began_is_not_overdue),
    CASE(a_stop_while_it_starts_is_not_lost), CASE(a_stop_does_not_end_the_next_run))
