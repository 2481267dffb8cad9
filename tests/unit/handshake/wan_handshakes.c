/*
 * The handshake threads: each job is run and delivered, or dropped, exactly once, whatever starts
 * and stops meanwhile.
 */
#include "core/memory/memory.h"
#include "handshakes_fixture.h"

static void jobs_run_on_other_threads_in_order(void) {
    enum { JOBS = 50 };
    static job jobs[JOBS];
    tp__handshakes *handshakes = make(1, JOBS);
    REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
    for (unsigned i = 0; i < JOBS; i++) {
        CHECK(tp__handshakes_offer(handshakes, &jobs[i]));
    }
    wait_until(&ended, JOBS);
    tp__handshakes_stop(handshakes);
    for (unsigned i = 0; i < JOBS; i++) {
        CHECK_EQ(atomic_load(&jobs[i].runs), 1);
        CHECK_EQ(atomic_load(&jobs[i].drops), 0);
        CHECK_EQ(jobs[i].order, i + 1);
        CHECK_NE(jobs[i].thread, tp_thread_id());
        CHECK_EQ(jobs[i].thread, jobs[0].thread);
    }
    tp__handshakes_destroy(handshakes);
}

/* Finished jobs are delivered when none waits, or when there are enough for a batch. */
static void finished_jobs_are_delivered_in_batches(void) {
    enum { ALL = TP__HANDSHAKES_BATCH + 3 };
    static job jobs[ALL];
    static job alone;
    tp__handshakes *handshakes = make(1, ALL);
    REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
    CHECK(tp__handshakes_offer(handshakes, &alone));
    wait_until(&ended, 1);
    CHECK_EQ(alone.batch_size, 1);
    atomic_store(&blocked, true);
    for (unsigned i = 0; i < ALL; i++) {
        CHECK(tp__handshakes_offer(handshakes, &jobs[i]));
    }
    wait_until(&begun, 2);
    atomic_store(&blocked, false);
    wait_until(&ended, 1 + ALL);
    for (unsigned i = 0; i < ALL; i++) {
        bool first = i < TP__HANDSHAKES_BATCH;
        CHECK_EQ(jobs[i].batch_size, first ? TP__HANDSHAKES_BATCH : 3);
        CHECK_EQ(jobs[i].position, first ? i + 1 : i + 1 - TP__HANDSHAKES_BATCH);
    }
    tp__handshakes_stop(handshakes);
    tp__handshakes_destroy(handshakes);
}

/* A job that took long is not held back for those behind it. */
static void a_slow_job_is_delivered_without_delay(void) {
    static job jobs[2];
    tp__handshakes_options options = options_of(1, 2);
    options.batch_ms = 1;
    tp__handshakes *handshakes = make_of(&options);
    REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
    atomic_store(&blocked, true);
    CHECK(tp__handshakes_offer(handshakes, &jobs[0]));
    wait_until(&begun, 1);
    CHECK(tp__handshakes_offer(handshakes, &jobs[1]));
    uint64_t since_ms = tp_clock_ms();
    while (tp_clock_ms() < since_ms + 2) {
        tp_thread_yield();
    }
    atomic_store(&blocked, false);
    wait_until(&ended, 2);
    CHECK_EQ(jobs[0].batch_size, 1);
    CHECK_EQ(jobs[1].batch_size, 1);
    tp__handshakes_stop(handshakes);
    tp__handshakes_destroy(handshakes);
}

static void threads_work_at_the_same_time(void) {
    enum { THREADS = 3 };
    static job jobs[THREADS];
    tp__handshakes *handshakes = make(THREADS, THREADS);
    REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
    atomic_store(&blocked, true);
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK(tp__handshakes_offer(handshakes, &jobs[i]));
    }
    wait_until(&begun, THREADS); /* while none of them has ended */
    CHECK_EQ(atomic_load(&ended), 0);
    atomic_store(&blocked, false);
    tp__handshakes_stop(handshakes);
    CHECK_EQ(atomic_load(&ended), THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_NE(jobs[i].thread, jobs[(i + 1) % THREADS].thread);
    }
    tp__handshakes_destroy(handshakes);
}

