/*
 * Theme `blocked`: whichever workers are held up in a callee, the others accept and run posts.
 *
 * Threads: workers stand in hold() until the case opens the door; the main thread connects, posts,
 * counts. The workers wait without a limit: nothing here happens because somebody looked round by
 * chance. The clients have a port of their own.
 */
#include "stage.h"

#include "cases.h"

#define WORKERS   4u
#define NEWCOMERS 8u
#define PAIRS     64u /* at most */
#define ROUNDS    20u
#define POSTS     6u

/* ---- holding up ------------------------------------------------------------------------------ */

static struct {
    tp_mutex mutex;
    tp_condition changed;
    bool open;           /* under the mutex */
    atomic_uint inside;  /* how many stand there */
    atomic_uint to_come; /* so many of those who ask must stay */
} door;

static void door_shut(void) {
    memset(&door, 0, sizeof door);
    tp_mutex_init(&door.mutex);
    tp_condition_init(&door.changed);
}

static void hold(void) {
    tp_mutex_lock(&door.mutex);
    atomic_fetch_add(&door.inside, 1);
    stage_changed();
    while (!door.open) {
        (void)tp_condition_wait(&door.changed, &door.mutex, -1);
    }
    tp_mutex_unlock(&door.mutex);
    atomic_fetch_sub(&door.inside, 1);
}

static void hold_if_asked(void) {
    unsigned left = atomic_load(&door.to_come);
    while (left > 0) {
        if (atomic_compare_exchange_weak(&door.to_come, &left, left - 1)) {
            hold();
            return;
        }
    }
}

/* And waits until nobody is inside. */
static void door_open(void) {
    tp_mutex_lock(&door.mutex);
    door.open = true;
    tp_mutex_unlock(&door.mutex);
    tp_condition_wake_all(&door.changed);
    STAGE_UNTIL(atomic_load(&door.inside) == 0);
    tp_condition_destroy(&door.changed);
    tp_mutex_destroy(&door.mutex);
}

/* ---- newcomers and posts --------------------------------------------------------------------- */

static stage server_stage;
static stage client_stage;
static stage_listener listener;
static stage_link clients[64];
static unsigned client_count;

static void (*keep)(stage_link *link, const tp_completion *completion);

static void hold_then_keep(stage_link *link, const tp_completion *completion) {
    if (!completion->last) {
        hold_if_asked();
    }
    keep(link, completion);
}

static void begin_without_accepting(void) {
    door_shut();
    stage_open_workers(&server_stage, WORKERS);
    stage_open_workers(&client_stage, 1);
    tp_address where = stage_loopback(0);
    REQUIRE(stage_listener_open_at(&listener, &server_stage, &where, 512, false) == TP_OK);
    keep = listener.link.on_accepted;
    listener.link.on_accepted = hold_then_keep;
    client_count = 0;
}

static void begin(void) {
    begin_without_accepting();
    REQUIRE(stage_accept(&listener.link) == TP_OK);
}

static void connect_one(void) {
    REQUIRE(client_count < TP_COUNT_OF(clients));
    stage_link *client = &clients[client_count++];
    stage_link_init(client, &client_stage, "newcomer");
    REQUIRE(stage_connect(client, &listener.address) == TP_OK);
}

static void take_all(void) {
    for (unsigned i = 0; i < client_count; i++) {
        tp_handle_close(stage_listener_take(&listener, NULL), false);
    }
    for (unsigned i = 0; i < client_count; i++) {
        STAGE_UNTIL(atomic_load(&clients[i].connect_result) == TP_OK);
        stage_shut_and_wait(&clients[i], false);
    }
    client_count = 0;
}

static void end(void) {
    stage_listener_close(&listener);
    stage_close(&client_stage);
    stage_close(&server_stage);
}

static void newcomers_get_in(void) {
    unsigned before = atomic_load(&listener.count);
    for (unsigned i = 0; i < NEWCOMERS; i++) {
        connect_one();
    }
    STAGE_UNTIL(atomic_load(&listener.count) >= before + NEWCOMERS);
}

static stage_op posts[POSTS];

