/*
 * Everybody at once: sends, disconnects, broadcasts, questions with fresh and stale ids from
 * several threads, while peers come and go and the workers release. What must hold at the end is
 * simple: everything that joined has left, once, and nothing is left behind. The sanitizers watch
 * the rest.
 */
#include "server_stage.h"

#define THREADS  4
#define PEERS    4
#define KEPT_IDS 64

static server_stage stage;
static _Atomic uint64_t ids[KEPT_IDS]; /* of sessions that joined lately; some are gone */
static atomic_uint next_id;
static atomic_bool over;
static atomic_ullong sends, taken;
static _Atomic unsigned alive[1024]; /* by slot: joined and not left */

static void remember(server_stage *s, tp_session_id session) {
    (void)s;
    CHECK_EQ(atomic_fetch_add(&alive[session & 1023], 1), 0);
    atomic_store(&ids[atomic_fetch_add(&next_id, 1) % KEPT_IDS], session);
}

static void forget(server_stage *s, tp_session_id session, tp_end_reason reason) {
    (void)s;
    CHECK_NE(reason, TP_END_NONE);
    CHECK_EQ(atomic_fetch_sub(&alive[session & 1023], 1), 1);
}

static void only_the_living(server_stage *s, tp_session_id session, tp_packet *packet) {
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
            tp_server_disconnect(stage.server, id);
            break;
        case 1:
            tp_server_disconnect_after_send(stage.server, id, TP_CLOSE_KICKED);
            break;
        case 2:
            tp_server_broadcast(stage.server, packet, id);
            break;
        case 3:
            tp_server_session_info(stage.server, id, &info);
            break;
        default:
            atomic_fetch_add(&sends, 1);
            atomic_fetch_add(&taken, tp_server_send(stage.server, id, packet));
            break;
        }
        tp_packet_release(packet);
    }
}

/* NULL: the reset came before the connection was seen to stand. */
static raw_peer *connect_or_be_cut(void) {
    tp_address address = tp_server_address(stage.server);
    return raw_connect(&address);
}

/* Connects, talks a little, goes: in order, by reset, or in the middle of a frame. */
static void come_and_go(unsigned rounds) {
    uint64_t state = 7;
    uint8_t bytes[400] = {0};
    for (unsigned i = 0; i < rounds; i++) {
        raw_peer *peers[PEERS];
        for (unsigned p = 0; p < PEERS; p++) {
            peers[p] = connect_or_be_cut();
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
    server_stage_init(&stage);
    stage.options.workers = workers;
    stage.options.drain_timeout_ms = 500;
    stage.options.queue_packets = 5000;
    stage.on_joined = remember;
    stage.on_left = forget;
    stage.on_message = only_the_living;
    atomic_store(&over, false);
    server_stage_open(&stage);
    tp_thread threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(
            tp_thread_start(&threads[i], "disturb", disturb, (void *)(uintptr_t)(i + 1)) == TP_OK);
    }
    come_and_go(rounds);
    /* The stop races with all of them, too. */
    tp_server_stop(stage.server);
    CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
    atomic_store(&over, true);
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK_EQ(atomic_load(&stage.joins), atomic_load(&stage.leaves));
    CHECK_EQ(tp_server_session_count(stage.server), 0);
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.server, &stats);
    CHECK_EQ(stats.joined, stats.left);
    printf("    %u workers: %u sessions, %llu sends, %llu taken\n", workers,
        atomic_load(&stage.joins), atomic_load(&sends), atomic_load(&taken));
    tp_server_destroy(stage.server);
}

static void with_one_worker(void) {
    run_with(1, 200);
}

static void with_four_workers(void) {
    run_with(4, 200);
}

/* ---- one packet, kept by the test and sent by several threads at once ------------------------ */

#define KEPT_SENDS 20000u /* of each thread */

static void send_kept(void *argument) {
    for (unsigned taken_here = 0; taken_here < KEPT_SENDS;) {
        if (tp_server_send(stage.server, atomic_load(&stage.last_joined), argument)) {
            taken_here++;
        } else {
            tp_thread_yield(); /* the queue is full */
        }
    }
}

static void a_kept_packet_is_sent_by_two_threads(void) {
    tp_thread threads[2];
    server_stage_init(&stage);
    stage.options.queue_packets = 2; /* so that its references often are the test's alone */
    stage.options.queue_policy = TP_QUEUE_REFUSE;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    tp_packet *kept = tp_packet_copy_of("kept", 4);
    REQUIRE(kept != NULL);
    /* The first send is one thread's. */
    CHECK(tp_server_send(stage.server, atomic_load(&stage.last_joined), kept));
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
    server_stage_close(&stage);
}

CHECK_MAIN(
    CASE(with_one_worker), CASE(with_four_workers), CASE(a_kept_packet_is_sent_by_two_threads))
