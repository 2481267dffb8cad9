/*
 * What waits for peers that do not read is complete, although it is copied meanwhile: it arrives
 * whole and in order, counts as unsent, is sent before the session's end, and stays as it is when
 * there is no memory for copies.
 */
#include "core/session/compact.h"
#include "core/session/send_batch.h"
#include "unread_fixture.h"

/* ---- a send batch that is partly sent -------------------------------------------------------- */

enum { LEFT_COUNT = TP_PORT_MAX_BUFFERS };

static uint8_t unsent[LEFT_COUNT * 64];

/* A send batch of tiny frames, of which the system has taken the first `first` frames and all but
 * `left` bytes of the next. Returns how many bytes are unsent. */
static size_t fill_partly_sent(tp__send_batch *batch, size_t first, size_t left) {
    size_t total = 0;
    memset(batch, 0, sizeof *batch);
    for (size_t i = 0; i < LEFT_COUNT; i++) {
        tp_packet *packet = tp_packet_new(32);
        REQUIRE(packet != NULL);
        memset(tp_packet_put_space(packet, i % 20), (int)i, i % 20);
        tp__packet_seal(packet, TP_FRAME_DATA);
        tp_buffer *buffer = &batch->buffers[i];
        buffer->bytes = tp__packet_frame(packet, &buffer->size);
        if (i == first) {
            buffer->bytes += buffer->size - left;
            buffer->size = left;
        }
        batch->packets[i] = packet;
        if (i >= first) {
            memcpy(unsent + total, buffer->bytes, buffer->size);
            total += buffer->size;
        }
    }
    batch->count = batch->held = LEFT_COUNT;
    batch->first = first;
    return total;
}

static void check_copied(const tp__send_batch *batch, size_t total) {
    size_t at = 0;
    for (size_t i = batch->first; i < batch->count; i++) {
        CHECK(at + batch->buffers[i].size <= total);
        CHECK_MEM(batch->buffers[i].bytes, unsent + at, batch->buffers[i].size);
        at += batch->buffers[i].size;
    }
    CHECK_EQ(at, total);
    CHECK_LT(batch->held, 3);
    for (size_t i = 0; i < batch->held; i++) {
        CHECK(batch->packets[i]->chunk == NULL);
    }
}

/* A copy of a send batch may begin anywhere, with a single byte, too. */
static void a_partly_sent_batch_may_begin_with_any_byte(void) {
    static tp__session session;
    open_fixture();
    for (size_t first = 0; first < LEFT_COUNT; first += 21) {
        for (size_t left = 1; left <= 4; left++) {
            memset((void *)&session, 0, sizeof session);
            session.server = fixture.server;
            session.send_batch = tp_pool_allocate(tp__send_batch_pool());
            REQUIRE(session.send_batch != NULL);
            size_t total = fill_partly_sent(session.send_batch, first, left);
            tp__compact_waiting(&session);
            check_copied(session.send_batch, total);
            tp__packets_release(session.send_batch->packets, session.send_batch->held);
            tp_pool_free(tp__send_batch_pool(), session.send_batch);
        }
    }
    server_fixture_close(&fixture);
}

/* ---- several threads, and a reader that pauses ----------------------------------------------- */

enum { SENDERS = 4, EACH = 10000, STAMP = 5 };

static tp_session_id stamped_to;
static atomic_uint done_sending;

/* The sender, the number of its message, and filling of some size. */
static void send_stamped(void *argument) {
    unsigned who = *(unsigned *)argument;
    for (uint32_t n = 0; n < EACH; n++) {
        size_t size = STAMP + (n * 7 + who) % 400;
        tp_packet *packet = tp_packet_new(size);
        REQUIRE(packet != NULL);
        tp_packet_put_u8(packet, (uint8_t)who);
        tp_packet_put_u32(packet, n);
        memset(tp_packet_put_space(packet, size - STAMP), (int)(n & 0xff), size - STAMP);
        while (!tp_server_send(fixture.server, stamped_to, packet)) {
            tp_thread_yield();
        }
        tp_packet_release(packet);
    }
    atomic_fetch_add(&done_sending, 1);
}

/* Each sender's messages arrive whole and in order, through runs and without, while the reader
 * pauses. */
