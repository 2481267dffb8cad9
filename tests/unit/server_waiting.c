/*
 * What waits for a peer that does not read costs about its own size, and comes back: whatever its
 * messages' sizes, whoever sends them, and whatever else is sent in between.
 */
#include "core/engine/server_state.h"
#include "core/session/compact.h"
#include "core/session/send_batch.h"
#include "memory_stage.h"
#include "server_stage.h"

static server_stage stage;
static uint8_t in[70000];

#define QUEUED_LEAST (400 * KIB)

/* ---- a session whose peer does not read ------------------------------------------------------ */

typedef struct reader {
    raw_peer *peer;
    tp_session_id id;
    uint64_t filled; /* messages sent before it stood */
} reader;

static void open_stage(void) {
    forget_all_memory();
    server_stage_init(&stage);
    stage.options.queue_bytes = (size_t)4 << 20;
    stage.options.queue_packets = 1000000;
    stage.options.queue_policy = TP_QUEUE_REFUSE;
    atomic_store(&stage.echo, false);
    server_stage_open(&stage);
}

static bool stands(tp_session_id id) {
    return atomic_load(&session_at(stage.server, id)->pending_state) != TP__PENDING_OWNED;
}

static bool has_come_to_rest(tp_session_id id) {
    return queued_bytes(stage.server, id) == 0 || stands(id);
}

#define WITH_HEAD ((size_t)16384 + TP_PACKET_HEAD) /* the most that a chunk's piece may hold */

static uint64_t numbered; /* of the next message */

/* A message that says its number as far as it has room, and goes on with bytes that follow. */
static bool say(tp_session_id id, size_t size) {
    size_t head = size == WITH_HEAD ? TP_PACKET_HEAD : 0;
    tp_packet *packet = tp_packet_new(size - head);
    REQUIRE(packet != NULL && tp_packet_put_space(packet, size - head) != NULL);
    REQUIRE(tp_packet_push_head(packet, head) != NULL);
    uint8_t *bytes = tp_packet_edit(packet);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(numbered + i);
    }
    bool sent = tp_server_send(stage.server, id, packet);
    tp_packet_release(packet);
    numbered += sent;
    return sent;
}

#define FILLING 16000u

static void make_stand(reader *slow) {
    unsigned joined = atomic_load(&stage.joins);
    numbered = 0;
    slow->peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == joined + 1);
    slow->id = atomic_load(&stage.last_joined);
    bool binds = tp_port_binds(stage.server->port);
    bool full = false;
    while (!full) {
        REQUIRE(say(slow->id, FILLING));
        STAGE_WAIT(has_come_to_rest(slow->id));
        full = binds ? stands(slow->id) : queued_bytes(stage.server, slow->id) > 20 * FILLING;
        if (full) {
            (void)settle(stage.server, slow->id);
            full = binds || queued_bytes(stage.server, slow->id) > 20 * FILLING;
        }
    }
    slow->filled = numbered;
}

/* Reads it all: every message whole, in order. */
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
    STAGE_WAIT(tp__queue_size_now(&session_at(stage.server, slow->id)->queued) == 0);
    STAGE_WAIT(atomic_load(&stage.sends) == numbered);
}

static void check_size(size_t size) {
    reader slow;
    open_stage();
    make_stand(&slow);
    uint64_t queued_before = queued_bytes(stage.server, slow.id);
    uint64_t before = tp__memory_held();
    uint64_t resident_before = resident_bytes();
    while (queued_bytes(stage.server, slow.id) - queued_before < QUEUED_LEAST) {
        REQUIRE(say(slow.id, size));
        talk_to_others();
    }
    uint64_t queued = queued_bytes(stage.server, slow.id) - queued_before;
    unsigned spare = settle(stage.server, slow.id);
    printf("  %u bytes each:\n", (unsigned)size);
    check_bound("held", before, tp__memory_held(), queued, 1 + spare);
    check_bound("resident", resident_before, resident_bytes(), queued, 1 + spare);
    check_all_arrives(&slow, size);
    raw_close(slow.peer, false);
    server_stage_close(&stage);
}

static void messages_of_1_byte(void) {
    check_size(1);
}

static void messages_of_64_bytes(void) {
    check_size(64);
}

static void messages_of_1_kib(void) {
    check_size(1024);
}

/* The worst for blocks of 16 KiB if a message had to be whole in one. */
static void messages_of_half_a_run_and_more(void) {
    check_size(8200);
}

static void messages_of_16_kib(void) {
    check_size(16384);
}

