/*
 * The server at work: batch handlers and counters, several servers in one process, much data, and
 * many sessions.
 */
#include "server_fixture.h"

static server_fixture fixture;
static server_fixture other;

static tp_packet *packet_of(const void *bytes, size_t size) {
    tp_packet *packet = tp_packet_copy_of(bytes, size);
    REQUIRE(packet != NULL);
    return packet;
}

static void open_fixture(server_fixture *s, unsigned workers) {
    server_fixture_init(s);
    s->options.workers = workers;
    server_fixture_open(s);
}

/* ---- what is counted ------------------------------------------------------------------------- */

#define WORKERS 4u

static atomic_uint inside[WORKERS];
static atomic_uint calls_outside;

static void begin_batch(tp_server *server, unsigned worker) {
    CHECK_LT(worker, WORKERS);
    CHECK_EQ(atomic_fetch_add(&inside[worker], 1), 0);
    fixture_on_begin(server, worker);
}

static void end_batch(tp_server *server, unsigned worker) {
    CHECK_EQ(atomic_fetch_sub(&inside[worker], 1), 1);
    fixture_on_end(server, worker);
}

static bool any_worker_inside(void) {
    unsigned sum = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        sum += atomic_load(&inside[i]);
    }
    return sum > 0;
}

static void echo_inside(server_fixture *s, tp_session_id session, tp_packet *packet) {
    atomic_fetch_add(&calls_outside, !any_worker_inside());
    CHECK(tp_server_send(s->server, session, packet));
}

static void every_batch_begins_and_ends(void) {
    server_fixture_init(&fixture);
    fixture.options.workers = WORKERS;
    fixture.handlers.on_worker_begin = begin_batch;
    fixture.handlers.on_worker_end = end_batch;
    fixture.on_message = echo_inside;
    server_fixture_open(&fixture);
    raw_peer *peers[8];
    for (unsigned i = 0; i < 8; i++) {
        peers[i] = fixture_connect_peer(&fixture);
    }
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 8; i++) {
            CHECK(raw_send_frame(peers[i], TP_FRAME_DATA, "x", 1));
        }
        for (unsigned i = 0; i < 8; i++) {
            unsigned type;
            char answer;
            CHECK_EQ(raw_receive_frame(peers[i], &type, &answer, 1), 1);
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        raw_close(peers[i], false);
    }
    CHECK_GT(atomic_load(&fixture.begins), 0);
    CHECK_EQ(atomic_load(&calls_outside), 0);
    server_fixture_close(&fixture); /* also compares begins and ends */
}

#define ENDS 1100u

/* More ends than the ledger holds: it has the last 1,024, newest first, and the counters add up. */
static void the_ledger_holds_the_last_ends(void) {
    open_fixture(&fixture, 2);
    static tp_session_id ids[ENDS];
    for (unsigned i = 0; i < ENDS; i++) {
        raw_peer *peer = fixture_connect_peer(&fixture);
        unsigned type;
        char answer[8];
        CHECK(raw_send_frame(peer, TP_FRAME_DATA, "1234", 4));
        CHECK_EQ(raw_receive_frame(peer, &type, answer, sizeof answer), 4);
        ids[i] = atomic_load(&fixture.last_joined);
        raw_close(peer, false);
        FIXTURE_WAIT(atomic_load(&fixture.leaves) == i + 1);
    }
    static tp_session_end ends[ENDS];
    ends[0].size = sizeof ends[0] - 1;
    CHECK_EQ(tp_server_read_ledger(fixture.server, ends, ENDS), 0);
    ends[0].size = sizeof ends[0];
    CHECK_EQ(tp_server_read_ledger(fixture.server, ends, ENDS), TP_LEDGER_ENTRIES);
    for (unsigned i = 0; i < TP_LEDGER_ENTRIES; i++) {
        CHECK_EQ(ends[i].session, ids[ENDS - 1 - i]);
        CHECK_EQ(ends[i].reason, TP_END_PEER_CLOSED);
        CHECK_EQ(ends[i].received_messages, 1);
        CHECK_EQ(ends[i].received_bytes, 8);
        CHECK_EQ(ends[i].sent_messages, 1);
        CHECK_EQ(ends[i].sent_bytes, 8);
        CHECK_EQ(ends[i].pending_packets, 0);
    }
    CHECK_EQ(tp_server_read_ledger(fixture.server, ends, 3), 3);
    tp_server_stop(fixture.server);
    CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
    tp_server_stats stats = server_fixture_stats(&fixture);
    CHECK_EQ(stats.accepted, ENDS);
    CHECK_EQ(stats.joined, ENDS);
    CHECK_EQ(stats.left, ENDS);
    CHECK_EQ(stats.ends[TP_END_PEER_CLOSED], ENDS);
    CHECK_EQ(stats.received_messages, ENDS);
    CHECK_EQ(stats.received_bytes, ENDS * 8);
    CHECK_EQ(stats.sent_messages, ENDS);
    CHECK_EQ(stats.sent_bytes, ENDS * 8);
    CHECK_LE(stats.sends, ENDS);
    CHECK_EQ(stats.no_session + stats.dropped + stats.refused + stats.no_memory + stats.errors +
                 stats.denied + stats.full + stats.accept_failures,
        0);
    tp_server_destroy(fixture.server);
}

