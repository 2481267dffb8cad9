/*
 * The checks of a session, of its send batch and of its queue find each invariant that is broken:
 * every case breaks one field of a session that is made by hand, looks, and repairs it. The session
 * is at its end: a send batch, a backlog that ends with the end node, and a late packet behind it.
 */
#include <string.h>

#include "core/engine/server_state.h"

#include "check.h"
#include "check_finds.h"
#include "core/packet/packet_internal.h"
#include "core/session/compact.h"
#include "core/session/send_batch.h"
#include "proto/frame.h"

enum { SENT, SENT_TOO, WAITING, WAITING_TOO, LATE, PACKETS };
enum { SIZE = 10, FRAME = TP_FRAME_HEADER + SIZE };

static tp__session session;
static tp__send_batch batch;
static tp_packet *packets[PACKETS];
static tp__send_node nodes[PACKETS];

static void make_packets(void) {
    static const uint8_t bytes[SIZE];
    for (unsigned i = 0; i < PACKETS; i++) {
        packets[i] = tp_packet_copy_of(bytes, sizeof bytes);
        REQUIRE(packets[i] != NULL);
        tp__packet_seal(packets[i], TP_FRAME_DATA);
        nodes[i].packet = packets[i];
    }
}

static void make_batch(void) {
    memset(&batch, 0, sizeof batch);
    for (size_t i = SENT; i <= SENT_TOO; i++) {
        batch.buffers[i].bytes = tp__packet_frame(packets[i], &batch.buffers[i].size);
        batch.packets[i] = packets[i];
        batch.bytes += FRAME;
        batch.count++;
    }
    batch.held = batch.count;
    batch.messages = batch.count;
    batch.unqueued = batch.count * TP__QUEUED_ONE + batch.bytes;
}

static void open_session(void) {
    make_packets();
    make_batch();
    memset(&session, 0, sizeof session);
    atomic_init(&session.life, TP__LIFE_CLOSING | TP__LIFE_RELEASED);
    tp__send_queue_init(&session.queue);
    tp__queue_size_init(&session.queued);
    (void)tp__queue_size_add(&session.queued, PACKETS * (TP__QUEUED_ONE + FRAME));
    session.send_batch = &batch;
    nodes[WAITING].next = &nodes[WAITING_TOO];
    nodes[WAITING_TOO].next = &session.end_node;
    session.backlog = &nodes[WAITING];
    session.backlog_last = &session.end_node;
    session.compact_last = &nodes[WAITING_TOO];
    session.end_taken = true;
    REQUIRE(tp__send_queue_push(&session.queue, &nodes[LATE]));
}

static void close_session(void) {
    for (unsigned i = 0; i < PACKETS; i++) {
        tp_packet_release(packets[i]);
    }
}

#define FLUSHER tp__session_check(&session, SIZE_MAX)
#define RELEASE tp__session_release_check(&session)

static void the_check_finds_a_broken_send_batch(void) {
    open_session();
    const char *check = text_of(FLUSHER);
    CHECK_EQ(strcmp(check, ""), 0);
    CHECK_FINDS(FLUSHER, "TP_PORT_MAX_BUFFERS", batch.count = TP_PORT_MAX_BUFFERS + 1,
        batch.count = SENT_TOO + 1);
    CHECK_FINDS(FLUSHER, "buffers[i].bytes", batch.count++, batch.count--);
    CHECK_FINDS(FLUSHER, "held <= batch->count", batch.held++, batch.held--);
    CHECK_FINDS(FLUSHER, "first < batch->count", batch.first = batch.count, batch.first = 0);
    CHECK_FINDS(
        FLUSHER, "buffers[i].size > 0", batch.buffers[0].size = 0, batch.buffers[0].size = FRAME);
    CHECK_FINDS(FLUSHER, "packets[i]", batch.packets[1] = NULL, batch.packets[1] = packets[1]);
    CHECK_FINDS(FLUSHER, "unsent <= batch->bytes", batch.bytes--, batch.bytes++);
    CHECK_FINDS(FLUSHER, "batch->messages <=", batch.messages++, batch.messages--);
    close_session();
}

static void the_check_finds_a_broken_backlog(void) {
    open_session();
    tp__send_node *last = &session.end_node;
    CHECK_FINDS(FLUSHER, "backlog_last == last", session.backlog_last = &nodes[WAITING_TOO],
        session.backlog_last = last);
    CHECK_FINDS(FLUSHER, "!node->next", last->next = &nodes[LATE], last->next = NULL);
    CHECK_FINDS(FLUSHER, "end_taken", session.end_taken = false, session.end_taken = true);
    CHECK_FINDS(FLUSHER, "node->packet", nodes[WAITING].packet = NULL,
        nodes[WAITING].packet = packets[WAITING]);
    CHECK_FINDS(FLUSHER, "compacted", session.compact_last = &nodes[LATE],
        session.compact_last = &nodes[WAITING_TOO]);
    CHECK_FINDS(FLUSHER, "sending_end", session.sending_end = true, session.sending_end = false);
    CHECK_FINDS(FLUSHER, "backlog_state", atomic_store(&session.backlog_state, TP__BACKLOG_OPEN),
        atomic_store(&session.backlog_state, TP__BACKLOG_OWNED));
    /* Of a long backlog only the beginning is checked. */
    session.backlog_last = &nodes[WAITING];
    CHECK_EQ(strcmp(text_of(tp__session_check(&session, 2)), ""), 0);
    session.backlog_last = last;
    close_session();
}