static void posts_run(void) {
    for (unsigned i = 0; i < POSTS; i++) {
        stage_op_init(&posts[i], "post", NULL, NULL);
        REQUIRE(stage_post(server_stage.port, NULL, &posts[i]) == TP_OK);
    }
    for (unsigned i = 0; i < POSTS; i++) {
        STAGE_UNTIL(!stage_op_in_progress(&posts[i]));
    }
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void accepts_that_are_held_up_keep_no_others(void) {
    for (unsigned held = 1; held < WORKERS; held++) {
        begin();
        atomic_store(&door.to_come, held);
        for (unsigned i = 0; i < held; i++) {
            connect_one();
        }
        newcomers_get_in(); /* those who are held up are not counted yet */
        posts_run();
        STAGE_UNTIL(atomic_load(&door.inside) == held);
        door_open();
        take_all();
        end();
    }
}

static void held_post(stage_op *op, const tp_completion *completion) {
    stage_op *inner = op->context;
    if (inner != NULL) { /* and has said something before */
        REQUIRE(stage_post(tp_worker_port(completion->worker), NULL, inner) == TP_OK);
    }
    hold();
}

static void posts_that_are_held_up_keep_no_others(void) {
    for (unsigned held = 1; held < WORKERS; held++) {
        stage_op outer[WORKERS];
        stage_op inner[WORKERS];
        begin();
        for (unsigned i = 0; i < held; i++) {
            stage_op_init(&inner[i], "inner post", NULL, NULL);
            stage_op_init(&outer[i], "held post", held_post, &inner[i]);
            REQUIRE(stage_post(server_stage.port, NULL, &outer[i]) == TP_OK);
        }
        posts_run();
        for (unsigned i = 0; i < held; i++) {
            STAGE_UNTIL(!stage_op_in_progress(&inner[i]));
        }
        newcomers_get_in();
        STAGE_UNTIL(atomic_load(&door.inside) == held);
        door_open();
        for (unsigned i = 0; i < held; i++) {
            STAGE_UNTIL(!stage_op_in_progress(&outer[i]));
        }
        take_all();
        end();
    }
}

static struct {
    stage_link client;
    stage_link server;
    tp_buffer buffer;
    bool used; /* by the round */
} pairs[PAIRS];

static void hold_at_bytes(stage_link *link, const tp_completion *completion) {
    (void)link, (void)completion;
    hold();
}

static unsigned pair_count;

static bool serves_a_pair(unsigned worker) {
    for (unsigned i = 0; i < pair_count; i++) {
        if (tp_port_serves(tp_port_worker(server_stage.port, worker), &pairs[i].server.socket)) {
            return true;
        }
    }
    return false;
}

/* Some, and so many that each worker serves one, however late it has begun to work. */
static void pairs_open(void) {
    unsigned served = 0;
    for (pair_count = 0; pair_count < PAIRS && (pair_count < WORKERS || served < WORKERS);) {
        unsigned i = pair_count++;
        stage_link_init(&pairs[i].client, &client_stage, "talker");
        stage_link_init(&pairs[i].server, &server_stage, "listens to the talker");
        pairs[i].server.on_bytes = hold_at_bytes;
        pairs[i].used = false;
        stage_pair(&listener, &pairs[i].client, &pairs[i].server);
        stage_run(&pairs[i].server, stage_act_receive, NULL);
        served += served < WORKERS && serves_a_pair(served) ? 1 : 0;
    }
}

static void say_a_byte(tp_worker *worker, stage_link *link, void *argument) {
    CHECK_EQ(stage_send_bytes(worker, link, argument, "x", 1), TP_OK);
}

/* Some worker is going to stand at the door; where connections have workers, this one. */
static void talk_to(unsigned worker) {
    bool binds = tp_port_binds(server_stage.port);
    const tp_worker *wanted = tp_port_worker(server_stage.port, worker);
    for (unsigned i = 0; i < pair_count; i++) {
        if (!pairs[i].used && (!binds || tp_port_serves(wanted, &pairs[i].server.socket))) {
            pairs[i].used = true;
            stage_run(&pairs[i].client, say_a_byte, &pairs[i].buffer);
            return;
        }
    }
    stage_fault("worker %u serves none of the pairs", worker);
}

/* One worker, or all but one; those who come, come at the same moment. */
static void hold_up_by_bytes(unsigned first, unsigned count, bool at_once) {
    begin();
    pairs_open();
    for (unsigned i = 0; i < count; i++) {
        talk_to((first + i) % WORKERS);
        if (!at_once) {
            STAGE_UNTIL(atomic_load(&door.inside) == i + 1);
        }
    }
    newcomers_get_in();
    posts_run();
    STAGE_UNTIL(atomic_load(&door.inside) == count);
    newcomers_get_in();
    posts_run();
    door_open();
    for (unsigned i = 0; i < pair_count; i++) {
        stage_unpair(&pairs[i].client, &pairs[i].server);
    }
    take_all();
    end();
}

static void whichever_worker_is_held_up_the_others_accept(void) {
    for (unsigned count = 1; count < WORKERS; count++) {
        for (unsigned first = 0; first < WORKERS; first++) {
            hold_up_by_bytes(first, count, false);
        }
    }
}

static void a_worker_that_is_held_up_just_then_keeps_nobody(void) {
    for (unsigned round = 0; round < ROUNDS; round++) {
        hold_up_by_bytes(round % WORKERS, 1 + round % (WORKERS - 1), stage_backend_is("epoll"));
    }
}

static void a_listener_closes_when_the_last_callee_has_returned(void) {
    for (unsigned held = 1; held < WORKERS; held++) {
        begin();
        atomic_store(&door.to_come, held);
        for (unsigned i = 0; i < held; i++) {
            connect_one();
        }
        STAGE_UNTIL(atomic_load(&door.inside) == held);
        stage_shut(&listener.link, false);
        posts_run();
        CHECK(!atomic_load(&listener.link.closed));
        CHECK_EQ(atomic_load(&listener.link.accept_result), STAGE_PENDING);
        door_open();
        STAGE_UNTIL(stage_link_over(&listener.link));
        CHECK_EQ(atomic_load(&listener.link.accept_result), TP_ERR_CANCELLED);
        take_all();
        tp_mutex_destroy(&listener.mutex);
        stage_close(&client_stage);
        stage_close(&server_stage);
    }
}

/* ---- no descriptors left --------------------------------------------------------------------- */

#define HOARD 600 /* more than the limit that the test is run with */
#define FREED 30u

static void hold_failure_then_keep(stage_link *link, const tp_completion *completion) {
    if (completion->handle == TP_NO_HANDLE && !completion->last) {
        hold_if_asked();
    }
    keep(link, completion);
}

/* Returns when no wait of a worker has ended for some looks: they sleep. */
static void let_them_fall_asleep(void) {
    stage_patience patience = stage_patience_begin();
    uint64_t wakes = atomic_load(&server_stage.wakes);
    for (unsigned looks = 0; looks < 30; looks++) {
        (void)stage_wait(&patience);
        if (atomic_load(&server_stage.wakes) != wakes) {
            wakes = atomic_load(&server_stage.wakes);
            looks = 0;
        }
    }
}

/* Whoever is told that there are no descriptors may block in that: another worker goes on when
 * there are. */
static void a_pause_ends_without_the_worker_that_began_it(void) {
    static stage_link hoarders[HOARD];
    unsigned count = 0;
    begin_without_accepting();
    listener.link.on_accepted = hold_failure_then_keep;
    atomic_store(&door.to_come, 1);
    for (tp_err error = TP_OK; error == TP_OK && count < HOARD; count += error == TP_OK) {
        stage_link_init(&hoarders[count], &client_stage, "hoarder");
        error = stage_connect(&hoarders[count], &listener.address);
    }
    bool limited = count < HOARD;
    let_them_fall_asleep();
    REQUIRE(stage_accept(&listener.link) == TP_OK);
    if (limited) {
        STAGE_UNTIL(atomic_load(&door.inside) == 1);
        unsigned accepted = atomic_load(&listener.count);
        for (unsigned i = 0; i < FREED; i++) {
            STAGE_UNTIL(atomic_load(&hoarders[i].connect_result) == TP_OK);
            stage_shut_and_wait(&hoarders[i], true);
        }
        STAGE_UNTIL(atomic_load(&listener.count) >= accepted + FREED);
        CHECK_EQ(atomic_load(&door.inside), 1);
    }
    atomic_store(&door.to_come, 0);
    door_open();
    for (unsigned i = limited ? FREED : 0; i < count; i++) {
        stage_shut_and_wait(&hoarders[i], true);
    }
    end();
    if (!limited) {
        SKIP("descriptors are not limited here: run it under `ulimit -n 200` (Win32 has no limit)");
    }
}

/* ---- and costs little -------------------------------------------------------------------------- */

#define SINGLES 100u

/* Who comes alone wakes one worker that takes him, and at most another that finds him. */
static void a_newcomer_wakes_few(void) {
    stage_link odd_client;
    stage_link odd_server;
    begin();
    stage_link_init(&odd_client, &client_stage, "odd one");
    stage_link_init(&odd_server, &server_stage, "odd one's server");
    for (unsigned uneven = 0; uneven < 2; uneven++) {
        uint64_t wakes = atomic_load(&server_stage.wakes);
        for (unsigned i = 0; i < SINGLES; i++) {
            connect_one();
            take_all();
        }
        wakes = atomic_load(&server_stage.wakes) - wakes;
        printf("    %u newcomers, one after another: %" PRIu64 " waits of %u workers ended\n",
            SINGLES, wakes, WORKERS);
        CHECK_LE(wakes, 3 * SINGLES);
        if (uneven == 0) {
            stage_pair(&listener, &odd_client, &odd_server);
        }
    }
    stage_unpair(&odd_client, &odd_server);
    end();
    door_open();
}

PORT_THEME(blocked, PORT_CASE(accepts_that_are_held_up_keep_no_others, ONCE),
    PORT_CASE(posts_that_are_held_up_keep_no_others, ONCE),
    PORT_CASE(whichever_worker_is_held_up_the_others_accept, ONCE),
    PORT_CASE(a_worker_that_is_held_up_just_then_keeps_nobody, ONCE),
    PORT_CASE(a_listener_closes_when_the_last_callee_has_returned, ONCE),
    PORT_CASE(a_pause_ends_without_the_worker_that_began_it, ONCE),
    PORT_CASE(a_newcomer_wakes_few, ONCE))
