/*
 * The server at work: what it counts, several servers in one process, much data, many sessions, and
 * handlers that hold up their worker.
 */
#include "server_stage.h"

#include "core/engine/server_state.h"

static server_stage stage;
static server_stage other;

static tp_packet *packet_of(const void *bytes, size_t size) {
    tp_packet *packet = tp_packet_copy_of(bytes, size);
    REQUIRE(packet != NULL);
    return packet;
}

static tp_server_stats stats_of(const server_stage *s) {
    tp_server_stats stats = {.size = sizeof stats};
    tp_server_get_stats(s->server, &stats);
    return stats;
}

static void open_stage(server_stage *s, unsigned workers) {
    server_stage_init(s);
    s->options.workers = workers;
    server_stage_open(s);
}

/* ---- what is counted ------------------------------------------------------------------------- */

#define WORKERS 4u

static atomic_uint inside[WORKERS];
static atomic_uint calls_outside;

static void begin_batch(tp_server *server, unsigned worker) {
    CHECK_LT(worker, WORKERS);
    CHECK_EQ(atomic_fetch_add(&inside[worker], 1), 0);
    stage_on_begin(server, worker);
}

static void end_batch(tp_server *server, unsigned worker) {
    CHECK_EQ(atomic_fetch_sub(&inside[worker], 1), 1);
    stage_on_end(server, worker);
}

static bool anybody_inside(void) {
    unsigned sum = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        sum += atomic_load(&inside[i]);
    }
    return sum > 0;
}

static void echo_inside(server_stage *s, tp_session_id session, tp_packet *packet) {
    atomic_fetch_add(&calls_outside, !anybody_inside());
    CHECK(tp_server_send(s->server, session, packet));
}

static void every_batch_begins_and_ends(void) {
    server_stage_init(&stage);
    stage.options.workers = WORKERS;
    stage.handlers.on_worker_begin = begin_batch;
    stage.handlers.on_worker_end = end_batch;
    stage.on_message = echo_inside;
    server_stage_open(&stage);
    raw_peer *peers[8];
    for (unsigned i = 0; i < 8; i++) {
        peers[i] = stage_connect_peer(&stage);
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
    CHECK_GT(atomic_load(&stage.begins), 0);
    CHECK_EQ(atomic_load(&calls_outside), 0);
    server_stage_close(&stage); /* compares begins and ends */
}

#define ENDS 1100u

/* More ends than the ledger holds: the last 1,024, newest first; and every number adds up. */
static void the_ledger_holds_the_last_ends(void) {
    open_stage(&stage, 2);
    static tp_session_id ids[ENDS];
    for (unsigned i = 0; i < ENDS; i++) {
        raw_peer *peer = stage_connect_peer(&stage);
        unsigned type;
        char answer[8];
        CHECK(raw_send_frame(peer, TP_FRAME_DATA, "1234", 4));
        CHECK_EQ(raw_receive_frame(peer, &type, answer, sizeof answer), 4);
        ids[i] = atomic_load(&stage.last_joined);
        raw_close(peer, false);
        STAGE_WAIT(atomic_load(&stage.leaves) == i + 1);
    }
    static tp_session_end ends[ENDS];
    ends[0].size = sizeof ends[0] - 1;
    CHECK_EQ(tp_server_read_ledger(stage.server, ends, ENDS), 0);
    ends[0].size = sizeof ends[0];
    CHECK_EQ(tp_server_read_ledger(stage.server, ends, ENDS), TP_LEDGER_ENTRIES);
    for (unsigned i = 0; i < TP_LEDGER_ENTRIES; i++) {
        CHECK_EQ(ends[i].session, ids[ENDS - 1 - i]);
        CHECK_EQ(ends[i].reason, TP_END_PEER_CLOSED);
        CHECK_EQ(ends[i].received_messages, 1);
        CHECK_EQ(ends[i].received_bytes, 8);
        CHECK_EQ(ends[i].sent_messages, 1);
        CHECK_EQ(ends[i].sent_bytes, 8);
        CHECK_EQ(ends[i].pending_packets, 0);
    }
    CHECK_EQ(tp_server_read_ledger(stage.server, ends, 3), 3);
    tp_server_stop(stage.server);
    CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
    tp_server_stats stats = stats_of(&stage);
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
    tp_server_destroy(stage.server);
}

/* ---- two networks ---------------------------------------------------------------------------- */

#define CROSSINGS 2000u

static tp_session_id stage_session, other_session;

/* What comes in on one network goes out on the other, from the one's worker thread. */
static void pass_on(server_stage *from, tp_session_id session, tp_packet *packet) {
    (void)session;
    bool here = from == &stage;
    CHECK(tp_server_send(
        here ? other.server : stage.server, here ? other_session : stage_session, packet));
    /* and asks it something that only strangers' threads count */
    CHECK(!tp_server_disconnect(here ? other.server : stage.server, TP_NO_SESSION));
    CHECK_EQ(tp_server_wait(here ? other.server : stage.server, 0), TP_ERR_STATE);
}

static void two_networks_call_each_other(void) {
    server_stage *both[] = {&stage, &other};
    raw_peer *peers[2];
    for (unsigned i = 0; i < 2; i++) {
        server_stage_init(both[i]);
        both[i]->options.workers = 2;
        both[i]->on_message = pass_on;
        server_stage_open(both[i]);
        peers[i] = stage_connect_peer(both[i]);
        STAGE_WAIT(atomic_load(&both[i]->joins) == 1);
    }
    stage_session = atomic_load(&stage.last_joined);
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
        STAGE_WAIT(atomic_load(&both[i]->messages) == CROSSINGS); /* the handlers have returned */
    }
    for (unsigned i = 0; i < 2; i++) {
        raw_close(peers[i], false);
        STAGE_WAIT(atomic_load(&both[i]->leaves) == 1);
        tp_server_stats stats = stats_of(both[i]);
        CHECK_EQ(stats.received_messages, CROSSINGS);
        CHECK_EQ(stats.sent_messages, CROSSINGS);
        CHECK_EQ(stats.no_session, CROSSINGS);
        server_stage_close(both[i]);
    }
}

