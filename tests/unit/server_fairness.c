/*
 * A quiet client among 20 that talk: how much of the others' input one worker works through before
 * the quiet one's message is looked at, and before its answer is out. In bytes, not in time.
 */
#include "server_stage.h"

enum {
    TALKERS = 20,
    MESSAGE = 1020,         /* with its header 1 KiB */
    TALK = 512 * 1024,      /* bytes that each talker has said; less, if the system buffers less */
    TURN = 16 * 1024,       /* what each may have read before others have their turn */
    BATCH = TALKERS * TURN, /* so much is read at once of all of them */
    FLUSH = 64 * 1024,      /* bytes received after which answers go out */
};

static server_stage stage;
static raw_peer *talkers[TALKERS];
static raw_peer *quiet;
static uint8_t talk[TALK];

static atomic_ullong heard; /* bytes of the talkers, by the one worker */
static atomic_ullong heard_at_ping;
static atomic_bool pinged, answered;

/* Once the ping has been answered and more than may be has been worked through since, the worker
 * waits for the answer to come out; if it does not, the test fails by its patience. */
static void listen_to(server_stage *on, tp_session_id session, tp_packet *packet) {
    uint8_t kind = *tp_packet_bytes(packet);
    if (kind == 'b') {
        stage_block(on);
        return;
    }
    if (kind == 'p') {
        atomic_store(&heard_at_ping, atomic_load(&heard));
        CHECK(tp_server_send(on->server, session, packet));
        atomic_store(&pinged, true);
        return;
    }
    atomic_fetch_add(&heard, MESSAGE + TP_FRAME_HEADER);
    uint64_t since = atomic_load(&heard) - atomic_load(&heard_at_ping);
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

static void open_party(void) {
    write_talk();
    atomic_store(&heard, 0);
    atomic_store(&heard_at_ping, 0);
    atomic_store(&pinged, false);
    atomic_store(&answered, false);
    server_stage_init(&stage);
    stage.on_message = listen_to;
    server_stage_open(&stage);
    for (unsigned i = 0; i < TALKERS; i++) {
        talkers[i] = stage_connect_peer(&stage);
    }
    quiet = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == TALKERS + 1);
}

/* By another session than the quiet one's. */
static void hold_up_the_worker(void) {
    CHECK(raw_send_frame(talkers[0], TP_FRAME_DATA, "b", 1));
    STAGE_WAIT(atomic_load(&stage.blocked));
}

static void let_talkers_talk(void) {
    for (unsigned i = 0; i < TALKERS; i++) {
        (void)raw_send_for(talkers[i], talk, sizeof talk, 1); /* as far as the system takes it */
    }
}

static void close_party(void) {
    for (unsigned i = 0; i < TALKERS; i++) {
        raw_close(talkers[i], true);
    }
    raw_close(quiet, false);
    server_stage_close(&stage);
}

static void ping_and_check(void) {
    char answer[4];
    unsigned type;
    atomic_store(&stage.let_go, true);
    CHECK_EQ(raw_receive_frame(quiet, &type, answer, sizeof answer), 1);
    uint64_t until_answer = atomic_load(&heard) - atomic_load(&heard_at_ping);
    atomic_store(&answered, true);
    printf("    heard of the talkers: %llu KiB before the ping, %llu KiB until its answer\n",
        atomic_load(&heard_at_ping) / 1024, (unsigned long long)until_answer / 1024);
    /* It is in the first batch, or, if the system names the others first, in the second. */
    CHECK_LE(atomic_load(&heard_at_ping), 2 * BATCH);
    CHECK_LE(until_answer, FLUSH + 2 * TURN);
    STAGE_WAIT(atomic_load(&heard) > 3 * BATCH); /* there was more to hear than is allowed here */
}

static void a_ping_behind_talkers_is_heard_soon(void) {
    open_party();
    hold_up_the_worker();
    let_talkers_talk();
    CHECK(raw_send_frame(quiet, TP_FRAME_DATA, "p", 1));
    ping_and_check();
    close_party();
}

static void a_ping_before_talkers_is_answered_soon(void) {
    open_party();
    hold_up_the_worker();
    CHECK(raw_send_frame(quiet, TP_FRAME_DATA, "p", 1));
    let_talkers_talk();
    ping_and_check();
    close_party();
}

CHECK_MAIN(CASE(a_ping_behind_talkers_is_heard_soon), CASE(a_ping_before_talkers_is_answered_soon))
