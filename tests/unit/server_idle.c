/*
 * Silence, by a clock that the test moves: whatever this machine does meanwhile, no time passes.
 *
 * The server's own worker.c, served.c, open.c and end.c call stage_clock_ms for the real clock.
 * While it is stopped they wait for completions as long as they would, and find that it is as late
 * as before.
 */
#undef tp_clock_ms
#include "server_stage.h"

#include "core/engine/server_state.h"

/* A step is less than TP__HELD_UP_MS: a larger one would be a stall. A sweep comes each TICK_MS. */
enum { PEERS = 9, IDLE_MS = 1000, STEP_MS = 25, STEPS = 100, TICK_MS = 100 };

static server_stage stage;
static atomic_ullong stopped_at_ms; /* 0: the clock goes */

uint64_t stage_clock_ms(void);
uint64_t stage_clock_ms(void) {
    uint64_t at_ms = atomic_load(&stopped_at_ms);
    return at_ms ? at_ms : tp_clock_ms();
}

static tp__worker *home_of(tp_session_id session) {
    return atomic_load(&stage.server->sessions[tp_session_slot(session)].home);
}

static void say(raw_peer *peer, char what) {
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, &what, 1));
}

/* The next message; the server may have said PING before. */
static void check_answer(raw_peer *peer, char what) {
    unsigned type;
    char byte = 0;
    do {
        REQUIRE(raw_receive_frame(peer, &type, &byte, 1) >= 0);
    } while (type == TP_FRAME_PING);
    CHECK_EQ(type, TP_FRAME_DATA);
    CHECK_EQ(byte, what);
}

/* One worker is held up for longer than the idle time-out: whose bytes wait for it have not been
 * silent. */
static void who_talks_to_a_worker_that_is_held_up_is_not_idle(void) {
    server_stage_init(&stage);
    stage.options.workers = 3;
    stage.options.ping_interval_ms = IDLE_MS / 2;
    stage.options.idle_timeout_ms = IDLE_MS;
    stage.on_message = stage_block_on_b;
    atomic_store(&stopped_at_ms, tp_clock_ms());
    server_stage_open(&stage);
    raw_peer *peers[PEERS];
    bool waits[PEERS];
    tp_session_id first = TP_NO_SESSION;
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = stage_connect_peer(&stage);
        STAGE_WAIT(atomic_load(&stage.joins) == i + 1);
        first = i == 0 ? atomic_load(&stage.last_joined) : first;
        tp__worker *home = home_of(atomic_load(&stage.last_joined));
        waits[i] = i == 0 || home == home_of(first);
    }
    if (!home_of(first)) {
        atomic_store(&stopped_at_ms, 0);
        for (unsigned i = 0; i < PEERS; i++) {
            raw_close(peers[i], true);
        }
        server_stage_close(&stage);
        SKIP("sessions have no home here: nobody can tell whom a held-up worker does not hear");
    }
    say(peers[0], 'b');
    STAGE_WAIT(atomic_load(&stage.blocked));
    for (unsigned step = 0; step < STEPS; step++) {
        atomic_fetch_add(&stopped_at_ms, STEP_MS);
        for (unsigned i = 0; i < PEERS; i++) {
            say(peers[i], 'f');
        }
        for (unsigned i = 0; i < PEERS; i++) {
            if (!waits[i]) {
                check_answer(peers[i], 'f');
            }
        }
    }
    atomic_store(&stage.let_go, true);
    check_answer(peers[0], 'b');
    for (unsigned i = 0; i < PEERS; i++) {
        for (unsigned step = 0; waits[i] && step < STEPS; step++) {
            check_answer(peers[i], 'f');
        }
    }
    atomic_store(&stopped_at_ms, 0);
    for (unsigned i = 0; i < PEERS; i++) {
        raw_close(peers[i], false);
    }
    server_stage_close(&stage);
}

static atomic_uint rounds;

static void count_round(void *unused) {
    (void)unused;
    atomic_fetch_add(&rounds, 1);
}

/* A step, and the worker has seen it. */
static void step_and_see(void) {
    unsigned before = atomic_load(&rounds);
    atomic_fetch_add(&stopped_at_ms, STEP_MS);
    CHECK_EQ(tp_server_post(stage.server, 0, count_round, NULL), TP_OK);
    STAGE_WAIT(atomic_load(&rounds) == before + 1);
}

/* And who is silent is ended, when it is time. */
static void who_is_silent_is_asked_and_then_ended(void) {
    server_stage_init(&stage);
    stage.options.ping_interval_ms = IDLE_MS / 2;
    stage.options.idle_timeout_ms = IDLE_MS;
    atomic_store(&stopped_at_ms, tp_clock_ms());
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    say(peer, 'f');
    check_answer(peer, 'f');
    uint64_t heard_ms = atomic_load(&stopped_at_ms);
    while (atomic_load(&stopped_at_ms) < heard_ms + IDLE_MS - TICK_MS) {
        step_and_see();
    }
    unsigned type;
    uint8_t reason[2];
    CHECK_EQ(raw_receive_frame(peer, &type, reason, sizeof reason), 0);
    CHECK_EQ(type, TP_FRAME_PING);
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    /* A sweep late for each of PING, the end and this look. */
    for (unsigned step = 0; step < 4 * TICK_MS / STEP_MS; step++) {
        step_and_see();
    }
    CHECK_EQ(raw_receive_frame(peer, &type, reason, sizeof reason), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(reason[0], TP_CLOSE_IDLE);
    atomic_store(&stopped_at_ms, 0);
    raw_close(peer, false);
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_IDLE);
    server_stage_close(&stage);
}

CHECK_MAIN(CASE(who_talks_to_a_worker_that_is_held_up_is_not_idle),
    CASE(who_is_silent_is_asked_and_then_ended))
