/*
 * Pages of slots: one entry for each slot, zero at first and never moved; of several threads that
 * make one page, all get the same.
 */
#include "core/memory/slot_pages.h"

#include "check.h"
#include "os/thread.h"

typedef struct entry {
    uint32_t number;
    uint64_t others[2];
} entry;

static tp__slot_pages table;

static entry *find(uint32_t slot) {
    return tp__slot_find(&table, slot, sizeof(entry));
}

static entry *make(uint32_t slot) {
    return tp__slot_make(&table, slot, sizeof(entry));
}

static void an_entry_is_made_once(void) {
    CHECK(find(5) == NULL);
    entry *first = make(5);
    REQUIRE(first != NULL);
    CHECK_EQ(first->number, 0);
    first->number = 17;
    CHECK(find(5) == first && make(5) == first);
    CHECK_EQ(first->number, 17);
    CHECK(find(TP__SLOT_PAGE) == NULL);
    tp__slot_pages_free(&table);
    CHECK(find(5) == NULL);
}

static void each_slot_has_its_own(void) {
    const uint32_t slots[] = {0, 1, TP__SLOT_PAGE - 1, TP__SLOT_PAGE, TP_MAX_SESSIONS - 1};
    const uint32_t count = sizeof slots / sizeof slots[0];
    for (uint32_t i = 0; i < count; i++) {
        entry *one = make(slots[i]);
        REQUIRE(one != NULL);
        one->others[0] = one->others[1] = UINT64_MAX;
        one->number = i + 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        CHECK_EQ(find(slots[i])->number, i + 1);
    }
    CHECK(find(1) == find(0) + 1);
    tp__slot_pages_free(&table);
}

static void a_walk_visits_the_pages_that_are_made(void) {
    const uint32_t last = TP_MAX_SESSIONS - TP__SLOT_PAGE;
    CHECK_EQ(tp__slot_next(&table, 0), TP_MAX_SESSIONS);
    REQUIRE(make(2 * TP__SLOT_PAGE + 7) && make(last));
    uint32_t visited = 0;
    uint32_t outside = 0;
    for (uint32_t slot = 0; (slot = tp__slot_next(&table, slot)) < TP_MAX_SESSIONS; slot++) {
        visited++;
        outside += slot / TP__SLOT_PAGE != 2 && slot < last;
    }
    CHECK_EQ(visited, 2 * TP__SLOT_PAGE);
    CHECK_EQ(outside, 0);
    tp__slot_pages_free(&table);
}

static void missing_memory_is_no_entry(void) {
    tp__memory_fail_after(1);
    CHECK(make(9) == NULL);
    CHECK(find(9) == NULL);
    CHECK(make(9) != NULL);
    tp__slot_pages_free(&table);
}

#define THREADS 4u
#define ROUNDS  200u

static _Atomic unsigned started;
static _Atomic uint32_t made[ROUNDS]; /* entries that a thread was the first to use */

/* All threads make the pages in the same order; each round has one winner. */
static void make_pages(void *argument) {
    (void)argument;
    atomic_fetch_add(&started, 1);
    while (atomic_load(&started) < THREADS) {
    }
    for (uint32_t i = 0; i < ROUNDS; i++) {
        _Atomic uint32_t *number = tp__slot_make(&table, i * TP__SLOT_PAGE, sizeof(entry));
        REQUIRE(number != NULL);
        atomic_fetch_add(&made[i], atomic_fetch_add(number, 1) == 0);
    }
}

static void threads_get_the_same_page(void) {
    tp_thread threads[THREADS];
    uint64_t live = tp__memory_live();
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "pages", make_pages, NULL) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    for (uint32_t i = 0; i < ROUNDS; i++) {
        CHECK_EQ(atomic_load(&made[i]), 1);
        CHECK_EQ(find(i * TP__SLOT_PAGE)->number, THREADS);
    }
    CHECK_EQ(tp__memory_live(), live + ROUNDS); /* the losers' pages are freed */
    tp__slot_pages_free(&table);
    CHECK_EQ(tp__memory_live(), live);
}

CHECK_MAIN(CASE(an_entry_is_made_once), CASE(each_slot_has_its_own),
    CASE(a_walk_visits_the_pages_that_are_made), CASE(missing_memory_is_no_entry),
    CASE(threads_get_the_same_page))
