/* A peer that does not read: its queue is bounded, and the others do not notice. */
#include "core/engine/server_state.h"
#include "server_stage.h"

static server_stage stage;

#define PACKET_SIZE 60000u
#define LIMIT       (1u << 20)

/* Sends to `slow` until a send is not taken, or until far more than any system buffers is
 * queued. */
static unsigned flood(tp_session_id slow) {
    unsigned taken = 0;
    for (unsigned i = 0; i < 4000; i++) {
        tp_packet *packet = tp_packet_new(PACKET_SIZE);
        REQUIRE(packet != NULL);
        memset(tp_packet_put_space(packet, PACKET_SIZE), 0x5a, PACKET_SIZE);
        bool sent = tp_server_send(stage.server, slow, packet);
        tp_packet_release(packet);
        if (!sent) {
            break;
        }
        taken++;
    }
    return taken;
}

static tp_session_id slow_id;
static tp_session_id other_id;
static raw_peer *slow_peer;
static raw_peer *other_peer;

static void open_with(tp_queue_policy policy) {
    server_stage_init(&stage);
    stage.options.queue_bytes = LIMIT;
    stage.options.queue_policy = policy;
    server_stage_open(&stage);
    slow_peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    slow_id = atomic_load(&stage.last_joined);
    other_peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 2);
    other_id = atomic_load(&stage.last_joined);
}

static void check_other_is_served(void) {
    char answer[8];
    unsigned type;
    CHECK(raw_send_frame(other_peer, TP_FRAME_DATA, "served", 6));
    CHECK_EQ(raw_receive_frame(other_peer, &type, answer, sizeof answer), 6);
    CHECK_MEM(answer, "served", 6);
}

static void close_all(void) {
    raw_close(slow_peer, true);
    raw_close(other_peer, false);
    server_stage_close(&stage);
}

static void check_bounded(void) {
    tp_session_info info = {.size = sizeof info};
    if (tp_server_session_info(stage.server, slow_id, &info)) {
        CHECK_LE(info.queued_bytes, LIMIT);
    }
}

static void a_slow_consumer_is_disconnected(void) {
    open_with(TP_QUEUE_DISCONNECT);
    CHECK_LT(flood(slow_id), 4000);
    /* What our own worker has not come to yet is only refused: again, until the peer is slow. */
    STAGE_WAIT((flood(slow_id), atomic_load(&stage.leaves) == 1));
    CHECK_EQ(atomic_load(&stage.last_reason), TP_END_OVERLOAD);
    tp_session_end end = {.size = sizeof end};
    CHECK_EQ(tp_server_read_ledger(stage.server, &end, 1), 1);
    CHECK_EQ(end.session, slow_id);
    CHECK_EQ(end.reason, TP_END_OVERLOAD);
    CHECK_GT(end.pending_packets, 0);
    CHECK_LE(end.pending_bytes, (uint64_t)TP_QUEUE_STALL_FACTOR * LIMIT);
    check_other_is_served();
    close_all();
}

static void new_packets_are_dropped(void) {
    open_with(TP_QUEUE_DROP);
    CHECK_EQ(flood(slow_id), 4000);
    check_bounded();
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.server, &stats);
    CHECK_GT(stats.dropped, 0);
    tp_packet *packet = tp_packet_new(PACKET_SIZE);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, PACKET_SIZE) != NULL);
    CHECK(tp_server_send(stage.server, slow_id, packet));
    /* No queue takes it: soon, for a worker that was held up may only now make some room. */
    STAGE_WAIT(tp_server_send_many(stage.server, &slow_id, 1, packet) == 0);
    STAGE_WAIT(tp_server_broadcast(stage.server, packet, other_id) == 0);
    tp_packet_release(packet);
    CHECK_EQ(atomic_load(&stage.leaves), 0);
    check_other_is_served();
    close_all();
}

static void sends_are_refused(void) {
    open_with(TP_QUEUE_REFUSE);
    CHECK_LT(flood(slow_id), 4000);
    check_bounded();
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(stage.server, &stats);
    CHECK_EQ(stats.refused, 1);
    check_other_is_served();

    /* It reads after all: the queue empties and takes again. */
    static uint8_t payload[PACKET_SIZE];
    unsigned type;
    bool takes_again = false;
    for (unsigned i = 0; i < 4000 && !takes_again; i++) {
        REQUIRE(raw_receive_frame(slow_peer, &type, payload, sizeof payload) == PACKET_SIZE);
        takes_again = flood(slow_id) > 0;
    }
    CHECK(takes_again);
    close_all();
}

