/*
 * Memory of what waits on the WAN: incomplete HELLOs and records, and the queue of a player that
 * does not read, take about their own size.
 */
#include "core/session/compact.h"
#include "memory_fixture.h"
#include "wan_fixture.h"

static wan_fixture fixture;
static uint8_t in[70000];

static void use_up_a_chunk_of_the_worker(
    server_fixture *on, tp_session_id session, tp_packet *packet) {
    (void)on, (void)session, (void)packet;
    use_up_a_chunk_for_others();
}

/* With one player, whose messages make the worker allocate other packets. */
static wan_peer *open_fixture(tp_auth auth) {
    trim_all_memory();
    wan_fixture_init(&fixture, auth);
    fixture.options.server.queue_bytes = (size_t)4 << 20;
    fixture.options.server.queue_packets = 1000000;
    fixture.options.server.queue_policy = TP_QUEUE_REFUSE;
    fixture.base.on_message = use_up_a_chunk_of_the_worker;
    wan_fixture_open(&fixture);
    return wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 1);
}

static uint64_t received_bytes(void) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.base.server, &stats);
    return stats.received_bytes;
}

static void send_and_use_up_a_chunk(
    raw_peer *peer, const void *bytes, size_t count, wan_peer *talker) {
    uint64_t received = received_bytes();
    REQUIRE(raw_send(peer, bytes, count));
    FIXTURE_WAIT(received_bytes() == received + count);
    unsigned messages = atomic_load(&fixture.base.messages);
    REQUIRE(wan_send_frame(talker, TP_FRAME_DATA, "t", 1));
    FIXTURE_WAIT(atomic_load(&fixture.base.messages) == messages + 1);
}

static void incomplete_hellos_take_little_memory(void) {
    enum { PEERS = 100 };
    wan_peer *peers[PEERS];
    wan_peer *talker = open_fixture(TP_AUTH_TOKEN);
    for (unsigned i = 0; i < PEERS; i++) {
        const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 10 + i);
        peers[i] = wan_fixture_connect(&fixture, &login);
    }
    uint64_t before = tp__memory_held();
    for (unsigned i = 0; i < PEERS; i++) {
        send_and_use_up_a_chunk(peers[i]->raw, peers[i]->hello, 100, talker);
    }
    check_bound("held", before, tp__memory_held(), PEERS * (uint64_t)TP_HELLO_MAX, 4);
    for (unsigned i = 0; i < PEERS; i++) {
        CHECK(raw_send(peers[i]->raw, peers[i]->hello + 100, peers[i]->hello_size - 100));
        CHECK(wan_take_reply(peers[i]));
        wan_close(peers[i], true);
    }
    wan_close(talker, false);
    wan_fixture_close(&fixture);
}

static void check_half_records(size_t size) {
    enum { PEERS = 100 };
    static uint8_t frame[TP_FRAME_HEADER + 16000];
    static uint8_t records[PEERS][WAN_SEALED(sizeof frame)];
    wan_peer *peers[PEERS];
    wan_peer *talker = open_fixture(TP_AUTH_OPEN);
    size_t bytes = WAN_SEALED(TP_FRAME_HEADER + size);
    tp_frame_write(frame, TP_FRAME_DATA, (uint32_t)size);
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 10 + i);
        wan_seal(peers[i], frame, TP_FRAME_HEADER + size, records[i]);
    }
    FIXTURE_WAIT(atomic_load(&fixture.base.joins) == PEERS + 1);
    uint64_t before = tp__memory_held();
    for (unsigned i = 0; i < PEERS; i++) {
        send_and_use_up_a_chunk(peers[i]->raw, records[i], bytes / 2, talker);
    }
    printf("  records of %u bytes:\n", (unsigned)bytes);
    check_bound("held", before, tp__memory_held(), PEERS * (uint64_t)bytes, 4);
    unsigned messages = atomic_load(&fixture.base.messages);
    for (unsigned i = 0; i < PEERS; i++) {
        CHECK(raw_send(peers[i]->raw, records[i] + bytes / 2, bytes - bytes / 2));
    }
    FIXTURE_WAIT(atomic_load(&fixture.base.messages) == messages + PEERS);
    for (unsigned i = 0; i < PEERS; i++) {
        wan_close(peers[i], true);
    }
    wan_close(talker, false);
    wan_fixture_close(&fixture);
}