static void the_queue_is_bounded(void) {
    enum { QUEUE = 4 };
    static job jobs[1 + QUEUE + 1];
    tp__handshakes *handshakes = make(1, QUEUE);
    CHECK(!tp__handshakes_offer(handshakes, &jobs[0])); /* the threads are stopped */
    REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
    atomic_store(&blocked, true);
    CHECK(tp__handshakes_offer(handshakes, &jobs[0]));
    wait_until(&begun, 1);
    for (unsigned i = 1; i <= QUEUE; i++) {
        CHECK_EQ(tp__handshakes_waiting(handshakes), i - 1);
        CHECK(tp__handshakes_offer(handshakes, &jobs[i]));
    }
    CHECK(!tp__handshakes_offer(handshakes, &jobs[QUEUE + 1]));
    atomic_store(&blocked, false);
    wait_until(&ended, 1 + QUEUE);
    CHECK_EQ(tp__handshakes_waiting(handshakes), 0);
    CHECK(tp__handshakes_offer(handshakes, &jobs[QUEUE + 1]));
    wait_until(&ended, 1 + QUEUE + 1);
    tp__handshakes_stop(handshakes);
    for (unsigned i = 0; i < 1 + QUEUE + 1; i++) {
        CHECK_EQ(atomic_load(&jobs[i].runs), 1);
        CHECK_EQ(atomic_load(&jobs[i].drops), 0);
    }
    tp__handshakes_destroy(handshakes);
}

static void release_later(void *argument) {
    tp__handshakes *handshakes = argument;
    /* The stop has begun when the waiting jobs are dropped; it must wait for the running one. */
    while (tp__handshakes_waiting(handshakes) > 0) {
        tp_thread_yield();
    }
    CHECK_EQ(atomic_load(&ended), 0);
    atomic_store(&blocked, false);
}

static void a_stop_drops_waiting_jobs_and_waits_for_running_ones(void) {
    enum { QUEUE = 8 };
    static job jobs[1 + QUEUE];
    tp__handshakes *handshakes = make(1, QUEUE);
    for (unsigned round = 1; round <= 5; round++) { /* the threads start again after each stop */
        atomic_store(&begun, 0);
        atomic_store(&ended, 0);
        atomic_store(&blocked, true);
        REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
        CHECK_EQ(tp__handshakes_start(handshakes), TP_ERR_STATE);
        CHECK(tp__handshakes_offer(handshakes, &jobs[0]));
        wait_until(&begun, 1);
        for (unsigned i = 1; i <= QUEUE; i++) {
            CHECK(tp__handshakes_offer(handshakes, &jobs[i]));
        }
        tp_thread helper;
        REQUIRE(tp_thread_start(&helper, "release", release_later, handshakes) == TP_OK);
        tp__handshakes_stop(handshakes);
        CHECK_EQ(atomic_load(&ended), 1);
        tp_thread_join(&helper);
        CHECK(!tp__handshakes_offer(handshakes, &jobs[0]));
        CHECK_EQ(atomic_load(&jobs[0].runs), round);
        CHECK_EQ(atomic_load(&jobs[0].drops), 0);
        for (unsigned i = 1; i <= QUEUE; i++) {
            CHECK_EQ(atomic_load(&jobs[i].runs), 0);
            CHECK_EQ(atomic_load(&jobs[i].drops), round);
        }
    }
    tp__handshakes_stop(handshakes); /* another stop changes nothing */
    tp__handshakes_destroy(handshakes);
}

/* ---- many threads ---------------------------------------------------------------------------- */

enum { OFFERERS = 3, EACH = 4000 };

typedef struct offerer {
    tp__handshakes *handshakes;
    job jobs[EACH];
    unsigned taken;
} offerer;

static atomic_uint offering;

static void offer_all(void *argument) {
    offerer *it = argument;
    for (unsigned i = 0; i < EACH; i++) {
        /* Sometimes the job is offered until it is accepted; otherwise a refused job stays with the
         * thread that offered it. */
        bool insist = i % 4 == 0;
        bool taken = tp__handshakes_offer(it->handshakes, &it->jobs[i]);
        while (insist && !taken) {
            tp_thread_yield();
            taken = tp__handshakes_offer(it->handshakes, &it->jobs[i]);
        }
        it->taken += taken;
        if (!taken) {
            it->jobs[i].order = UINT32_MAX;
        }
    }
    atomic_fetch_sub(&offering, 1);
}

