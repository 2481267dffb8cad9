/*
 * What waits on the WAN costs about its own size: HELLOs and records of which a part has come, and
 * what is queued for a player who does not read.
 */
#include "core/session/compact.h"
#include "memory_stage.h"
#include "wan_stage.h"

static wan_stage stage;
static uint8_t in[70000];

static void talk(server_stage *on, tp_session_id session, tp_packet *packet) {
    (void)on, (void)session, (void)packet;
    talk_to_others();
}

/* With a player whose messages lead to other packets. */
static wan_peer *open_stage(tp_auth auth) {
    forget_all_memory();
    wan_stage_init(&stage, auth);
    stage.options.server.queue_bytes = (size_t)4 << 20;
    stage.options.server.queue_packets = 1000000;
    stage.options.server.queue_policy = TP_QUEUE_REFUSE;
    stage.base.on_message = talk;
    wan_stage_open(&stage);
    return wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 1);
}

static uint64_t received_bytes(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.base.server, &stats);
    return stats.received_bytes;
}

static void send_and_talk(raw_peer *peer, const void *bytes, size_t count, wan_peer *talker) {
    uint64_t received = received_bytes();
    REQUIRE(raw_send(peer, bytes, count));
    STAGE_WAIT(received_bytes() == received + count);
    unsigned messages = atomic_load(&stage.base.messages);
    REQUIRE(wan_send_frame(talker, TP_FRAME_DATA, "t", 1));
    STAGE_WAIT(atomic_load(&stage.base.messages) == messages + 1);
}

static void half_hellos(void) {
    enum { PEERS = 100 };
    wan_peer *peers[PEERS];
    wan_peer *talker = open_stage(TP_AUTH_TOKEN);
    for (unsigned i = 0; i < PEERS; i++) {
        const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 10 + i);
        peers[i] = wan_stage_connect(&stage, &login);
    }
    uint64_t before = tp__memory_held();
    for (unsigned i = 0; i < PEERS; i++) {
        send_and_talk(peers[i]->raw, peers[i]->hello, 100, talker);
    }
    check_bound("held", before, tp__memory_held(), PEERS * (uint64_t)TP_HELLO_MAX, 4);
    for (unsigned i = 0; i < PEERS; i++) {
        CHECK(raw_send(peers[i]->raw, peers[i]->hello + 100, peers[i]->hello_size - 100));
        CHECK(wan_take_reply(peers[i]));
        wan_close(peers[i], true);
    }
    wan_close(talker, false);
    wan_stage_close(&stage);
}

static void check_half_records(size_t size) {
    enum { PEERS = 100 };
    static uint8_t frame[TP_FRAME_HEADER + 16000];
    static uint8_t records[PEERS][WAN_SEALED(sizeof frame)];
    wan_peer *peers[PEERS];
    wan_peer *talker = open_stage(TP_AUTH_OPEN);
    size_t bytes = WAN_SEALED(TP_FRAME_HEADER + size);
    tp_frame_write(frame, TP_FRAME_DATA, (uint32_t)size);
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 10 + i);
        wan_seal(peers[i], frame, TP_FRAME_HEADER + size, records[i]);
    }
    STAGE_WAIT(atomic_load(&stage.base.joins) == PEERS + 1);
    uint64_t before = tp__memory_held();
    for (unsigned i = 0; i < PEERS; i++) {
        send_and_talk(peers[i]->raw, records[i], bytes / 2, talker);
    }
    printf("  records of %u bytes:\n", (unsigned)bytes);
    check_bound("held", before, tp__memory_held(), PEERS * (uint64_t)bytes, 4);
    unsigned messages = atomic_load(&stage.base.messages);
    for (unsigned i = 0; i < PEERS; i++) {
        CHECK(raw_send(peers[i]->raw, records[i] + bytes / 2, bytes - bytes / 2));
    }
    STAGE_WAIT(atomic_load(&stage.base.messages) == messages + PEERS);
    for (unsigned i = 0; i < PEERS; i++) {
        wan_close(peers[i], true);
    }
    wan_close(talker, false);
    wan_stage_close(&stage);
}

static void half_records(void) {
    check_half_records(100);
    check_half_records(3000);
    check_half_records(15000);
}

/* ---- a player who does not read -------------------------------------------------------------- */

static void say(tp_session_id id, uint32_t number, size_t size) {
    tp_packet *packet = tp_packet_new(size);
    REQUIRE(packet != NULL);
    tp_packet_put_u32(packet, number);
    memset(tp_packet_put_space(packet, size - 4), (int)(number & 0xff), size - 4);
    REQUIRE(tp_server_send(stage.base.server, id, packet));
    tp_packet_release(packet);
}

/* With what is sealed and on its way: a record that was begun goes on in a run. */
static void check_slow_player(size_t size) {
    wan_peer *talker = open_stage(TP_AUTH_OPEN);
    wan_peer *slow = wan_stage_join(&stage, TP_SUITE_CHACHA20_POLY1305, 2);
    STAGE_WAIT(atomic_load(&stage.base.joins) == 2);
    tp_session_id id = atomic_load(&stage.base.last_joined);
    uint32_t said = 0;
    while (queued_bytes(stage.base.server, id) < 200 * KIB) {
        say(id, said++, 5000);
        if (said % 16 == 0) {
            uint64_t rests = tp_clock_ms() + 2;
            STAGE_WAIT(queued_bytes(stage.base.server, id) == 0 || tp_clock_ms() > rests);
        }
        if (queued_bytes(stage.base.server, id) >= 200 * KIB) {
            /* It stands, or its worker was held up: then it is filled on. */
            (void)settle(stage.base.server, id);
            uint64_t rests = tp_clock_ms() + 200;
            STAGE_WAIT(tp_clock_ms() >= rests);
        }
    }
    uint32_t filled = said;
    uint64_t queued = queued_bytes(stage.base.server, id);
    uint64_t before = tp__memory_held();
    while (queued_bytes(stage.base.server, id) < queued + 600 * KIB) {
        say(id, said++, size);
        talk_to_others();
    }
    printf("  %u bytes each:\n", (unsigned)size);
    unsigned spare = settle(stage.base.server, id);
    queued = queued_bytes(stage.base.server, id) - queued;
    check_bound("held", before, tp__memory_held(), queued, 1 + spare);
    for (uint32_t n = 0; n < said; n++) {
        unsigned type = 99;
        long length = wan_receive_frame(slow, &type, in, sizeof in);
        REQUIRE(length == (long)(n < filled ? 5000 : size) && type == TP_FRAME_DATA);
        REQUIRE((in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16) == n);
        REQUIRE(in[length - 1] == (length > 4 ? (n & 0xff) : in[3]));
    }
    STAGE_WAIT(tp__queue_size_now(&session_at(stage.base.server, id)->queued) == 0);
    STAGE_WAIT(atomic_load(&stage.base.sends) == said);
    wan_close(slow, false);
    wan_close(talker, false);
    wan_stage_close(&stage);
}

static void a_slow_player(void) {
    check_slow_player(4);
    check_slow_player(64);
    check_slow_player(1024);
    check_slow_player(16384);
}

CHECK_MAIN(CASE(half_hellos), CASE(half_records), CASE(a_slow_player))