static void messages_of_16_kib_and_a_head(void) {
    check_size(WITH_HEAD);
}

static void messages_of_40_kib(void) {
    check_size(40000);
}

/* ---- by handlers ----------------------------------------------------------------------------- */

static reader target;
static size_t forwarded_size = 64;

/* Home's own sends take another road than those of other threads. */
static void forward_to_target(server_stage *on, tp_session_id session, tp_packet *packet) {
    (void)on, (void)packet;
    if (session != target.id) {
        REQUIRE(say(target.id, forwarded_size));
        talk_to_others();
    }
}

static void a_handlers_sends_cost_no_more(void) {
    enum { ROUNDS = 10000 };
    open_stage();
    stage.on_message = forward_to_target;
    make_stand(&target);
    raw_peer *peer = stage_connect_peer(&stage);
    uint64_t queued = queued_bytes(stage.server, target.id);
    uint64_t before = tp__memory_held();
    for (unsigned i = 0; i < ROUNDS; i++) {
        REQUIRE(raw_send_frame(peer, TP_FRAME_DATA, "m", 1));
    }
    STAGE_WAIT(atomic_load(&stage.messages) == ROUNDS);
    unsigned spare = settle(stage.server, target.id);
    queued = queued_bytes(stage.server, target.id) - queued;
    check_bound("held", before, tp__memory_held(), queued, 1 + spare);
    check_all_arrives(&target, 64);
    raw_close(peer, false);
    raw_close(target.peer, false);
    server_stage_close(&stage);
}

/* What is on its way when the reader stops: sixty-four messages, each from another chunk. */
static void what_is_on_its_way_costs_no_more(void) {
    reader slow;
    open_stage();
    stage.on_message = forward_to_target;
    slow.peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    target.id = atomic_load(&stage.last_joined);
    raw_peer *peer = stage_connect_peer(&stage);
    uint64_t before = tp__memory_held();
    unsigned rounds = 0;
    forwarded_size = 3000;
    while (!stands(target.id) || queued_bytes(stage.server, target.id) < 64 * 3000) {
        enum { AT_ONCE = 64 };
        static uint8_t frames[AT_ONCE][TP_FRAME_HEADER + 1];
        for (unsigned i = 0; i < AT_ONCE; i++) {
            tp_frame_write(frames[i], TP_FRAME_DATA, 1);
        }
        REQUIRE(raw_send(peer, frames, sizeof frames));
        rounds += AT_ONCE;
        STAGE_WAIT(atomic_load(&stage.messages) == rounds && has_come_to_rest(target.id));
    }
    forget_all_memory(); /* the worker keeps what is in its magazines, four chunks at the most */
    check_bound("held", before, tp__memory_held(), queued_bytes(stage.server, target.id), 1 + 4);
    forwarded_size = 64;
    raw_close(peer, false);
    raw_close(slow.peer, true);
    server_stage_close(&stage);
}

/* ---- a worker that is held up ---------------------------------------------------------------- */

/* Moves this thread on to another chunk. */
static void use_up_a_chunk(void) {
    for (unsigned i = 0; i < 4; i++) {
        tp_packet *packet = tp_packet_new(16384);
        REQUIRE(packet != NULL);
        tp_packet_release(packet);
    }
}

static void block_worker(server_stage *on, tp_session_id session, tp_packet *packet) {
    (void)session, (void)packet;
    stage_block(on);
}

/* Nothing of it is compacted while the worker does not come to it, so all but the first are copied:
 * each of those may hold a chunk. */
static void what_waits_for_a_worker_holds_few_chunks(void) {
    enum { MESSAGES = 4000, CHUNKS = 1024 + 16 };
    open_stage();
    stage.on_message = block_worker;
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    tp_session_id id = atomic_load(&stage.last_joined);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, "b", 1));
    STAGE_WAIT(atomic_load(&stage.blocked));
    uint64_t before = tp__memory_held();
    numbered = 0;
    for (unsigned i = 0; i < MESSAGES; i++) {
        tp_packet *first = tp_packet_new(16384); /* so that the next packets do not begin it anew */
        REQUIRE(first != NULL && say(id, 1));
        use_up_a_chunk();
        tp_packet_release(first);
    }
    uint64_t held = tp__memory_held() - before;
    printf("    %u messages for a held-up worker hold %llu KiB\n", MESSAGES,
        (unsigned long long)held / 1024);
    CHECK_LE(held, CHUNKS * (uint64_t)(64 * KIB) + MESSAGES * 512u);
    atomic_store(&stage.let_go, true);
    const reader all = {.peer = peer, .id = id};
    check_all_arrives(&all, 1);
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* ---- a flight that the system has taken a part of -------------------------------------------- */