static void each_job_ends_once_through_stops_and_starts(void) {
    static offerer offerers[OFFERERS];
    tp__handshakes_options options = options_of(2, 16);
    options.priority = TP_HANDSHAKE_IDLE;
    options.overdue_ms = 1; /* so that the reserve thread takes its part */
    tp__handshakes *handshakes = make_of(&options);
    REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
    tp_thread threads[OFFERERS];
    atomic_store(&offering, OFFERERS);
    for (unsigned i = 0; i < OFFERERS; i++) {
        offerers[i].handshakes = handshakes;
        REQUIRE(tp_thread_start(&threads[i], "offer", offer_all, &offerers[i]) == TP_OK);
    }
    while (atomic_load(&offering) > 0) {
        tp__handshakes_stop(handshakes);
        CHECK_EQ(tp__handshakes_waiting(handshakes), 0); /* and none is accepted after that */
        REQUIRE(tp__handshakes_start(handshakes) == TP_OK);
        for (unsigned i = 0; i < 20; i++) {
            tp_thread_yield();
        }
    }
    for (unsigned i = 0; i < OFFERERS; i++) {
        tp_thread_join(&threads[i]);
    }
    tp__handshakes_stop(handshakes);
    unsigned wrong = 0;
    unsigned handed_on = 0;
    unsigned taken = 0;
    for (unsigned i = 0; i < OFFERERS; i++) {
        taken += offerers[i].taken;
        for (unsigned j = 0; j < EACH; j++) {
            const job *it = &offerers[i].jobs[j];
            unsigned times = atomic_load(&it->runs) + atomic_load(&it->drops);
            wrong += times != (it->order == UINT32_MAX ? 0u : 1u);
            wrong += atomic_load(&it->deliveries) != atomic_load(&it->runs);
            handed_on += times;
        }
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(handed_on, taken);
    CHECK_GE(taken, OFFERERS * EACH / 4);
    tp__handshakes_destroy(handshakes);
}

static void memory_is_allocated_at_create_only(void) {
    uint64_t live = tp__memory_live();
    tp__handshakes_options options = options_of(1, 2);
    tp__handshakes *handshakes = NULL;
    for (long i = 1; i <= 2; i++) {
        tp__memory_fail_after(i);
        CHECK_EQ(tp__handshakes_create(&options, &handshakes), TP_ERR_NO_MEMORY);
        CHECK(handshakes == NULL);
        tp__memory_fail_after(-1);
        CHECK_EQ(tp__memory_live(), live);
    }
    options.threads = 0;
    CHECK_EQ(tp__handshakes_create(&options, &handshakes), TP_ERR_INVALID);
    options.threads = TP__HANDSHAKE_THREADS_MAX + 1;
    CHECK_EQ(tp__handshakes_create(&options, &handshakes), TP_ERR_INVALID);
    options.threads = 1;
    options.queue = 0;
    CHECK_EQ(tp__handshakes_create(&options, &handshakes), TP_ERR_INVALID);
    options.queue = 1;
    options.drop = NULL;
    CHECK_EQ(tp__handshakes_create(&options, &handshakes), TP_ERR_INVALID);
    options.drop = drop;
    options.batch_ms = 0;
    CHECK_EQ(tp__handshakes_create(&options, &handshakes), TP_ERR_INVALID);
    options.batch_ms = 1;
    options.overdue_ms = 60001;
    CHECK_EQ(tp__handshakes_create(&options, &handshakes), TP_ERR_INVALID);
    options.overdue_ms = 0;
    options.priority = (tp_handshake_priority)3;
    CHECK_EQ(tp__handshakes_create(&options, &handshakes), TP_ERR_INVALID);
    options.priority = TP_HANDSHAKE_IDLE;
    options.deliver = NULL;
    CHECK_EQ(tp__handshakes_create(&options, &handshakes), TP_ERR_INVALID);
    CHECK(handshakes == NULL);
    tp__handshakes_destroy(NULL);
    CHECK_EQ(tp__memory_live(), live);
}

CHECK_MAIN(CASE(jobs_run_on_other_threads_in_order), CASE(finished_jobs_are_delivered_in_batches),
    CASE(a_slow_job_is_delivered_without_delay), CASE(threads_work_at_the_same_time),
    CASE(the_queue_is_bounded), CASE(a_stop_drops_waiting_jobs_and_waits_for_running_ones),
    CASE(each_job_ends_once_through_stops_and_starts), CASE(memory_is_allocated_at_create_only))
