/*
 * Queues of peers that do not read: they take memory of about the size of what is queued and give
 * it back, whatever the messages' sizes, the sending threads, and what else is sent in between.
 */
#include "core/engine/server_state.h"
#include "core/session/compact.h"
#include "core/session/send_batch.h"
#include "memory_fixture.h"
#include "server_fixture.h"

static server_fixture fixture;
static uint8_t in[70000];

#define QUEUED_LEAST (400 * KIB)

/* ---- a session whose peer does not read ------------------------------------------------------ */

typedef struct reader {
    raw_peer *peer;
    tp_session_id id;
    uint64_t filled; /* messages sent before the reader's queue began to fill */
} reader;

static void open_fixture(void) {
    trim_all_memory();
    server_fixture_init(&fixture);
    fixture.options.queue_bytes = (size_t)4 << 20;
    fixture.options.queue_packets = 1000000;
    fixture.options.queue_policy = TP_QUEUE_REFUSE;
    atomic_store(&fixture.echo, false);
    server_fixture_open(&fixture);
}

static bool is_waiting(tp_session_id id) {
    return atomic_load(&session_at(fixture.server, id)->backlog_state) != TP__BACKLOG_OWNED;
}

static bool is_at_rest(tp_session_id id) {
    return queued_bytes(fixture.server, id) == 0 || is_waiting(id);
}

#define WITH_HEAD ((size_t)16384 + TP_PACKET_HEAD) /* the largest piece that a chunk can hold */

static uint64_t numbered; /* number of the next message */

/* A message whose bytes count up from its number. */
static bool send_numbered(tp_session_id id, size_t size) {
    size_t head = size == WITH_HEAD ? TP_PACKET_HEAD : 0;
    tp_packet *packet = tp_packet_new(size - head);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, size - head) != NULL);
    REQUIRE(tp_packet_push_head(packet, head) != NULL);
    uint8_t *bytes = tp_packet_edit(packet);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(numbered + i);
    }
    bool sent = tp_server_send(fixture.server, id, packet);
    tp_packet_release(packet);
    numbered += sent;
    return sent;
}

#define FILLING 16000u

static void join_and_fill(reader *slow) {
    unsigned joined = atomic_load(&fixture.joins);
    numbered = 0;
    slow->peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == joined + 1);
    slow->id = atomic_load(&fixture.last_joined);
    bool binds = tp_port_binds(fixture.server->port);
    bool full = false;
    while (!full) {
        REQUIRE(send_numbered(slow->id, FILLING));
        FIXTURE_WAIT(is_at_rest(slow->id));
        full = binds ? is_waiting(slow->id) : queued_bytes(fixture.server, slow->id) > 20 * FILLING;
        if (full) {
            (void)settle(fixture.server, slow->id);
            full = binds || queued_bytes(fixture.server, slow->id) > 20 * FILLING;
        }
    }
    slow->filled = numbered;
}

/* Reads everything: each message whole and in order. */
static void check_all_arrives(const reader *slow, size_t size) {
    for (uint64_t n = 0; n < numbered; n++) {
        size_t length = n < slow->filled ? FILLING : size;
        unsigned type = 99;
        REQUIRE(raw_receive_frame(slow->peer, &type, in, sizeof in) == (long)length);
        bool right = type == TP_FRAME_DATA;
        for (size_t i = 0; i < length; i++) {
            right &= in[i] == (uint8_t)(n + i);
        }
        REQUIRE(right);
    }
    FIXTURE_WAIT(tp__queue_size_now(&session_at(fixture.server, slow->id)->queued) == 0);
    FIXTURE_WAIT(atomic_load(&fixture.sends) == numbered);
}

static void check_size(size_t size) {
    reader slow;
    open_fixture();
    join_and_fill(&slow);
    uint64_t queued_before = queued_bytes(fixture.server, slow.id);
    uint64_t before = tp__memory_held();
    uint64_t resident_before = resident_bytes();
    while (queued_bytes(fixture.server, slow.id) - queued_before < QUEUED_LEAST) {
        REQUIRE(send_numbered(slow.id, size));
        use_up_a_chunk_for_others();
    }
    uint64_t queued = queued_bytes(fixture.server, slow.id) - queued_before;
    unsigned spare = settle(fixture.server, slow.id);
    printf("  %u bytes each:\n", (unsigned)size);
    check_bound("held", before, tp__memory_held(), queued, 1 + spare);
    check_bound("resident", resident_before, resident_bytes(), queued, 1 + spare);
    check_all_arrives(&slow, size);
    raw_close(slow.peer, false);
    server_fixture_close(&fixture);
}

