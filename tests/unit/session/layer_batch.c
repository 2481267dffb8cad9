/*
 * Filling a send batch as a layer does (layer.h): the backlog of a session that is made by hand is
 * copied out in pieces, and every byte, frame and packet of it is counted once.
 */
#include <string.h>

#include "core/engine/server_state.h"

#include "check.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"
#include "core/session/send_batch.h"
#include "proto/frame.h"

enum { FRAMES = 3, SIZE = 10, FRAME = TP_FRAME_HEADER + SIZE, ALL = FRAMES * FRAME };

static tp__session session;
static tp__send_batch batch;

static void append(tp__send_node *node, tp_packet *packet) {
    node->packet = packet;
    node->next = NULL;
    if (session.backlog) {
        session.backlog_last->next = node;
    } else {
        session.backlog = node;
    }
    session.backlog_last = node;
}

static tp__send_node *new_node(void) {
    tp__send_node *node = tp_pool_allocate(tp__node_pool());
    REQUIRE(node != NULL);
    return node;
}

static tp_packet *new_packet(uint8_t byte) {
    uint8_t bytes[SIZE];
    memset(bytes, byte, sizeof bytes);
    tp_packet *packet = tp_packet_copy_of(bytes, sizeof bytes);
    REQUIRE(packet != NULL);
    return packet;
}

static void begin(void) {
    REQUIRE(tp__pools_open() == TP_OK);
    memset(&session, 0, sizeof session);
    memset(&batch, 0, sizeof batch);
}

static void append_frames(void) {
    for (unsigned i = 0; i < FRAMES; i++) {
        tp_packet *packet = new_packet((uint8_t)i);
        tp__packet_seal(packet, TP_FRAME_DATA);
        append(new_node(), packet);
    }
}

/* The end node, with this packet or none. */
static void append_end(tp_packet *packet) {
    append(&session.end_node, packet);
    session.end_taken = true;
}

static void check_all_frames(const uint8_t *bytes) {
    for (unsigned i = 0; i < FRAMES; i++) {
        const uint8_t *frame = bytes + i * FRAME;
        uint8_t payload[SIZE];
        memset(payload, (int)i, sizeof payload);
        CHECK_EQ(tp_frame_read(frame).length, SIZE);
        CHECK_EQ(memcmp(frame + TP_FRAME_HEADER, payload, SIZE), 0);
    }
}

static void frames_are_copied_in_pieces_of_any_size(void) {
    for (size_t most = 1; most <= ALL + 1; most++) {
        begin();
        append_frames();
        uint8_t bytes[ALL] = {0};
        size_t done = 0;
        size_t skip = 0;
        size_t size = 0;
        while (tp__layer_fill_next(&session, skip, most, &size) == TP__LAYER_FRAMES) {
            REQUIRE(size >= 1 && size <= most && size <= ALL - done);
            skip = tp__layer_fill_copy(&session, &batch, skip, bytes + done, size);
            done += size;
            CHECK_EQ(skip, done % FRAME);
            CHECK_EQ(batch.messages, done / FRAME);
        }
        CHECK_EQ(tp__layer_fill_next(&session, skip, most, &size), TP__LAYER_EMPTY);
        CHECK_EQ(done, ALL);
        check_all_frames(bytes);
        CHECK_EQ(batch.unqueued, FRAMES * TP__QUEUED_ONE + ALL);
        CHECK_EQ(batch.count, 0); /* what was copied is in no packet yet */
        CHECK(!session.sending_end);
    }
}

static void a_run_counts_the_frames_that_end_in_it(void) {
    uint8_t bytes[ALL] = {0};
    size_t size = 0;
    begin();
    tp_packet *run = tp__packet_run(bytes, ALL, ALL);
    REQUIRE(run != NULL);
    run->messages = FRAMES;
    append(new_node(), run);
    CHECK_EQ(tp__layer_fill_next(&session, 0, 2 * ALL, &size), TP__LAYER_FRAMES);
    CHECK_EQ(size, ALL);
    CHECK_EQ(tp__layer_fill_copy(&session, &batch, 0, bytes, size), 0);
    CHECK_EQ(batch.messages, FRAMES);
    CHECK_EQ(batch.unqueued, FRAMES * TP__QUEUED_ONE + ALL);
}

