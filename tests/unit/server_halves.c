/*
 * Frames of which a part has come: while the rest is waited for they cost their own size, whatever
 * else the worker that serves them receives meanwhile.
 */
#include "memory_stage.h"
#include "server_stage.h"

static server_stage stage;
static uint8_t in[70000];

static void talk(server_stage *on, tp_session_id session, tp_packet *packet) {
    (void)on, (void)session, (void)packet;
    talk_to_others();
}

static uint64_t received_bytes(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.server, &stats);
    return stats.received_bytes;
}

/* Half a frame of each of PEERS peers, and between them a message that leads to other packets. */
static void check_halves(size_t size) {
    enum { PEERS = 200 };
    static raw_peer *peers[PEERS];
    static uint8_t frame[TP_FRAME_HEADER + 70000];
    forget_all_memory();
    server_stage_init(&stage);
    stage.on_message = talk;
    server_stage_open(&stage);
    raw_peer *talker = stage_connect_peer(&stage);
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = stage_connect_peer(&stage);
    }
    STAGE_WAIT(atomic_load(&stage.joins) == PEERS + 1);
    tp_frame_write(frame, TP_FRAME_DATA, (uint32_t)size);
    memset(frame + TP_FRAME_HEADER, 0x5a, size);
    uint64_t before = tp__memory_held();
    size_t half = TP_FRAME_HEADER + size / 2;
    for (unsigned i = 0; i < PEERS; i++) {
        uint64_t received = received_bytes();
        REQUIRE(raw_send(peers[i], frame, half));
        STAGE_WAIT(received_bytes() == received + half);
        REQUIRE(raw_send_frame(talker, TP_FRAME_DATA, "t", 1));
        STAGE_WAIT(atomic_load(&stage.messages) == i + 1);
    }
    printf("  half of %u bytes, %u times:\n", (unsigned)size, PEERS);
    check_bound("held", before, tp__memory_held(), PEERS * (uint64_t)size, 4);
    stage.on_message = NULL;
    for (unsigned i = 0; i < PEERS; i++) {
        unsigned type = 99;
        CHECK(raw_send(peers[i], frame + half, TP_FRAME_HEADER + size - half));
        CHECK_EQ(raw_receive_frame(peers[i], &type, in, sizeof in), size);
        CHECK_MEM(in, frame + TP_FRAME_HEADER, size);
        raw_close(peers[i], false);
    }
    raw_close(talker, false);
    server_stage_close(&stage);
}

static void of_100_bytes(void) {
    check_halves(100);
}

static void of_1_kib(void) {
    check_halves(1024);
}

static void of_16_kib(void) {
    check_halves(16384);
}

static void of_60_kib(void) {
    check_halves(60000);
}

CHECK_MAIN(CASE(of_100_bytes), CASE(of_1_kib), CASE(of_16_kib), CASE(of_60_kib))
