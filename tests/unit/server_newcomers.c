/*
 * Handlers that block, and those who come meanwhile: whichever workers are held up, and in
 * whatever, newcomers get in and are answered, and tasks run.
 */
#include "server_stage.h"

#include "core/engine/server_state.h"

enum { WORKERS = 4, NEWCOMERS = 8, PEERS_MAX = 64, TASKS = 5 };

static server_stage stage;

/* ---- holding up ------------------------------------------------------------------------------ */

typedef enum place {
    IN_RECV,
    IN_JOIN,
    IN_REQUEST,
    IN_LEAVE,
    IN_TASK,
    IN_DELAYED_TASK,
    PLACES
} place;

static struct {
    tp_mutex mutex;
    tp_condition changed;
    bool open;              /* under the mutex */
    atomic_uint inside;     /* workers that stand there */
    atomic_int armed_place; /* a place: the next one to reach it stays */
} door;

static void hold(void) {
    tp_mutex_lock(&door.mutex);
    atomic_fetch_add(&door.inside, 1);
    while (!door.open) {
        (void)tp_condition_wait(&door.changed, &door.mutex, -1);
    }
    atomic_fetch_sub(&door.inside, 1);
    tp_mutex_unlock(&door.mutex);
}

static void reach(place at) {
    int armed = (int)at;
    if (atomic_compare_exchange_strong(&door.armed_place, &armed, PLACES)) {
        hold();
    }
}

static bool on_request(tp_server *server, const tp_address *peer) {
    reach(IN_REQUEST);
    return stage_on_request(server, peer);
}

static void on_join(tp_server *server, tp_session_id session) {
    stage_on_join(server, session);
    reach(IN_JOIN);
}

static void on_leave(tp_server *server, tp_session_id session, tp_end_reason reason) {
    reach(IN_LEAVE);
    stage_on_leave(server, session, reason);
}

static void hold_at_b(server_stage *s, tp_session_id session, tp_packet *packet) {
    if (*tp_packet_bytes(packet) == 'b') {
        hold();
    }
    CHECK(tp_server_send(s->server, session, packet));
}

static void held_task(void *unused) {
    (void)unused;
    hold();
}

/* ---- peers
 * ------------------------------------------------------------------------------------- */

typedef struct player {
    raw_peer *peer;
    tp_session_id id;
    bool used;
} player;

static player players[PEERS_MAX];
static unsigned player_count;

static tp__worker *home_of(tp_session_id session) {
    return atomic_load(&stage.server->sessions[tp_session_slot(session)].home);
}

static void come(void) {
    unsigned joins = atomic_load(&stage.joins);
    REQUIRE(player_count < PEERS_MAX);
    player *p = &players[player_count++];
    p->peer = stage_connect_peer(&stage);
    STAGE_WAIT(atomic_load(&stage.joins) == joins + 1);
    p->id = atomic_load(&stage.last_joined);
    p->used = false;
}

static bool is_at_home_somewhere(unsigned worker) {
    for (unsigned i = 0; i < player_count; i++) {
        tp__worker *home = home_of(players[i].id);
        if (!home || home->index == worker) {
            return true;
        }
    }
    return false;
}

static void begin(void) {
    memset(&door, 0, sizeof door);
    tp_mutex_init(&door.mutex);
    tp_condition_init(&door.changed);
    atomic_store(&door.armed_place, PLACES);
    player_count = 0;
    server_stage_init(&stage);
    stage.options.workers = WORKERS;
    stage.options.drain_timeout_ms = 100;
    stage.on_message = hold_at_b;
    stage.handlers.on_connection_request = on_request;
    stage.handlers.on_join = on_join;
    stage.handlers.on_leave = on_leave;
    server_stage_open(&stage);
    /* However late one of them has begun to work, each has somebody. */
    for (unsigned served = 0; served < WORKERS && player_count < PEERS_MAX / 2;) {
        come();
        served += is_at_home_somewhere(served);
    }
}

static void let_go(void) {
    tp_mutex_lock(&door.mutex);
    door.open = true;
    tp_mutex_unlock(&door.mutex);
    tp_condition_wake_all(&door.changed);
    STAGE_WAIT(atomic_load(&door.inside) == 0);
}

static void end(void) {
    for (unsigned i = 0; i < player_count; i++) {
        if (players[i].peer) {
            raw_close(players[i].peer, true);
        }
    }
    server_stage_close(&stage);
    tp_condition_destroy(&door.changed);
    tp_mutex_destroy(&door.mutex);
}

/* Some worker goes to the door; where sessions have homes, this one. */
static void hold_up(unsigned worker) {
    for (unsigned i = 0; i < player_count; i++) {
        tp__worker *home = home_of(players[i].id);
        if (!players[i].used && players[i].peer && (!home || home->index == worker)) {
            players[i].used = true;
            CHECK(raw_send_frame(players[i].peer, TP_FRAME_DATA, "b", 1));
            return;
        }
    }
    FAIL("no session is at home with that worker");
}

static bool is_home_of_one_who_holds_up(const tp__worker *home) {
    for (unsigned i = 0; home && i < player_count; i++) {
        if (players[i].used && home_of(players[i].id) == home) {
            return true;
        }
    }
    return false;
}

