/* Tests of common/os/thread.h. */
#include "check.h"

#include "os/clock.h"
#include "os/thread.h"

enum { THREADS = 8 };

/* ---- threads --------------------------------------------------------------------------------- */

typedef struct member {
    tp_thread thread;
    unsigned number;
    uint64_t id;
    atomic_uint *present;
} member;

static void member_main(void *argument) {
    member *v = argument;
    v->id = tp_thread_id();
    /* All threads stay until all have started, because the ids of running threads are compared. */
    atomic_fetch_add(v->present, 1);
    while (atomic_load(v->present) < THREADS) {
        tp_thread_yield();
    }
    CHECK_EQ(tp_thread_id(), v->id);
}

static void threads_run_and_have_ids_of_their_own(void) {
    member members[THREADS];
    atomic_uint present;
    atomic_init(&present, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        members[i].number = i;
        members[i].present = &present;
        /* Longer than any system shows: it is shortened, not refused. */
        REQUIRE(tp_thread_start(&members[i].thread, "a member with a name that is far too long",
                    member_main, &members[i]) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&members[i].thread);
        CHECK_NE(members[i].id, tp_thread_id());
        for (unsigned j = 0; j < i; j++) {
            CHECK_NE(members[i].id, members[j].id);
        }
    }
    CHECK_EQ(atomic_load(&present), THREADS);
}

static void there_is_a_processor(void) {
    CHECK_GE(tp_processor_count(), 1);
}

/* ---- mutex ----------------------------------------------------------------------------------- */

enum { ROUNDS = 20000 };

typedef struct counter {
    tp_mutex mutex;
    unsigned long long value; /* guarded by `mutex` */
} counter;

static void count_up(void *argument) {
    counter *c = argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        tp_mutex_lock(&c->mutex);
        c->value++;
        tp_mutex_unlock(&c->mutex);
    }
}

static void a_mutex_excludes(void) {
    counter c = {.value = 0};
    tp_thread threads[THREADS];
    tp_mutex_init(&c.mutex);
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "count", count_up, &c) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK_EQ(c.value, (unsigned long long)THREADS * ROUNDS);
    tp_mutex_destroy(&c.mutex);
}

/* ---- condition ------------------------------------------------------------------------------- */

typedef struct gate {
    tp_mutex mutex;
    tp_condition condition;
    unsigned waiting; /* guarded by `mutex` */
    bool open;        /* guarded by `mutex` */
} gate;

static void gate_init(gate *g) {
    tp_mutex_init(&g->mutex);
    tp_condition_init(&g->condition);
    g->waiting = 0;
    g->open = false;
}

static void gate_destroy(gate *g) {
    tp_condition_destroy(&g->condition);
    tp_mutex_destroy(&g->mutex);
}

static void gate_pass(void *argument) {
    gate *g = argument;
    tp_mutex_lock(&g->mutex);
    g->waiting++;
    while (!g->open) {
        CHECK(tp_condition_wait(&g->condition, &g->mutex, -1));
    }
    tp_mutex_unlock(&g->mutex);
}

static void a_condition_wakes_all(void) {
    gate g;
    tp_thread threads[THREADS];
    gate_init(&g);
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "gate_pass", gate_pass, &g) == TP_OK);
    }
    for (bool all = false; !all; tp_thread_yield()) {
        tp_mutex_lock(&g.mutex);
        all = g.waiting == THREADS; /* all are waiting, because the mutex is free */
        g.open = all;
        tp_mutex_unlock(&g.mutex);
    }
    tp_condition_wake_all(&g.condition);
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    gate_destroy(&g);
}

static void a_condition_times_out(void) {
    gate g;
    gate_init(&g);
    tp_mutex_lock(&g.mutex);
    static const int timeouts[] = {0, 1, 30};
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        uint64_t begin = tp_clock_ns();
        /* It may wake without a cause; then it returns true, and is called again. */
        while (tp_condition_wait(&g.condition, &g.mutex, timeouts[i])) {
        }
        CHECK_GE(tp_clock_ns() - begin, (uint64_t)timeouts[i] * 1000000);
    }
    tp_mutex_unlock(&g.mutex);
    gate_destroy(&g);
}

