/*
 * A peer that does not read: its queue is bounded under each policy, and other peers are not
 * affected.
 */
#include "core/engine/server_state.h"
#include "server_fixture.h"

static server_fixture fixture;

#define PACKET_SIZE 60000u
#define LIMIT       (1u << 20)

/* Sends to `slow` until a send is refused, or until far more than any system buffers has been sent.
 * Returns how many were accepted. */
static unsigned flood(tp_session_id slow) {
    unsigned taken = 0;
    for (unsigned i = 0; i < 4000; i++) {
        tp_packet *packet = tp_packet_new(PACKET_SIZE);
        REQUIRE(packet != NULL);
        memset(tp_packet_put_space(packet, PACKET_SIZE), 0x5a, PACKET_SIZE);
        bool sent = tp_server_send(fixture.server, slow, packet);
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
    server_fixture_init(&fixture);
    fixture.options.queue_bytes = LIMIT;
    fixture.options.queue_policy = policy;
    server_fixture_open(&fixture);
    slow_peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    slow_id = atomic_load(&fixture.last_joined);
    other_peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 2);
    other_id = atomic_load(&fixture.last_joined);
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
    server_fixture_close(&fixture);
}

static void check_bounded(void) {
    tp_session_info info = {.size = sizeof info};
    if (tp_server_session_info(fixture.server, slow_id, &info)) {
        CHECK_LE(info.queued_bytes, LIMIT);
    }
}

static void a_slow_consumer_is_disconnected(void) {
    open_with(TP_QUEUE_DISCONNECT);
    CHECK_LT(flood(slow_id), 4000);
    /* While the worker itself is behind, sends are only refused: repeat until the peer counts as
     * slow. */
    FIXTURE_WAIT((flood(slow_id), atomic_load(&fixture.leaves) == 1));
    CHECK_EQ(atomic_load(&fixture.last_reason), TP_END_OVERLOAD);
    tp_session_end end = {.size = sizeof end};
    CHECK_EQ(tp_server_read_ledger(fixture.server, &end, 1), 1);
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
    tp_server_get_stats(fixture.server, &stats);
    CHECK_GT(stats.dropped, 0);
    tp_packet *packet = tp_packet_new(PACKET_SIZE);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, PACKET_SIZE) != NULL);
    CHECK(tp_server_send(fixture.server, slow_id, packet));
    /* No queue accepts it in the end; at first a worker that was stalled may still free some
     * space. */
    FIXTURE_WAIT(tp_server_send_many(fixture.server, &slow_id, 1, packet) == 0);
    FIXTURE_WAIT(tp_server_broadcast(fixture.server, packet, other_id) == 0);
    tp_packet_release(packet);
    CHECK_EQ(atomic_load(&fixture.leaves), 0);
    check_other_is_served();
    close_all();
}

static void sends_are_refused(void) {
    open_with(TP_QUEUE_REFUSE);
    CHECK_LT(flood(slow_id), 4000);
    check_bounded();
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(fixture.server, &stats);
    CHECK_EQ(stats.refused, 1);
    check_other_is_served();

    /* Once the peer reads, the queue empties and accepts packets again. */
    static uint8_t payload[PACKET_SIZE];
    unsigned type;
    bool accepts_again = false;
    for (unsigned i = 0; i < 4000 && !accepts_again; i++) {
        REQUIRE(raw_receive_frame(slow_peer, &type, payload, sizeof payload) == PACKET_SIZE);
        accepts_again = flood(slow_id) > 0;
    }
    CHECK(accepts_again);
    close_all();
}

static void the_number_of_packets_is_bounded_too(void) {
    server_fixture_init(&fixture);
    fixture.options.queue_packets = 1000;
    fixture.options.queue_policy = TP_QUEUE_REFUSE;
    server_fixture_open(&fixture);
    slow_peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    tp_packet *empty = tp_packet_new(0);
    REQUIRE(empty != NULL);
    unsigned taken = 0;
    /* Frames of 4 bytes: the system takes very many of them. */
    for (unsigned i = 0; i < 20000000; i++) {
        if (!tp_server_send(fixture.server, atomic_load(&fixture.last_joined), empty)) {
            break;
        }
        taken++;
    }
    CHECK_LT(taken, 20000000);
    tp_session_info info = {.size = sizeof info};
    REQUIRE(tp_server_session_info(fixture.server, atomic_load(&fixture.last_joined), &info));
    CHECK_LE(info.queued_packets, 1000);
    tp_packet_release(empty);
    raw_close(slow_peer, true);
    server_fixture_close(&fixture);
}