/* ---- one thread after another ---------------------------------------------------------------- */

typedef struct word {
    tp_session_id session;
    char byte;
} word;

static void say_word(void *argument) {
    const word *said = argument;
    tp_packet *packet = packet_of(&said->byte, 1);
    CHECK(tp_server_send(stage.server, said->session, packet));
    tp_packet_release(packet);
}

/* By turns by the session's own worker and by another thread, each knowing that the other has
 * spoken. */
static void say_by_turns(server_stage *s, tp_session_id session, tp_packet *packet) {
    (void)s;
    size_t size = tp_packet_size(packet);
    for (size_t i = 0; i < size; i++) {
        word next = {.session = session, .byte = (char)tp_packet_get_u8(packet)};
        if (i % 2 == 0) {
            say_word(&next);
        } else {
            tp_thread thread;
            REQUIRE(tp_thread_start(&thread, "speaker", say_word, &next) == TP_OK);
            tp_thread_join(&thread);
        }
    }
}

static void what_was_sent_before_comes_before(void) {
    static const char words[] = "abcdefghij";
    server_stage_init(&stage);
    stage.on_message = say_by_turns;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    CHECK(raw_send_frame(peer, TP_FRAME_DATA, words, sizeof words - 1));
    for (size_t i = 0; i < sizeof words - 1; i++) {
        unsigned type;
        char byte = 0;
        CHECK_EQ(raw_receive_frame(peer, &type, &byte, 1), 1);
        CHECK_EQ(byte, words[i]);
    }
    raw_close(peer, false);
    server_stage_close(&stage);
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

static void take_piece(server_stage *s, tp_session_id session, tp_packet *packet) {
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
        while (!tp_server_send(stage.server, *session, packet)) {
            tp_thread_yield(); /* refused: the queue is full */
        }
        tp_packet_release(packet);
    }
}

/* 64 MiB each way through one session, at once, under a queue much smaller than that. */
static void carries_64_mib_both_ways(void) {
    server_stage_init(&stage);
    stage.on_message = take_piece;
    stage.options.queue_bytes = 256 << 10;
    stage.options.queue_policy = TP_QUEUE_REFUSE;
    server_stage_open(&stage);
    raw_peer *peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == 1);
    tp_session_id id = atomic_load(&stage.last_joined);
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
    STAGE_WAIT(atomic_load(&pieces_in) == PIECES);
    CHECK_EQ(atomic_load(&pieces_wrong), 0);
    /* Nothing that was queued is counted for ever. */
    tp_session_info info = {.size = sizeof info};
    STAGE_WAIT(tp_server_session_info(stage.server, id, &info) && info.queued_packets == 0);
    CHECK_EQ(info.queued_bytes, 0);
    CHECK_EQ(info.sent_messages, PIECES);
    CHECK_EQ(info.received_messages, PIECES);
    raw_close(peer, false);
    server_stage_close(&stage);
}

/* ---- many sessions --------------------------------------------------------------------------- */

