/*
 * Linux only: how the threads of a server, a client and the handshakes are scheduled. The system is
 * asked while they run; and what is logged when the system refuses.
 */
#include "scheduling.h"

#include "log_catch.h"
#include "twinport/lanclient.h"
#include "twinport/lanserver.h"
#include "twinport/process.h"
#include "wanserver/handshake/handshakes.h"

enum { THREADS_MOST = 32 };

static const tp_handlers no_handlers = {.size = sizeof no_handlers};

/* Whether this kernel has time slices; asked on a thread of its own. */
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

/* Checks that the `count` threads of that name all have the shortest time slice, or that none
 * has. */
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

static void workers_of_a_server_get_short_slices_if_asked(void) {
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

/* No hub is needed for that. */
static void workers_of_a_client_get_short_slices_by_default(void) {
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
        .batch_ms = 1,
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

static void handshake_threads_have_their_configured_priority(void) {
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

/* The thread that takes overdue jobs is not one of the idle threads, because those cannot raise
 * their own priority. */
static atomic_bool first_job_blocks;
static atomic_uint overdue_policy;

static void block_if_first(void *job) {
    if (job == &first_job_blocks) {
        while (atomic_load(&first_job_blocks)) {
            tp_thread_yield();
        }
    } else {
        atomic_store(&overdue_policy, scheduling_of(0).policy);
    }
}

static void an_overdue_handshake_is_not_run_at_idle_priority(void) {
    const tp__handshakes_options options = {.threads = 1,
        .queue = 2,
        .priority = TP_HANDSHAKE_IDLE,
        .overdue_ms = 20,
        .batch_ms = 1,
        .run = block_if_first,
        .deliver = deliver,
        .drop = drop};
    int job = 0;
    tp__handshakes *handshakes = NULL;
    REQUIRE(tp__handshakes_create(&options, &handshakes) == TP_OK);
    REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
    atomic_store(&ran, 0);
    atomic_store(&overdue_policy, SCHED_IDLE);
    atomic_store(&first_job_blocks, true);
    REQUIRE(tp__handshakes_offer(handshakes, &first_job_blocks));
    while (tp__handshakes_waiting(handshakes) > 0) {
        tp_thread_yield();
    }
    REQUIRE(tp__handshakes_offer(handshakes, &job));
    while (atomic_load(&ran) == 0) {
        tp_thread_yield();
    }
    CHECK_EQ(atomic_load(&overdue_policy), scheduling_of(0).policy);
    CHECK_GE(tp__handshakes_overdue(handshakes), 1);
    atomic_store(&first_job_blocks, false);
    tp__handshakes_stop(handshakes);
    tp__handshakes_destroy(handshakes);
}

/* ---- a refusal of the system (last: it is logged once per process) --------------------------- */

static void serve_with_refusal(void *argument) {
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
    CHECK(log_catch_await("info", "handshakes: ", "lower thread priority", 1));
    log_catch_close();
}

static void a_refusal_is_logged_once_and_does_no_harm(void) {
    tp_thread thread;
    REQUIRE(tp_thread_start(&thread, "refuse", serve_with_refusal, NULL) == TP_OK);
    tp_thread_join(&thread);
}

CHECK_MAIN(CASE(workers_of_a_server_get_short_slices_if_asked),
    CASE(workers_of_a_client_get_short_slices_by_default),
    CASE(handshake_threads_have_their_configured_priority),
    CASE(an_overdue_handshake_is_not_run_at_idle_priority),
    CASE(a_refusal_is_logged_once_and_does_no_harm))