static void an_end_without_a_packet_follows_the_frames(void) {
    uint8_t bytes[ALL];
    size_t size = 0;
    begin();
    append_frames();
    append_end(NULL);
    CHECK_EQ(tp__layer_fill_next(&session, 0, 2 * ALL, &size), TP__LAYER_FRAMES);
    CHECK_EQ(size, ALL);
    CHECK_EQ(tp__layer_fill_copy(&session, &batch, 0, bytes, size), 0);
    CHECK(!session.sending_end);
    CHECK_EQ(tp__layer_fill_next(&session, 0, 2 * ALL, &size), TP__LAYER_END);
    tp__layer_fill_end(&session);
    CHECK(session.sending_end);
    CHECK_EQ(tp__layer_fill_next(&session, 0, 2 * ALL, &size), TP__LAYER_EMPTY);
    CHECK_EQ(batch.messages, FRAMES);
}

static void an_end_with_a_packet_is_the_last_frame(void) {
    uint8_t bytes[FRAME];
    size_t size = 0;
    begin();
    tp_packet *packet = new_packet(0);
    tp__packet_seal(packet, TP_FRAME_CLOSE);
    append_end(packet);
    CHECK_EQ(tp__layer_fill_next(&session, 0, ALL, &size), TP__LAYER_FRAMES);
    CHECK_EQ(size, FRAME);
    CHECK_EQ(tp__layer_fill_copy(&session, &batch, 0, bytes, size), 0);
    CHECK(session.sending_end);
    CHECK_EQ(tp__layer_fill_next(&session, 0, ALL, &size), TP__LAYER_EMPTY);
}

/* A raw packet goes out as it is, in front of the layer's own packets. */
static void a_batch_has_packets_in_the_order_of_the_calls(void) {
    size_t size = 0;
    begin();
    tp_packet *raw = new_packet(1);
    tp_packet *own = tp__layer_packet(SIZE + 1);
    REQUIRE(own != NULL && tp_packet_edit(own) != NULL);
    append(new_node(), raw);
    CHECK_EQ(tp__layer_fill_next(&session, 0, ALL, &size), TP__LAYER_RAW);
    tp__layer_fill_raw(&session, &batch);
    tp__layer_fill_add(&batch, own);
    CHECK_EQ(batch.count, 2);
    CHECK_EQ(batch.held, 2);
    CHECK_EQ(batch.bytes, SIZE + SIZE + 1);
    CHECK(batch.packets[0] == raw && batch.packets[1] == own);
    CHECK(batch.buffers[0].bytes == tp_packet_bytes(raw));
    CHECK_EQ(batch.buffers[1].size, SIZE + 1);
    CHECK_EQ(batch.messages, 0);
    CHECK_EQ(batch.unqueued, TP__QUEUED_ONE + FRAME); /* as it was counted when it was queued */
    CHECK(tp__send_batch_check(&batch) == NULL);
    tp__packets_release(batch.packets, batch.held);
}

/* ---- what a layer sees of a server ----------------------------------------------------------- */

static void there_is_nothing_behind_the_last_slot(void) {
    enum { SLOTS = 2, STATE = 24 };
    static tp__session sessions[SLOTS];
    static uint8_t states[SLOTS * STATE];
    static tp_server server;
    server.sessions = sessions;
    server.slots.count = SLOTS;
    server.layer_states = states;
    server.layer.state_bytes = STATE;
    server.layer.context = &server;
    sessions[1].server = &server;
    sessions[1].index = 1;
    CHECK_EQ(tp__layer_slots(&server), SLOTS);
    CHECK(tp__layer_session_at(&server, 1) == &sessions[1]);
    CHECK(tp__layer_session_at(&server, SLOTS) == NULL);
    CHECK(tp__layer_state_at(&server, 0) == states);
    CHECK(tp__layer_state_at(&server, SLOTS) == NULL);
    CHECK(tp__layer_state(&sessions[1]) == states + STATE);
    CHECK(tp__layer_context(&sessions[1]) == &server);
    CHECK_EQ(tp__layer_slot(&sessions[1]), 1);
}

CHECK_MAIN(CASE(frames_are_copied_in_pieces_of_any_size),
    CASE(a_run_counts_the_frames_that_end_in_it), CASE(an_end_without_a_packet_follows_the_frames),
    CASE(an_end_with_a_packet_is_the_last_frame),
    CASE(a_batch_has_packets_in_the_order_of_the_calls),
    CASE(there_is_nothing_behind_the_last_slot))
