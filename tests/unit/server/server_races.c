/*
 * Many threads at the same time: sends, disconnects, broadcasts and queries with valid and stale
 * ids, while peers come and go and the workers release sessions.
 *
 * At the end each session that joined has left exactly once, and no session is left. The sanitizers
 * check the rest.
 */
#include "server_fixture.h"

#define THREADS  4
#define PEERS    4
#define KEPT_IDS 64

static server_fixture fixture;
static _Atomic uint64_t ids[KEPT_IDS]; /* of sessions that joined lately; some have left */
static atomic_uint next_id;
static atomic_bool over;
static atomic_ullong sends, taken;
static _Atomic unsigned alive[1024]; /* by slot: joined and not yet left */

static void remember(server_fixture *s, tp_session_id session) {
    (void)s;
    CHECK_EQ(atomic_fetch_add(&alive[session & 1023], 1), 0);
    atomic_store(&ids[atomic_fetch_add(&next_id, 1) % KEPT_IDS], session);
}

static void forget(server_fixture *s, tp_session_id session, tp_end_reason reason) {
    (void)s;
    CHECK_NE(reason, TP_END_NONE);
    CHECK_EQ(atomic_fetch_sub(&alive[session & 1023], 1), 1);
}

static void check_alive_and_echo(server_fixture *s, tp_session_id session, tp_packet *packet) {
    CHECK_EQ(atomic_load(&alive[session & 1023]), 1);
    tp_server_send(s->server, session, packet);
}

static uint32_t chance(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void disturb(void *argument) {
    uint64_t state = (uint64_t)(uintptr_t)argument;
    while (!atomic_load(&over)) {
        tp_session_id id = atomic_load(&ids[chance(&state) % KEPT_IDS]);
        tp_packet *packet = tp_packet_copy_of("noise", 5);
        REQUIRE(packet != NULL);
        tp_session_info info = {.size = sizeof info};
        switch (chance(&state) % 64) {
        case 0:
            tp_server_disconnect(fixture.server, id);
            break;
        case 1:
            tp_server_disconnect_after_send(fixture.server, id, TP_CLOSE_KICKED);
            break;
        case 2:
            tp_server_broadcast(fixture.server, packet, id);
            break;
        case 3:
            tp_server_session_info(fixture.server, id, &info);
            break;
        default:
            atomic_fetch_add(&sends, 1);
            atomic_fetch_add(&taken, tp_server_send(fixture.server, id, packet));
            break;
        }
        tp_packet_release(packet);
    }
}

/* NULL: the reset came before the connection was established. */
static raw_peer *connect_or_be_reset(void) {
    tp_address address = tp_server_address(fixture.server);
    return raw_connect(&address);
}

/* Connects, sends a little and leaves: in order, by reset, or in the middle of a frame. */
static void connect_and_leave(unsigned rounds) {
    uint64_t state = 7;
    uint8_t bytes[400] = {0};
    for (unsigned i = 0; i < rounds; i++) {
        raw_peer *peers[PEERS];
        for (unsigned p = 0; p < PEERS; p++) {
            peers[p] = connect_or_be_reset();
            if (peers[p]) {
                raw_send(peers[p], bytes, chance(&state) % sizeof bytes);
            }
        }
        for (unsigned p = 0; p < PEERS; p++) {
            uint8_t some[64];
            if (!peers[p]) {
                continue;
            }
            if (chance(&state) % 2) {
                raw_receive(peers[p], some, chance(&state) % sizeof some);
            }
            raw_close(peers[p], chance(&state) % 3 == 0);
        }
    }
}

static void run_with(unsigned workers, unsigned rounds) {
    server_fixture_init(&fixture);
    fixture.options.workers = workers;
    fixture.options.drain_timeout_ms = 500;
    fixture.options.queue_packets = 5000;
    fixture.on_joined = remember;
    fixture.on_left = forget;
    fixture.on_message = check_alive_and_echo;
    atomic_store(&over, false);
    server_fixture_open(&fixture);
    tp_thread threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(
            tp_thread_start(&threads[i], "disturb", disturb, (void *)(uintptr_t)(i + 1)) == TP_OK);
    }
    connect_and_leave(rounds);
    /* The stop races with all of that, too. */
    tp_server_stop(fixture.server);
    CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
    atomic_store(&over, true);
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK_EQ(atomic_load(&fixture.joins), atomic_load(&fixture.leaves));
    CHECK_EQ(tp_server_session_count(fixture.server), 0);
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.server, &stats);
    CHECK_EQ(stats.joined, stats.left);
    printf("    %u workers: %u sessions, %llu sends, %llu taken\n", workers,
        atomic_load(&fixture.joins), atomic_load(&sends), atomic_load(&taken));
    tp_server_destroy(fixture.server);
}

static void sends_and_ends_race_with_one_worker(void) {
    run_with(1, 200);
}

static void sends_and_ends_race_with_four_workers(void) {
    run_with(4, 200);
}

/* ---- one packet that several threads send ---------------------------------------------------- */

#define KEPT_SENDS 20000u /* by each thread */

static void send_kept(void *argument) {
    for (unsigned taken_here = 0; taken_here < KEPT_SENDS;) {
        if (tp_server_send(fixture.server, atomic_load(&fixture.last_joined), argument)) {
            taken_here++;
        } else {
            tp_thread_yield(); /* the queue is full */
        }
    }
}

static void a_kept_packet_can_be_sent_by_two_threads(void) {
    tp_thread threads[2];
    server_fixture_init(&fixture);
    fixture.options.queue_packets = 2; /* so that often the test has the only reference */
    fixture.options.queue_policy = TP_QUEUE_REFUSE;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    tp_packet *kept = tp_packet_copy_of("kept", 4);
    REQUIRE(kept != NULL);
    /* The first send seals the packet and is done by one thread only. */
    CHECK(tp_server_send(fixture.server, atomic_load(&fixture.last_joined), kept));
    for (unsigned i = 0; i < 2; i++) {
        REQUIRE(tp_thread_start(&threads[i], "send", send_kept, kept) == TP_OK);
    }
    for (unsigned i = 0; i < 2 * KEPT_SENDS + 1; i++) {
        char text[4];
        unsigned type;
        REQUIRE(raw_receive_frame(peer, &type, text, sizeof text) == 4);
        CHECK_MEM(text, "kept", 4);
    }
    for (unsigned i = 0; i < 2; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK_MEM(tp_packet_bytes(kept), "kept", 4);
    tp_packet_release(kept);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

CHECK_MAIN(CASE(sends_and_ends_race_with_one_worker), CASE(sends_and_ends_race_with_four_workers),
    CASE(a_kept_packet_can_be_sent_by_two_threads))
