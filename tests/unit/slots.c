/*
 * The stack of free slots: each index once, the most recently used first, and no index given to two
 * threads.
 */
#include "core/engine/slots.h"

#include "check.h"
#include "core/memory/memory.h"
#include "os/thread.h"

static void every_index_is_given_once(void) {
    tp__slots slots;
    REQUIRE(tp__slots_create(&slots, 3) == TP_OK);
    CHECK_EQ(tp__slots_take(&slots), 0);
    CHECK_EQ(tp__slots_take(&slots), 1);
    CHECK_EQ(tp__slots_take(&slots), 2);
    CHECK_EQ(tp__slots_take(&slots), TP__NO_SLOT);
    tp__slots_give(&slots, 1);
    tp__slots_give(&slots, 0);
    CHECK_EQ(tp__slots_take(&slots), 0); /* the one given back last */
    CHECK_EQ(tp__slots_take(&slots), 1);
    CHECK_EQ(tp__slots_take(&slots), TP__NO_SLOT);
    tp__slots_destroy(&slots);
}

static void missing_memory_is_an_error(void) {
    tp__slots slots;
    tp__memory_fail_after(1);
    CHECK_EQ(tp__slots_create(&slots, 3), TP_ERR_NO_MEMORY);
}

#define THREADS 4
#define INDEXES 7u
#define TURNS   100000u

static tp__slots shared;
static atomic_uint holders[INDEXES];
/* Not atomic: only the thread that has the index writes it; tsan checks the handover. */
static unsigned touched[INDEXES];

static void take_and_give(void *argument) {
    (void)argument;
    for (unsigned i = 0; i < TURNS; i++) {
        uint32_t index = tp__slots_take(&shared);
        if (index == TP__NO_SLOT) {
            continue;
        }
        if (atomic_fetch_add(&holders[index], 1) != 0) {
            FAIL("two threads have one slot");
        }
        touched[index]++;
        atomic_fetch_sub(&holders[index], 1);
        tp__slots_give(&shared, index);
    }
}

static void no_two_threads_have_one_slot(void) {
    REQUIRE(tp__slots_create(&shared, INDEXES) == TP_OK);
    tp_thread threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "slots", take_and_give, NULL) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    for (unsigned i = 0; i < INDEXES; i++) {
        CHECK_NE(tp__slots_take(&shared), TP__NO_SLOT);
    }
    CHECK_EQ(tp__slots_take(&shared), TP__NO_SLOT);
    tp__slots_destroy(&shared);
}

CHECK_MAIN(CASE(every_index_is_given_once), CASE(missing_memory_is_an_error),
    CASE(no_two_threads_have_one_slot))
