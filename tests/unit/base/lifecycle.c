/*
 * The lifecycle of a part that is started and stopped again, one step after the other, and with a
 * thread that waits.
 */
#include "core/base/lifecycle.h"
#include "check.h"
#include "os/thread.h"

static tp_mutex mutex;
static tp__lifecycle lifecycle;
static tp_err last_step; /* what the wait for the last step returns */
static unsigned waits, overs;

static tp_err wait_for_last_step(void *owner, int timeout_ms) {
    (void)owner;
    (void)timeout_ms;
    waits++;
    return last_step;
}

static void on_over(void *owner) {
    (void)owner;
    CHECK(!lifecycle.started);
    overs++;
}

static const tp__lifecycle_owner part = {.wait = wait_for_last_step, .over = on_over};

static void init(void) {
    tp_mutex_init(&mutex);
    tp__lifecycle_init(&lifecycle, &mutex);
    last_step = TP_OK;
    waits = overs = 0;
    tp_mutex_lock(&mutex);
}

static void destroy(void) {
    CHECK(tp__lifecycle_check(&lifecycle) == NULL);
    tp_mutex_unlock(&mutex);
    tp__lifecycle_destroy(&lifecycle);
    tp_mutex_destroy(&mutex);
}

static tp_err wait_for_end(int timeout_ms) {
    tp_mutex_unlock(&mutex);
    tp_err error = tp__lifecycle_wait(&lifecycle, timeout_ms, &part);
    tp_mutex_lock(&mutex);
    return error;
}

static void start(void) {
    REQUIRE(tp__lifecycle_start(&lifecycle) == TP_OK);
    REQUIRE(!tp__lifecycle_started(&lifecycle, true));
}

/* ---- one thread ------------------------------------------------------------------------------ */

static void one_run_follows_another(void) {
    init();
    for (unsigned i = 1; i <= 3; i++) {
        start();
        CHECK(!tp__lifecycle_stopping(&lifecycle));
        CHECK_EQ(tp__lifecycle_start(&lifecycle), TP_ERR_STATE);
        CHECK(tp__lifecycle_stop(&lifecycle, 0, 0));
        CHECK_EQ(tp__lifecycle_start(&lifecycle), TP_ERR_STATE);
        tp__lifecycle_end(&lifecycle);
        CHECK_EQ(tp__lifecycle_start(&lifecycle), TP_ERR_STATE);
        CHECK_EQ(wait_for_end(-1), TP_OK);
        CHECK(tp__lifecycle_stopping(&lifecycle)); /* until the next start */
        CHECK_EQ(waits, i);
        CHECK_EQ(overs, i);
    }
    destroy();
}

static void without_a_stop_there_is_nothing_to_wait_for(void) {
    init();
    CHECK_EQ(wait_for_end(-1), TP_ERR_STATE);
    CHECK(!tp__lifecycle_stop(&lifecycle, 0, 0));
    CHECK(!tp__lifecycle_stopping(&lifecycle));
    start();
    CHECK_EQ(wait_for_end(-1), TP_ERR_STATE);
    CHECK_EQ(waits, 0);
    tp__lifecycle_stop(&lifecycle, 0, 0);
    tp__lifecycle_end(&lifecycle);
    CHECK_EQ(wait_for_end(-1), TP_OK);
    CHECK_EQ(wait_for_end(-1), TP_ERR_STATE); /* it is over */
    destroy();
}

static void a_second_stop_brings_the_limits_forward_only(void) {
    init();
    start();
    CHECK(tp__lifecycle_stop(&lifecycle, 100, 200));
    CHECK(!tp__lifecycle_stop(&lifecycle, 101, 199));
    CHECK_EQ(lifecycle.drain_by_ms, 100);
    CHECK_EQ(lifecycle.end_by_ms, 199);
    CHECK(!tp__lifecycle_stop(&lifecycle, 99, UINT64_MAX));
    CHECK_EQ(lifecycle.drain_by_ms, 99);
    CHECK_EQ(lifecycle.end_by_ms, 199);
    tp__lifecycle_end(&lifecycle);
    CHECK_EQ(wait_for_end(-1), TP_OK);
    start();
    CHECK(
        tp__lifecycle_stop(&lifecycle, 1000, 2000)); /* the limits of the last run are forgotten */
    CHECK_EQ(lifecycle.drain_by_ms, 1000);
    CHECK_EQ(lifecycle.end_by_ms, 2000);
    destroy();
}

static void the_drain_and_the_last_step_are_waited_for(void) {
    init();
    start();
    tp__lifecycle_stop(&lifecycle, 0, 0);
    CHECK_EQ(wait_for_end(0), TP_ERR_TIMED_OUT);
    CHECK_EQ(waits, 0);
    tp__lifecycle_end(&lifecycle);
    last_step = TP_ERR_TIMED_OUT;
    CHECK_EQ(wait_for_end(0), TP_ERR_TIMED_OUT);
    CHECK_EQ(waits, 1);
    CHECK_EQ(overs, 0);
    CHECK_EQ(tp__lifecycle_start(&lifecycle), TP_ERR_STATE);
    last_step = TP_OK;
    CHECK_EQ(wait_for_end(0), TP_OK);
    CHECK_EQ(overs, 1);
    destroy();
}