static void the_check_finds_a_wrong_size_of_the_queue(void) {
    open_session();
    /* One packet is in the queue, where the flusher does not look. */
    uint64_t packet = TP__QUEUED_ONE;
    CHECK_FINDS(FLUSHER, "sum.packets", tp__queue_size_subtract(&session.queued, 2 * packet),
        (void)tp__queue_size_add(&session.queued, 2 * packet));
    CHECK_FINDS(FLUSHER, "sum.bytes", tp__queue_size_subtract(&session.queued, 2 * FRAME),
        (void)tp__queue_size_add(&session.queued, 2 * FRAME));
    CHECK_FINDS(RELEASE, "queued ==", tp__queue_size_subtract(&session.queued, packet),
        (void)tp__queue_size_add(&session.queued, packet));
    CHECK_FINDS(RELEASE, "queued ==", (void)tp__queue_size_add(&session.queued, 1),
        tp__queue_size_subtract(&session.queued, 1));
    close_session();
}

static void the_check_finds_what_a_release_must_not_find(void) {
    open_session();
    const uint64_t life = TP__LIFE_CLOSING | TP__LIFE_RELEASED;
    CHECK_EQ(strcmp(text_of(RELEASE), ""), 0);
    CHECK_FINDS(RELEASE, "TP__LIFE_RELEASED", atomic_store(&session.life, TP__LIFE_CLOSING),
        atomic_store(&session.life, life));
    CHECK_FINDS(RELEASE, "TP__LIFE_CLOSING", atomic_store(&session.life, TP__LIFE_RELEASED),
        atomic_store(&session.life, life));
    CHECK_FINDS(RELEASE, "TP__BACKLOG_OPEN",
        atomic_store(&session.backlog_state, TP__BACKLOG_TAKEN),
        atomic_store(&session.backlog_state, TP__BACKLOG_OWNED));
    CHECK_FINDS(
        RELEASE, "flusher", atomic_store(&session.flusher, 1), atomic_store(&session.flusher, 0));
    CHECK_FINDS(
        RELEASE, "!end_taken", nodes[LATE].next = &session.end_node, nodes[LATE].next = NULL);
    CHECK_FINDS(
        RELEASE, "node->packet", nodes[LATE].packet = NULL, nodes[LATE].packet = packets[LATE]);
    CHECK_FINDS(RELEASE, "header_filled", session.receive.header_filled = TP_FRAME_HEADER,
        session.receive.header_filled = 0);
    close_session();
}

static void the_check_finds_a_reference_that_is_left(void) {
    tp__references references = {{0}};
    for (tp__reference kind = 0; kind < TP__REFERENCE_KIND_COUNT; kind++) {
        tp__references_add(&references, kind);
        CHECK(strstr(text_of(tp__references_check(&references)), tp__reference_text(kind)) != NULL);
        tp__references_subtract(&references, kind);
        CHECK_EQ(strcmp(text_of(tp__references_check(&references)), ""), 0);
    }
#ifdef NDEBUG
    SKIP("sessions count their references in builds with assertions only");
#else
    open_session();
    CHECK_FINDS(RELEASE, "left: flush", tp__session_count_reference(&session, TP__REFERENCE_FLUSH),
        tp__session_uncount_reference(&session, TP__REFERENCE_FLUSH));
    close_session();
#endif
}

static void the_check_finds_a_broken_receive_state(void) {
    open_session();
    tp_packet *partial = tp__packet_received(SIZE);
    REQUIRE(partial != NULL);
    CHECK_EQ(strcmp(text_of(tp__receive_check(&session)), ""), 0);
    session.receive.partial = partial;
    session.receive.partial_filled = SIZE - 1;
    CHECK_EQ(strcmp(text_of(tp__receive_check(&session)), ""), 0);
    CHECK_FINDS(tp__receive_check(&session), "partial_filled", session.receive.partial_filled++,
        session.receive.partial_filled--);
    session.receive.partial = packets[SENT];
    CHECK(strstr(text_of(tp__receive_check(&session)), "sealed") != NULL);
    session.receive.partial = NULL;
    tp_packet_release(partial);
    close_session();
}

static void the_check_finds_a_node_in_a_queue_that_was_emptied(void) {
    open_session();
    tp__send_node *last;
    CHECK(strstr(text_of(tp__send_queue_check(&session.queue)), "TP__QUEUE_BUSY") != NULL);
    CHECK(tp__send_queue_take(&session.queue, &last) == &nodes[LATE]);
    CHECK_EQ(strcmp(text_of(tp__send_queue_check(&session.queue)), ""), 0);
    CHECK(tp__send_queue_retire(&session.queue));
    CHECK_EQ(strcmp(text_of(tp__send_queue_check(&session.queue)), ""), 0);
    close_session();
}

CHECK_MAIN(CASE(the_check_finds_a_broken_send_batch), CASE(the_check_finds_a_broken_backlog),
    CASE(the_check_finds_a_wrong_size_of_the_queue),
    CASE(the_check_finds_what_a_release_must_not_find),
    CASE(the_check_finds_a_reference_that_is_left), CASE(the_check_finds_a_broken_receive_state),
    CASE(the_check_finds_a_node_in_a_queue_that_was_emptied))
