/*
 * What waits for a peer that does not read costs about its own size, and comes back: whatever its
 * messages' sizes, whoever sends them, and whatever else is sent in between.
 */
#include "core/compact.h"
#include "core/memory.h"
#include "core/packet_internal.h"
#include "core/pools.h"
#include "core/server_internal.h"
#include "resident.h"
#include "server_stage.h"

static server_stage stage;
static uint8_t in[70000];

#define KIB          ((uint64_t)1024)
#define QUEUED_LEAST (700 * KIB)
#define SLACK        (64 * KIB)

/* ---- a session whose peer does not read ------------------------------------------------------ */

typedef struct reader {
    raw_peer *peer;
    tp_session_id id;
    uint64_t filled; /* messages sent before it stood */
} reader;

/* So that what one case has left does not serve the next. */
static void forget_all_memory(void) {
    REQUIRE(tp__pools_open() == TP_OK);
    tp__packets_trim();
    tp_pool_trim(tp__node_pool());
    tp_pool_trim(tp__flight_pool());
}

static void open_stage(void) {
    forget_all_memory();
    server_stage_init(&stage);
    stage.options.queue_bytes = (size_t)4 << 20;
    stage.options.queue_packets = 1000000;
    stage.options.queue_policy = TP_QUEUE_REFUSE;
    atomic_store(&stage.echo, false);
    server_stage_open(&stage);
}

static tp__session *session_of(tp_session_id id) {
    return &stage.server->sessions[tp_session_slot(id)];
}

static uint64_t queued_bytes(tp_session_id id) {
    return atomic_load(&session_of(id)->queued) & TP__QUEUED_BYTES;
}

static bool stands(tp_session_id id) {
    return atomic_load(&session_of(id)->pending_state) != TP__PENDING_OWNED;
}

/* On iocp every send is open while it is on its way: it stands when nothing more of it goes. */
static bool has_come_to_rest(tp_session_id id) {
    return queued_bytes(id) == 0 || stands(id);
}

static uint64_t numbered; /* of the next message */

/* A message that says its number as far as it has room, and goes on with bytes that follow. */
static bool say(tp_session_id id, size_t size) {
    tp_packet *packet = tp_packet_new(size);
    REQUIRE(packet != NULL);
    uint8_t *bytes = tp_packet_put_space(packet, size);
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
    uint64_t before = 0;
    do {
        REQUIRE(say(slow->id, FILLING));
        STAGE_WAIT(has_come_to_rest(slow->id));
        if (tp_port_binds(stage.server->port) ? stands(slow->id)
                                              : queued_bytes(slow->id) > 40 * FILLING) {
            before = 1;
        }
    } while (before == 0);
    slow->filled = numbered;
}

/* Others' packets, which fill what is left of this thread's chunk and more: so the next packet is
 * cut from another one. */
static void talk_to_others(void) {
    tp_packet *others[5];
    for (unsigned i = 0; i < 5; i++) {
        others[i] = tp_packet_new(15000);
        REQUIRE(others[i] != NULL);
    }
    for (unsigned i = 0; i < 5; i++) {
        tp_packet_release(others[i]);
    }
}

static void check_bound(const char *what, uint64_t before, uint64_t after, uint64_t queued) {
    uint64_t held = after > before ? after - before : 0;
    printf("    %s: %u KiB for %u KiB\n", what, (unsigned)(held / KIB), (unsigned)(queued / KIB));
    CHECK_LE(held, 2 * queued + SLACK);
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
    STAGE_WAIT(atomic_load(&session_of(slow->id)->queued) == 0);
    STAGE_WAIT(atomic_load(&stage.sends) == numbered);
}

static void check_size(size_t size) {
    reader slow;
    open_stage();
    make_stand(&slow);
    uint64_t least = QUEUED_LEAST;
#ifdef TP_ADDRESS_SANITIZER
    least = size < 64 ? least / 8 : least;
#endif
    uint64_t queued_before = queued_bytes(slow.id);
    uint64_t before = tp__memory_held();
    uint64_t resident_before = resident_bytes();
    while (queued_bytes(slow.id) - queued_before < least) {
        REQUIRE(say(slow.id, size));
        talk_to_others();
    }
    uint64_t queued = queued_bytes(slow.id) - queued_before;
    printf("  %u bytes each:\n", (unsigned)size);
    check_bound("held", before, tp__memory_held(), queued);
    check_bound("resident", resident_before, resident_bytes(), queued);
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

static void messages_of_40_kib(void) {
    check_size(40000);
}

/* ---- by handlers ----------------------------------------------------------------------------- */

static reader target;

/* Home's own sends take another road than those of other threads. */
static void forward_to_target(server_stage *on, tp_session_id session, tp_packet *packet) {
    (void)on, (void)packet;
    if (session != target.id) {
        REQUIRE(say(target.id, 64));
        talk_to_others();
    }
}

static void a_handlers_sends_cost_no_more(void) {
    enum { ROUNDS = 10000 };
    open_stage();
    stage.on_message = forward_to_target;
    make_stand(&target);
    raw_peer *peer = stage_connect_peer(&stage);
    uint64_t queued = queued_bytes(target.id);
    uint64_t before = tp__memory_held();
    for (unsigned i = 0; i < ROUNDS; i++) {
        REQUIRE(raw_send_frame(peer, TP_FRAME_DATA, "m", 1));
    }
    STAGE_WAIT(atomic_load(&stage.messages) == ROUNDS);
    check_bound("held", before, tp__memory_held(), queued_bytes(target.id) - queued);
    check_all_arrives(&target, 64);
    raw_close(peer, false);
    raw_close(target.peer, false);
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
        queued -= queued_bytes(slow[i].id);
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        tp_packet *packet = tp_packet_new(SIZE);
        REQUIRE(packet != NULL && tp_packet_put_space(packet, SIZE) != NULL);
        CHECK_EQ(tp_server_broadcast(stage.server, packet, TP_NO_SESSION), READERS);
        tp_packet_release(packet);
        talk_to_others();
    }
    for (unsigned i = 0; i < READERS; i++) {
        queued += queued_bytes(slow[i].id);
    }
    uint64_t held = tp__memory_held() - before;
    printf("    held: %u KiB for %u KiB\n", (unsigned)(held / KIB), (unsigned)(queued / KIB));
    CHECK_LE(held, 2 * queued + SLACK);
    for (unsigned i = 0; i < READERS; i++) {
        raw_close(slow[i].peer, true);
    }
    server_stage_close(&stage);
}

/* ---- several threads, and a reader that stops and goes --------------------------------------- */

enum { SENDERS = 4, EACH = 30000, STAMP = 5 };

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
    STAGE_WAIT(atomic_load(&session_of(stamped_to)->queued) == 0);
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
    uint64_t queued = atomic_load(&session_of(slow.id)->queued);
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
    CASE(messages_of_half_a_run_and_more), CASE(messages_of_16_kib), CASE(messages_of_40_kib),
    CASE(a_handlers_sends_cost_no_more), CASE(broadcasts_to_many), CASE(order_stays_whoever_sends),
    CASE(what_was_never_sent_is_counted), CASE(an_end_goes_behind_what_waits),
    CASE(without_memory_packets_stay_as_they_are))