static void incomplete_records_take_little_memory(void) {
    check_half_records(100);
    check_half_records(3000);
    check_half_records(15000);
}

/* ---- a player who does not read -------------------------------------------------------------- */

static void send_numbered(tp_session_id id, uint32_t number, size_t size) {
    tp_packet *packet = tp_packet_new(size);
    REQUIRE(packet != NULL);
    tp_packet_put_u32(packet, number);
    memset(tp_packet_put_space(packet, size - 4), (int)(number & 0xff), size - 4);
    REQUIRE(tp_server_send(fixture.base.server, id, packet));
    tp_packet_release(packet);
}

/* Sealed records in flight are included: a record that was begun is continued in a run. */
static void check_slow_player(size_t size) {
    wan_peer *talker = open_fixture(TP_AUTH_OPEN);
    wan_peer *slow = wan_fixture_join(&fixture, TP_SUITE_CHACHA20_POLY1305, 2);
    FIXTURE_WAIT(atomic_load(&fixture.base.joins) == 2);
    tp_session_id id = atomic_load(&fixture.base.last_joined);
    uint32_t said = 0;
    while (queued_bytes(fixture.base.server, id) < 200 * KIB) {
        send_numbered(id, said++, 5000);
        if (said % 16 == 0) {
            uint64_t rests = tp_clock_ms() + 2;
            FIXTURE_WAIT(queued_bytes(fixture.base.server, id) == 0 || tp_clock_ms() > rests);
        }
        if (queued_bytes(fixture.base.server, id) >= 200 * KIB) {
            /* The queue is full, or its worker stalled: then fill it further. */
            (void)settle(fixture.base.server, id);
            uint64_t rests = tp_clock_ms() + 200;
            FIXTURE_WAIT(tp_clock_ms() >= rests);
        }
    }
    uint32_t filled = said;
    uint64_t queued = queued_bytes(fixture.base.server, id);
    uint64_t before = tp__memory_held();
    while (queued_bytes(fixture.base.server, id) < queued + 600 * KIB) {
        send_numbered(id, said++, size);
        use_up_a_chunk_for_others();
    }
    printf("  %u bytes each:\n", (unsigned)size);
    unsigned spare = settle(fixture.base.server, id);
    queued = queued_bytes(fixture.base.server, id) - queued;
    check_bound("held", before, tp__memory_held(), queued, 1 + spare);
    for (uint32_t n = 0; n < said; n++) {
        unsigned type = 99;
        long length = wan_receive_frame(slow, &type, in, sizeof in);
        REQUIRE(length == (long)(n < filled ? 5000 : size) && type == TP_FRAME_DATA);
        REQUIRE((in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16) == n);
        REQUIRE(in[length - 1] == (length > 4 ? (n & 0xff) : in[3]));
    }
    FIXTURE_WAIT(tp__queue_size_now(&session_at(fixture.base.server, id)->queued) == 0);
    FIXTURE_WAIT(atomic_load(&fixture.base.sends) == said);
    wan_close(slow, false);
    wan_close(talker, false);
    wan_fixture_close(&fixture);
}

static void the_queue_of_a_slow_player_takes_little_memory(void) {
    check_slow_player(4);
    check_slow_player(64);
    check_slow_player(1024);
    check_slow_player(16384);
}

CHECK_MAIN(CASE(incomplete_hellos_take_little_memory), CASE(incomplete_records_take_little_memory),
    CASE(the_queue_of_a_slow_player_takes_little_memory))
