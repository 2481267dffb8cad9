/* The life word: what each step answers, and threads that race for the last hold. The model in
 * tests/model explores the interleavings; here the real instructions run, under the sanitizers
 * too. */
#include "core/engine/life.h"

#include "check.h"
#include "os/thread.h"

#define ID(number, index) (((uint64_t)(number) << 20) | (index))

static void lives_once(void) {
    tp__life life;
    uint64_t before;
    tp__life_init(&life);
    CHECK_EQ(tp__life_enter(&life, ID(1, 5), 0), TP__LIFE_TURNED_AWAY);
    tp__life_open(&life, ID(1, 5));
    CHECK_EQ(tp__life_enter(&life, ID(1, 5), TP__LIFE_OPENING), TP__LIFE_TURNED_AWAY);
    CHECK(tp__life_joined(&life));
    CHECK(!tp__life_begin_closing_unjoined(&life, &before)); /* it has joined */
    CHECK_EQ(tp__life_enter(&life, ID(1, 5), TP__LIFE_OPENING | TP__LIFE_ENDING), TP__LIFE_ENTERED);
    CHECK_EQ(tp__life_enter(&life, ID(2, 5), 0), TP__LIFE_TURNED_AWAY);
    CHECK(!tp__life_drop(&life));
    CHECK_EQ(tp__life_begin_finishing(&life) & TP__LIFE_ENDING, 0);
    CHECK_EQ(tp__life_enter(&life, ID(1, 5), TP__LIFE_ENDING), TP__LIFE_TURNED_AWAY);
    CHECK_EQ(tp__life_begin_closing(&life) & TP__LIFE_ENDING, TP__LIFE_FINISHING);
    CHECK_EQ(tp__life_begin_closing(&life) & TP__LIFE_CLOSING, TP__LIFE_CLOSING);
    CHECK(tp__life_drop(&life)); /* the socket's hold was the last */
    CHECK_EQ(tp__life_read(&life) & TP__LIFE_RELEASED, TP__LIFE_RELEASED);
    tp__life_hold(&life); /* a late caller's, and its going */
    CHECK(!tp__life_drop(&life));
}

/* A slot of zeroed memory that nobody has lived in is as good as a free one. */
static void zero_is_free(void) {
    tp__life life;
    atomic_init(&life, 0);
    CHECK_EQ(tp__life_enter(&life, ID(9, 0), 0), TP__LIFE_TURNED_AWAY);
    tp__life_open(&life, ID(9, 0));
    CHECK_EQ(tp__life_read(&life), ID(9, 0) | TP__LIFE_OPENING | 1);
}

/* Who cuts it before it joins and the join itself: one is first, the other is told. */
static void is_cut_only_before_it_joins(void) {
    tp__life life;
    uint64_t before;
    tp__life_init(&life);
    tp__life_open(&life, ID(6, 1));
    CHECK_EQ(tp__life_begin_finishing(&life) & TP__LIFE_ENDING, 0);
    CHECK(tp__life_begin_closing_unjoined(&life, &before));
    CHECK_EQ(before & TP__LIFE_ENDING, TP__LIFE_FINISHING); /* whose reason stands */
    CHECK(!tp__life_begin_closing_unjoined(&life, &before));
    CHECK_EQ(tp__life_begin_closing(&life) & TP__LIFE_CLOSING, TP__LIFE_CLOSING);
    CHECK(!tp__life_joined(&life));
    CHECK(tp__life_drop(&life));
}

/* A hold that a late caller has while the slot is opened again is still there afterwards. */
static void opening_keeps_transient_holds(void) {
    tp__life life;
    tp__life_init(&life);
    tp__life_hold(&life);
    tp__life_open(&life, ID(3, 1));
    CHECK_EQ(tp__life_read(&life) & TP__LIFE_COUNT, 2);
    CHECK(!tp__life_drop(&life)); /* the late caller's */
    tp__life_begin_closing(&life);
    CHECK(tp__life_drop(&life));
}

/* The late caller may be the last: then it is he who must release. */
static void the_one_turned_away_may_be_the_last(void) {
    tp__life life;
    tp__life_init(&life);
    tp__life_open(&life, ID(4, 1));
    tp__life_begin_closing(&life);
    CHECK_EQ(atomic_fetch_add(&life, 1) & TP__LIFE_COUNT, 1); /* he enters ... */
    CHECK(!tp__life_drop(&life));                             /* ... the socket's hold goes ... */
    CHECK(tp__life_drop(&life));                              /* ... and he with the last */
}

/* ---- threads --------------------------------------------------------------------------------- */

#define THREADS 4
#define LIVES   20000u

static tp__life shared;
static unsigned guarded;         /* plain: written under a hold and by the release; tsan watches */
static _Atomic uint64_t current; /* the id that may be entered */
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
            seen += guarded; /* the opener wrote it before, the release writes it after */
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

static void releases_exactly_once_under_threads(void) {
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

CHECK_MAIN(CASE(lives_once), CASE(zero_is_free), CASE(is_cut_only_before_it_joins),
    CASE(opening_keeps_transient_holds), CASE(the_one_turned_away_may_be_the_last),
    CASE(releases_exactly_once_under_threads))
