/*
 * Races of a client's start and stop, played out at the one moment at which they matter: another
 * thread acts between two steps.
 *
 * The __wrap_... functions below are in place of the product's (wrapped.h).
 */
#include "bus_fixture.h"
#include "slow_thread.h"

static party a;
static void (*during_start)(void); /* called inside a start, when the network runs */
static bool memory_is_out;         /* and makes that start fail */

WRAPPED(tp_err, tp__tick_start, tp_lanclient *client);
tp_err __wrap_tp__tick_start(tp_lanclient *client) {
    if (during_start) {
        during_start();
    }
    return memory_is_out ? TP_ERR_NO_MEMORY : __real_tp__tick_start(client);
}

/* What becomes of the tasks that this thread posts. A stop posts the drain's alone. */
static _Thread_local enum { POST, SWALLOW, REFUSE } posts;

WRAPPED(tp_err, tp_server_post, tp_server *server, unsigned delay_ms, void (*task)(void *context),
    void *context);
tp_err __wrap_tp_server_post(
    tp_server *server, unsigned delay_ms, void (*task)(void *context), void *context) {
    if (posts == SWALLOW) {
        return TP_OK;
    }
    return posts == REFUSE ? TP_ERR_FULL : __real_tp_server_post(server, delay_ms, task, context);
}

static tp_mutex *_Atomic watched; /* the client's */
static atomic_bool waits;

WRAPPED(bool, tp_condition_wait, tp_condition *condition, tp_mutex *mutex, int timeout_ms);
bool __wrap_tp_condition_wait(tp_condition *condition, tp_mutex *mutex, int timeout_ms) {
    if (mutex == atomic_load(&watched)) {
        atomic_store(&waits, true);
    }
    return __real_tp_condition_wait(condition, mutex, timeout_ms);
}

static void init(void) {
    atomic_store(&waits, false);
}

/* ---- a start that fails ---------------------------------------------------------------------- */

static tp_thread waiter;
static bool waiter_done;
static tp_err waited;

static void wait_for_stop(void *context) {
    (void)context;
    tp_err error = tp_lanclient_wait(a.client, -1);
    tp_mutex_lock(&fixture_mutex);
    waited = error;
    waiter_done = true;
    tp_condition_wake_all(&fixture_changed);
    tp_mutex_unlock(&fixture_mutex);
}

/* The drain of this stop is among the tasks that the failing start drops. */
static void stop_and_wait_elsewhere(void) {
    atomic_store(&watched, &a.client->mutex);
    posts = SWALLOW;
    tp_lanclient_stop(a.client);
    REQUIRE(tp_thread_start(&waiter, "waiter", wait_for_stop, NULL) == TP_OK);
    while (!atomic_load(&waits)) {
        tp_thread_yield();
    }
    posts = POST;
}

static void a_stop_during_a_failing_start_ends_with_it(void) {
    tp__hub *hub = hub_open_default();
    init();
    party_init(&a, hub, "chat", "a");
    REQUIRE(tp_lanclient_create(&a.options, &a.handlers, &a.client) == TP_OK);
    during_start = stop_and_wait_elsewhere;
    memory_is_out = true;
    CHECK_EQ(tp_lanclient_start(a.client), TP_ERR_NO_MEMORY);
    during_start = NULL;
    memory_is_out = false;
    AWAIT(waiter_done);
    tp_thread_join(&waiter);
    CHECK_EQ(waited, TP_OK);
    CHECK_EQ(tp_lanclient_wait(a.client, 0), TP_ERR_STATE);
    REQUIRE(tp_lanclient_start(a.client) == TP_OK);
    AWAIT(a.ups == 1);
    party_leave(&a);
    hub_close(hub);
}

/* ---- a stop that is slow --------------------------------------------------------------------- */

/* The drain's task is refused, so that the stop ends the network itself. */
static void stop(void) {
    posts = REFUSE;
    tp_lanclient_stop(a.client);
}

static void stop_slowly(void) {
    slow_begin(stop, &a.client->mutex);
}

/* The thread that stops is held up from the first start to the second one. */
static void a_slow_stop_does_not_end_the_next_run(void) {
    tp__hub *hub = hub_open_default();
    init();
    party_init(&a, hub, "chat", "a");
    REQUIRE(tp_lanclient_create(&a.options, &a.handlers, &a.client) == TP_OK);
    during_start = stop_slowly;
    CHECK_EQ(tp_lanclient_start(a.client), TP_OK);
    during_start = NULL;
    CHECK_EQ(tp_lanclient_wait(a.client, -1), TP_OK);
    CHECK_EQ(tp_lanclient_start(a.client), TP_OK);
    slow_end();
    CHECK_EQ(tp_server_wait(a.client->network, 0), TP_ERR_STATE); /* it still runs */
    AWAIT(a.ups == 1);
    party_leave(&a);
    hub_close(hub);
}

CHECK_MAIN(
    CASE(a_stop_during_a_failing_start_ends_with_it), CASE(a_slow_stop_does_not_end_the_next_run))
