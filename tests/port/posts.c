/*
 * Theme `posts`: the one call that any thread may make.
 *
 * Threads: each poster thread owns an array of ops and posts them in order; workers write down the
 * order in which they ran. An op's `ran_at` is written by the worker that ran it and read by the
 * main thread after all have run.
 */
#include "stage.h"

#include "cases.h"

#define POSTERS      8
#define POSTS_EACH   2500
#define CHAIN_LENGTH 2500

typedef struct posted {
    stage_op op;
    unsigned ran_at; /* place in the order of everything that ran */
} posted;

static struct {
    stage *stage;
    stage_link *link; /* NULL: to any worker */
    atomic_uint places;
    atomic_uint ran; /* and have written down what they know */
    atomic_uint refused;
    posted posts[POSTERS][POSTS_EACH];
} office;

static void posted_done(stage_op *op, const tp_completion *completion) {
    posted *me = TP_CONTAINER_OF(op, posted, op);
    me->ran_at = atomic_fetch_add(&office.places, 1);
    if (completion->error != TP_OK) {
        stage_fault("a post came back with %s", stage_error_name((int)completion->error));
    }
    if (office.link != NULL && !tp_port_serves(completion->worker, &office.link->socket)) {
        stage_fault("a post to a socket ran on worker %u, which does not serve it",
            tp_worker_index(completion->worker));
    }
    if (office.link == NULL && tp_worker_port(completion->worker) != office.stage->port) {
        stage_fault("a post ran on another port");
    }
    if (atomic_fetch_add(&office.ran, 1) + 1 == POSTERS * POSTS_EACH) {
        stage_changed();
    }
}

static void poster_main(void *argument) {
    posted *mine = argument;
    tp_socket *socket = office.link == NULL ? NULL : &office.link->socket;
    for (unsigned i = 0; i < POSTS_EACH; i++) {
        if (stage_post(office.stage->port, socket, &mine[i].op) != TP_OK) {
            atomic_fetch_add(&office.refused, 1);
        }
    }
}

/* Eight threads post at once; everything runs once. */
static void post_from_all(stage *s, stage_link *link) {
    tp_thread threads[POSTERS];
    office.stage = s;
    office.link = link;
    atomic_store(&office.places, 0);
    atomic_store(&office.ran, 0);
    atomic_store(&office.refused, 0);
    for (unsigned t = 0; t < POSTERS; t++) {
        for (unsigned i = 0; i < POSTS_EACH; i++) {
            stage_op_init(&office.posts[t][i].op, "post", posted_done, NULL);
        }
    }
    for (unsigned t = 0; t < POSTERS; t++) {
        REQUIRE(tp_thread_start(&threads[t], "poster", poster_main, office.posts[t]) == TP_OK);
    }
    for (unsigned t = 0; t < POSTERS; t++) {
        tp_thread_join(&threads[t]);
    }
    CHECK_EQ(atomic_load(&office.refused), 0);
    STAGE_UNTIL(atomic_load(&office.ran) >= POSTERS * POSTS_EACH);
    for (unsigned t = 0; t < POSTERS; t++) {
        for (unsigned i = 0; i < POSTS_EACH; i++) {
            if (atomic_load(&office.posts[t][i].op.ended) != 1) {
                stage_fault("post %u of thread %u ran %u times", i, t,
                    atomic_load(&office.posts[t][i].op.ended));
            }
        }
    }
}

static void posts_from_eight_threads_all_run(void) {
    stage s;
    stage_open(&s);
    post_from_all(&s, NULL);
    stage_close(&s);
}

static void posts_to_a_socket_keep_each_threads_order(void) {
    stage s;
    stage_listener listener;
    stage_link client;
    stage_link server;
    stage_open(&s);
    stage_listener_open(&listener, &s);
    stage_link_init(&client, &s, "client");
    stage_link_init(&server, &s, "server");
    stage_pair(&listener, &client, &server);

    post_from_all(&s, &server);
    for (unsigned t = 0; t < POSTERS; t++) {
        for (unsigned i = 1; i < POSTS_EACH; i++) {
            if (office.posts[t][i].ran_at < office.posts[t][i - 1].ran_at) {
                stage_fault("post %u of thread %u ran before the one posted before it", i, t);
            }
        }
    }
    stage_unpair(&client, &server);
    stage_listener_close(&listener);
    stage_close(&s);
}

/* ---- posts from inside a `done` -------------------------------------------------------------- */

static void chain_done(stage_op *op, const tp_completion *completion) {
    atomic_uint *left = op->context;
    if (atomic_fetch_sub(left, 1) > 1) {
        /* Its memory is ours again: started anew inside its own `done`. */
        REQUIRE(stage_post(tp_worker_port(completion->worker), NULL, op) == TP_OK);
    } else {
        stage_changed();
    }
}

static void a_post_may_be_posted_again_inside_its_done(void) {
    stage s;
    stage_op chains[POSTERS];
    atomic_uint left[POSTERS];
    stage_open(&s);
    for (unsigned i = 0; i < POSTERS; i++) {
        atomic_init(&left[i], CHAIN_LENGTH);
        stage_op_init(&chains[i], "chain", chain_done, &left[i]);
        REQUIRE(stage_post(s.port, NULL, &chains[i]) == TP_OK);
    }
    for (unsigned i = 0; i < POSTERS; i++) {
        /* Between its end and its new start inside `done`, an op is not in progress for a
         * moment. */
        STAGE_UNTIL(atomic_load(&left[i]) == 0);
        CHECK_EQ(atomic_load(&chains[i].ended), CHAIN_LENGTH);
    }
    stage_close(&s);
}

/* An endless chain of posts on the only worker must not keep a socket's completions away. */
typedef struct treadmill {
    stage_op op;
    atomic_bool stop;
    atomic_bool stopped;
} treadmill;

static void treadmill_done(stage_op *op, const tp_completion *completion) {
    treadmill *mill = TP_CONTAINER_OF(op, treadmill, op);
    if (!atomic_load(&mill->stop)) {
        REQUIRE(stage_post(tp_worker_port(completion->worker), NULL, op) == TP_OK);
    } else {
        atomic_store(&mill->stopped, true);
    }
}

static void endless_posts_do_not_starve_connections(void) {
    stage s;
    stage_listener listener;
    stage_link client;
    stage_link server;
    treadmill mill;
    stage_open_workers(&s, 1);
    stage_listener_open(&listener, &s);
    atomic_init(&mill.stop, false);
    atomic_init(&mill.stopped, false);
    stage_op_init(&mill.op, "treadmill", treadmill_done, NULL);
    REQUIRE(stage_post(s.port, NULL, &mill.op) == TP_OK);
    for (int i = 0; i < 20; i++) {
        stage_link_init(&client, &s, "client");
        stage_link_init(&server, &s, "server");
        stage_pair(&listener, &client, &server);
        stage_unpair(&client, &server);
    }
    atomic_store(&mill.stop, true);
    STAGE_UNTIL(atomic_load(&mill.stopped));
    stage_listener_close(&listener);
    stage_close(&s);
}

PORT_THEME(posts, PORT_CASE(posts_from_eight_threads_all_run, EACH_WORKERS),
    PORT_CASE(posts_to_a_socket_keep_each_threads_order, EACH_WORKERS),
    PORT_CASE(a_post_may_be_posted_again_inside_its_done, EACH_WORKERS),
    PORT_CASE(endless_posts_do_not_starve_connections, ONCE))