enum { LEFT_COUNT = TP_PORT_MAX_BUFFERS };

static uint8_t unsent[LEFT_COUNT * 64];

/* A flight of tiny frames, of which the system has taken all of the first `first` and all but
 * `left` bytes of the next. Returns how many bytes are left of it. */
static size_t fill_partly_sent(tp__flight *flight, size_t first, size_t left) {
    size_t total = 0;
    memset(flight, 0, sizeof *flight);
    for (size_t i = 0; i < LEFT_COUNT; i++) {
        tp_packet *packet = tp_packet_new(32);
        REQUIRE(packet != NULL);
        memset(tp_packet_put_space(packet, i % 20), (int)i, i % 20);
        tp__packet_seal(packet, TP_FRAME_DATA);
        tp_buffer *buffer = &flight->buffers[i];
        buffer->bytes = tp__packet_frame(packet, &buffer->size);
        if (i == first) {
            buffer->bytes += buffer->size - left;
            buffer->size = left;
        }
        flight->packets[i] = packet;
        if (i >= first) {
            memcpy(unsent + total, buffer->bytes, buffer->size);
            total += buffer->size;
        }
    }
    flight->count = flight->held = LEFT_COUNT;
    flight->first = first;
    return total;
}

static void check_copied(const tp__flight *flight, size_t total) {
    size_t at = 0;
    for (size_t i = flight->first; i < flight->count; i++) {
        CHECK(at + flight->buffers[i].size <= total);
        CHECK_MEM(flight->buffers[i].bytes, unsent + at, flight->buffers[i].size);
        at += flight->buffers[i].size;
    }
    CHECK_EQ(at, total);
    CHECK_LT(flight->held, 3);
    for (size_t i = 0; i < flight->held; i++) {
        CHECK(flight->packets[i]->chunk == NULL);
    }
}

/* A copy of a flight begins anywhere, with a single byte too. */
static void what_is_left_of_a_flight_may_begin_with_a_byte(void) {
    static tp__session session;
    open_stage();
    for (size_t first = 0; first < LEFT_COUNT; first += 21) {
        for (size_t left = 1; left <= 4; left++) {
            memset((void *)&session, 0, sizeof session);
            session.server = stage.server;
            session.flight = tp_pool_allocate(tp__flight_pool());
            REQUIRE(session.flight != NULL);
            size_t total = fill_partly_sent(session.flight, first, left);
            tp__compact_waiting(&session);
            check_copied(session.flight, total);
            tp__packets_release(session.flight->packets, session.flight->held);
            tp_pool_free(tp__flight_pool(), session.flight);
        }
    }
    server_stage_close(&stage);
}

/* ---- many that stand ------------------------------------------------------------------------- */

/* The same messages to all of them. Each has what waits for it, and its slack. */
static void broadcasts_to_many(void) {
    enum { READERS = 20, MESSAGES = 2000, SIZE = 60 };
    static reader slow[READERS];
    open_stage();
    for (unsigned i = 0; i < READERS; i++) {
        make_stand(&slow[i]);
    }
    uint64_t before = tp__memory_held();
    uint64_t queued = 0;
    for (unsigned i = 0; i < READERS; i++) {
        queued -= queued_bytes(stage.server, slow[i].id);
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        tp_packet *packet = tp_packet_new(SIZE);
        REQUIRE(packet != NULL && tp_packet_put_space(packet, SIZE) != NULL);
        CHECK_EQ(tp_server_broadcast(stage.server, packet, TP_NO_SESSION), READERS);
        tp_packet_release(packet);
        talk_to_others();
    }
    for (unsigned i = 0; i < READERS; i++) {
        queued += queued_bytes(stage.server, slow[i].id);
    }
    unsigned spare = settle(stage.server, slow[0].id);
    check_bound("held", before, tp__memory_held(), queued, READERS + spare);
    for (unsigned i = 0; i < READERS; i++) {
        raw_close(slow[i].peer, true);
    }
    server_stage_close(&stage);
}

/* ---- several threads, and a reader that stops and goes --------------------------------------- */

enum { SENDERS = 4, EACH = 10000, STAMP = 5 };

static tp_session_id stamped_to;
static atomic_uint done_sending;

