/*
 * A server gives memory back by itself when it is not needed any more, and does not when it is.
 */
#include "core/memory/large.h"
#include "memory_stage.h"
#include "server_stage.h"

static server_stage stage;

#define SPARE ((uint64_t)8 << 20) /* what may stay, of all */
#define BURST ((uint64_t)48 << 20)

static void open_stage(void) {
    forget_all_memory();
    server_stage_init(&stage);
    stage.options.workers = 2;
    stage.options.queue_bytes = (size_t)256 << 20;
    stage.options.queue_packets = 10000000;
    atomic_store(&stage.echo, false);
    server_stage_open(&stage);
}

/* Until it holds no more than this; what it took is printed, and held against two seconds by the
 * system's tests, on the programs. */
static void wait_until_back(uint64_t before, uint64_t most) {
    uint64_t since = tp_clock_ms();
    STAGE_WAIT(tp__memory_held() <= before + most);
    printf("    back to %u KiB beyond the start after %u ms\n",
        (unsigned)((tp__memory_held() - before) / KIB), (unsigned)(tp_clock_ms() - since));
}

/* A reader that stands: its queue is 48 MiB, until it goes. */
static void check_goes(size_t size) {
    open_stage();
    uint64_t before = tp__memory_held();
    uint64_t resident_before = resident_bytes();
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    tp_session_id id = atomic_load(&stage.last_joined);
    while (queued_bytes(stage.server, id) < BURST) {
        tp_packet *packet = tp_packet_new(size);
        REQUIRE(packet != NULL && tp_packet_put_space(packet, size) != NULL);
        REQUIRE(tp_server_send(stage.server, id, packet));
        tp_packet_release(packet);
    }
    CHECK_GE(tp__memory_held() - before, BURST);
    CHECK(tp_server_disconnect(stage.server, id));
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    printf("  %u bytes each:\n", (unsigned)size);
    wait_until_back(before, SPARE);
    if (resident_before > 0) {
        STAGE_WAIT(resident_bytes() <= resident_before + SPARE);
    }
    raw_close(peer, true);
    server_stage_close(&stage);
}

static void after_a_reader_that_stood(void) {
    check_goes(1000);
    check_goes(16000);
    check_goes(100000);
}

/* Packets that many were alive of at once: chunks, on the thread of the worker. */
static void make_many(server_stage *on, tp_session_id session, tp_packet *packet) {
    enum { MANY = 3000 };
    static tp_packet *packets[MANY];
    (void)on, (void)session, (void)packet;
    for (unsigned i = 0; i < MANY; i++) {
        packets[i] = tp_packet_new(15000);
        REQUIRE(packets[i] != NULL);
    }
    for (unsigned i = 0; i < MANY; i++) {
        tp_packet_release(packets[i]);
    }
}

static void after_a_handler_that_made_many_packets(void) {
    open_stage();
    stage.on_message = make_many;
    uint64_t before = tp__memory_held();
    raw_peer *peer = stage_connect_peer(&stage);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "m", 1));
    STAGE_WAIT(atomic_load(&stage.messages) == 1);
    wait_until_back(before, SPARE);
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* The same again and again, ten times in a look's time: nothing is allocated for it any more. */
static void what_is_in_use_stays(void) {
    open_stage();
    stage.on_message = make_many;
    raw_peer *peer = stage_connect_peer(&stage);
    uint64_t allocations = 0;
    unsigned rounds = 0;
    for (uint64_t since = tp_clock_ms(); tp_clock_ms() < since + 2500;) {
        CHECK(raw_send_frame(peer, TP_FRAME_DATA, "m", 1));
        rounds++;
        STAGE_WAIT(atomic_load(&stage.messages) == rounds);
        if (rounds == 1) {
            allocations = tp__memory_allocations();
        }
        uint64_t next = tp_clock_ms() + 25;
        STAGE_WAIT(tp_clock_ms() >= next);
    }
    printf("    %u rounds, %u allocations after the first\n", rounds,
        (unsigned)(tp__memory_allocations() - allocations));
    /* A machine that stands still for half a second is idle for half a second. */
    CHECK_LE(tp__memory_allocations() - allocations, rounds < 40 ? 3000 : 300);
    raw_close(peer, false);
    server_stage_close(&stage);
}

CHECK_MAIN(CASE(after_a_reader_that_stood), CASE(after_a_handler_that_made_many_packets),
    CASE(what_is_in_use_stays))
