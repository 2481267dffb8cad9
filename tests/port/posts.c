/*
 * Theme `posts`: the call that any thread may make.
 *
 * Each poster thread owns an array of ops and posts them in order; workers record the order in
 * which they ran. An op's `ran_at` is written by the worker that ran it, and read by the main
 * thread after all ops have run.
 */
#include "fixture.h"

#include "cases.h"

#define POSTERS      8
#define POSTS_EACH   2500
#define CHAIN_LENGTH 2500

typedef struct posted {
    fixture_op op;
    unsigned ran_at; /* its position in the order of all ops that ran */
} posted;

static struct {
    fixture *fixture;
    fixture_link *link; /* NULL: to any worker */
    atomic_uint positions;
    atomic_uint ran; /* ops that ran and have recorded their position */
    atomic_uint refused;
    posted posts[POSTERS][POSTS_EACH];
} posting;

static void posted_done(fixture_op *op, const tp_completion *completion) {
    posted *me = TP_CONTAINER_OF(op, posted, op);
    me->ran_at = atomic_fetch_add(&posting.positions, 1);
    if (completion->error != TP_OK) {
        fixture_fault("a post came back with %s", fixture_error_name((int)completion->error));
    }
    if (posting.link != NULL && !tp_port_serves(completion->worker, &posting.link->socket)) {
        fixture_fault("a post to a socket ran on worker %u, which does not serve it",
            fixture_index_of(completion->worker));
    }
    if (posting.link == NULL && fixture_port_of(completion->worker) != posting.fixture->port) {
        fixture_fault("a post ran on another port");
    }
    if (atomic_fetch_add(&posting.ran, 1) + 1 == POSTERS * POSTS_EACH) {
        fixture_changed();
    }
}

static void poster_main(void *argument) {
    posted *mine = argument;
    tp_socket *socket = posting.link == NULL ? NULL : &posting.link->socket;
    for (unsigned i = 0; i < POSTS_EACH; i++) {
        if (fixture_post(posting.fixture->port, socket, &mine[i].op) != TP_OK) {
            atomic_fetch_add(&posting.refused, 1);
        }
    }
}

/* Eight threads post at once; everything runs once. */
static void post_from_all(fixture *s, fixture_link *link) {
    tp_thread threads[POSTERS];
    posting.fixture = s;
    posting.link = link;
    atomic_store(&posting.positions, 0);
    atomic_store(&posting.ran, 0);
    atomic_store(&posting.refused, 0);
    for (unsigned t = 0; t < POSTERS; t++) {
        for (unsigned i = 0; i < POSTS_EACH; i++) {
            fixture_op_init(&posting.posts[t][i].op, "post", posted_done, NULL);
        }
    }
    for (unsigned t = 0; t < POSTERS; t++) {
        REQUIRE(tp_thread_start(&threads[t], "poster", poster_main, posting.posts[t]) == TP_OK);
    }
    for (unsigned t = 0; t < POSTERS; t++) {
        tp_thread_join(&threads[t]);
    }
    CHECK_EQ(atomic_load(&posting.refused), 0);
    FIXTURE_UNTIL(atomic_load(&posting.ran) >= POSTERS * POSTS_EACH);
    for (unsigned t = 0; t < POSTERS; t++) {
        for (unsigned i = 0; i < POSTS_EACH; i++) {
            if (atomic_load(&posting.posts[t][i].op.ended) != 1) {
                fixture_fault("post %u of thread %u ran %u times", i, t,
                    atomic_load(&posting.posts[t][i].op.ended));
            }
        }
    }
}

static void posts_from_eight_threads_all_run(void) {
    fixture s;
    fixture_open(&s);
    post_from_all(&s, NULL);
    fixture_close(&s);
}

