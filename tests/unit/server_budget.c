/*
 * memory_limit: beyond it the session with the largest queue is ended first, one after the other.
 */
#include "memory_stage.h"
#include "server_stage.h"

#define READERS 5u
#define LIMIT   ((uint64_t)24 << 20)
#define MIB     ((uint64_t)1 << 20)

static server_stage stage;
static raw_peer *peers[READERS];
static tp_session_id ids[READERS];
static tp_session_id ended[READERS];
static atomic_uint ends;

static void note_end(server_stage *on, tp_session_id session, tp_end_reason reason) {
    (void)on;
    if (reason == TP_END_OVERLOAD) {
        ended[atomic_load(&ends)] = session;
        atomic_fetch_add(&ends, 1);
    }
}

static void open_with(uint64_t limit) {
    forget_all_memory();
    server_stage_init(&stage);
    stage.options.workers = 2;
    stage.options.queue_bytes = (size_t)256 << 20;
    stage.options.queue_packets = 10000000;
    stage.options.memory_limit = limit;
    stage.on_left = note_end;
    atomic_store(&stage.echo, false);
    atomic_store(&ends, 0);
    server_stage_open(&stage);
    for (unsigned i = 0; i < READERS; i++) {
        peers[i] = stage_connect_peer(&stage);
        STAGE_WAIT(atomic_load(&stage.joins) == i + 1);
        ids[i] = atomic_load(&stage.last_joined);
    }
}

static bool say(tp_session_id id) {
    tp_packet *packet = tp_packet_new(10000);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, 10000) != NULL);
    bool sent = tp_server_send(stage.server, id, packet);
    tp_packet_release(packet);
    return sent;
}

/* What the system takes at once does not count: until so much waits for good. */
static void fill(tp_session_id id, uint64_t bytes) {
    while (queued_bytes(stage.server, id) < bytes) {
        while (queued_bytes(stage.server, id) < bytes) {
            REQUIRE(say(id));
        }
        uint64_t rests = tp_clock_ms() + 100;
        STAGE_WAIT(tp_clock_ms() >= rests);
    }
}

static tp_server_stats stats_now(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.server, &stats);
    return stats;
}

static void close_all(void) {
    for (unsigned i = 0; i < READERS; i++) {
        raw_close(peers[i], true);
    }
    server_stage_close(&stage);
}

/* 8, 2, 4, 1 and 6 MiB are 21; the second's goes on to grow. */
static void the_largest_goes_first(void) {
    static const uint64_t first[READERS] = {8, 2, 4, 1, 6};
    open_with(LIMIT);
    for (unsigned i = 0; i < READERS; i++) {
        fill(ids[i], first[i] * MIB);
    }
    CHECK_EQ(atomic_load(&ends), 0);
    for (unsigned i = 0; i < 4000 && atomic_load(&ends) == 0; i++) {
        REQUIRE(say(ids[1]) || atomic_load(&ends) > 0);
        if (queued_bytes(stage.server, ids[1]) > 7 * MIB) {
            break;
        }
    }
    STAGE_WAIT(atomic_load(&ends) >= 1);
    CHECK_EQ(ended[0], ids[0]);
    STAGE_WAIT(tp__memory_held() <= LIMIT);
    CHECK_EQ(stats_now().memory_ended, atomic_load(&ends));
    CHECK_EQ(stats_now().ends[TP_END_OVERLOAD], atomic_load(&ends));
    CHECK_LE(stats_now().memory_held, LIMIT);
    CHECK_EQ(atomic_load(&ends), 1);
    close_all();
}

/* One that is ended is enough if it is: the next waits until what that one had is back. */
static void one_after_the_other(void) {
    open_with(LIMIT);
    for (unsigned i = 0; i < READERS; i++) {
        fill(ids[i], (i == 3 ? 6 : 3) * MIB);
    }
    for (unsigned i = 0; i < READERS; i++) {
        if (i != 3) { /* far beyond it: each of them, in the end */
            while (say(ids[i]) && queued_bytes(stage.server, ids[i]) < 30 * MIB) {
            }
        }
    }
    STAGE_WAIT(tp__memory_held() <= LIMIT);
    unsigned count = atomic_load(&ends);
    CHECK(count >= 4 && count <= READERS);
    CHECK_EQ(stats_now().memory_ended, count);
    close_all();
}

static void without_a_limit_nobody_is_ended(void) {
    open_with(0);
    fill(ids[0], 40 * MIB);
    CHECK_EQ(atomic_load(&ends), 0);
    CHECK_GE(stats_now().memory_held, 40 * MIB);
    close_all();
}

static void refuse(uint64_t limit, size_t reserve) {
    server_stage_init(&stage);
    stage.options.memory_limit = limit;
    stage.options.reserve_bytes = reserve;
    tp_server *server = NULL;
    CHECK_EQ(tp_server_create(&stage.options, &stage.handlers, &server), TP_ERR_INVALID);
    CHECK(server == NULL);
}

static void limits_that_cannot_be(void) {
    refuse(1000, 0);
    refuse(((uint64_t)1 << 40) + 1, 0);
    refuse(2 * MIB, (size_t)3 << 20);
}

CHECK_MAIN(CASE(the_largest_goes_first), CASE(one_after_the_other),
    CASE(without_a_limit_nobody_is_ended), CASE(limits_that_cannot_be))