/* They join while the others are held up, and whoever has a worker that is free is answered. */
static void newcomers_are_served(bool all_answered) {
    unsigned before = atomic_load(&stage.joins);
    raw_peer *newcomers[NEWCOMERS];
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        unsigned type;
        char byte = 0;
        newcomers[i] = stage_connect_peer(&stage);
        STAGE_WAIT(atomic_load(&stage.joins) == before + i + 1);
        tp__worker *home = home_of(atomic_load(&stage.last_joined));
        if (all_answered || !is_home_of_one_who_holds_up(home)) {
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

static void tasks_are_run(bool delayed) {
    unsigned before = atomic_load(&tasks_run);
    for (unsigned i = 0; i < TASKS; i++) {
        CHECK_EQ(tp_server_post(stage.server, 0, count_task, NULL), TP_OK);
    }
    STAGE_WAIT(atomic_load(&tasks_run) == before + TASKS);
    for (unsigned i = 0; delayed && i < TASKS; i++) {
        CHECK_EQ(tp_server_post(stage.server, 1 + i, count_task, NULL), TP_OK);
    }
    STAGE_WAIT(atomic_load(&tasks_run) == before + TASKS + (delayed ? TASKS : 0));
}

/* ---- cases
 * --------------------------------------------------------------------------------------- */

static void provoke(place at) {
    atomic_store(&door.armed_place, (int)at);
    switch (at) {
    case IN_RECV:
        hold_up(0);
        break;
    case IN_JOIN:
    case IN_REQUEST:
        players[player_count].id = TP_NO_SESSION;
        players[player_count].used = true;
        players[player_count++].peer = stage_connect_peer(&stage);
        break;
    case IN_LEAVE:
        raw_close(players[0].peer, true);
        players[0].peer = NULL;
        break;
    case IN_TASK:
    case IN_DELAYED_TASK:
        CHECK_EQ(tp_server_post(stage.server, at == IN_DELAYED_TASK, held_task, NULL), TP_OK);
        break;
    case PLACES:
        break;
    }
    STAGE_WAIT(atomic_load(&door.inside) == 1);
}

static void whatever_holds_a_worker_up_holds_up_nobody_else(void) {
    for (int at = 0; at < PLACES; at++) {
        begin();
        provoke((place)at);
        newcomers_are_served(true);
        tasks_are_run(at != IN_DELAYED_TASK); /* those come one after another */
        CHECK_EQ(atomic_load(&door.inside), 1);
        let_go();
        end();
    }
}

static void whichever_workers_are_held_up_the_others_serve(void) {
    for (unsigned count = 1; count < WORKERS; count++) {
        for (unsigned first = 0; first < WORKERS; first++) {
            begin();
            for (unsigned i = 0; i < count; i++) {
                hold_up((first + i) % WORKERS);
                STAGE_WAIT(atomic_load(&door.inside) == i + 1);
            }
            newcomers_are_served(true);
            tasks_are_run(true);
            CHECK_EQ(atomic_load(&door.inside), count);
            let_go();
            end();
        }
    }
}

/* They come and it blocks at the same moment. Whoever is just in before is at home there, and
 * waits. */
static void a_worker_that_is_held_up_just_then_keeps_no_newcomers(void) {
    for (unsigned round = 0; round < 5 * WORKERS; round++) {
        begin();
        if (!home_of(players[0].id)) {
            end();
            SKIP("sessions have no home here: nobody can tell which message is with which worker");
        }
        unsigned count = 1 + round % (WORKERS - 1);
        for (unsigned i = 0; i < count; i++) {
            hold_up((round + i) % WORKERS);
        }
        newcomers_are_served(false);
        tasks_are_run(true);
        STAGE_WAIT(atomic_load(&door.inside) == count);
        let_go();
        end();
    }
}

/* What a handler posts before it blocks is run; that with a delay too. */
static void post_and_hold(server_stage *s, tp_session_id session, tp_packet *packet) {
    (void)session, (void)packet;
    CHECK_EQ(tp_server_post(s->server, 0, count_task, NULL), TP_OK);
    CHECK_EQ(tp_server_post(s->server, 5, count_task, NULL), TP_OK);
    hold();
}

static void what_a_handler_posts_before_it_blocks_is_run(void) {
    for (unsigned worker = 0; worker < WORKERS; worker++) {
        begin();
        stage.on_message = post_and_hold;
        unsigned before = atomic_load(&tasks_run);
        hold_up(worker);
        STAGE_WAIT(atomic_load(&tasks_run) == before + 2);
        CHECK_EQ(atomic_load(&door.inside), 1);
        let_go();
        end();
    }
}

/* One after another, or many at once: no worker gets more than half of them. */
static void sessions_are_spread_over_the_workers(void) {
    for (unsigned at_once = 0; at_once < 2; at_once++) {
        begin();
        if (!home_of(players[0].id)) {
            end();
            SKIP("sessions have no home here");
        }
        if (at_once) {
            unsigned joins = atomic_load(&stage.joins) + PEERS_MAX - player_count;
            for (; player_count < PEERS_MAX; player_count++) {
                players[player_count].peer = stage_connect_peer(&stage);
            }
            STAGE_WAIT(atomic_load(&stage.joins) == joins);
        }
        while (player_count < PEERS_MAX) {
            come();
        }
        unsigned at_home[WORKERS] = {0};
        for (uint32_t i = 0; i < stage.server->slots.count; i++) {
            tp__worker *home = atomic_load(&stage.server->sessions[i].home);
            if (home) {
                at_home[home->index]++;
            }
        }
        for (unsigned i = 0; i < WORKERS; i++) {
            printf("    worker %u: %u sessions\n", i, at_home[i]);
            CHECK_GE(at_home[i], 1);
            CHECK_LE(at_home[i], PEERS_MAX / 2);
        }
        end();
    }
}

CHECK_MAIN(CASE(whatever_holds_a_worker_up_holds_up_nobody_else),
    CASE(whichever_workers_are_held_up_the_others_serve),
    CASE(a_worker_that_is_held_up_just_then_keeps_no_newcomers),
    CASE(what_a_handler_posts_before_it_blocks_is_run), CASE(sessions_are_spread_over_the_workers))
