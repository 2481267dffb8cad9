/*
 * One quiet client among 20 that send without pause, on one worker: how many bytes of the others
 * are processed before the quiet client's message is, and before its answer is sent. Bytes are
 * counted, not time.
 */
#include "server_fixture.h"

enum {
    TALKERS = 20,
    MESSAGE = 1020,         /* 1 KiB with its header */
    TALK = 512 * 1024,      /* bytes sent by each talker, or less if the system buffers less */
    TURN = 16 * 1024,       /* what is read of one session before it is another's turn */
    BATCH = TALKERS * TURN, /* what is read of all talkers in one batch */
    FLUSH = 64 * 1024,      /* received bytes after which answers are sent */
};

static server_fixture fixture;
static raw_peer *talkers[TALKERS];
static raw_peer *quiet;
static uint8_t talk[TALK];

static atomic_ullong processed; /* bytes of the talkers, processed by the one worker */
static atomic_ullong processed_at_ping;
static atomic_bool pinged, answered;

/* When the ping has been handled and more than the limit has been processed since, the worker waits
 * for the answer to be received. If that never happens, the test fails by its time-out. */
static void count_bytes(server_fixture *on, tp_session_id session, tp_packet *packet) {
    uint8_t kind = *tp_packet_bytes(packet);
    if (kind == 'b') {
        fixture_block(on);
        return;
    }
    if (kind == 'p') {
        atomic_store(&processed_at_ping, atomic_load(&processed));
        CHECK(tp_server_send(on->server, session, packet));
        atomic_store(&pinged, true);
        return;
    }
    atomic_fetch_add(&processed, MESSAGE + TP_FRAME_HEADER);
    uint64_t since = atomic_load(&processed) - atomic_load(&processed_at_ping);
    if (atomic_load(&pinged) && since > FLUSH + TURN && !atomic_load(&answered)) {
        uint64_t deadline = raw_deadline();
        while (!atomic_load(&answered) && tp_clock_ms() < deadline) {
            tp_thread_yield();
        }
    }
}

static void write_talk(void) {
    for (size_t at = 0; at + MESSAGE + TP_FRAME_HEADER <= TALK; at += MESSAGE + TP_FRAME_HEADER) {
        tp_frame_write(talk + at, TP_FRAME_DATA, MESSAGE);
        memset(talk + at + TP_FRAME_HEADER, 't', MESSAGE);
    }
}

static void open_clients(void) {
    write_talk();
    atomic_store(&processed, 0);
    atomic_store(&processed_at_ping, 0);
    atomic_store(&pinged, false);
    atomic_store(&answered, false);
    server_fixture_init(&fixture);
    fixture.on_message = count_bytes;
    server_fixture_open(&fixture);
    for (unsigned i = 0; i < TALKERS; i++) {
        talkers[i] = fixture_connect_peer(&fixture);
    }
    quiet = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == TALKERS + 1);
}

/* With a message of another session than the quiet one's. */
static void block_worker(void) {
    CHECK(raw_send_frame(talkers[0], TP_FRAME_DATA, "b", 1));
    FIXTURE_WAIT(atomic_load(&fixture.blocked));
}

static void send_talk(void) {
    for (unsigned i = 0; i < TALKERS; i++) {
        (void)raw_send_for(talkers[i], talk, sizeof talk, 1); /* as much as the system takes */
    }
}

static void close_clients(void) {
    for (unsigned i = 0; i < TALKERS; i++) {
        raw_close(talkers[i], true);
    }
    raw_close(quiet, false);
    server_fixture_close(&fixture);
}

static void ping_and_check(void) {
    char answer[4];
    unsigned type;
    atomic_store(&fixture.unblock, true);
    CHECK_EQ(raw_receive_frame(quiet, &type, answer, sizeof answer), 1);
    uint64_t until_answer = atomic_load(&processed) - atomic_load(&processed_at_ping);
    atomic_store(&answered, true);
    printf("    processed of the talkers: %llu KiB before the ping, %llu KiB until its answer\n",
        atomic_load(&processed_at_ping) / 1024, (unsigned long long)until_answer / 1024);
    /* In the first batch, or in the second one if the system reports the talkers first. */
    CHECK_LE(atomic_load(&processed_at_ping), 2 * BATCH);
    CHECK_LE(until_answer, FLUSH + 2 * TURN);
    /* So that there was more to process than the limits allow. */
    FIXTURE_WAIT(atomic_load(&processed) > 3 * BATCH);
}

static void a_ping_behind_talkers_is_handled_soon(void) {
    open_clients();
    block_worker();
    send_talk();
    CHECK(raw_send_frame(quiet, TP_FRAME_DATA, "p", 1));
    ping_and_check();
    close_clients();
}

static void a_ping_before_talkers_is_answered_soon(void) {
    open_clients();
    block_worker();
    CHECK(raw_send_frame(quiet, TP_FRAME_DATA, "p", 1));
    send_talk();
    ping_and_check();
    close_clients();
}

CHECK_MAIN(
    CASE(a_ping_behind_talkers_is_handled_soon), CASE(a_ping_before_talkers_is_answered_soon))
