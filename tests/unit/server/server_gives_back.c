/* A server gives memory back to the system when it no longer needs it, and keeps what is in use. */
#include "core/memory/large.h"
#include "memory_fixture.h"
#include "server_fixture.h"

static server_fixture fixture;

#define SPARE ((uint64_t)8 << 20) /* what may stay in all */
#define BURST ((uint64_t)48 << 20)

static void open_fixture(void) {
    trim_all_memory();
    server_fixture_init(&fixture);
    fixture.options.workers = 2;
    fixture.options.queue_bytes = (size_t)256 << 20;
    fixture.options.queue_packets = 10000000;
    atomic_store(&fixture.echo, false);
    server_fixture_open(&fixture);
}

/* Waits until at most `most` bytes more than before are held, and prints how long it took. The
 * limit of two seconds is checked by the system tests, on the programs. */
static void wait_until_back(uint64_t before, uint64_t most) {
    uint64_t since = tp_clock_ms();
    FIXTURE_WAIT(tp__memory_held() <= before + most);
    printf("    back to %u KiB beyond the start after %u ms\n",
        (unsigned)((tp__memory_held() - before) / KIB), (unsigned)(tp_clock_ms() - since));
}

/* The queue of a peer that does not read grows to 48 MiB, then the session is ended. */
static void check_queue_memory_is_given_back(size_t size) {
    open_fixture();
    uint64_t before = tp__memory_held();
    uint64_t resident_before = resident_bytes();
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    tp_session_id id = atomic_load(&fixture.last_joined);
    while (queued_bytes(fixture.server, id) < BURST) {
        tp_packet *packet = tp_packet_new(size);
        REQUIRE(packet != NULL && tp_packet_put_space(packet, size) != NULL);
        REQUIRE(tp_server_send(fixture.server, id, packet));
        tp_packet_release(packet);
    }
    CHECK_GE(tp__memory_held() - before, BURST);
    CHECK(tp_server_disconnect(fixture.server, id));
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    printf("  %u bytes each:\n", (unsigned)size);
    wait_until_back(before, SPARE);
    if (resident_before > 0) {
        FIXTURE_WAIT(resident_bytes() <= resident_before + SPARE);
    }
    raw_close(peer, true);
    server_fixture_close(&fixture);
}

static void memory_of_a_full_queue_is_given_back(void) {
    check_queue_memory_is_given_back(1000);
    check_queue_memory_is_given_back(16000);
    check_queue_memory_is_given_back(100000);
}

/* Allocates many packets before it frees the first: chunks, on the worker's thread. */
static void make_many(server_fixture *on, tp_session_id session, tp_packet *packet) {
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

static void memory_of_many_packets_is_given_back(void) {
    open_fixture();
    fixture.on_message = make_many;
    uint64_t before = tp__memory_held();
    raw_peer *peer = fixture_connect_peer(&fixture);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "m", 1));
    FIXTURE_WAIT(atomic_load(&fixture.messages) == 1);
    wait_until_back(before, SPARE);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

/* The same again and again, ten times per trim interval: after the first round nothing is
 * allocated. */
static void memory_in_use_is_kept(void) {
    open_fixture();
    fixture.on_message = make_many;
    raw_peer *peer = fixture_connect_peer(&fixture);
    uint64_t allocations = 0;
    unsigned rounds = 0;
    for (uint64_t since = tp_clock_ms(); tp_clock_ms() < since + 2500;) {
        CHECK(raw_send_frame(peer, TP_FRAME_DATA, "m", 1));
        rounds++;
        FIXTURE_WAIT(atomic_load(&fixture.messages) == rounds);
        if (rounds == 1) {
            allocations = tp__memory_allocations();
        }
        uint64_t next = tp_clock_ms() + 25;
        FIXTURE_WAIT(tp_clock_ms() >= next);
    }
    printf("    %u rounds, %u allocations after the first\n", rounds,
        (unsigned)(tp__memory_allocations() - allocations));
    /* if the machine stalls for half a second, the server is idle for half a second */
    CHECK_LE(tp__memory_allocations() - allocations, rounds < 40 ? 3000 : 300);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

CHECK_MAIN(CASE(memory_of_a_full_queue_is_given_back), CASE(memory_of_many_packets_is_given_back),
    CASE(memory_in_use_is_kept))