static void a_stop_during_a_start_is_told_at_its_end(void) {
    init();
    REQUIRE(tp__lifecycle_start(&lifecycle) == TP_OK);
    CHECK(tp__lifecycle_stop(&lifecycle, 0, 0));
    tp__lifecycle_end(&lifecycle);
    CHECK_EQ(wait_for_end(0), TP_ERR_TIMED_OUT); /* the start is under way */
    CHECK(tp__lifecycle_started(&lifecycle, true));
    CHECK_EQ(wait_for_end(0), TP_OK);
    destroy();
}

static void a_start_that_fails_can_be_repeated(void) {
    init();
    REQUIRE(tp__lifecycle_start(&lifecycle) == TP_OK);
    CHECK(tp__lifecycle_stop(&lifecycle, 0, 0));
    CHECK(!tp__lifecycle_started(&lifecycle, false));
    CHECK_EQ(wait_for_end(-1), TP_ERR_STATE);
    start();
    CHECK_EQ(overs, 0);
    destroy();
}

/* ---- another thread -------------------------------------------------------------------------- */

/* Another thread sees the end of the last step first, and starts the next lifecycle. */
static tp_err be_late(void *owner, int timeout_ms) {
    (void)owner;
    tp_mutex_lock(&mutex);
    CHECK_EQ(wait_for_end(timeout_ms), TP_OK);
    start();
    tp__lifecycle_stop(&lifecycle, 0, 0);
    tp_mutex_unlock(&mutex);
    return TP_OK;
}

static void a_late_wait_does_not_end_the_next_run(void) {
    const tp__lifecycle_owner late = {.wait = be_late, .over = on_over};
    init();
    start();
    tp__lifecycle_stop(&lifecycle, 0, 0);
    tp__lifecycle_end(&lifecycle);
    tp_mutex_unlock(&mutex);
    CHECK_EQ(tp__lifecycle_wait(&lifecycle, -1, &late), TP_OK);
    tp_mutex_lock(&mutex);
    CHECK(lifecycle.started);
    CHECK_EQ(overs, 1);
    destroy();
}

static atomic_bool waiting;
static tp_err waited;

static void wait_elsewhere(void *unused) {
    (void)unused;
    tp_mutex_lock(&mutex);
    atomic_store(&waiting, true);
    waited = wait_for_end(-1);
    tp_mutex_unlock(&mutex);
}

/* A thread that waits, and is in its wait or about to be. */
static void wait_begin(tp_thread *thread) {
    atomic_store(&waiting, false);
    waited = TP_ERR_OS;
    tp_mutex_unlock(&mutex);
    REQUIRE(tp_thread_start(thread, "waiter", wait_elsewhere, NULL) == TP_OK);
    while (!atomic_load(&waiting)) {
        tp_thread_yield();
    }
    tp_mutex_lock(&mutex);
}

static void wait_end(tp_thread *thread) {
    tp_mutex_unlock(&mutex);
    tp_thread_join(thread);
    tp_mutex_lock(&mutex);
}

static void the_end_of_the_drain_wakes_a_wait(void) {
    tp_thread thread;
    init();
    start();
    tp__lifecycle_stop(&lifecycle, 0, 0);
    wait_begin(&thread);
    tp__lifecycle_end(&lifecycle);
    wait_end(&thread);
    CHECK_EQ(waited, TP_OK);
    CHECK_EQ(waits, 1);
    destroy();
}

/* Either way there is nothing left to stop: a wait that begins after the failure finds no stop. */
static void a_start_that_fails_wakes_a_wait(void) {
    tp_thread thread;
    init();
    REQUIRE(tp__lifecycle_start(&lifecycle) == TP_OK);
    tp__lifecycle_stop(&lifecycle, 0, 0);
    wait_begin(&thread);
    CHECK(!tp__lifecycle_started(&lifecycle, false));
    wait_end(&thread);
    CHECK(waited == TP_OK || waited == TP_ERR_STATE);
    CHECK_EQ(waits, 0);
    destroy();
}

/* ---- the check ------------------------------------------------------------------------------- */

static void the_check_finds_a_broken_state(void) {
    init();
    lifecycle.starting = true;
    CHECK_STR(tp__lifecycle_check(&lifecycle), "lifecycle->started || !lifecycle->starting");
    lifecycle.starting = false;
    lifecycle.ending = true;
    CHECK_STR(
        tp__lifecycle_check(&lifecycle), "tp__lifecycle_stopping(lifecycle) || !lifecycle->ending");
    lifecycle.ending = false;
    destroy();
}

CHECK_MAIN(CASE(one_run_follows_another), CASE(without_a_stop_there_is_nothing_to_wait_for),
    CASE(a_second_stop_brings_the_limits_forward_only),
    CASE(the_drain_and_the_last_step_are_waited_for),
    CASE(a_stop_during_a_start_is_told_at_its_end), CASE(a_start_that_fails_can_be_repeated),
    CASE(a_late_wait_does_not_end_the_next_run), CASE(the_end_of_the_drain_wakes_a_wait),
    CASE(a_start_that_fails_wakes_a_wait), CASE(the_check_finds_a_broken_state))
