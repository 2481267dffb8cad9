/*
 * The life word: the result of each step, and threads that race for the last reference. The model
 * in tests/model explores the interleavings; here the real instructions run, under the sanitizers,
 * too.
 */
#include "core/engine/life.h"

#include "check.h"
#include "os/thread.h"

#define ID(number, index) (((uint64_t)(number) << 20) | (index))

static void a_session_is_opened_and_released_once(void) {
    tp__life life;
    uint64_t before;
    tp__life_init(&life);
    CHECK_EQ(tp__life_enter(&life, ID(1, 5), 0), TP__LIFE_TURNED_AWAY);
    tp__life_open(&life, ID(1, 5));
    CHECK_EQ(tp__life_enter(&life, ID(1, 5), TP__LIFE_OPENING), TP__LIFE_TURNED_AWAY);
    CHECK(tp__life_joined(&life));
    CHECK(!tp__life_begin_closing_unjoined(&life, &before)); /* the session has joined */
    CHECK_EQ(tp__life_enter(&life, ID(1, 5), TP__LIFE_OPENING | TP__LIFE_ENDING), TP__LIFE_ENTERED);
    CHECK_EQ(tp__life_enter(&life, ID(2, 5), 0), TP__LIFE_TURNED_AWAY);
    CHECK(!tp__life_drop(&life));
    CHECK_EQ(tp__life_begin_finishing(&life) & TP__LIFE_ENDING, 0);
    CHECK_EQ(tp__life_enter(&life, ID(1, 5), TP__LIFE_ENDING), TP__LIFE_TURNED_AWAY);
    CHECK_EQ(tp__life_begin_closing(&life) & TP__LIFE_ENDING, TP__LIFE_FINISHING);
    CHECK_EQ(tp__life_begin_closing(&life) & TP__LIFE_CLOSING, TP__LIFE_CLOSING);
    CHECK(tp__life_drop(&life)); /* the socket's reference was the last one */
    CHECK_EQ(tp__life_read(&life) & TP__LIFE_RELEASED, TP__LIFE_RELEASED);
    tp__life_retain(&life); /* a late caller's reference comes and goes */
    CHECK(!tp__life_drop(&life));
}

/* Zeroed memory, in which no session has lived, is a free slot. */
static void zeroed_memory_is_a_free_slot(void) {
    tp__life life;
    atomic_init(&life, 0);
    CHECK_EQ(tp__life_enter(&life, ID(9, 0), 0), TP__LIFE_TURNED_AWAY);
    tp__life_open(&life, ID(9, 0));
    CHECK_EQ(tp__life_read(&life), ID(9, 0) | TP__LIFE_OPENING | 1);
}

/* Closing an unjoined session and joining it exclude each other: the first one wins, and the second
 * one fails. */
static void only_an_unjoined_session_is_closed_as_unjoined(void) {
    tp__life life;
    uint64_t before;
    tp__life_init(&life);
    tp__life_open(&life, ID(6, 1));
    CHECK_EQ(tp__life_begin_finishing(&life) & TP__LIFE_ENDING, 0);
    CHECK(tp__life_begin_closing_unjoined(&life, &before));
    CHECK_EQ(before & TP__LIFE_ENDING, TP__LIFE_FINISHING); /* the first end's reason stays */
    CHECK(!tp__life_begin_closing_unjoined(&life, &before));
    CHECK_EQ(tp__life_begin_closing(&life) & TP__LIFE_CLOSING, TP__LIFE_CLOSING);
    CHECK(!tp__life_joined(&life));
    CHECK(tp__life_drop(&life));
}

/* A late caller's reference survives the opening of the slot for the next session. */
static void opening_a_slot_keeps_late_references(void) {
    tp__life life;
    tp__life_init(&life);
    tp__life_retain(&life);
    tp__life_open(&life, ID(3, 1));
    CHECK_EQ(tp__life_read(&life) & TP__LIFE_COUNT, 2);
    CHECK(!tp__life_drop(&life)); /* the late caller's */
    tp__life_begin_closing(&life);
    CHECK(tp__life_drop(&life));
}

/* A late caller that was refused may hold the last reference, and then it must release the
 * session. */
static void a_refused_caller_may_drop_the_last_reference(void) {
    tp__life life;
    tp__life_init(&life);
    tp__life_open(&life, ID(4, 1));
    tp__life_begin_closing(&life);
    CHECK_EQ(atomic_fetch_add(&life, 1) & TP__LIFE_COUNT, 1); /* the late caller enters */
    CHECK(!tp__life_drop(&life));                             /* the socket's reference goes */
    CHECK(tp__life_drop(&life));                              /* the late caller's was the last */
}

/* ---- threads --------------------------------------------------------------------------------- */

#define THREADS 4
#define LIVES   20000u

static tp__life shared;
/* Not atomic: written with a reference held, and by the release; tsan checks the order. */
static unsigned guarded;
static _Atomic uint64_t current; /* the id that can be entered */
static atomic_uint releases;
static atomic_bool over;

static void release(void) {
    guarded = 0;
    atomic_fetch_add(&releases, 1);
}

static void use(void *argument) {
    (void)argument;
    unsigned seen = 0;
    while (!atomic_load(&over)) {
        switch (tp__life_enter(&shared, atomic_load(&current), TP__LIFE_ENDING)) {
        case TP__LIFE_ENTERED:
            /* The opening thread wrote it before, the releasing thread writes it after. */
            seen += guarded;
            if (tp__life_drop(&shared)) {
                release();
            }
            break;
        case TP__LIFE_TURNED_AWAY_LAST:
            release();
            break;
        case TP__LIFE_TURNED_AWAY:
            tp_thread_yield();
            break;
        }
    }
    CHECK_LE(seen, UINT32_MAX);
}

static void threads_release_a_session_exactly_once(void) {
    tp__life_init(&shared);
    tp_thread threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "use", use, NULL) == TP_OK);
    }
    for (unsigned life = 1; life <= LIVES; life++) {
        guarded = 1;
        tp__life_open(&shared, ID(life, 0));
        atomic_store(&current, ID(life, 0));
        tp__life_begin_closing(&shared);
        if (tp__life_drop(&shared)) {
            release();
        }
        while (atomic_load(&releases) < life) {
            tp_thread_yield();
        }
        CHECK_EQ(atomic_load(&releases), life);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK_EQ(tp__life_read(&shared) & TP__LIFE_COUNT, 0);
}

CHECK_MAIN(CASE(a_session_is_opened_and_released_once), CASE(zeroed_memory_is_a_free_slot),
    CASE(only_an_unjoined_session_is_closed_as_unjoined),
    CASE(opening_a_slot_keeps_late_references), CASE(a_refused_caller_may_drop_the_last_reference),
    CASE(threads_release_a_session_exactly_once))
