/*
 * memory_limit: above it, sessions are ended one after another, the one with the largest queue
 * first. Queues are filled by peers that do not read.
 */
#include "memory_fixture.h"
#include "server_fixture.h"

#define READERS 5u
#define LIMIT   ((uint64_t)24 << 20)
#define MIB     ((uint64_t)1 << 20)

static server_fixture fixture;
static raw_peer *peers[READERS];
static tp_session_id ids[READERS];
static tp_session_id ended[READERS];
static atomic_uint ends;

static void note_end(server_fixture *on, tp_session_id session, tp_end_reason reason) {
    (void)on;
    if (reason == TP_END_OVERLOAD) {
        ended[atomic_load(&ends)] = session;
        atomic_fetch_add(&ends, 1);
    }
}

static void open_with(uint64_t limit) {
    trim_all_memory();
    server_fixture_init(&fixture);
    fixture.options.workers = 2;
    fixture.options.queue_bytes = (size_t)256 << 20;
    fixture.options.queue_packets = 10000000;
    fixture.options.memory_limit = limit;
    fixture.on_left = note_end;
    atomic_store(&fixture.echo, false);
    atomic_store(&ends, 0);
    server_fixture_open(&fixture);
    for (unsigned i = 0; i < READERS; i++) {
        peers[i] = fixture_connect_peer(&fixture);
        FIXTURE_WAIT(atomic_load(&fixture.joins) == i + 1);
        ids[i] = atomic_load(&fixture.last_joined);
    }
}

static bool send_message(tp_session_id id) {
    tp_packet *packet = tp_packet_new(10000);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, 10000) != NULL);
    bool sent = tp_server_send(fixture.server, id, packet);
    tp_packet_release(packet);
    return sent;
}

/* What the system takes immediately does not count: sends until `bytes` stay queued. */
static void fill(tp_session_id id, uint64_t bytes) {
    while (queued_bytes(fixture.server, id) < bytes) {
        while (queued_bytes(fixture.server, id) < bytes) {
            REQUIRE(send_message(id));
        }
        uint64_t rests = tp_clock_ms() + 100;
        FIXTURE_WAIT(tp_clock_ms() >= rests);
    }
}

static tp_server_stats stats_now(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.server, &stats);
    return stats;
}

static void close_all(void) {
    for (unsigned i = 0; i < READERS; i++) {
        raw_close(peers[i], true);
    }
    server_fixture_close(&fixture);
}

/* 8, 1, 4, 1 and 5 MiB are 19 MiB, which leaves 5 MiB for what is on its way through the worker.
 * The second one's queue then grows, by 6 MiB at most. */
static void the_session_with_the_largest_queue_is_ended_first(void) {
    static const uint64_t first[READERS] = {8, 1, 4, 1, 5};
    open_with(LIMIT);
    for (unsigned i = 0; i < READERS; i++) {
        fill(ids[i], first[i] * MIB);
    }
    CHECK_EQ(atomic_load(&ends), 0);
    for (unsigned i = 0; i < 4000 && atomic_load(&ends) == 0; i++) {
        REQUIRE(send_message(ids[1]) || atomic_load(&ends) > 0);
        if (queued_bytes(fixture.server, ids[1]) > 7 * MIB) {
            break;
        }
    }
    FIXTURE_WAIT(atomic_load(&ends) >= 1);
    CHECK_EQ(ended[0], ids[0]);
    FIXTURE_WAIT(tp__memory_held() <= LIMIT);
    CHECK_EQ(stats_now().memory_ended, atomic_load(&ends));
    CHECK_EQ(stats_now().ends[TP_END_OVERLOAD], atomic_load(&ends));
    CHECK_LE(stats_now().memory_held, LIMIT);
    CHECK_EQ(atomic_load(&ends), 1);
    close_all();
}

/* One ended session at a time: the next one is ended only if the memory of the one before was not
 * enough. */
static void sessions_are_ended_one_after_another(void) {
    open_with(LIMIT);
    for (unsigned i = 0; i < READERS; i++) {
        fill(ids[i], (i == 3 ? 6 : 3) * MIB);
    }
    for (unsigned i = 0; i < READERS; i++) {
        if (i != 3) { /* far above the limit: each of them in the end */
            while (send_message(ids[i]) && queued_bytes(fixture.server, ids[i]) < 30 * MIB) {
            }
        }
    }
    FIXTURE_WAIT(tp__memory_held() <= LIMIT);
    unsigned count = atomic_load(&ends);
    CHECK(count >= 4 && count <= READERS);
    CHECK_EQ(stats_now().memory_ended, count);
    close_all();
}

static void without_a_limit_no_session_is_ended(void) {
    open_with(0);
    fill(ids[0], 40 * MIB);
    CHECK_EQ(atomic_load(&ends), 0);
    CHECK_GE(stats_now().memory_held, 40 * MIB);
    close_all();
}

static void refuse(uint64_t limit, size_t reserve) {
    server_fixture_init(&fixture);
    fixture.options.memory_limit = limit;
    fixture.options.reserve_bytes = reserve;
    tp_server *server = NULL;
    CHECK_EQ(tp_server_create(&fixture.options, &fixture.handlers, &server), TP_ERR_INVALID);
    CHECK(server == NULL);
}

static void invalid_limits_are_refused(void) {
    refuse(1000, 0);
    refuse(((uint64_t)1 << 40) + 1, 0);
    refuse(2 * MIB, (size_t)3 << 20);
}

CHECK_MAIN(CASE(the_session_with_the_largest_queue_is_ended_first),
    CASE(sessions_are_ended_one_after_another), CASE(without_a_limit_no_session_is_ended),
    CASE(invalid_limits_are_refused))