/* ---- two networks ---------------------------------------------------------------------------- */

#define CROSSINGS 2000u

static tp_session_id fixture_session, other_session;

/* What is received on one network is sent on the other one, by the first one's worker. */
static void pass_on(server_fixture *from, tp_session_id session, tp_packet *packet) {
    (void)session;
    bool here = from == &fixture;
    CHECK(tp_server_send(
        here ? other.server : fixture.server, here ? other_session : fixture_session, packet));
    /* and a query that is counted for foreign threads only */
    CHECK(!tp_server_disconnect(here ? other.server : fixture.server, TP_NO_SESSION));
    CHECK_EQ(tp_server_wait(here ? other.server : fixture.server, 0), TP_ERR_STATE);
}

static void two_networks_call_each_other(void) {
    server_fixture *both[] = {&fixture, &other};
    raw_peer *peers[2];
    for (unsigned i = 0; i < 2; i++) {
        server_fixture_init(both[i]);
        both[i]->options.workers = 2;
        both[i]->on_message = pass_on;
        server_fixture_open(both[i]);
        peers[i] = fixture_connect_peer(both[i]);
        FIXTURE_WAIT(atomic_load(&both[i]->joins) == 1);
    }
    fixture_session = atomic_load(&fixture.last_joined);
    other_session = atomic_load(&other.last_joined);
    for (uint32_t i = 0; i < CROSSINGS; i += 50) {
        for (uint32_t k = i; k < i + 50; k++) {
            CHECK(raw_send_frame(peers[0], TP_FRAME_DATA, &k, sizeof k));
            CHECK(raw_send_frame(peers[1], TP_FRAME_DATA, &k, sizeof k));
        }
        for (uint32_t k = i; k < i + 50; k++) {
            unsigned type;
            uint32_t answer = UINT32_MAX;
            CHECK_EQ(raw_receive_frame(peers[0], &type, &answer, sizeof answer), 4);
            CHECK_EQ(answer, k);
            CHECK_EQ(raw_receive_frame(peers[1], &type, &answer, sizeof answer), 4);
            CHECK_EQ(answer, k);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        FIXTURE_WAIT(atomic_load(&both[i]->messages) == CROSSINGS); /* the handlers have returned */
    }
    for (unsigned i = 0; i < 2; i++) {
        raw_close(peers[i], false);
        FIXTURE_WAIT(atomic_load(&both[i]->leaves) == 1);
        tp_server_stats stats = server_fixture_stats(both[i]);
        CHECK_EQ(stats.received_messages, CROSSINGS);
        CHECK_EQ(stats.sent_messages, CROSSINGS);
        CHECK_EQ(stats.no_session, CROSSINGS);
        server_fixture_close(both[i]);
    }
}

/* ---- threads that send in turn --------------------------------------------------------------- */

typedef struct word {
    tp_session_id session;
    char byte;
} word;

static void send_word(void *argument) {
    const word *said = argument;
    tp_packet *packet = packet_of(&said->byte, 1);
    CHECK(tp_server_send(fixture.server, said->session, packet));
    tp_packet_release(packet);
}

/* The session's own worker and another thread send in turn, each after the other has sent. */
static void send_in_turn(server_fixture *s, tp_session_id session, tp_packet *packet) {
    (void)s;
    size_t size = tp_packet_size(packet);
    for (size_t i = 0; i < size; i++) {
        word next = {.session = session, .byte = (char)tp_packet_get_u8(packet)};
        if (i % 2 == 0) {
            send_word(&next);
        } else {
            tp_thread thread;
            REQUIRE(tp_thread_start(&thread, "speaker", send_word, &next) == TP_OK);
            tp_thread_join(&thread);
        }
    }
}

static void sends_of_two_threads_keep_their_order(void) {
    static const char words[] = "abcdefghij";
    server_fixture_init(&fixture);
    fixture.on_message = send_in_turn;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, words, sizeof words - 1));
    for (size_t i = 0; i < sizeof words - 1; i++) {
        unsigned type;
        char byte = 0;
        CHECK_EQ(raw_receive_frame(peer, &type, &byte, 1), 1);
        CHECK_EQ(byte, words[i]);
    }
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

/* ---- much data ------------------------------------------------------------------------------- */

#define PIECES     4096u
#define PIECE_SIZE 16384u

static uint8_t piece[PIECE_SIZE];
static uint8_t in[PIECE_SIZE];
static atomic_uint pieces_in, pieces_wrong;

static void fill_piece(uint8_t *bytes, uint32_t number) {
    for (uint32_t i = 0; i < PIECE_SIZE; i++) {
        bytes[i] = (uint8_t)(number * 31 + i * 7 + (i >> 8));
    }
}

