/*
 * Theme `blocked`: whichever workers are blocked in a `done`, the others accept and run posts.
 *
 * Workers block in block_until_open() until the case opens the door; the main thread connects,
 * posts and counts. The workers wait without a limit, so nothing here happens only because a worker
 * woke up by chance. The clients have a port of their own.
 */
#include "fixture.h"

#include "cases.h"

#define WORKERS     4u
#define CONNECTIONS 8u
#define PAIRS       64u /* at most */
#define ROUNDS      20u
#define POSTS       6u

/* ---- blocking -------------------------------------------------------------------------------- */

static struct {
    tp_mutex mutex;
    tp_condition changed;
    bool open;            /* guarded by `mutex` */
    atomic_uint inside;   /* how many threads are blocked */
    atomic_uint to_block; /* how many calls of block_if_asked() are still to block */
} door;

static void door_shut(void) {
    memset(&door, 0, sizeof door);
    tp_mutex_init(&door.mutex);
    tp_condition_init(&door.changed);
}

static void block_until_open(void) {
    tp_mutex_lock(&door.mutex);
    atomic_fetch_add(&door.inside, 1);
    fixture_changed();
    while (!door.open) {
        (void)tp_condition_wait(&door.changed, &door.mutex, -1);
    }
    tp_mutex_unlock(&door.mutex);
    atomic_fetch_sub(&door.inside, 1);
}

static void block_if_asked(void) {
    unsigned left = atomic_load(&door.to_block);
    while (left > 0) {
        if (atomic_compare_exchange_weak(&door.to_block, &left, left - 1)) {
            block_until_open();
            return;
        }
    }
}

/* Opens the door and waits until no thread is blocked. */
static void door_open(void) {
    tp_mutex_lock(&door.mutex);
    door.open = true;
    tp_mutex_unlock(&door.mutex);
    tp_condition_wake_all(&door.changed);
    FIXTURE_UNTIL(atomic_load(&door.inside) == 0);
    tp_condition_destroy(&door.changed);
    tp_mutex_destroy(&door.mutex);
}

/* ---- connections and posts ------------------------------------------------------------------- */

static fixture server_fixture;
static fixture client_fixture;
static fixture_listener listener;
static fixture_link clients[64];
static unsigned client_count;

static void (*keep)(fixture_link *link, const tp_completion *completion);

static void block_then_keep(fixture_link *link, const tp_completion *completion) {
    if (!completion->last) {
        block_if_asked();
    }
    keep(link, completion);
}

static void blocked_begin_without_accepting(void) {
    door_shut();
    fixture_open_workers(&server_fixture, WORKERS);
    fixture_open_workers(&client_fixture, 1);
    tp_address where = fixture_loopback(0);
    REQUIRE(fixture_listener_open_at(&listener, &server_fixture, &where, 512, false) == TP_OK);
    keep = listener.link.on_accepted;
    listener.link.on_accepted = block_then_keep;
    client_count = 0;
}

static void blocked_begin(void) {
    blocked_begin_without_accepting();
    REQUIRE(fixture_accept(&listener.link) == TP_OK);
}

static void connect_one(void) {
    REQUIRE(client_count < TP_COUNT_OF(clients));
    fixture_link *client = &clients[client_count++];
    fixture_link_init(client, &client_fixture, "client");
    REQUIRE(fixture_connect(client, &listener.address) == TP_OK);
}

static void take_all_connections(void) {
    for (unsigned i = 0; i < client_count; i++) {
        tp_handle_close(fixture_listener_take(&listener, NULL), false);
    }
    for (unsigned i = 0; i < client_count; i++) {
        FIXTURE_UNTIL(atomic_load(&clients[i].connect_result) == TP_OK);
        fixture_shut_and_wait(&clients[i], false);
    }
    client_count = 0;
}

static void blocked_end(void) {
    fixture_listener_close(&listener);
    fixture_close(&client_fixture);
    fixture_close(&server_fixture);
}

static void connections_are_accepted(void) {
    unsigned before = atomic_load(&listener.count);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        connect_one();
    }
    FIXTURE_UNTIL(atomic_load(&listener.count) >= before + CONNECTIONS);
}

static fixture_op posts[POSTS];

