/*
 * The server's workers: each task runs once, whichever thread posts it, and a handler or task that
 * blocks delays one worker and no other.
 */
#include "core/engine/server_state.h"
#include "server_fixture.h"

static server_fixture fixture;
static uint8_t in[16];

/* ---- tasks ----------------------------------------------------------------------------------- */

#define POSTERS   4u
#define POSTS     3000u
#define ALL_POSTS (POSTERS * POSTS)

static atomic_uint tasks_run, tasks_posted, tasks_full;
static atomic_uchar times_run[ALL_POSTS]; /* by each poster's tasks */
static atomic_uchar handlers_task;

static void count_task(void *context) {
    atomic_uchar *times = context;
    CHECK(atomic_fetch_add(times, 1) == 0 || times == &handlers_task);
    atomic_fetch_add(&tasks_run, 1);
}

static void post_many(void *argument) {
    unsigned from = (unsigned)(uintptr_t)argument;
    for (unsigned i = 0; i < POSTS; i++) {
        tp_err error = tp_server_post(
            fixture.server, (from + i) % 3, count_task, &times_run[from * POSTS + i]);
        CHECK(error == TP_OK || error == TP_ERR_FULL);
        atomic_fetch_add(error ? &tasks_full : &tasks_posted, 1);
    }
}

static void post_from_handler(server_fixture *s, tp_session_id session, tp_packet *packet) {
    CHECK_EQ(tp_server_post(s->server, 0, count_task, &handlers_task), TP_OK);
    CHECK_EQ(tp_server_post(s->server, 1, count_task, &handlers_task), TP_OK);
    atomic_fetch_add(&tasks_posted, 2);
    CHECK(tp_server_send(s->server, session, packet));
}

static void every_task_runs_once(void) {
    server_fixture_init(&fixture);
    fixture.options.workers = 3;
    fixture.on_message = post_from_handler;
    server_fixture_open(&fixture);
    tp_thread threads[POSTERS];
    for (unsigned i = 0; i < POSTERS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "poster", post_many, (void *)(uintptr_t)i) == TP_OK);
    }
    raw_peer *peer = fixture_connect_peer(&fixture);
    for (unsigned i = 0; i < 200; i++) {
        unsigned type;
        CHECK(raw_send_frame(peer, TP_FRAME_DATA, "p", 1));
        CHECK_EQ(raw_receive_frame(peer, &type, in, sizeof in), 1);
    }
    for (unsigned i = 0; i < POSTERS; i++) {
        tp_thread_join(&threads[i]);
    }
    FIXTURE_WAIT(atomic_load(&tasks_run) == atomic_load(&tasks_posted));
    CHECK_EQ(atomic_load(&tasks_posted) + atomic_load(&tasks_full), ALL_POSTS + 400);
    raw_close(peer, false);
    server_fixture_close(&fixture);
    CHECK_EQ(atomic_load(&tasks_run), atomic_load(&tasks_posted));
}

/* ---- handlers that block --------------------------------------------------------------------- */

static atomic_uint late_run;

static void block(void *context) {
    fixture_block(context);
}

static void run_late(void *context) {
    (void)context;
    atomic_fetch_add(&late_run, 1);
}

#define CLOCK_PEERS 256u

static tp__worker *owner_of(tp_session_id session) {
    return atomic_load(&fixture.server->sessions[tp_session_slot(session)].owner);
}

/*
 * Whichever worker is blocked, by a task with or without delay: other tasks run, silence is
 * noticed, and a stop cuts peers that do not close.
 */
static void time_outs_work_while_one_worker_is_blocked(void) {
    for (unsigned round = 0; round < 4; round++) {
        bool delayed = round == 3;
        server_fixture_init(&fixture);
        fixture.options.workers = 2;
        fixture.options.ping_interval_ms = 100;
        fixture.options.drain_timeout_ms = 100;
        server_fixture_open(&fixture);
        atomic_store(&late_run, 0);
        /* So many sessions that each worker has one, where sessions have owners: two, unless the
         * system does not let the second worker run; connecting all of them takes longer than any
         * thread waits for a processor. */
        raw_peer *peers[CLOCK_PEERS];
        unsigned count = 0;
        tp__worker *first = NULL, *last = NULL;
        while (count < 2 || (count < CLOCK_PEERS && first == last && first)) {
            peers[count++] = fixture_connect_peer(&fixture);
            FIXTURE_WAIT(atomic_load(&fixture.joins) == count);
            last = owner_of(atomic_load(&fixture.last_joined));
            first = count == 1 ? last : first;
        }
        CHECK_EQ(tp_server_post(fixture.server, delayed, block, &fixture), TP_OK);
        FIXTURE_WAIT(atomic_load(&fixture.blocked));
        if (!delayed) { /* delayed tasks run one after another */
            unsigned before = atomic_load(&late_run);
            for (unsigned i = 1; i <= 3; i++) {
                CHECK_EQ(tp_server_post(fixture.server, 10, run_late, NULL), TP_OK);
                FIXTURE_WAIT(atomic_load(&late_run) == before + i);
            }
        }
        /* At least one of the sessions has a worker that can send PING. */
        FIXTURE_WAIT(server_fixture_stats(&fixture).sent_messages > 0);
        tp_server_stop(fixture.server);
        FIXTURE_WAIT(atomic_load(&fixture.leaves) >= 1);
        atomic_store(&fixture.unblock, true);
        CHECK_EQ(tp_server_wait(fixture.server, -1), TP_OK);
        for (unsigned i = 0; i < count; i++) {
            raw_close(peers[i], true);
        }
        tp_server_destroy(fixture.server);
    }
}

/* A handler that blocks delays the sessions of its worker and no others. */
static void a_handler_that_blocks_delays_one_worker(void) {
    enum { PEERS = 8 };
    server_fixture_init(&fixture);
    fixture.options.workers = 4;
    fixture.on_message = fixture_block_on_b;
    server_fixture_open(&fixture);
    raw_peer *peers[PEERS];
    /* Sessions of the worker that is going to block, the first one included. */
    unsigned delayed = 0;
    tp__worker *blocked = NULL;
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i] = fixture_connect_peer(&fixture);
        FIXTURE_WAIT(atomic_load(&fixture.joins) == i + 1);
        tp__worker *owner = owner_of(atomic_load(&fixture.last_joined));
        blocked = i == 0 ? owner : blocked;
        delayed += i == 0 || (owner != NULL && owner == blocked);
    }
    CHECK(raw_send_frame(peers[0], TP_FRAME_DATA, "b", 1));
    FIXTURE_WAIT(atomic_load(&fixture.blocked));
    for (unsigned i = 1; i < PEERS; i++) {
        CHECK(raw_send_frame(peers[i], TP_FRAME_DATA, "f", 1));
    }
    FIXTURE_WAIT(atomic_load(&fixture.messages) >= PEERS - delayed);
    atomic_store(&fixture.unblock, true);
    unsigned type;
    for (unsigned i = 0; i < PEERS; i++) {
        CHECK_EQ(raw_receive_frame(peers[i], &type, in, sizeof in), 1);
        CHECK_EQ(in[0], i == 0 ? 'b' : 'f');
        raw_close(peers[i], false);
    }
    server_fixture_close(&fixture);
}

CHECK_MAIN(CASE(every_task_runs_once), CASE(time_outs_work_while_one_worker_is_blocked),
    CASE(a_handler_that_blocks_delays_one_worker))