static void take_piece(server_fixture *s, tp_session_id session, tp_packet *packet) {
    (void)s, (void)session;
    static uint8_t expected[PIECE_SIZE]; /* one worker */
    fill_piece(expected, atomic_fetch_add(&pieces_in, 1));
    atomic_fetch_add(&pieces_wrong, tp_packet_size(packet) != PIECE_SIZE ||
                                        memcmp(tp_packet_bytes(packet), expected, PIECE_SIZE) != 0);
}

static void push_pieces(void *argument) {
    const tp_session_id *session = argument;
    static uint8_t out[PIECE_SIZE];
    for (uint32_t i = 0; i < PIECES; i++) {
        fill_piece(out, i);
        tp_packet *packet = packet_of(out, PIECE_SIZE);
        while (!tp_server_send(fixture.server, *session, packet)) {
            tp_thread_yield(); /* refused: the queue is full */
        }
        tp_packet_release(packet);
    }
}

/* 64 MiB in each direction of one session, with a queue limit much smaller than that. */
static void a_session_carries_64_mib_both_ways(void) {
    server_fixture_init(&fixture);
    fixture.on_message = take_piece;
    fixture.options.queue_bytes = 256 << 10;
    fixture.options.queue_policy = TP_QUEUE_REFUSE;
    server_fixture_open(&fixture);
    raw_peer *peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == 1);
    tp_session_id id = atomic_load(&fixture.last_joined);
    tp_thread pusher;
    REQUIRE(tp_thread_start(&pusher, "pusher", push_pieces, &id) == TP_OK);
    for (uint32_t i = 0; i < PIECES; i++) {
        unsigned type;
        fill_piece(piece, i);
        REQUIRE(raw_send_frame(peer, TP_FRAME_DATA, piece, PIECE_SIZE));
        REQUIRE(raw_receive_frame(peer, &type, in, sizeof in) == PIECE_SIZE);
        CHECK_MEM(in, piece, PIECE_SIZE);
    }
    tp_thread_join(&pusher);
    FIXTURE_WAIT(atomic_load(&pieces_in) == PIECES);
    CHECK_EQ(atomic_load(&pieces_wrong), 0);
    /* Nothing stays counted as queued. */
    tp_session_info info = {.size = sizeof info};
    FIXTURE_WAIT(tp_server_session_info(fixture.server, id, &info) && info.queued_packets == 0);
    CHECK_EQ(info.queued_bytes, 0);
    CHECK_EQ(info.sent_messages, PIECES);
    CHECK_EQ(info.received_messages, PIECES);
    raw_close(peer, false);
    server_fixture_close(&fixture);
}

/* ---- many sessions --------------------------------------------------------------------------- */

#define MANY 2000u

/* The outgoing sessions of one server are the incoming ones of the other. */
static void two_thousand_sessions_are_served(void) {
    server_fixture_init(&fixture);
    fixture.options.workers = 2;
    fixture.options.max_sessions = MANY;
    server_fixture_open(&fixture);
    server_fixture_init(&other);
    other.options.listen = false;
    other.options.workers = 2;
    other.options.max_sessions = MANY;
    other.options.connect_timeout_ms = 600000;
    other.options.drain_timeout_ms = 600000; /* each gets its CLOSE, however long that takes */
    atomic_store(&other.echo, false);
    server_fixture_open(&other);
    tp_address address = tp_server_address(fixture.server);
    static tp_session_id ids[MANY + 1];
    for (unsigned i = 0; i < MANY; i++) {
        REQUIRE(tp_server_connect(other.server, &address, &ids[i]) == TP_OK);
        /* No more at a time than the listener's backlog holds. */
        FIXTURE_WAIT(atomic_load(&fixture.joins) + 100 > i);
    }
    CHECK_EQ(tp_server_connect(other.server, &address, &ids[MANY]), TP_ERR_FULL);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == MANY && atomic_load(&other.joins) == MANY);
    CHECK_EQ(tp_server_session_count(fixture.server), MANY);
    CHECK_EQ(tp_server_session_count(other.server), MANY);
    tp_packet *packet = packet_of("all", 3);
    CHECK_EQ(tp_server_broadcast(fixture.server, packet, TP_NO_SESSION), MANY);
    FIXTURE_WAIT(atomic_load(&other.messages) == MANY);
    CHECK_EQ(tp_server_send_many(other.server, ids, MANY, packet), MANY);
    FIXTURE_WAIT(atomic_load(&fixture.messages) == MANY);
    FIXTURE_WAIT(atomic_load(&other.messages) == 2 * MANY); /* the echo */
    tp_packet_release(packet);
    server_fixture_close(&other);
    FIXTURE_WAIT(atomic_load(&fixture.leaves) == MANY);
    /* CLOSE shutdown from the other server. */
    CHECK_EQ(server_fixture_stats(&fixture).ends[TP_END_REFUSED], MANY);
    server_fixture_close(&fixture);
}

CHECK_MAIN(CASE(every_batch_begins_and_ends), CASE(the_ledger_holds_the_last_ends),
    CASE(two_networks_call_each_other), CASE(sends_of_two_threads_keep_their_order),
    CASE(a_session_carries_64_mib_both_ways), CASE(two_thousand_sessions_are_served))
