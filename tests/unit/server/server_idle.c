/*
 * Idle time-outs, with a clock that the test moves: however slow the machine is, no other time
 * passes.
 *
 * tp_clock_ms() is the test's (wrapped.h). While it is stopped, workers wait for
 * completions as long as usual and then find the time unchanged.
 */
#include "os/clock.h"
#include "wrapped.h"

WRAPPED(uint64_t, tp_clock_ms, void);
/* What is included below, and the test itself, wait by the real clock. */
#define tp_clock_ms __real_tp_clock_ms

#include "server_fixture.h"

#include "core/engine/server_state.h"

/* A step is less than TP__STALL_GRACE_MS: a larger one would count as a stall. A sweep runs every
 * TICK_MS. */
enum { PEERS = 9, IDLE_MS = 1000, STEP_MS = 25, STEPS = 100, TICK_MS = 100 };

static server_fixture fixture;
static atomic_ullong stopped_at_ms; /* 0: the real clock */

uint64_t __wrap_tp_clock_ms(void) {
    uint64_t at_ms = atomic_load(&stopped_at_ms);
    return at_ms ? at_ms : tp_clock_ms();
}

static tp__worker *owner_of(tp_session_id session) {
    return atomic_load(&fixture.server->sessions[tp_session_slot(session)].owner);
}

static void send_byte(raw_peer *peer, char what) {
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, &what, 1));
}

/* The next message; a PING may come before it. */
static void check_answer(raw_peer *peer, char what) {
    unsigned type;
    char byte = 0;
    do {
        REQUIRE(raw_receive_frame(peer, &type, &byte, 1) >= 0);
    } while (type == TP_FRAME_PING);
    CHECK_EQ(type, TP_FRAME_DATA);
    CHECK_EQ(byte, what);
}

/* One worker is blocked for longer than the idle time-out: peers whose bytes wait for it have not
 * been silent. */
static void peers_of_a_blocked_worker_are_not_idle(void) {
    server_fixture_init(&fixture);
    fixture.options.workers = 3;
    fixture.options.ping_interval_ms = IDLE_MS / 2;
    fixture.options.idle_timeout_ms = IDLE_MS;
    fixture.on_message = fixture_block_on_b;
    atomic_store(&stopped_at_ms, tp_clock_ms());
    server_fixture_open(&fixture);
    raw_peer *peers[PEERS];
    bool waits[PEERS];
    tp_session_id first = TP_NO_SESSION;
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = fixture_connect_peer(&fixture);
        FIXTURE_WAIT(atomic_load(&fixture.joins) == i + 1);
        first = i == 0 ? atomic_load(&fixture.last_joined) : first;
        tp__worker *owner = owner_of(atomic_load(&fixture.last_joined));
        waits[i] = i == 0 || owner == owner_of(first);
    }
    if (!owner_of(first)) {
        atomic_store(&stopped_at_ms, 0);
        for (unsigned i = 0; i < PEERS; i++) {
            raw_close(peers[i], true);
        }
        server_fixture_close(&fixture);
        SKIP("sessions have no owner here, so a blocked worker delays none in particular");
    }
    send_byte(peers[0], 'b');
    FIXTURE_WAIT(atomic_load(&fixture.blocked));
    for (unsigned step = 0; step < STEPS; step++) {
        atomic_fetch_add(&stopped_at_ms, STEP_MS);
        for (unsigned i = 0; i < PEERS; i++) {
            send_byte(peers[i], 'f');
        }
        for (unsigned i = 0; i < PEERS; i++) {
            if (!waits[i]) {
                check_answer(peers[i], 'f');
            }
        }
    }
    atomic_store(&fixture.unblock, true);
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
    server_fixture_close(&fixture);
}

static atomic_uint rounds;

static void count_round(void *unused) {
    (void)unused;
    atomic_fetch_add(&rounds, 1);
}

/* Moves the clock one step and waits until the worker has seen it. */
static void step_and_see(void) {
    unsigned before = atomic_load(&rounds);
    atomic_fetch_add(&stopped_at_ms, STEP_MS);
    CHECK_EQ(tp_server_post(fixture.server, 0, count_round, NULL), TP_OK);
    FIXTURE_WAIT(atomic_load(&rounds) == before + 1);
}

/* A peer that is silent is ended in time. */
static void a_silent_peer_gets_a_ping_and_is_then_ended(void) {
    server_fixture_init(&fixture);
    fixture.options.ping_interval_ms = IDLE_MS / 2;
    fixture.options.idle_timeout_ms = IDLE_MS;
    atomic_store(&stopped_at_ms, tp_clock_ms());
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    send_byte(peer, 'f');
    check_answer(peer, 'f');
    uint64_t heard_ms = atomic_load(&stopped_at_ms);
    while (atomic_load(&stopped_at_ms) < heard_ms + IDLE_MS - TICK_MS) {
        step_and_see();
    }
    unsigned type;
    uint8_t reason[2];
    CHECK_EQ(raw_receive_frame(peer, &type, reason, sizeof reason), 0);
    CHECK_EQ(type, TP_FRAME_PING);
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    /* PING, the end and this check may each be one sweep late. */
    for (unsigned step = 0; step < 4 * TICK_MS / STEP_MS; step++) {
        step_and_see();
    }
    CHECK_EQ(raw_receive_frame(peer, &type, reason, sizeof reason), 2);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    CHECK_EQ(reason[0], TP_CLOSE_IDLE);
    atomic_store(&stopped_at_ms, 0);
    raw_close(peer, false);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_IDLE);
    server_fixture_close(&fixture);
}

CHECK_MAIN(
    CASE(peers_of_a_blocked_worker_are_not_idle), CASE(a_silent_peer_gets_a_ping_and_is_then_ended))
