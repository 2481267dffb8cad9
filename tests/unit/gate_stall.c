/*
 * We stood still, and no player pays for it: those who are kept until a service comes. By a clock
 * that the test moves: stall_stage.h.
 */
#include "stall_stage.h"

#include "gate_stage.h"

enum { COUNT = 3, KEEP_MS = 1000 };

static gate_stage stage;
static player players[COUNT];

static uint64_t closed_for_want_of_a_service(void) {
    return stage_account(&stage).lost_closed;
}

/* Both see it pass. */
static void pass_for_both(tp_lanclient *client, unsigned ms) {
    for (unsigned passed = 0; passed < ms; passed += STALL_STEP_MS) {
        pass(client->network, STALL_STEP_MS);
        let_sweep(stage.server);
    }
}

/* That one has come may lie in the socket of the bus. The gate's own clock goes on. */
static void who_is_kept_is_kept_while_nobody_listens_to_the_bus(void) {
    stage_init(&stage, hub_open_default());
    stage.options.keep_ms = KEEP_MS;
    clock_stop(); /* before anybody is kept; and the link comes up as soon as it goes on */
    stage_start_gate(&stage);
    stage_crowd_start(&stage);
    tp_lanclient *client = tp__gate_client(stage.gate);
    PASS_UNTIL(client->network, tp_lanclient_self(client) != TP_NO_PEER);
    for (unsigned i = 0; i < COUNT; i++) {
        player_connect(&stage, &players[i]);
    }
    STALL_WAIT(stage_account(&stage).kept == COUNT);
    hold_worker_of(client->network, client->session);
    pass(stage.server, 3 * KEEP_MS);
    CHECK_EQ(closed_for_want_of_a_service(), 0);
    let_worker_go(client->network);
    let_sweep(client->network);
    pass_for_both(client, KEEP_MS / 2);
    CHECK_EQ(closed_for_want_of_a_service(), 0);
    for (unsigned i = 0; i < 100 && closed_for_want_of_a_service() < COUNT; i++) {
        pass_for_both(client, 4 * STALL_STEP_MS);
    }
    CHECK_EQ(closed_for_want_of_a_service(), COUNT);
    atomic_store(&stall_stopped_at_ms, 0);
    stage_close(&stage);
}

CHECK_MAIN(CASE(who_is_kept_is_kept_while_nobody_listens_to_the_bus))
