/* Linux only: which threads of a server, of a client and of the handshakes are scheduled how, as
 * the system has them while they run; and what is said when it refuses. */
#include "scheduling.h"

#include "log_catch.h"
#include "twinport/lanclient.h"
#include "twinport/lanserver.h"
#include "twinport/process.h"
#include "wanserver/handshake/handshakes.h"

enum { THREADS_MOST = 32 };

static const tp_handlers no_handlers = {.size = sizeof no_handlers};

/* Whether this kernel has slices; asked on a thread of its own. */
static void ask(void *argument) {
    bool *has = argument;
    *has = tp_thread_ask_low_latency() == TP_OK;
}

static bool kernel_has_slices(void) {
    tp_thread thread;
    bool has = false;
    REQUIRE(tp_thread_start(&thread, "ask", ask, &has) == TP_OK);
    tp_thread_join(&thread);
    return has;
}

/* All threads of that name, `count` of them, have the shortest slice, or none has. */
static void check_slices(const char *name, unsigned count, bool shortest) {
    long threads[THREADS_MOST];
    CHECK_EQ(threads_named(name, threads, THREADS_MOST), count);
    for (unsigned i = 0; i < count && kernel_has_slices(); i++) {
        CHECK_EQ(scheduling_of(threads[i]).slice_ns == SHORTEST_SLICE_NS, shortest);
    }
}

static tp_server *server_start(const char *name, bool low_latency) {
    tp_server_options options;
    tp_server *server = NULL;
    tp_lanserver_defaults(&options);
    CHECK(options.low_latency);
    options.name = name;
    options.workers = 3;
    options.low_latency = low_latency;
    REQUIRE(tp_lanserver_create(&options, &no_handlers, &server) == TP_OK);
    REQUIRE(tp_server_start(server) == TP_OK);
    return server;
}

static void server_end(tp_server *server) {
    tp_server_stop(server);
    CHECK_EQ(tp_server_wait(server, -1), TP_OK);
    tp_server_destroy(server);
}

static void a_servers_workers_ask_if_told_to(void) {
    tp_server *asks = server_start("asks", true);
    tp_server *plain = server_start("plain", false);
    check_slices("asks", 3, true);
    check_slices("plain", 3, false);
    server_end(asks);
    server_end(plain);
    asks = server_start("asks", true);
    check_slices("asks", 3, true);
    server_end(asks);
}

/* There need not be a hub. */
static void a_clients_workers_ask_unless_told_not_to(void) {
    const tp_lanclient_handlers handlers = {.size = sizeof handlers};
    for (unsigned round = 0; round < 2; round++) {
        tp_lanclient_options options;
        tp_lanclient *client = NULL;
        tp_lanclient_defaults(&options);
        CHECK(options.low_latency);
        REQUIRE(tp_address_parse("127.0.0.1:1", &options.address) == TP_OK);
        options.service = "latency";
        options.workers = 2;
        options.low_latency = round == 0;
        REQUIRE(tp_lanclient_create(&options, &handlers, &client) == TP_OK);
        REQUIRE(tp_lanclient_start(client) == TP_OK);
        check_slices("lanclient", 2, round == 0);
        tp_lanclient_stop(client);
        CHECK_EQ(tp_lanclient_wait(client, -1), TP_OK);
        tp_lanclient_destroy(client);
    }
}

/* ---- handshakes ------------------------------------------------------------------------------ */

static scheduling ran_as;
static atomic_uint ran;

static void run(void *job) {
    (void)job;
    ran_as = scheduling_of(0);
}

static void deliver(void *const *jobs, unsigned count) {
    (void)jobs;
    atomic_fetch_add(&ran, count);
}

static void drop(void *job) {
    (void)job;
}

