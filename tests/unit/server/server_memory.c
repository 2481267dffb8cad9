/*
 * Memory that runs out at each allocation of a server's and a session's life: an error is reported,
 * what was begun is undone, and the server goes on.
 */
#include "server_fixture.h"

#include "core/engine/server_state.h"
#include "core/memory/memory.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"

static server_fixture fixture;
static uint8_t in[40000];

/* Each case makes the first allocation fail, then only the second, ... until the attempt needs
 * fewer. */
#define MOST_ALLOCATIONS 200

static uint64_t armed_at;

static void let_fail(long n) {
    armed_at = tp__memory_allocations();
    tp__memory_fail_after(n);
}

/* Whether the n-th allocation was asked for, and so failed. */
static bool did_fail(long n) {
    tp__memory_fail_after(-1);
    return tp__memory_allocations() - armed_at >= (uint64_t)n;
}

/* create and start either work or return TP_ERR_NO_MEMORY, and the next attempt works. */
static void create_and_start_survive_a_failed_allocation(void) {
    unsigned failures = 0;
    for (long n = 1; n < MOST_ALLOCATIONS; n++) {
        server_fixture_init(&fixture);
        let_fail(n);
        tp_err error = tp_server_create(&fixture.options, &fixture.handlers, &fixture.server);
        if (!error) {
            error = tp_server_start(fixture.server);
        }
        bool failed_once = did_fail(n);
        CHECK(error == TP_OK || error == TP_ERR_NO_MEMORY);
        failures += error != TP_OK;
        if (error && fixture.server) {
            CHECK_EQ(tp_server_start(fixture.server), TP_OK);
        }
        tp_server_destroy(fixture.server);
        if (!failed_once) {
            CHECK_EQ(error, TP_OK);
            CHECK_GT(failures, 3);
            return;
        }
    }
    FAIL("more allocations than expected");
}

/* One echo of a large frame in pieces, with a session of its own. True: the whole answer
 * arrived. */
static bool echo_once(void) {
    static uint8_t frame[TP_FRAME_HEADER + 30000];
    tp_frame_write(frame, TP_FRAME_DATA, 30000);
    tp_address address = tp_server_address(fixture.server);
    raw_peer *peer = raw_connect(&address);
    if (!peer) {
        return false;
    }
    unsigned type = 99;
    bool answered = raw_send(peer, frame, 1000) &&
                    raw_send(peer, frame + 1000, sizeof frame - 1000) &&
                    raw_receive_frame(peer, &type, in, sizeof in) == 30000 && type == TP_FRAME_DATA;
    raw_close(peer, false);
    return answered;
}

/* Gives all spare memory back, so that the next session allocates as a new server's first one
 * does. */
static void trim_all_memory(void) {
    REQUIRE(tp__pools_open() == TP_OK);
    tp__packets_trim();
    tp_pool_trim(tp__node_pool());
    tp_pool_trim(tp__send_batch_pool());
}

static void a_session_without_memory_ends_and_the_server_goes_on(void) {
    unsigned ended = 0;
    for (long n = 1; n < MOST_ALLOCATIONS; n++) {
        server_fixture_init(&fixture);
        trim_all_memory();
        server_fixture_open(&fixture);
        let_fail(n);
        bool answered = echo_once();
        bool failed_once = did_fail(n);
        ended += !answered;
        CHECK(echo_once()); /* the next session is served */
        FIXTURE_WAIT(atomic_load(&fixture.server->slots_used) == 0);
        tp_server_stats stats = {.size = sizeof stats};
        tp_server_get_stats(fixture.server, &stats);
        if (!answered) {
            CHECK_GE(stats.no_memory, 1);
            CHECK_GE(stats.errors, 1);
            CHECK_EQ(stats.ends[TP_END_NO_MEMORY], 1);
        }
        server_fixture_close(&fixture);
        if (!failed_once) {
            CHECK(answered);
            CHECK_GE(ended, 1);
            printf(
                "    %ld allocations failed one by one, %u sessions ended by that\n", n - 1, ended);
            return;
        }
    }
    FAIL("more allocations than expected");
}

/* All allocations fail while sessions come and send: all of them end, and none of that is fatal. */
static void exhausted_memory_is_not_fatal(void) {
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    CHECK(echo_once());
    tp__memory_fail_from(1);
    for (unsigned i = 0; i < 20; i++) {
        echo_once();
    }
    tp__memory_fail_from(-1);
    CHECK(echo_once());
    server_fixture_close(&fixture);
}

/* Reserved packets need no further memory, many at a time. */
static void reserved_packets_need_no_memory(void) {
    enum { PACKETS = 2000, SIZE = 1000 };
    static tp_packet *packets[PACKETS];
    server_fixture_init(&fixture);
    fixture.options.reserve_bytes = (size_t)8 << 20;
    server_fixture_open(&fixture);
    tp_packet_release(tp_packet_new(1)); /* this thread's first one */
    uint64_t before = tp__memory_allocations();
    for (unsigned i = 0; i < PACKETS; i++) {
        packets[i] = tp_packet_new(SIZE);
        REQUIRE(packets[i] != NULL);
    }
    CHECK_EQ(tp__memory_allocations(), before);
    for (unsigned i = 0; i < PACKETS; i++) {
        tp_packet_release(packets[i]);
    }
    server_fixture_close(&fixture);
}

/* ---- pools that are empty -------------------------------------------------------------------- */

#define MOST_BLOCKS 100000

static void *blocks[MOST_BLOCKS];

/* Takes all free blocks while the system gives no more; what a new worker's thread asks for then
 * fails. */
static size_t take_all(tp_pool *pool) {
    tp__memory_fail_from(1);
    size_t count = 0;
    while (count < MOST_BLOCKS && (blocks[count] = tp_pool_allocate(pool)) != NULL) {
        count++;
    }
    REQUIRE(count < MOST_BLOCKS);
    return count;
}

static void give_back(tp_pool *pool, size_t count) {
    tp__memory_fail_from(-1);
    for (size_t i = 0; i < count; i++) {
        tp_pool_free(pool, blocks[i]);
    }
}

/* Without nodes the send is refused and the session lives; without send batches the session
 * ends. */
static void check_without(tp_pool *pool, bool session_lives) {
    server_fixture_init(&fixture);
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    /* A first message without an answer, so that the worker has memory for packets and none for
     * sends. */
    atomic_store(&fixture.echo, false);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "w", 1));
    FIXTURE_WAIT(atomic_load(&fixture.messages) == 1);
    atomic_store(&fixture.echo, true);
    size_t count = take_all(pool);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "x", 1));
    if (session_lives) {
        FIXTURE_WAIT(atomic_load(&fixture.messages) == 2);
        give_back(pool, count);
        unsigned type;
        CHECK(raw_send_frame(peer, TP_FRAME_DATA, "yz", 2));
        CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 2);
    } else {
        FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
        CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_NO_MEMORY);
        give_back(pool, count);
    }
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.server, &stats);
    CHECK_GE(stats.no_memory, 1);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

static void without_nodes_a_send_is_refused(void) {
    check_without(tp__node_pool(), true);
}

static void without_send_batches_the_session_ends(void) {
    check_without(tp__send_batch_pool(), false);
}

/* The sessions first, while no pool of the process has spare blocks. */
CHECK_MAIN(CASE(a_session_without_memory_ends_and_the_server_goes_on),
    CASE(create_and_start_survive_a_failed_allocation), CASE(exhausted_memory_is_not_fatal),
    CASE(reserved_packets_need_no_memory), CASE(without_nodes_a_send_is_refused),
    CASE(without_send_batches_the_session_ends))
