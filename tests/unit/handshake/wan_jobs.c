/*
 * The queue of the handshake threads: in order, bounded, each job once; and a thread that is
 * preempted in the middle of taking one delays no other.
 */
#include "check.h"

#include "core/memory/memory.h"
#include "os/thread.h"
#include "wanserver/handshake/jobs.h"

static tp__jobs make(size_t size) {
    tp__jobs jobs;
    REQUIRE(tp__jobs_create(&jobs, size) == TP_OK);
    return jobs;
}

static void jobs_come_out_in_order_many_times_around(void) {
    enum { SIZE = 3, ALL = 60 };
    static int things[ALL + SIZE];
    tp__jobs jobs = make(SIZE);
    unsigned in = 0;
    unsigned out = 0;
    CHECK(tp__jobs_take(&jobs) == NULL);
    CHECK(!tp__jobs_any(&jobs));
    while (in < ALL) {
        while (in - out < SIZE) {
            CHECK(tp__jobs_put(&jobs, &things[in++], 0));
            CHECK_EQ(tp__jobs_waiting(&jobs), in - out);
        }
        CHECK(!tp__jobs_put(&jobs, &things[0], 0));
        CHECK_EQ(tp__jobs_waiting(&jobs), SIZE);
        CHECK(tp__jobs_any(&jobs));
        for (unsigned i = 0; i < 1 + out % SIZE; i++) {
            CHECK(tp__jobs_take(&jobs) == &things[out++]);
        }
    }
    while (out < in) {
        CHECK(tp__jobs_take(&jobs) == &things[out++]);
    }
    CHECK(tp__jobs_take(&jobs) == NULL);
    tp__jobs_destroy(&jobs);
}

static void only_overdue_jobs_are_taken_on_request(void) {
    static int things[3];
    tp__jobs jobs = make(3);
    CHECK(tp__jobs_put(&jobs, &things[0], 10));
    CHECK(tp__jobs_put(&jobs, &things[1], 20));
    CHECK(tp__jobs_take_old(&jobs, 9) == NULL);
    CHECK(tp__jobs_take_old(&jobs, 10) == &things[0]);
    CHECK(tp__jobs_take_old(&jobs, 19) == NULL);
    CHECK(tp__jobs_take(&jobs) == &things[1]);
    CHECK(tp__jobs_take_old(&jobs, UINT64_MAX) == NULL);
    tp__jobs_destroy(&jobs);
}

/* The state that a taking thread leaves when it is preempted right after its compare-and-swap: head
 * is not yet advanced. The others advance it. */
static void a_preempted_thread_delays_no_other(void) {
    static int things[5];
    tp__jobs jobs = make(2);
    CHECK(tp__jobs_put(&jobs, &things[0], 0));
    CHECK(tp__jobs_put(&jobs, &things[1], 0));
    CHECK(tp__jobs_take(&jobs) == &things[0]);
    atomic_store(&jobs.head, 0);
    CHECK(tp__jobs_any(&jobs));
    atomic_store(&jobs.head, 0);
    CHECK(tp__jobs_put(&jobs, &things[2], 0));
    CHECK(tp__jobs_take(&jobs) == &things[1]);
    CHECK(tp__jobs_take(&jobs) == &things[2]);
    CHECK(tp__jobs_take(&jobs) == NULL);
    tp__jobs_destroy(&jobs);
}

/* ---- many threads ---------------------------------------------------------------------------- */

enum { PUTTERS = 2, TAKERS = 3, EACH = 20000, PLACES = 5 };

typedef struct thing {
    unsigned from;
    unsigned number;
    atomic_uint times;
} thing;

static tp__jobs shared;
static thing things[PUTTERS][EACH];
static atomic_uint taken;
static atomic_uint
    disorder; /* a thread took one producer's jobs in another order than that of putting */
static atomic_uint spoilt;

static void put_jobs(void *argument) {
    thing *own = argument;
    for (unsigned i = 0; i < EACH; i++) {
        while (!tp__jobs_put(&shared, &own[i], i)) {
            tp_thread_yield();
        }
    }
}

static void take_jobs(void *argument) {
    (void)argument;
    unsigned next[PUTTERS] = {0};
    while (atomic_load(&taken) < PUTTERS * EACH) {
        thing *it = tp__jobs_take_old(&shared, EACH);
        if (it == NULL) {
            tp_thread_yield();
            continue;
        }
        if (it->number < next[it->from]) {
            atomic_fetch_add(&disorder, 1);
        }
        next[it->from] = it->number + 1;
        if (atomic_fetch_add(&it->times, 1) != 0) {
            atomic_fetch_add(&spoilt, 1);
        }
        atomic_fetch_add(&taken, 1);
    }
}

static void threads_take_each_job_once(void) {
    tp_thread threads[PUTTERS + TAKERS];
    shared = make(PLACES);
    for (unsigned i = 0; i < PUTTERS; i++) {
        for (unsigned j = 0; j < EACH; j++) {
            things[i][j].from = i;
            things[i][j].number = j;
        }
    }
    for (unsigned i = 0; i < TAKERS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "take", take_jobs, NULL) == TP_OK);
    }
    for (unsigned i = 0; i < PUTTERS; i++) {
        REQUIRE(tp_thread_start(&threads[TAKERS + i], "put", put_jobs, things[i]) == TP_OK);
    }
    for (unsigned i = 0; i < PUTTERS + TAKERS; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK_EQ(atomic_load(&taken), PUTTERS * EACH);
    CHECK_EQ(atomic_load(&spoilt), 0);
    CHECK_EQ(atomic_load(&disorder), 0);
    CHECK_EQ(tp__jobs_waiting(&shared), 0);
    tp__jobs_destroy(&shared);
}

static void memory_is_allocated_at_create_only(void) {
    uint64_t live = tp__memory_live();
    tp__jobs jobs;
    tp__memory_fail_after(1);
    CHECK_EQ(tp__jobs_create(&jobs, 4), TP_ERR_NO_MEMORY);
    tp__memory_fail_after(-1);
    tp__jobs_destroy(&jobs);
    CHECK_EQ(tp__memory_live(), live);
}

CHECK_MAIN(CASE(jobs_come_out_in_order_many_times_around),
    CASE(only_overdue_jobs_are_taken_on_request), CASE(a_preempted_thread_delays_no_other),
    CASE(threads_take_each_job_once), CASE(memory_is_allocated_at_create_only))
