/*
 * Queues of peers that do not read take memory of about the size of what is queued and give it
 * back, whatever the messages' sizes, the sending threads, and what else is sent in between.
 */
#include "unread_fixture.h"

#define QUEUED_LEAST (400 * KIB)

/* ---- a session whose peer does not read ------------------------------------------------------ */

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

CHECK_MAIN(CASE(queued_messages_of_1_byte_take_little_memory),
    CASE(queued_messages_of_64_bytes_take_little_memory),
    CASE(queued_messages_of_1_kib_take_little_memory),
    CASE(queued_messages_of_half_a_run_take_little_memory),
    CASE(queued_messages_of_16_kib_take_little_memory),
    CASE(queued_messages_of_16_kib_and_a_head_take_little_memory),
    CASE(queued_messages_of_40_kib_take_little_memory), CASE(sends_by_handlers_take_no_more_memory),
    CASE(messages_in_flight_take_no_more_memory),
    CASE(messages_for_a_blocked_worker_keep_few_chunks),
    CASE(broadcasts_to_many_readers_take_little_memory))