/* ---- semaphore ------------------------------------------------------------------------------- */

static tp_semaphore semaphore;
static atomic_uint passed;

static void take_one(void *argument) {
    (void)argument;
    tp_semaphore_wait(&semaphore);
    atomic_fetch_add(&passed, 1);
}

static void a_semaphore_passes_as_many_as_are_posted(void) {
    enum { TAKERS = 4 };
    tp_thread threads[TAKERS];
    REQUIRE(tp_semaphore_init(&semaphore) == TP_OK);
    tp_semaphore_post(&semaphore); /* before any thread waits */
    for (unsigned i = 0; i < TAKERS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "take", take_one, NULL) == TP_OK);
    }
    for (unsigned posted = 1; posted <= TAKERS; posted++) {
        while (atomic_load(&passed) < posted) {
            tp_thread_yield();
        }
        for (unsigned i = 0; i < 100; i++) {
            tp_thread_yield();
        }
        CHECK_EQ(atomic_load(&passed), posted);
        if (posted < TAKERS) {
            tp_semaphore_post(&semaphore);
        }
    }
    for (unsigned i = 0; i < TAKERS; i++) {
        tp_thread_join(&threads[i]);
    }
    tp_semaphore_destroy(&semaphore);
}

/* ---- once ------------------------------------------------------------------------------------ */

static tp_once once;
static atomic_uint initialised;
static unsigned made; /* written by initialise(), read by all threads; deliberately not atomic */

static void initialise(void) {
    /* Long enough that the other threads call while it runs. */
    for (unsigned i = 0; i < 1000; i++) {
        tp_thread_yield();
    }
    made = 42;
    atomic_fetch_add(&initialised, 1);
}

static void run_once(void *argument) {
    (void)argument;
    tp_once_run(&once, initialise);
    CHECK_EQ(made, 42);
}

static void once_runs_once_and_others_wait(void) {
    tp_thread threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "once", run_once, NULL) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    tp_once_run(&once, initialise);
    CHECK_EQ(atomic_load(&initialised), 1);
}

/* ---- the record ------------------------------------------------------------------------------ */

typedef struct note {
    bool set_twice;
    uint64_t written_by;
    atomic_uint ended;
} note;

static atomic_uint wrong_ends;
static atomic_uint notes_set;

static void note_end(void *record) {
    note *d = record;
    CHECK(tp_thread_record() == record);
    CHECK_EQ(tp_thread_id(), d->written_by);
    atomic_fetch_add(&d->ended, 1);
}

static void end_wrongly(void *record) {
    (void)record;
    atomic_fetch_add(&wrong_ends, 1);
}

static void note_keep(void *argument) {
    note *d = argument;
    d->written_by = tp_thread_id();
    CHECK(tp_thread_record() == NULL);
    CHECK_EQ(tp_thread_set_record(d, note_end), TP_OK);
    CHECK(tp_thread_record() == d);
    if (d->set_twice) {
        /* The first at_exit of the process stays. */
        CHECK_EQ(tp_thread_set_record(d, end_wrongly), TP_OK);
    }
    /* All threads have a record at the same time. */
    atomic_fetch_add(&notes_set, 1);
    while (atomic_load(&notes_set) < THREADS) {
        tp_thread_yield();
    }
    CHECK(tp_thread_record() == d);
}

static void records_belong_to_threads(void) {
    static note notes[THREADS];
    tp_thread threads[THREADS];
    CHECK(tp_thread_record() == NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        notes[i].set_twice = i % 2 == 1;
        REQUIRE(tp_thread_start(&threads[i], "note", note_keep, &notes[i]) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
        CHECK_EQ(atomic_load(&notes[i].ended), 1);
    }
    CHECK_EQ(atomic_load(&wrong_ends), 0);
    CHECK(tp_thread_record() == NULL);
}

CHECK_MAIN(CASE(threads_run_and_have_ids_of_their_own), CASE(there_is_a_processor),
    CASE(a_mutex_excludes), CASE(a_condition_wakes_all), CASE(a_condition_times_out),
    CASE(a_semaphore_passes_as_many_as_are_posted), CASE(once_runs_once_and_others_wait),
    CASE(records_belong_to_threads))