static void run_one(tp_handshake_priority priority) {
    const tp__handshakes_options options = {.threads = 1,
        .queue = 1,
        .priority = priority,
        .overdue_ms = 60000,
        .together_ms = 1,
        .run = run,
        .deliver = deliver,
        .drop = drop};
    int job = 0;
    tp__handshakes *handshakes = NULL;
    REQUIRE(tp__handshakes_create(&options, &handshakes) == TP_OK);
    REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
    atomic_store(&ran, 0);
    REQUIRE(tp__handshakes_offer(handshakes, &job));
    while (atomic_load(&ran) == 0) {
        tp_thread_yield();
    }
    tp__handshakes_stop(handshakes);
    tp__handshakes_destroy(handshakes);
}

static void handshakes_have_the_priority_they_are_given(void) {
    scheduling own = scheduling_of(0);
    run_one(TP_HANDSHAKE_NORMAL);
    CHECK_EQ(ran_as.policy, own.policy);
    CHECK_EQ(ran_as.nice, own.nice);
    run_one(TP_HANDSHAKE_LOW);
    CHECK_EQ(ran_as.policy, own.policy);
    CHECK(ran_as.nice > own.nice || own.nice == 19);
    run_one(TP_HANDSHAKE_IDLE);
    CHECK_EQ(ran_as.policy, SCHED_IDLE);
}

/* The thread that takes what is overdue is none of the idle ones: it could not raise itself. */
static atomic_bool stands_still;
static atomic_uint overdue_policy;

static void stand_still(void *job) {
    if (job == &stands_still) {
        while (atomic_load(&stands_still)) {
            tp_thread_yield();
        }
    } else {
        atomic_store(&overdue_policy, scheduling_of(0).policy);
    }
}

static void what_is_overdue_is_not_run_idle(void) {
    const tp__handshakes_options options = {.threads = 1,
        .queue = 2,
        .priority = TP_HANDSHAKE_IDLE,
        .overdue_ms = 20,
        .together_ms = 1,
        .run = stand_still,
        .deliver = deliver,
        .drop = drop};
    int job = 0;
    tp__handshakes *handshakes = NULL;
    REQUIRE(tp__handshakes_create(&options, &handshakes) == TP_OK);
    REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
    atomic_store(&ran, 0);
    atomic_store(&overdue_policy, SCHED_IDLE);
    atomic_store(&stands_still, true);
    REQUIRE(tp__handshakes_offer(handshakes, &stands_still));
    while (tp__handshakes_waiting(handshakes) > 0) {
        tp_thread_yield();
    }
    REQUIRE(tp__handshakes_offer(handshakes, &job));
    while (atomic_load(&ran) == 0) {
        tp_thread_yield();
    }
    CHECK_EQ(atomic_load(&overdue_policy), scheduling_of(0).policy);
    CHECK_GE(tp__handshakes_overdue(handshakes), 1);
    atomic_store(&stands_still, false);
    tp__handshakes_stop(handshakes);
    tp__handshakes_destroy(handshakes);
}

/* ---- where the system refuses: last, for what is said once is not said again ----------------- */

static void serve_where_it_is_refused(void *argument) {
    (void)argument;
    refuse_scheduling(EPERM);
    log_catch_open();
    for (unsigned i = 0; i < 2; i++) {
        tp_server *server = server_start("refused", true);
        check_slices("refused", 3, false);
        server_end(server);
    }
    CHECK(log_catch_await("info", "refused: ", "low latency", 1));
    CHECK_EQ(log_caught("warning", NULL, NULL) + log_caught("error", NULL, NULL), 0);
    run_one(TP_HANDSHAKE_IDLE);
    CHECK_NE(ran_as.policy, SCHED_IDLE);
    CHECK_GT(ran_as.nice, scheduling_of(0).nice);
    CHECK(log_catch_await("info", "handshakes: ", "lower priority", 1));
    log_catch_close();
}

static void a_refusal_is_said_once_and_does_no_harm(void) {
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "refuse", serve_where_it_is_refused, NULL) == TP_OK);
    tp_thread_join(&thread);
}

CHECK_MAIN(CASE(a_servers_workers_ask_if_told_to), CASE(a_clients_workers_ask_unless_told_not_to),
    CASE(handshakes_have_the_priority_they_are_given), CASE(what_is_overdue_is_not_run_idle),
    CASE(a_refusal_is_said_once_and_does_no_harm))
