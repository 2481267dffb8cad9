/*
 * Blocked handlers and new connections: whichever workers are blocked, and in whatever handler or
 * task, new connections join and are answered, and tasks run.
 */
#include "server_fixture.h"

#include "core/engine/server_state.h"

enum { WORKERS = 4, NEWCOMERS = 8, PEERS_MAX = 64, TASKS = 5 };

static server_fixture fixture;

/* ---- blocking -------------------------------------------------------------------------------- */

typedef enum block_point {
    IN_RECV,
    IN_JOIN,
    IN_REQUEST,
    IN_LEAVE,
    IN_TASK,
    IN_DELAYED_TASK,
    BLOCK_POINTS
} block_point;

static struct {
    tp_mutex mutex;
    tp_condition changed;
    bool open;              /* under the mutex */
    atomic_uint inside;     /* workers that are blocked */
    atomic_int armed_point; /* the next call that reaches this point blocks */
} door;

static void block(void) {
    tp_mutex_lock(&door.mutex);
    atomic_fetch_add(&door.inside, 1);
    while (!door.open) {
        (void)tp_condition_wait(&door.changed, &door.mutex, -1);
    }
    atomic_fetch_sub(&door.inside, 1);
    tp_mutex_unlock(&door.mutex);
}

static void block_if_armed(block_point at) {
    int armed = (int)at;
    if (atomic_compare_exchange_strong(&door.armed_point, &armed, BLOCK_POINTS)) {
        block();
    }
}

static bool on_request(tp_server *server, const tp_address *peer) {
    block_if_armed(IN_REQUEST);
    return fixture_on_request(server, peer);
}

static void on_join(tp_server *server, tp_session_id session) {
    fixture_on_join(server, session);
    block_if_armed(IN_JOIN);
}

static void on_leave(tp_server *server, tp_session_id session, tp_end_reason reason) {
    block_if_armed(IN_LEAVE);
    fixture_on_leave(server, session, reason);
}

static void block_at_b(server_fixture *s, tp_session_id session, tp_packet *packet) {
    if (*tp_packet_bytes(packet) == 'b') {
        block();
    }
    CHECK(tp_server_send(s->server, session, packet));
}

static void blocking_task(void *unused) {
    (void)unused;
    block();
}

/* ---- peers ----------------------------------------------------------------------------------- */

typedef struct player {
    raw_peer *peer;
    tp_session_id id;
    bool used;
} player;

static player players[PEERS_MAX];
static unsigned player_count;

static tp__worker *owner_of(tp_session_id session) {
    return atomic_load(&fixture.server->sessions[tp_session_slot(session)].owner);
}

static void connect_player(void) {
    unsigned joins = atomic_load(&fixture.joins);
    REQUIRE(player_count < PEERS_MAX);
    player *p = &players[player_count++];
    p->peer = fixture_connect_peer(&fixture);
    FIXTURE_WAIT(atomic_load(&fixture.joins) == joins + 1);
    p->id = atomic_load(&fixture.last_joined);
    p->used = false;
}

static bool is_owned(unsigned worker) {
    for (unsigned i = 0; i < player_count; i++) {
        tp__worker *owner = owner_of(players[i].id);
        if (!owner || owner->index == worker) {
            return true;
        }
    }
    return false;
}

static void open_server(void) {
    memset(&door, 0, sizeof door);
    tp_mutex_init(&door.mutex);
    tp_condition_init(&door.changed);
    atomic_store(&door.armed_point, BLOCK_POINTS);
    player_count = 0;
    server_fixture_init(&fixture);
    fixture.options.workers = WORKERS;
    fixture.options.drain_timeout_ms = 100;
    fixture.on_message = block_at_b;
    fixture.handlers.on_connection_request = on_request;
    fixture.handlers.on_join = on_join;
    fixture.handlers.on_leave = on_leave;
    server_fixture_open(&fixture);
    /* However late some workers began to work, each one gets a session. */
    for (unsigned served = 0; served < WORKERS && player_count < PEERS_MAX / 2;) {
        connect_player();
        served += is_owned(served);
    }
}