static void queued_messages_of_1_byte_take_little_memory(void) {
    check_size(1);
}

static void queued_messages_of_64_bytes_take_little_memory(void) {
    check_size(64);
}

static void queued_messages_of_1_kib_take_little_memory(void) {
    check_size(1024);
}

/* The worst size for blocks of 16 KiB, if a message had to be whole in one of them. */
static void queued_messages_of_half_a_run_take_little_memory(void) {
    check_size(8200);
}

static void queued_messages_of_16_kib_take_little_memory(void) {
    check_size(16384);
}

static void queued_messages_of_16_kib_and_a_head_take_little_memory(void) {
    check_size(WITH_HEAD);
}

static void queued_messages_of_40_kib_take_little_memory(void) {
    check_size(40000);
}

/* ---- by handlers ----------------------------------------------------------------------------- */

static reader target;
static size_t forwarded_size = 64;

/* Sends of the owner worker take another path than those of other threads. */
static void forward_to_target(server_fixture *on, tp_session_id session, tp_packet *packet) {
    (void)on, (void)packet;
    if (session != target.id) {
        REQUIRE(send_numbered(target.id, forwarded_size));
        use_up_a_chunk_for_others();
    }
}

static void sends_by_handlers_take_no_more_memory(void) {
    enum { ROUNDS = 10000 };
    open_fixture();
    fixture.on_message = forward_to_target;
    join_and_fill(&target);
    raw_peer *peer = fixture_connect_peer(&fixture);
    uint64_t queued = queued_bytes(fixture.server, target.id);
    uint64_t before = tp__memory_held();
    for (unsigned i = 0; i < ROUNDS; i++) {
        REQUIRE(raw_send_frame(peer, TP_FRAME_DATA, "m", 1));
    }
    FIXTURE_WAIT(atomic_load(&fixture.messages) == ROUNDS);
    unsigned spare = settle(fixture.server, target.id);
    queued = queued_bytes(fixture.server, target.id) - queued;
    check_bound("held", before, tp__memory_held(), queued, 1 + spare);
    check_all_arrives(&target, 64);
    raw_close(peer, false);
    raw_close(target.peer, false);
    server_fixture_close(&fixture);
}

/* What is in flight when the reader stops: 64 messages, each from another chunk. */
static void messages_in_flight_take_no_more_memory(void) {
    reader slow;
    open_fixture();
    fixture.on_message = forward_to_target;
    slow.peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    target.id = atomic_load(&fixture.last_joined);
    raw_peer *peer = fixture_connect_peer(&fixture);
    uint64_t before = tp__memory_held();
    unsigned rounds = 0;
    forwarded_size = 3000;
    unsigned spare;
    do { /* with iocp the system may take all of it a moment later */
        while (!is_waiting(target.id) || queued_bytes(fixture.server, target.id) < 64 * 3000) {
            enum { AT_ONCE = 64 };
            static uint8_t frames[AT_ONCE][TP_FRAME_HEADER + 1];
            for (unsigned i = 0; i < AT_ONCE; i++) {
                tp_frame_write(frames[i], TP_FRAME_DATA, 1);
            }
            REQUIRE(raw_send(peer, frames, sizeof frames));
            rounds += AT_ONCE;
            FIXTURE_WAIT(atomic_load(&fixture.messages) == rounds && is_at_rest(target.id));
        }
        spare = settle(fixture.server, target.id);
    } while (queued_bytes(fixture.server, target.id) < 64 * 3000);
    trim_all_memory(); /* the worker keeps what is in its magazines, four chunks at most */
    check_bound(
        "held", before, tp__memory_held(), queued_bytes(fixture.server, target.id), 1 + 4 + spare);
    forwarded_size = 64;
    raw_close(peer, false);
    raw_close(slow.peer, true);
    server_fixture_close(&fixture);
}