static void posts_to_a_socket_keep_each_threads_order(void) {
    fixture s;
    fixture_listener listener;
    fixture_link client;
    fixture_link server;
    fixture_open(&s);
    fixture_listener_open(&listener, &s);
    fixture_link_init(&client, &s, "client");
    fixture_link_init(&server, &s, "server");
    fixture_pair(&listener, &client, &server);

    post_from_all(&s, &server);
    for (unsigned t = 0; t < POSTERS; t++) {
        for (unsigned i = 1; i < POSTS_EACH; i++) {
            if (posting.posts[t][i].ran_at < posting.posts[t][i - 1].ran_at) {
                fixture_fault("post %u of thread %u ran before the one posted before it", i, t);
            }
        }
    }
    fixture_unpair(&client, &server);
    fixture_listener_close(&listener);
    fixture_close(&s);
}

/* ---- posts from inside a `done` -------------------------------------------------------------- */

static void chain_done(fixture_op *op, const tp_completion *completion) {
    atomic_uint *left = op->context;
    if (atomic_fetch_sub(left, 1) > 1) {
        /* Its memory is the case's again: it is started anew inside its own `done`. */
        REQUIRE(fixture_post(fixture_port_of(completion->worker), NULL, op) == TP_OK);
    } else {
        fixture_changed();
    }
}

static void a_post_may_be_posted_again_inside_its_done(void) {
    fixture s;
    fixture_op chains[POSTERS];
    atomic_uint left[POSTERS];
    fixture_open(&s);
    for (unsigned i = 0; i < POSTERS; i++) {
        atomic_init(&left[i], CHAIN_LENGTH);
        fixture_op_init(&chains[i], "chain", chain_done, &left[i]);
        REQUIRE(fixture_post(s.port, NULL, &chains[i]) == TP_OK);
    }
    for (unsigned i = 0; i < POSTERS; i++) {
        /* Not fixture_op_in_progress(): between its end and its new start inside `done`, an op is
         * not in progress for a moment. */
        FIXTURE_UNTIL(atomic_load(&left[i]) == 0);
        CHECK_EQ(atomic_load(&chains[i].ended), CHAIN_LENGTH);
    }
    fixture_close(&s);
}

/* An endless chain of posts on the only worker must not prevent a socket's completions. */
typedef struct treadmill {
    fixture_op op;
    atomic_bool stop;
    atomic_bool stopped;
} treadmill;

static void treadmill_done(fixture_op *op, const tp_completion *completion) {
    treadmill *mill = TP_CONTAINER_OF(op, treadmill, op);
    if (!atomic_load(&mill->stop)) {
        REQUIRE(fixture_post(fixture_port_of(completion->worker), NULL, op) == TP_OK);
    } else {
        atomic_store(&mill->stopped, true);
    }
}

static void endless_posts_do_not_starve_connections(void) {
    fixture s;
    fixture_listener listener;
    fixture_link client;
    fixture_link server;
    treadmill mill;
    fixture_open_workers(&s, 1);
    fixture_listener_open(&listener, &s);
    atomic_init(&mill.stop, false);
    atomic_init(&mill.stopped, false);
    fixture_op_init(&mill.op, "treadmill", treadmill_done, NULL);
    REQUIRE(fixture_post(s.port, NULL, &mill.op) == TP_OK);
    for (int i = 0; i < 20; i++) {
        fixture_link_init(&client, &s, "client");
        fixture_link_init(&server, &s, "server");
        fixture_pair(&listener, &client, &server);
        fixture_unpair(&client, &server);
    }
    atomic_store(&mill.stop, true);
    FIXTURE_UNTIL(atomic_load(&mill.stopped));
    fixture_listener_close(&listener);
    fixture_close(&s);
}

PORT_THEME(posts, PORT_CASE(posts_from_eight_threads_all_run, EACH_WORKERS),
    PORT_CASE(posts_to_a_socket_keep_each_threads_order, EACH_WORKERS),
    PORT_CASE(a_post_may_be_posted_again_inside_its_done, EACH_WORKERS),
    PORT_CASE(endless_posts_do_not_starve_connections, ONCE))