static void unblock_all(void) {
    tp_mutex_lock(&door.mutex);
    door.open = true;
    tp_mutex_unlock(&door.mutex);
    tp_condition_wake_all(&door.changed);
    FIXTURE_WAIT(atomic_load(&door.inside) == 0);
}

static void close_server(void) {
    for (unsigned i = 0; i < player_count; i++) {
        if (players[i].peer) {
            raw_close(players[i].peer, true);
        }
    }
    server_fixture_close(&fixture);
    tp_condition_destroy(&door.changed);
    tp_mutex_destroy(&door.mutex);
}

/* Blocks a worker with a message of one of its sessions: this worker, or any where sessions have no
 * owner. */
static void block_worker(unsigned worker) {
    for (unsigned i = 0; i < player_count; i++) {
        tp__worker *owner = owner_of(players[i].id);
        if (!players[i].used && players[i].peer && (!owner || owner->index == worker)) {
            players[i].used = true;
            CHECK(raw_send_frame(players[i].peer, TP_FRAME_DATA, "b", 1));
            return;
        }
    }
    FAIL("no unused session has this owner worker");
}

static bool is_blocked_owner(const tp__worker *owner) {
    for (unsigned i = 0; owner && i < player_count; i++) {
        if (players[i].used && owner_of(players[i].id) == owner) {
            return true;
        }
    }
    return false;
}

/* Newcomers join while workers are blocked, and those whose owner is free are answered. */
static void check_newcomers_are_served(bool all_answered) {
    unsigned before = atomic_load(&fixture.joins);
    raw_peer *newcomers[NEWCOMERS];
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        unsigned type;
        char byte = 0;
        newcomers[i] = fixture_connect_peer(&fixture);
        FIXTURE_WAIT(atomic_load(&fixture.joins) == before + i + 1);
        tp__worker *owner = owner_of(atomic_load(&fixture.last_joined));
        if (all_answered || !is_blocked_owner(owner)) {
            CHECK(raw_send_frame(newcomers[i], TP_FRAME_DATA, "n", 1));
            CHECK_EQ(raw_receive_frame(newcomers[i], &type, &byte, 1), 1);
            CHECK_EQ(byte, 'n');
        }
    }
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        raw_close(newcomers[i], true);
    }
}

static atomic_uint tasks_run;

static void count_task(void *unused) {
    (void)unused;
    atomic_fetch_add(&tasks_run, 1);
}