static void the_number_of_packets_is_bounded_too(void) {
    server_stage_init(&stage);
    stage.options.queue_packets = 1000;
    stage.options.queue_policy = TP_QUEUE_REFUSE;
    server_stage_open(&stage);
    slow_peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    tp_packet *empty = tp_packet_new(0);
    REQUIRE(empty != NULL);
    unsigned taken = 0;
    for (unsigned i = 0; i < 20000000; i++) { /* frames of 4 bytes: the system takes very many */
        if (!tp_server_send(stage.server, atomic_load(&stage.last_joined), empty)) {
            break;
        }
        taken++;
    }
    CHECK_LT(taken, 20000000);
    tp_session_info info = {.size = sizeof info};
    REQUIRE(tp_server_session_info(stage.server, atomic_load(&stage.last_joined), &info));
    CHECK_LE(info.queued_packets, 1000);
    tp_packet_release(empty);
    raw_close(slow_peer, true);
    server_stage_close(&stage);
}

static tp__queue_size *queue_size_of(tp_session_id id) {
    return &stage.server->sessions[tp_session_slot(id)].queued;
}

static uint64_t queued_of(tp_session_id id) {
    return tp__queue_size_now(queue_size_of(id));
}

/* As if so much were queued, by another thread. */
static void set_queued(tp_session_id id, uint64_t queued) {
    tp__queue_size_take_off(queue_size_of(id), queued_of(id) - queued);
}

/* The largest number of packets that may be asked for still is a limit. */
static void the_largest_limit_holds(void) {
    server_stage_init(&stage);
    stage.options.queue_packets = 0xFFFFFF;
    stage.options.queue_policy = TP_QUEUE_REFUSE;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    tp_session_id id = atomic_load(&stage.last_joined);
    set_queued(id, 0xFFFFFF * TP__QUEUED_ONE);
    tp_packet *packet = tp_packet_new(0);
    REQUIRE(packet != NULL);
    CHECK(!tp_server_send(stage.server, id, packet));
    CHECK_EQ(queued_of(id), 0xFFFFFF * TP__QUEUED_ONE);
    set_queued(id, 0);
    CHECK(tp_server_send(stage.server, id, packet));
    STAGE_WAIT(queued_of(id) == 0);
    tp_packet_release(packet);
    raw_close(peer, false);
    server_stage_close(&stage);
}

static bool send_of_size(tp_session_id id, size_t size) {
    tp_packet *packet = tp_packet_new(size);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, size) != NULL);
    bool sent = tp_server_send(stage.server, id, packet);
    tp_packet_release(packet);
    return sent;
}

/* A packet larger than the whole limit is sent alone, whatever happens to what is too much. */
static void an_empty_queue_takes_any_packet(void) {
    static const tp_queue_policy policies[] = {TP_QUEUE_REFUSE, TP_QUEUE_DROP, TP_QUEUE_DISCONNECT};
    static uint8_t payload[PACKET_SIZE];
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        server_stage_init(&stage);
        stage.options.queue_bytes = 1024;
        stage.options.queue_policy = policies[i];
        server_stage_open(&stage);
        raw_peer *peer = stage_connect_peer(&stage);
        STAGE_WAIT(atomic_load(&stage.joins) == 1);
        tp_session_id id = atomic_load(&stage.last_joined);
        for (unsigned turn = 0; turn < 3; turn++) {
            unsigned type;
            REQUIRE(send_of_size(id, PACKET_SIZE));
            REQUIRE(raw_receive_frame(peer, &type, payload, sizeof payload) == PACKET_SIZE);
            STAGE_WAIT(queued_of(id) == 0);
        }
        CHECK_EQ(atomic_load(&stage.leaves), 0);
        tp_server_stats stats = {.size = sizeof stats};
        tp_server_get_stats(stage.server, &stats);
        CHECK_EQ(stats.refused + stats.dropped, 0);
        raw_close(peer, false);
        server_stage_close(&stage);
    }
}

/* ... and only alone: neither behind another one, nor another one behind it. */
static void a_large_packet_is_the_only_one(void) {
    server_stage_init(&stage);
    stage.options.queue_bytes = 1024;
    stage.options.queue_policy = TP_QUEUE_REFUSE;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    tp_session_id id = atomic_load(&stage.last_joined);
    const uint64_t small = TP__QUEUED_ONE | 4;
    const uint64_t large = TP__QUEUED_ONE | (PACKET_SIZE + 4);
    set_queued(id, small);
    CHECK(!send_of_size(id, 1021));
    CHECK_EQ(queued_of(id), small);
    set_queued(id, large);
    CHECK(!send_of_size(id, PACKET_SIZE));
    CHECK(!send_of_size(id, 0));
    CHECK_EQ(queued_of(id), large);
    set_queued(id, 0);
    CHECK(send_of_size(id, 1021));
    raw_close(peer, false);
    server_stage_close(&stage);
}

CHECK_MAIN(CASE(a_slow_consumer_is_disconnected), CASE(new_packets_are_dropped),
    CASE(sends_are_refused), CASE(the_number_of_packets_is_bounded_too),
    CASE(the_largest_limit_holds), CASE(an_empty_queue_takes_any_packet),
    CASE(a_large_packet_is_the_only_one))