/* Who, and which of its messages; then filling of some size. */
static void send_stamped(void *argument) {
    unsigned who = *(unsigned *)argument;
    for (uint32_t n = 0; n < EACH; n++) {
        size_t size = STAMP + (n * 7 + who) % 400;
        tp_packet *packet = tp_packet_new(size);
        REQUIRE(packet != NULL);
        tp_packet_put_u8(packet, (uint8_t)who);
        tp_packet_put_u32(packet, n);
        memset(tp_packet_put_space(packet, size - STAMP), (int)(n & 0xff), size - STAMP);
        while (!tp_server_send(stage.server, stamped_to, packet)) {
            tp_thread_yield();
        }
        tp_packet_release(packet);
    }
    atomic_fetch_add(&done_sending, 1);
}

/* Each sender's in its order, whole: through runs and without, as the reader stands and goes. */
static void order_stays_whoever_sends(void) {
    static unsigned numbers[SENDERS];
    static uint32_t expected[SENDERS];
    tp_thread threads[SENDERS];
    open_stage();
    memset(expected, 0, sizeof expected);
    atomic_store(&done_sending, 0);
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    stamped_to = atomic_load(&stage.last_joined);
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
    STAGE_WAIT(tp__queue_size_now(&session_at(stage.server, stamped_to)->queued) == 0);
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* ---- its end --------------------------------------------------------------------------------- */

/* What waits in runs counts among what was never sent, message by message; CLOSE behind it too. */
static void what_was_never_sent_is_counted(void) {
    reader slow;
    open_stage();
    make_stand(&slow);
    for (unsigned i = 0; i < 500; i++) {
        REQUIRE(say(slow.id, 10));
    }
    (void)settle(stage.server, slow.id);
    uint64_t queued = tp__queue_size_now(&session_at(stage.server, slow.id)->queued);
    CHECK(tp_server_disconnect(stage.server, slow.id));
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    tp_session_end end = {.size = sizeof end};
    CHECK_EQ(tp_server_read_ledger(stage.server, &end, 1), 1);
    CHECK_EQ(end.pending_packets, queued >> TP__QUEUED_SHIFT);
    CHECK_EQ(end.pending_bytes, queued & TP__QUEUED_BYTES);
    raw_close(slow.peer, true);
    server_stage_close(&stage);
}

/* It is ended after what waits: all of it arrives, and then CLOSE. */
static void an_end_goes_behind_what_waits(void) {
    reader slow;
    open_stage();
    stage.options.drain_timeout_ms = 60000;
    make_stand(&slow);
    for (unsigned i = 0; i < 5000; i++) {
        REQUIRE(say(slow.id, 10));
    }
    CHECK(tp_server_disconnect_after_send(stage.server, slow.id, TP_CLOSE_NORMAL));
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
    STAGE_WAIT(atomic_load(&stage.leaves) == 1);
    server_stage_close(&stage);
}

/* Memory for runs is out: what waits stays as it is, and arrives. */
static void without_memory_packets_stay_as_they_are(void) {
    reader slow;
    open_stage();
    make_stand(&slow);
    tp_packet *packets[200];
    for (unsigned i = 0; i < 200; i++) {
        packets[i] = tp_packet_new(100);
        REQUIRE(packets[i] != NULL);
        memset(tp_packet_put_space(packets[i], 100), (int)i, 100);
    }
    void *nodes = tp_pool_allocate(tp__node_pool()); /* this thread's magazine has more */
    tp_pool_free(tp__node_pool(), nodes);
    tp__packets_trim();
    tp__memory_fail_from(1);
    unsigned taken = 0;
    while (taken < 200 && tp_server_send(stage.server, slow.id, packets[taken])) {
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
    server_stage_close(&stage);
}

CHECK_MAIN(CASE(messages_of_1_byte), CASE(messages_of_64_bytes), CASE(messages_of_1_kib),
    CASE(messages_of_half_a_run_and_more), CASE(messages_of_16_kib),
    CASE(messages_of_16_kib_and_a_head), CASE(messages_of_40_kib),
    CASE(a_handlers_sends_cost_no_more), CASE(what_is_on_its_way_costs_no_more),
    CASE(what_waits_for_a_worker_holds_few_chunks),
    CASE(what_is_left_of_a_flight_may_begin_with_a_byte), CASE(broadcasts_to_many),
    CASE(order_stays_whoever_sends), CASE(what_was_never_sent_is_counted),
    CASE(an_end_goes_behind_what_waits), CASE(without_memory_packets_stay_as_they_are))