static void check_tasks_run(bool delayed) {
    unsigned before = atomic_load(&tasks_run);
    for (unsigned i = 0; i < TASKS; i++) {
        CHECK_EQ(tp_server_post(fixture.server, 0, count_task, NULL), TP_OK);
    }
    FIXTURE_WAIT(atomic_load(&tasks_run) == before + TASKS);
    for (unsigned i = 0; delayed && i < TASKS; i++) {
        CHECK_EQ(tp_server_post(fixture.server, 1 + i, count_task, NULL), TP_OK);
    }
    FIXTURE_WAIT(atomic_load(&tasks_run) == before + TASKS + (delayed ? TASKS : 0));
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void block_one_worker(block_point at) {
    atomic_store(&door.armed_point, (int)at);
    switch (at) {
    case IN_RECV:
        block_worker(0);
        break;
    case IN_JOIN:
    case IN_REQUEST:
        players[player_count].id = TP_NO_SESSION;
        players[player_count].used = true;
        players[player_count++].peer = fixture_connect_peer(&fixture);
        break;
    case IN_LEAVE:
        raw_close(players[0].peer, true);
        players[0].peer = NULL;
        break;
    case IN_TASK:
    case IN_DELAYED_TASK:
        CHECK_EQ(tp_server_post(fixture.server, at == IN_DELAYED_TASK, blocking_task, NULL), TP_OK);
        break;
    case BLOCK_POINTS:
        break;
    }
    FIXTURE_WAIT(atomic_load(&door.inside) == 1);
}

static void a_blocked_handler_or_task_delays_only_its_worker(void) {
    for (int at = 0; at < BLOCK_POINTS; at++) {
        open_server();
        block_one_worker((block_point)at);
        check_newcomers_are_served(true);
        check_tasks_run(at != IN_DELAYED_TASK); /* delayed tasks run one after another */
        CHECK_EQ(atomic_load(&door.inside), 1);
        unblock_all();
        close_server();
    }
}

static void the_other_workers_serve_whichever_are_blocked(void) {
    for (unsigned count = 1; count < WORKERS; count++) {
        for (unsigned first = 0; first < WORKERS; first++) {
            open_server();
            for (unsigned i = 0; i < count; i++) {
                block_worker((first + i) % WORKERS);
                FIXTURE_WAIT(atomic_load(&door.inside) == i + 1);
            }
            check_newcomers_are_served(true);
            check_tasks_run(true);
            CHECK_EQ(atomic_load(&door.inside), count);
            unblock_all();
            close_server();
        }
    }
}

/* The newcomers connect while the workers block. A newcomer that joins just before is served by the
 * blocked worker, and waits. */
static void a_worker_that_blocks_meanwhile_keeps_no_newcomers(void) {
    for (unsigned round = 0; round < 5 * WORKERS; round++) {
        open_server();
        if (!owner_of(players[0].id)) {
            close_server();
            SKIP("sessions have no owner here: any worker may take any message");
        }
        unsigned count = 1 + round % (WORKERS - 1);
        for (unsigned i = 0; i < count; i++) {
            block_worker((round + i) % WORKERS);
        }
        check_newcomers_are_served(false);
        check_tasks_run(true);
        FIXTURE_WAIT(atomic_load(&door.inside) == count);
        unblock_all();
        close_server();
    }
}

/* Tasks that a handler posts before it blocks are run, with or without a delay. */
static void post_and_block(server_fixture *s, tp_session_id session, tp_packet *packet) {
    (void)session, (void)packet;
    CHECK_EQ(tp_server_post(s->server, 0, count_task, NULL), TP_OK);
    CHECK_EQ(tp_server_post(s->server, 5, count_task, NULL), TP_OK);
    block();
}

static void tasks_posted_before_a_handler_blocks_are_run(void) {
    for (unsigned worker = 0; worker < WORKERS; worker++) {
        open_server();
        fixture.on_message = post_and_block;
        unsigned before = atomic_load(&tasks_run);
        block_worker(worker);
        FIXTURE_WAIT(atomic_load(&tasks_run) == before + 2);
        CHECK_EQ(atomic_load(&door.inside), 1);
        unblock_all();
        close_server();
    }
}

/* One after another, or all at the same time: no worker gets more than half of them. */
static void sessions_are_spread_over_the_workers(void) {
    for (unsigned together = 0; together < 2; together++) {
        open_server();
        if (!owner_of(players[0].id)) {
            close_server();
            SKIP("sessions have no owner here");
        }
        if (together) {
            unsigned joins = atomic_load(&fixture.joins) + PEERS_MAX - player_count;
            for (; player_count < PEERS_MAX; player_count++) {
                players[player_count].peer = fixture_connect_peer(&fixture);
            }
            FIXTURE_WAIT(atomic_load(&fixture.joins) == joins);
        }
        while (player_count < PEERS_MAX) {
            connect_player();
        }
        unsigned owned[WORKERS] = {0};
        for (uint32_t i = 0; i < fixture.server->slots.count; i++) {
            tp__worker *owner = atomic_load(&fixture.server->sessions[i].owner);
            if (owner) {
                owned[owner->index]++;
            }
        }
        for (unsigned i = 0; i < WORKERS; i++) {
            printf("    worker %u: %u sessions\n", i, owned[i]);
            CHECK_GE(owned[i], 1);
            CHECK_LE(owned[i], PEERS_MAX / 2);
        }
        close_server();
    }
}

CHECK_MAIN(CASE(a_blocked_handler_or_task_delays_only_its_worker),
    CASE(the_other_workers_serve_whichever_are_blocked),
    CASE(a_worker_that_blocks_meanwhile_keeps_no_newcomers),
    CASE(tasks_posted_before_a_handler_blocks_are_run), CASE(sessions_are_spread_over_the_workers))