static void each_senders_order_is_kept(void) {
    static unsigned numbers[SENDERS];
    static uint32_t expected[SENDERS];
    tp_thread threads[SENDERS];
    open_fixture();
    memset(expected, 0, sizeof expected);
    atomic_store(&done_sending, 0);
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    stamped_to = atomic_load(&fixture.last_joined);
    for (unsigned i = 0; i < SENDERS; i++) {
        numbers[i] = i;
        REQUIRE(tp_thread_start(&threads[i], "sender", send_stamped, &numbers[i]) == TP_OK);
    }
    for (unsigned n = 0; n < SENDERS * EACH; n++) {
        unsigned type;
        long size = raw_receive_frame(peer, &type, in, sizeof in);
        REQUIRE(size >= STAMP);
        unsigned who = in[0];
        uint32_t number = in[1] | (uint32_t)in[2] << 8 | (uint32_t)in[3] << 16;
        REQUIRE(who < SENDERS && number == expected[who]);
        REQUIRE(size == (long)(STAMP + (number * 7 + who) % 400));
        REQUIRE(size == STAMP || in[size - 1] == (number & 0xff));
        expected[who]++;
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        tp_thread_join(&threads[i]);
    }
    FIXTURE_WAIT(tp__queue_size_now(&session_at(fixture.server, stamped_to)->queued) == 0);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

/* ---- the end of such a session --------------------------------------------------------------- */

/* What waits in runs counts as unsent, message by message, and so does the CLOSE behind it. */
static void unsent_messages_are_counted(void) {
    reader slow;
    open_fixture();
    join_and_fill(&slow);
    for (unsigned i = 0; i < 500; i++) {
        REQUIRE(send_numbered(slow.id, 10));
    }
    (void)settle(fixture.server, slow.id);
    uint64_t queued = tp__queue_size_now(&session_at(fixture.server, slow.id)->queued);
    CHECK(tp_server_disconnect(fixture.server, slow.id));
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    tp_session_end end = {.size = sizeof end};
    CHECK_EQ(tp_server_read_ledger(fixture.server, &end, 1), 1);
    CHECK_EQ(end.pending_packets, queued >> TP__QUEUED_SHIFT);
    CHECK_EQ(end.pending_bytes, queued & TP__QUEUED_BYTES);
    raw_close(slow.peer, true);
    server_fixture_close(&fixture);
}

/* A session that is ended behind its queue: everything in it arrives, and then CLOSE. */
static void an_end_is_sent_behind_the_queue(void) {
    reader slow;
    open_fixture();
    fixture.options.drain_timeout_ms = 60000;
    join_and_fill(&slow);
    for (unsigned i = 0; i < 5000; i++) {
        REQUIRE(send_numbered(slow.id, 10));
    }
    CHECK(tp_server_disconnect_after_send(fixture.server, slow.id, TP_CLOSE_NORMAL));
    for (uint64_t n = 0; n < numbered; n++) {
        unsigned type = 99;
        REQUIRE(raw_receive_frame(slow.peer, &type, in, sizeof in) ==
                (n < slow.filled ? (long)FILLING : 10));
        REQUIRE(type == TP_FRAME_DATA && in[0] == (uint8_t)n);
    }
    unsigned type = 99;
    CHECK_EQ(raw_receive_frame(slow.peer, &type, in, sizeof in), TP_FRAME_CLOSE_MIN);
    CHECK_EQ(type, TP_FRAME_CLOSE);
    raw_close(slow.peer, false);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == 1);
    server_fixture_close(&fixture);
}

/* Memory for runs is out: the queue stays as it is, and arrives. */
static void without_memory_packets_are_not_copied(void) {
    reader slow;
    open_fixture();
    join_and_fill(&slow);
    tp_packet *packets[200];
    for (unsigned i = 0; i < 200; i++) {
        packets[i] = tp_packet_new(100);
        REQUIRE(packets[i] != NULL);
        memset(tp_packet_put_space(packets[i], 100), (int)i, 100);
    }
    void *nodes = tp_pool_allocate(tp__node_pool()); /* more than this thread's magazine has */
    tp_pool_free(tp__node_pool(), nodes);
    tp__packets_trim();
    tp__memory_fail_from(1);
    unsigned taken = 0;
    while (taken < 200 && tp_server_send(fixture.server, slow.id, packets[taken])) {
        taken++;
    }
    tp__memory_fail_from(-1);
    CHECK_GT(taken, 100);
    for (unsigned i = 0; i < 200; i++) {
        tp_packet_release(packets[i]);
    }
    for (uint64_t n = 0; n < slow.filled + taken; n++) {
        unsigned type = 99;
        long size = raw_receive_frame(slow.peer, &type, in, sizeof in);
        REQUIRE(size == (n < slow.filled ? (long)FILLING : 100));
        REQUIRE(n < slow.filled || in[99] == (uint8_t)(n - slow.filled));
    }
    raw_close(slow.peer, false);
    server_fixture_close(&fixture);
}

CHECK_MAIN(CASE(a_partly_sent_batch_may_begin_with_any_byte), CASE(each_senders_order_is_kept),
    CASE(unsent_messages_are_counted), CASE(an_end_is_sent_behind_the_queue),
    CASE(without_memory_packets_are_not_copied))
