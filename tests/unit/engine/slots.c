/*
 * The stack of free slots: each index once, the most recently used first, and no index given to two
 * threads.
 */
#include "core/engine/slots.h"

#include <string.h>

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

/* What the check finds if `taken` indexes are taken, or "". */
static const char *found(const tp__slots *slots, uint32_t taken) {
    const char *broken = tp__slots_check(slots, taken);
    return broken ? broken : "";
}

static void the_check_finds_a_broken_stack(void) {
    tp__slots slots;
    REQUIRE(tp__slots_create(&slots, 4) == TP_OK);
    CHECK_EQ(strcmp(found(&slots, 0), ""), 0);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(tp__slots_take(&slots), i);
    }
    tp__slots_give(&slots, 0);
    tp__slots_give(&slots, 1); /* on the stack: 1, then 0; taken: 2 */
    CHECK_EQ(strcmp(found(&slots, 1), ""), 0);
    CHECK(strstr(found(&slots, 0), "count == used - taken") != NULL);
    CHECK(strstr(found(&slots, 2), "count < used - taken") != NULL);
    CHECK(strstr(found(&slots, 4), "taken <= used") != NULL);
    atomic_store(&slots.next[0], 2); /* a circle */
    CHECK(strstr(found(&slots, 1), "count < used - taken") != NULL);
    atomic_store(&slots.next[0], 4); /* never taken */
    CHECK(strstr(found(&slots, 1), "index <= used") != NULL);
    atomic_store(&slots.next[0], 0);
    atomic_store(&slots.used, 5);
    CHECK(strstr(found(&slots, 1), "used <= slots->count") != NULL);
    atomic_store(&slots.used, 3);
    CHECK_EQ(strcmp(found(&slots, 1), ""), 0);
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

CHECK_MAIN(CASE(every_index_is_given_once), CASE(the_check_finds_a_broken_stack),
    CASE(missing_memory_is_an_error), CASE(no_two_threads_have_one_slot))