/* ---- a blocked worker ------------------------------------------------------------------------ */

/* Makes this thread take another chunk. */
static void take_another_chunk(void) {
    for (unsigned i = 0; i < 4; i++) {
        tp_packet *packet = tp_packet_new(16384);
        REQUIRE(packet != NULL);
        tp_packet_release(packet);
    }
}

static void block_worker(server_fixture *on, tp_session_id session, tp_packet *packet) {
    (void)session, (void)packet;
    fixture_block(on);
}

/* While the worker is blocked nothing is compacted, so all messages but the first ones are copied.
 * Each of the first ones may keep a chunk. */
static void messages_for_a_blocked_worker_keep_few_chunks(void) {
    enum { MESSAGES = 4000, CHUNKS = 1024 + 16 };
    open_fixture();
    fixture.on_message = block_worker;
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    tp_session_id id = atomic_load(&fixture.last_joined);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "b", 1));
    FIXTURE_WAIT(atomic_load(&fixture.blocked));
    uint64_t before = tp__memory_held();
    numbered = 0;
    for (unsigned i = 0; i < MESSAGES; i++) {
        /* So that the next packets cannot start the chunk over. */
        tp_packet *first = tp_packet_new(16384);
        REQUIRE(first != NULL && send_numbered(id, 1));
        take_another_chunk();
        tp_packet_release(first);
    }
    uint64_t held = tp__memory_held() - before;
    printf("    %u messages for a blocked worker take %llu KiB\n", MESSAGES,
        (unsigned long long)held / 1024);
    CHECK_LE(held, CHUNKS * (uint64_t)(64 * KIB) + MESSAGES * 512u);
    atomic_store(&fixture.unblock, true);
    const reader all = {.peer = peer, .id = id};
    check_all_arrives(&all, 1);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

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

/* ---- many readers that do not read ----------------------------------------------------------- */

/* The same messages to all of them. Each takes what waits for it, and its slack. */
static void broadcasts_to_many_readers_take_little_memory(void) {
    enum { READERS = 20, MESSAGES = 2000, SIZE = 60 };
    static reader slow[READERS];
    open_fixture();
    for (unsigned i = 0; i < READERS; i++) {
        join_and_fill(&slow[i]);
    }
    uint64_t before = tp__memory_held();
    uint64_t queued = 0;
    for (unsigned i = 0; i < READERS; i++) {
        queued -= queued_bytes(fixture.server, slow[i].id);
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        tp_packet *packet = tp_packet_new(SIZE);
        REQUIRE(packet != NULL && tp_packet_put_space(packet, SIZE) != NULL);
        CHECK_EQ(tp_server_broadcast(fixture.server, packet, TP_NO_SESSION), READERS);
        tp_packet_release(packet);
        use_up_a_chunk_for_others();
    }
    for (unsigned i = 0; i < READERS; i++) {
        queued += queued_bytes(fixture.server, slow[i].id);
    }
    unsigned spare = settle(fixture.server, slow[0].id);
    check_bound("held", before, tp__memory_held(), queued, READERS + spare);
    for (unsigned i = 0; i < READERS; i++) {
        raw_close(slow[i].peer, true);
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

CHECK_MAIN(CASE(queued_messages_of_1_byte_take_little_memory),
    CASE(queued_messages_of_64_bytes_take_little_memory),
    CASE(queued_messages_of_1_kib_take_little_memory),
    CASE(queued_messages_of_half_a_run_take_little_memory),
    CASE(queued_messages_of_16_kib_take_little_memory),
    CASE(queued_messages_of_16_kib_and_a_head_take_little_memory),
    CASE(queued_messages_of_40_kib_take_little_memory), CASE(sends_by_handlers_take_no_more_memory),
    CASE(messages_in_flight_take_no_more_memory),
    CASE(messages_for_a_blocked_worker_keep_few_chunks),
    CASE(a_partly_sent_batch_may_begin_with_any_byte),
    CASE(broadcasts_to_many_readers_take_little_memory), CASE(each_senders_order_is_kept),
    CASE(unsent_messages_are_counted), CASE(an_end_is_sent_behind_the_queue),
    CASE(without_memory_packets_are_not_copied))
