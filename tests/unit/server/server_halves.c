/*
 * Incomplete frames: while the rest is missing they take memory of about their own size, whatever
 * else the worker receives meanwhile.
 */
#include "memory_fixture.h"
#include "server_fixture.h"

static server_fixture fixture;
static uint8_t in[70000];

static void use_up_a_chunk_of_the_worker(
    server_fixture *on, tp_session_id session, tp_packet *packet) {
    (void)on, (void)session, (void)packet;
    use_up_a_chunk_for_others();
}

static uint64_t received_bytes(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.server, &stats);
    return stats.received_bytes;
}

/* Half a frame from each of PEERS peers, and in between a message that makes the worker allocate
 * other packets. */
static void check_halves(size_t size) {
    enum { PEERS = 200 };
    static raw_peer *peers[PEERS];
    static uint8_t frame[TP_FRAME_HEADER + 70000];
    trim_all_memory();
    server_fixture_init(&fixture);
    fixture.on_message = use_up_a_chunk_of_the_worker;
    server_fixture_open(&fixture);
    raw_peer *talker = fixture_connect_peer(&fixture);
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = fixture_connect_peer(&fixture);
    }
    FIXTURE_WAIT(atomic_load(&fixture.joins) == PEERS + 1);
    tp_frame_write(frame, TP_FRAME_DATA, (uint32_t)size);
    memset(frame + TP_FRAME_HEADER, 0x5a, size);
    uint64_t before = tp__memory_held();
    size_t half = TP_FRAME_HEADER + size / 2;
    for (unsigned i = 0; i < PEERS; i++) {
        uint64_t received = received_bytes();
        REQUIRE(raw_send(peers[i], frame, half));
        FIXTURE_WAIT(received_bytes() == received + half);
        REQUIRE(raw_send_frame(talker, TP_FRAME_DATA, "t", 1));
        FIXTURE_WAIT(atomic_load(&fixture.messages) == i + 1);
    }
    printf("  half of %u bytes, %u times:\n", (unsigned)size, PEERS);
    check_bound("held", before, tp__memory_held(), PEERS * (uint64_t)size, 4);
    fixture.on_message = NULL;
    for (unsigned i = 0; i < PEERS; i++) {
        unsigned type = 99;
        CHECK(raw_send(peers[i], frame + half, TP_FRAME_HEADER + size - half));
        CHECK_EQ(raw_receive_frame(peers[i], &type, in, sizeof in), size);
        CHECK_MEM(in, frame + TP_FRAME_HEADER, size);
        raw_close(peers[i], false);
    }
    raw_close(talker, false);
    server_fixture_close(&fixture);
}

static void halves_of_100_bytes_take_little_memory(void) {
    check_halves(100);
}

static void halves_of_1_kib_take_little_memory(void) {
    check_halves(1024);
}

static void halves_of_16_kib_take_little_memory(void) {
    check_halves(16384);
}

static void halves_of_60_kib_take_little_memory(void) {
    check_halves(60000);
}

CHECK_MAIN(CASE(halves_of_100_bytes_take_little_memory), CASE(halves_of_1_kib_take_little_memory),
    CASE(halves_of_16_kib_take_little_memory), CASE(halves_of_60_kib_take_little_memory))
