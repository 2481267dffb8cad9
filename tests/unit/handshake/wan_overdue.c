/*
 * Overdue handshakes: the idle thread blocks in its first job, as if other processes used all
 * processors, and another thread must run the jobs behind it.
 */
#include "handshakes_fixture.h"

/* Starts the threads; the idle one blocks in this job. */
static tp__handshakes *start_blocked(const tp__handshakes_options *options, job *first) {
    tp__handshakes *handshakes = make_of(options);
    REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
    atomic_store(&blocked, true);
    atomic_store(&blocked_alone, true);
    CHECK(tp__handshakes_offer(handshakes, first));
    wait_until(&begun, 1);
    return handshakes;
}

/* The jobs behind it are run by another thread. */
static void overdue_jobs_are_run_by_another_thread(void) {
    enum { BEHIND = 5 };
    static job first;
    static job behind[BEHIND];
    tp__handshakes_options options = options_of(1, 1 + BEHIND);
    options.priority = TP_HANDSHAKE_IDLE;
    options.overdue_ms = 20;
    tp__handshakes *handshakes = start_blocked(&options, &first);
    for (unsigned i = 0; i < BEHIND; i++) {
        CHECK(tp__handshakes_offer(handshakes, &behind[i]));
    }
    wait_until(&ended, BEHIND);
    CHECK_EQ(atomic_load(&first.runs), 0);
    CHECK_EQ(tp__handshakes_overdue(handshakes), BEHIND);
    atomic_store(&blocked, false);
    atomic_store(&blocked_alone, false);
    tp__handshakes_stop(handshakes);
    for (unsigned i = 0; i < BEHIND; i++) {
        CHECK_NE(behind[i].thread, first.thread);
        CHECK_EQ(behind[i].order, i + 2);
    }
    CHECK_EQ(atomic_load(&ended), 1 + BEHIND);
    tp__handshakes_destroy(handshakes);
}

/* While the idle thread makes no progress, jobs need not become overdue first: each of these is
 * offered when the one before it is done. Later the idle thread runs jobs again. */
static void a_thread_without_progress_is_bypassed_for_a_while(void) {
    enum { TRIES = 40, OVERDUE_MS = 200 };
    static job first;
    static job tries[TRIES];
    tp__handshakes_options options = options_of(1, 2);
    options.priority = TP_HANDSHAKE_IDLE;
    options.overdue_ms = OVERDUE_MS;
    options.batch_ms = 1;
    tp__handshakes *handshakes = start_blocked(&options, &first);
    uint64_t took_ms = OVERDUE_MS;
    for (unsigned i = 0; i < TRIES && took_ms >= OVERDUE_MS; i++) {
        uint64_t since_ms = tp_clock_ms();
        CHECK(tp__handshakes_offer(handshakes, &tries[i]));
        wait_until(&ended, i + 1);
        took_ms = tp_clock_ms() - since_ms;
    }
    CHECK_LT(took_ms, OVERDUE_MS);
    CHECK_EQ(atomic_load(&first.runs), 0);
    atomic_store(&blocked, false);
    atomic_store(&blocked_alone, false);
    wait_until((const atomic_uint *)&first.deliveries, 1);
    job last = {.thread = first.thread + 1};
    while (last.thread != first.thread) {
        unsigned before = atomic_load(&ended);
        CHECK(tp__handshakes_offer(handshakes, &last));
        wait_until(&ended, before + 1);
    }
    tp__handshakes_stop(handshakes);
    tp__handshakes_destroy(handshakes);
}

CHECK_MAIN(CASE(overdue_jobs_are_run_by_another_thread),
    CASE(a_thread_without_progress_is_bypassed_for_a_while))