#define MANY 2000u

/* Outgoing sessions of one server are the other's incoming ones. */
static void two_thousand_sessions_at_once(void) {
    server_stage_init(&stage);
    stage.options.workers = 2;
    stage.options.max_sessions = MANY;
    server_stage_open(&stage);
    server_stage_init(&other);
    other.options.listen = false;
    other.options.workers = 2;
    other.options.max_sessions = MANY;
    other.options.connect_timeout_ms = 600000;
    other.options.drain_timeout_ms =
        600000; /* each hears that it is over, however long that takes */
    atomic_store(&other.echo, false);
    server_stage_open(&other);
    tp_address address = tp_server_address(stage.server);
    static tp_session_id ids[MANY + 1];
    for (unsigned i = 0; i < MANY; i++) {
        REQUIRE(tp_server_connect(other.server, &address, &ids[i]) == TP_OK);
        STAGE_WAIT(atomic_load(&stage.joins) + 100 > i); /* no more than the backlog holds */
    }
    CHECK_EQ(tp_server_connect(other.server, &address, &ids[MANY]), TP_ERR_FULL);
    STAGE_WAIT(atomic_load(&stage.joins) == MANY && atomic_load(&other.joins) == MANY);
    CHECK_EQ(tp_server_session_count(stage.server), MANY);
    CHECK_EQ(tp_server_session_count(other.server), MANY);
    tp_packet *packet = packet_of("all", 3);
    CHECK_EQ(tp_server_broadcast(stage.server, packet, TP_NO_SESSION), MANY);
    STAGE_WAIT(atomic_load(&other.messages) == MANY);
    CHECK_EQ(tp_server_send_many(other.server, ids, MANY, packet), MANY);
    STAGE_WAIT(atomic_load(&stage.messages) == MANY);
    STAGE_WAIT(atomic_load(&other.messages) == 2 * MANY); /* the echo */
    tp_packet_release(packet);
    server_stage_close(&other);
    STAGE_WAIT(atomic_load(&stage.leaves) == MANY);
    CHECK_EQ(stats_of(&stage).ends[TP_END_REFUSED], MANY); /* the other said: shutdown */
    server_stage_close(&stage);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

#define POSTERS   4u
#define POSTS     3000u
#define ALL_POSTS (POSTERS * POSTS)

static atomic_uint tasks_run, tasks_posted, tasks_full;
static atomic_uchar times_run[ALL_POSTS]; /* of each poster's tasks */
static atomic_uchar handlers_task;

static void count_task(void *context) {
    atomic_uchar *times = context;
    CHECK(atomic_fetch_add(times, 1) == 0 || times == &handlers_task);
    atomic_fetch_add(&tasks_run, 1);
}

static void post_many(void *argument) {
    unsigned from = (unsigned)(uintptr_t)argument;
    for (unsigned i = 0; i < POSTS; i++) {
        tp_err error =
            tp_server_post(stage.server, (from + i) % 3, count_task, &times_run[from * POSTS + i]);
        CHECK(error == TP_OK || error == TP_ERR_FULL);
        atomic_fetch_add(error ? &tasks_full : &tasks_posted, 1);
    }
}

static void post_from_handler(server_stage *s, tp_session_id session, tp_packet *packet) {
    CHECK_EQ(tp_server_post(s->server, 0, count_task, &handlers_task), TP_OK);
    CHECK_EQ(tp_server_post(s->server, 1, count_task, &handlers_task), TP_OK);
    atomic_fetch_add(&tasks_posted, 2);
    CHECK(tp_server_send(s->server, session, packet));
}

static void every_task_runs_once(void) {
    server_stage_init(&stage);
    stage.options.workers = 3;
    stage.on_message = post_from_handler;
    server_stage_open(&stage);
    tp_thread threads[POSTERS];
    for (unsigned i = 0; i < POSTERS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "poster", post_many, (void *)(uintptr_t)i) == TP_OK);
    }
    raw_peer *peer = stage_connect_peer(&stage);
    for (unsigned i = 0; i < 200; i++) {
        unsigned type;
        CHECK(raw_send_frame(peer, TP_FRAME_DATA, "p", 1));
        CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 1);
    }
    for (unsigned i = 0; i < POSTERS; i++) {
        tp_thread_join(&threads[i]);
    }
    STAGE_WAIT(atomic_load(&tasks_run) == atomic_load(&tasks_posted));
    CHECK_EQ(atomic_load(&tasks_posted) + atomic_load(&tasks_full), ALL_POSTS + 400);
    raw_close(peer, false);
    server_stage_close(&stage);
    CHECK_EQ(atomic_load(&tasks_run), atomic_load(&tasks_posted));
}

