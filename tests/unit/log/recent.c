/*
 * The ring of the most recent entries: order, overwriting, and many writers and readers at the same
 * time.
 */
#include "core/log/recent.h"
#include "check.h"
#include "core/memory/memory.h"
#include "os/thread.h"

static void an_empty_ring_has_nothing(void) {
    tp__recent *recent = tp__recent_create(8, 2);
    REQUIRE(recent != NULL);
    uint64_t words[2];
    CHECK_EQ(tp__recent_count(recent), 0);
    for (uint64_t number = 0; number < 20; number++) {
        CHECK(!tp__recent_read(recent, number, words));
    }
    tp__recent_destroy(recent);
    tp__recent_destroy(NULL);
}

static void the_last_entries_are_kept(void) {
    tp__recent *recent = tp__recent_create(8, 2);
    REQUIRE(recent != NULL);
    for (uint64_t i = 0; i < 21; i++) {
        uint64_t words[2] = {i, ~i};
        tp__recent_put(recent, words);
        CHECK_EQ(tp__recent_count(recent), i + 1);
    }
    for (uint64_t number = 0; number < 30; number++) {
        uint64_t words[2] = {0, 0};
        bool there = number >= 13 && number < 21;
        CHECK_EQ(tp__recent_read(recent, number, words), there);
        if (there) {
            CHECK_EQ(words[0], number);
            CHECK_EQ(words[1], ~number);
        }
    }
    CHECK_EQ(tp__recent_lost(recent), 0);
    tp__recent_destroy(recent);
}

static void without_memory_the_ring_is_empty(void) {
    uint64_t live = tp__memory_live();
    tp__memory_fail_after(1);
    CHECK(tp__recent_create(8, 2) == NULL);
    tp__memory_fail_after(-1);
    CHECK_EQ(tp__memory_live(), live);
}

/* The state that a writer leaves when it stops inside a cell and another one laps it there. */
static void a_cell_being_written_is_skipped(void) {
    tp__recent *recent = tp__recent_create(4, 1);
    REQUIRE(recent != NULL);
    uint64_t words[1] = {11};
    tp__recent_put(recent, words);
    atomic_store(&recent->cells[0], 1); /* entry 0 is half written */
    CHECK(!tp__recent_read(recent, 0, words));
    for (uint64_t i = 1; i <= 4; i++) {
        words[0] = 11 + i;
        tp__recent_put(recent, words); /* the last of them needs the same cell */
    }
    CHECK_EQ(tp__recent_lost(recent), 1);
    CHECK(!tp__recent_read(recent, 4, words));
    CHECK_EQ(atomic_load(&recent->cells[0]), 1);
    CHECK_EQ(atomic_load(&recent->cells[1]), 11);
    CHECK(tp__recent_read(recent, 3, words));
    CHECK_EQ(words[0], 14);
    atomic_store(&recent->cells[0], 2); /* the stopped writer ends */
    tp__recent_destroy(recent);
}

/* A writer that stopped before it came to its cell, and was lapped there. */
static void a_newer_entry_is_not_overwritten(void) {
    tp__recent *recent = tp__recent_create(4, 1);
    REQUIRE(recent != NULL);
    uint64_t words[1];
    for (uint64_t i = 0; i < 5; i++) {
        words[0] = 11 + i;
        tp__recent_put(recent, words);
    }
    atomic_store(&recent->next, 0); /* only now does the writer of entry 0 come */
    words[0] = 99;
    tp__recent_put(recent, words);
    CHECK_EQ(tp__recent_lost(recent), 1);
    CHECK(!tp__recent_read(recent, 0, words));
    CHECK(tp__recent_read(recent, 4, words));
    CHECK_EQ(words[0], 15);
    atomic_store(&recent->next, 5);
    tp__recent_destroy(recent);
}

/* Writers that lap each other in a tiny ring, and readers that must never see half an entry. */
#define WRITERS 3
#define READERS 2
#define PUTS    60000
#define WORDS   12

static tp__recent *shared;
static atomic_uint writers_left;
static atomic_ullong entries_read;

static void write_entries(void *argument) {
    uint64_t writer = (uint64_t)(uintptr_t)argument;
    for (uint64_t i = 0; i < PUTS; i++) {
        uint64_t words[WORDS];
        for (uint64_t k = 0; k < WORDS; k++) {
            words[k] = (writer * PUTS + i) * WORDS + k;
        }
        tp__recent_put(shared, words);
    }
    atomic_fetch_sub(&writers_left, 1);
}

static void check_whole(const uint64_t *words) {
    bool whole = words[0] % WORDS == 0;
    for (uint64_t k = 1; k < WORDS; k++) {
        whole = whole && words[k] == words[0] + k;
    }
    CHECK(whole);
}

static void read_entries(void *argument) {
    (void)argument;
    unsigned long long seen = 0;
    bool writing = true;
    while (writing) {
        writing = atomic_load(&writers_left) > 0;
        uint64_t end = tp__recent_count(shared);
        for (uint64_t number = end < 4 ? 0 : end - 4; number < end; number++) {
            uint64_t words[WORDS];
            if (tp__recent_read(shared, number, words)) {
                check_whole(words);
                seen++;
            }
        }
    }
    atomic_fetch_add(&entries_read, seen);
}

static void readers_never_see_half_an_entry(void) {
    shared = tp__recent_create(4, WORDS);
    REQUIRE(shared != NULL);
    atomic_store(&writers_left, WRITERS);
    atomic_store(&entries_read, 0);
    tp_thread threads[WRITERS + READERS];
    for (uintptr_t i = 0; i < WRITERS + READERS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "ring", i < WRITERS ? write_entries : read_entries,
                    (void *)i) == TP_OK);
    }
    for (unsigned i = 0; i < WRITERS + READERS; i++) {
        tp_thread_join(&threads[i]);
    }
    /* Everything put is in the ring, was overwritten, or is counted as lost. */
    CHECK_EQ(tp__recent_count(shared), WRITERS * PUTS);
    CHECK_LT(tp__recent_lost(shared), WRITERS * PUTS);
    CHECK_GT(atomic_load(&entries_read), 0);
    printf("    %llu entries read, %" PRIu64 " of %d lost to overtaking\n",
        (unsigned long long)atomic_load(&entries_read), tp__recent_lost(shared), WRITERS * PUTS);
    tp__recent_destroy(shared);
}

CHECK_MAIN(CASE(an_empty_ring_has_nothing), CASE(the_last_entries_are_kept),
    CASE(without_memory_the_ring_is_empty), CASE(a_cell_being_written_is_skipped),
    CASE(a_newer_entry_is_not_overwritten), CASE(readers_never_see_half_an_entry))