static tp__queue_size *queue_size_of(tp_session_id id) {
    return &fixture.server->sessions[tp_session_slot(id)].queued;
}

static uint64_t queued_of(tp_session_id id) {
    return tp__queue_size_now(queue_size_of(id));
}

/* Sets the counter as if another thread had queued so much. */
static void set_queued(tp_session_id id, uint64_t queued) {
    tp__queue_size_subtract(queue_size_of(id), queued_of(id) - queued);
}

/* The largest possible packet limit still is a limit. */
static void the_largest_packet_limit_holds(void) {
    server_fixture_init(&fixture);
    fixture.options.queue_packets = 0xFFFFFF;
    fixture.options.queue_policy = TP_QUEUE_REFUSE;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    tp_session_id id = atomic_load(&fixture.last_joined);
    set_queued(id, 0xFFFFFF * TP__QUEUED_ONE);
    tp_packet *packet = tp_packet_new(0);
    REQUIRE(packet != NULL);
    CHECK(!tp_server_send(fixture.server, id, packet));
    CHECK_EQ(queued_of(id), 0xFFFFFF * TP__QUEUED_ONE);
    set_queued(id, 0);
    CHECK(tp_server_send(fixture.server, id, packet));
    FIXTURE_WAIT(queued_of(id) == 0);
    tp_packet_release(packet);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

static bool send_of_size(tp_session_id id, size_t size) {
    tp_packet *packet = tp_packet_new(size);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, size) != NULL);
    bool sent = tp_server_send(fixture.server, id, packet);
    tp_packet_release(packet);
    return sent;
}

/* A packet larger than the whole limit is sent when the queue is empty, under every policy. */
static void an_empty_queue_takes_any_packet(void) {
    static const tp_queue_policy policies[] = {TP_QUEUE_REFUSE, TP_QUEUE_DROP, TP_QUEUE_DISCONNECT};
    static uint8_t payload[PACKET_SIZE];
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        server_fixture_init(&fixture);
        fixture.options.queue_bytes = 1024;
        fixture.options.queue_policy = policies[i];
        server_fixture_open(&fixture);
        raw_peer *peer = fixture_connect_peer(&fixture);
        FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
        tp_session_id id = atomic_load(&fixture.last_joined);
        for (unsigned turn = 0; turn < 3; turn++) {
            unsigned type;
            REQUIRE(send_of_size(id, PACKET_SIZE));
            REQUIRE(raw_receive_frame(peer, &type, payload, sizeof payload) == PACKET_SIZE);
            FIXTURE_WAIT(queued_of(id) == 0);
        }
        CHECK_EQ(atomic_load(&fixture.leaves), 0);
        tp_server_stats stats = {.size = sizeof stats};
        tp_server_get_stats(fixture.server, &stats);
        CHECK_EQ(stats.refused + stats.dropped, 0);
        raw_close(peer, false);
        server_fixture_close(&fixture);
    }
}

/* But only alone: neither behind another packet, nor another packet behind it. */
static void an_oversized_packet_is_alone_in_its_queue(void) {
    server_fixture_init(&fixture);
    fixture.options.queue_bytes = 1024;
    fixture.options.queue_policy = TP_QUEUE_REFUSE;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    tp_session_id id = atomic_load(&fixture.last_joined);
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
    server_fixture_close(&fixture);
}

CHECK_MAIN(CASE(a_slow_consumer_is_disconnected), CASE(new_packets_are_dropped),
    CASE(sends_are_refused), CASE(the_number_of_packets_is_bounded_too),
    CASE(the_largest_packet_limit_holds), CASE(an_empty_queue_takes_any_packet),
    CASE(an_oversized_packet_is_alone_in_its_queue))