/* ---- handlers that block --------------------------------------------------------------------- */

static atomic_uint late_run;

static void block(void *context) {
    stage_block(context);
}

static void run_late(void *context) {
    (void)context;
    atomic_fetch_add(&late_run, 1);
}

#define CLOCK_PEERS 16u

static tp__worker *home_of(tp_session_id session) {
    return atomic_load(&stage.server->sessions[tp_session_slot(session)].home);
}

/*
 * Whichever worker is held up, and by a task with or without delay: the clock goes on. Tasks run,
 * silence is noticed, and a stop cuts who does not go.
 */
static void the_clock_goes_on_without_one_worker(void) {
    for (unsigned round = 0; round < 4; round++) {
        bool delayed = round == 3;
        server_stage_init(&stage);
        stage.options.workers = 2;
        stage.options.ping_interval_ms = 100;
        stage.options.drain_timeout_ms = 100;
        server_stage_open(&stage);
        atomic_store(&late_run, 0);
        /* So many sessions that each worker has one, if workers have sessions: two, unless this
         * machine is so slow that the one for whom the second was came too late. */
        raw_peer *peers[CLOCK_PEERS];
        unsigned count = 0;
        tp__worker *first = NULL, *last = NULL;
        while (count < 2 || (count < CLOCK_PEERS && first == last && first)) {
            peers[count++] = stage_connect_peer(&stage);
            STAGE_WAIT(atomic_load(&stage.joins) == count);
            last = home_of(atomic_load(&stage.last_joined));
            first = count == 1 ? last : first;
        }
        CHECK_EQ(tp_server_post(stage.server, delayed, block, &stage), TP_OK);
        STAGE_WAIT(atomic_load(&stage.blocked));
        if (!delayed) { /* delayed ones come one after another */
            unsigned before = atomic_load(&late_run);
            for (unsigned i = 1; i <= 3; i++) {
                CHECK_EQ(tp_server_post(stage.server, 10, run_late, NULL), TP_OK);
                STAGE_WAIT(atomic_load(&late_run) == before + i);
            }
        }
        /* Of the sessions at least one has a worker that can say PING. */
        STAGE_WAIT(stats_of(&stage).sent_messages > 0);
        tp_server_stop(stage.server);
        STAGE_WAIT(atomic_load(&stage.leaves) >= 1);
        atomic_store(&stage.let_go, true);
        CHECK_EQ(tp_server_wait(stage.server, -1), TP_OK);
        for (unsigned i = 0; i < count; i++) {
            raw_close(peers[i], true);
        }
        tp_server_destroy(stage.server);
    }
}

/* A handler that blocks holds up the sessions of its worker and no others. */
static void a_handler_that_blocks_holds_up_one_worker(void) {
    enum { PEERS = 8 };
    server_stage_init(&stage);
    stage.options.workers = 4;
    stage.on_message = stage_block_on_b;
    server_stage_open(&stage);
    raw_peer *peers[PEERS];
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = stage_connect_peer(&stage);
        STAGE_WAIT(atomic_load(&stage.joins) == i + 1);
    }
    CHECK(raw_send_frame(peers[0], TP_FRAME_DATA, "b", 1));
    STAGE_WAIT(atomic_load(&stage.blocked));
    for (unsigned i = 1; i < PEERS; i++) {
        CHECK(raw_send_frame(peers[i], TP_FRAME_DATA, "f", 1));
    }
    /* With 8 sessions spread over 4 workers, no worker has more than 3. */
    STAGE_WAIT(atomic_load(&stage.messages) >= PEERS - 3);
    atomic_store(&stage.let_go, true);
    unsigned type;
    for (unsigned i = 0; i < PEERS; i++) {
        CHECK_EQ(raw_receive_frame(peers[i], &type, in, sizeof in), 1);
        CHECK_EQ(in[0], i == 0 ? 'b' : 'f');
        raw_close(peers[i], false);
    }
    server_stage_close(&stage);
}

CHECK_MAIN(CASE(every_batch_begins_and_ends), CASE(the_ledger_holds_the_last_ends),
    CASE(two_networks_call_each_other), CASE(what_was_sent_before_comes_before),
    CASE(carries_64_mib_both_ways), CASE(two_thousand_sessions_at_once), CASE(every_task_runs_once),
    CASE(the_clock_goes_on_without_one_worker), CASE(a_handler_that_blocks_holds_up_one_worker))