static void posts_run(void) {
    for (unsigned i = 0; i < POSTS; i++) {
        fixture_op_init(&posts[i], "post", NULL, NULL);
        REQUIRE(fixture_post(server_fixture.port, NULL, &posts[i]) == TP_OK);
    }
    for (unsigned i = 0; i < POSTS; i++) {
        FIXTURE_UNTIL(!fixture_op_in_progress(&posts[i]));
    }
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void blocked_accepts_delay_no_others(void) {
    for (unsigned blocked = 1; blocked < WORKERS; blocked++) {
        blocked_begin();
        atomic_store(&door.to_block, blocked);
        for (unsigned i = 0; i < blocked; i++) {
            connect_one();
        }
        connections_are_accepted(); /* blocked accepts are not counted yet */
        posts_run();
        FIXTURE_UNTIL(atomic_load(&door.inside) == blocked);
        door_open();
        take_all_connections();
        blocked_end();
    }
}

static void blocked_post(fixture_op *op, const tp_completion *completion) {
    fixture_op *inner = op->context;
    if (inner != NULL) { /* a post that is made before it blocks */
        REQUIRE(fixture_post(fixture_port_of(completion->worker), NULL, inner) == TP_OK);
    }
    block_until_open();
}

static void blocked_posts_delay_no_others(void) {
    for (unsigned blocked = 1; blocked < WORKERS; blocked++) {
        fixture_op outer[WORKERS];
        fixture_op inner[WORKERS];
        blocked_begin();
        for (unsigned i = 0; i < blocked; i++) {
            fixture_op_init(&inner[i], "inner post", NULL, NULL);
            fixture_op_init(&outer[i], "blocked post", blocked_post, &inner[i]);
            REQUIRE(fixture_post(server_fixture.port, NULL, &outer[i]) == TP_OK);
        }
        posts_run();
        for (unsigned i = 0; i < blocked; i++) {
            FIXTURE_UNTIL(!fixture_op_in_progress(&inner[i]));
        }
        connections_are_accepted();
        FIXTURE_UNTIL(atomic_load(&door.inside) == blocked);
        door_open();
        for (unsigned i = 0; i < blocked; i++) {
            FIXTURE_UNTIL(!fixture_op_in_progress(&outer[i]));
        }
        take_all_connections();
        blocked_end();
    }
}

static struct {
    fixture_link client;
    fixture_link server;
    tp_buffer buffer;
    bool used; /* in this round */
} pairs[PAIRS];

static void block_on_bytes(fixture_link *link, const tp_completion *completion) {
    (void)link, (void)completion;
    block_until_open();
}

static unsigned pair_count;

static bool serves_a_pair(unsigned worker) {
    for (unsigned i = 0; i < pair_count; i++) {
        if (tp_port_serves(tp_port_worker(server_fixture.port, worker), &pairs[i].server.socket)) {
            return true;
        }
    }
    return false;
}

/* Opens at least WORKERS pairs, and as many as it takes until each worker serves one, because a
 * worker may start late. */
static void pairs_open(void) {
    unsigned served = 0;
    for (pair_count = 0; pair_count < PAIRS && (pair_count < WORKERS || served < WORKERS);) {
        unsigned i = pair_count++;
        fixture_link_init(&pairs[i].client, &client_fixture, "sender");
        fixture_link_init(&pairs[i].server, &server_fixture, "receiver");
        pairs[i].server.on_bytes = block_on_bytes;
        pairs[i].used = false;
        fixture_pair(&listener, &pairs[i].client, &pairs[i].server);
        fixture_run(&pairs[i].server, fixture_act_receive, NULL);
        served += served < WORKERS && serves_a_pair(served) ? 1 : 0;
    }
}

static void send_a_byte(tp_worker *worker, fixture_link *link, void *argument) {
    CHECK_EQ(fixture_send_bytes(worker, link, argument, "x", 1), TP_OK);
}

/* Makes a worker block, by a byte on one of its connections; this worker, if sockets are bound. */
static void block_worker(unsigned worker) {
    bool binds = tp_port_binds(server_fixture.port);
    const tp_worker *wanted = tp_port_worker(server_fixture.port, worker);
    for (unsigned i = 0; i < pair_count; i++) {
        if (!pairs[i].used && (!binds || tp_port_serves(wanted, &pairs[i].server.socket))) {
            pairs[i].used = true;
            fixture_run(&pairs[i].client, send_a_byte, &pairs[i].buffer);
            return;
        }
    }
    fixture_fault("worker %u serves none of the pairs", worker);
}

/* Blocks `count` workers, from `first` on, one after the other or at once. The others have to
 * accept connections and run posts meanwhile. */
static void block_by_bytes(unsigned first, unsigned count, bool at_once) {
    blocked_begin();
    pairs_open();
    for (unsigned i = 0; i < count; i++) {
        block_worker((first + i) % WORKERS);
        if (!at_once) {
            FIXTURE_UNTIL(atomic_load(&door.inside) == i + 1);
        }
    }
    connections_are_accepted();
    posts_run();
    FIXTURE_UNTIL(atomic_load(&door.inside) == count);
    connections_are_accepted();
    posts_run();
    door_open();
    for (unsigned i = 0; i < pair_count; i++) {
        fixture_unpair(&pairs[i].client, &pairs[i].server);
    }
    take_all_connections();
    blocked_end();
}

static void whichever_worker_is_blocked_the_others_accept(void) {
    for (unsigned count = 1; count < WORKERS; count++) {
        for (unsigned first = 0; first < WORKERS; first++) {
            block_by_bytes(first, count, false);
        }
    }
}

static void a_worker_that_blocks_at_that_moment_delays_nothing(void) {
    for (unsigned round = 0; round < ROUNDS; round++) {
        block_by_bytes(round % WORKERS, 1 + round % (WORKERS - 1), fixture_backend_is("epoll"));
    }
}

static void a_listener_closes_after_its_last_running_done(void) {
    for (unsigned blocked = 1; blocked < WORKERS; blocked++) {
        blocked_begin();
        atomic_store(&door.to_block, blocked);
        for (unsigned i = 0; i < blocked; i++) {
            connect_one();
        }
        FIXTURE_UNTIL(atomic_load(&door.inside) == blocked);
        fixture_shut(&listener.link, false);
        posts_run();
        CHECK(!atomic_load(&listener.link.closed));
        CHECK_EQ(atomic_load(&listener.link.accept_result), FIXTURE_PENDING);
        door_open();
        FIXTURE_UNTIL(fixture_link_over(&listener.link));
        CHECK_EQ(atomic_load(&listener.link.accept_result), TP_ERR_CANCELLED);
        take_all_connections();
        tp_mutex_destroy(&listener.mutex);
        fixture_close(&client_fixture);
        fixture_close(&server_fixture);
    }
}

/* ---- no descriptors left --------------------------------------------------------------------- */

#define HOARD 600 /* more than the limit with which the test runs */
#define FREED 30u

static void block_on_failure_then_keep(fixture_link *link, const tp_completion *completion) {
    if (completion->handle == TP_NO_HANDLE && !completion->last) {
        block_if_asked();
    }
    keep(link, completion);
}

/* Returns when no wait of a worker has ended during 30 checks: all workers sleep. */
static void wait_until_workers_sleep(void) {
    fixture_patience patience = fixture_patience_begin();
    uint64_t wakes = atomic_load(&server_fixture.wakes);
    for (unsigned looks = 0; looks < 30; looks++) {
        (void)fixture_wait(&patience);
        if (atomic_load(&server_fixture.wakes) != wakes) {
            wakes = atomic_load(&server_fixture.wakes);
            looks = 0;
        }
    }
}

/* The `done` that gets TP_ERR_NO_DESCRIPTORS may block: another worker accepts when there are
 * descriptors again. */
static void a_retry_runs_on_another_worker(void) {
    static fixture_link hoarders[HOARD];
    unsigned count = 0;
    blocked_begin_without_accepting();
    listener.link.on_accepted = block_on_failure_then_keep;
    atomic_store(&door.to_block, 1);
    for (tp_err error = TP_OK; error == TP_OK && count < HOARD; count += error == TP_OK) {
        fixture_link_init(&hoarders[count], &client_fixture, "hoarder");
        error = fixture_connect(&hoarders[count], &listener.address);
    }
    bool limited = count < HOARD;
    wait_until_workers_sleep();
    REQUIRE(fixture_accept(&listener.link) == TP_OK);
    if (limited) {
        FIXTURE_UNTIL(atomic_load(&door.inside) == 1);
        unsigned accepted = atomic_load(&listener.count);
        for (unsigned i = 0; i < FREED; i++) {
            FIXTURE_UNTIL(atomic_load(&hoarders[i].connect_result) == TP_OK);
            fixture_shut_and_wait(&hoarders[i], true);
        }
        FIXTURE_UNTIL(atomic_load(&listener.count) >= accepted + FREED);
        CHECK_EQ(atomic_load(&door.inside), 1);
    }
    atomic_store(&door.to_block, 0);
    door_open();
    for (unsigned i = limited ? FREED : 0; i < count; i++) {
        fixture_shut_and_wait(&hoarders[i], true);
    }
    blocked_end();
    if (!limited) {
        SKIP("descriptors are not limited here: run it under `ulimit -n 200` (Win32 has no limit)");
    }
}

/* ---- cost ------------------------------------------------------------------------------------ */

#define SINGLES 100u

/* A single connection wakes one worker that accepts it, and at most one more. */
static void a_new_connection_wakes_few_workers(void) {
    fixture_link odd_client;
    fixture_link odd_server;
    blocked_begin();
    fixture_link_init(&odd_client, &client_fixture, "odd one");
    fixture_link_init(&odd_server, &server_fixture, "odd one's server");
    for (unsigned loaded = 0; loaded < 2; loaded++) {
        uint64_t wakes = atomic_load(&server_fixture.wakes);
        for (unsigned i = 0; i < SINGLES; i++) {
            connect_one();
            take_all_connections();
        }
        wakes = atomic_load(&server_fixture.wakes) - wakes;
        printf("    %u connections, one after another: %" PRIu64 " waits of %u workers ended\n",
            SINGLES, wakes, WORKERS);
        CHECK_LE(wakes, 3 * SINGLES);
        if (loaded == 0) {
            fixture_pair(&listener, &odd_client, &odd_server);
        }
    }
    fixture_unpair(&odd_client, &odd_server);
    blocked_end();
    door_open();
}

PORT_THEME(blocked, PORT_CASE(blocked_accepts_delay_no_others, ONCE),
    PORT_CASE(blocked_posts_delay_no_others, ONCE),
    PORT_CASE(whichever_worker_is_blocked_the_others_accept, ONCE),
    PORT_CASE(a_worker_that_blocks_at_that_moment_delays_nothing, ONCE),
    PORT_CASE(a_listener_closes_after_its_last_running_done, ONCE),
    PORT_CASE(a_retry_runs_on_another_worker, ONCE),
    PORT_CASE(a_new_connection_wakes_few_workers, ONCE))
