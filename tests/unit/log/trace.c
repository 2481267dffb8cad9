/*
 * The process's trace: a ring of the most recent entries that can be switched on and off, and its
 * dump as text.
 */
#include "check.h"
#include "core/memory/memory.h"
#include "os/process.h"
#include "os/thread.h"
#include "twinport/log.h"

static tp_trace_entry entries[TP_TRACE_ENTRIES];

/* The first case: afterwards the ring exists for the rest of the process. */
static void while_off_nothing_is_recorded(void) {
    tp_trace(1, 2, 3);
    CHECK_EQ(tp_trace_read(entries, TP_TRACE_ENTRIES), 0);
    tp__memory_fail_after(1);
    CHECK_EQ(tp_trace_enable(true), TP_ERR_NO_MEMORY);
    tp__memory_fail_after(-1);
    tp_trace(1, 2, 3);
    CHECK_EQ(tp_trace_read(entries, TP_TRACE_ENTRIES), 0);
    CHECK_EQ(tp_trace_enable(false), TP_OK);
}

static void entries_come_back_oldest_first(void) {
    REQUIRE(tp_trace_enable(true) == TP_OK);
    for (uint32_t i = 0; i < 10; i++) {
        tp_trace(100 + i, i, UINT64_MAX - i);
    }
    REQUIRE(tp_trace_read(entries, 10) == 10);
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_EQ(entries[i].event, 100 + i);
        CHECK_EQ(entries[i].first, i);
        CHECK_EQ(entries[i].second, UINT64_MAX - i);
        CHECK_EQ(entries[i].thread, tp_thread_id());
        CHECK_NE(entries[i].time_ns, 0);
        CHECK(i == 0 || entries[i].time_ns >= entries[i - 1].time_ns);
    }
    CHECK_EQ(tp_trace_read(entries, 3), 3);
    CHECK_EQ(entries[0].event, 107);
    CHECK_EQ(entries[2].event, 109);
    CHECK_EQ(tp_trace_read(entries, 0), 0);
}

static void the_trace_can_be_switched_off_and_on(void) {
    REQUIRE(tp_trace_enable(true) == TP_OK);
    tp_trace(1, 0, 0);
    REQUIRE(tp_trace_enable(false) == TP_OK);
    tp_trace(2, 0, 0);
    REQUIRE(tp_trace_enable(true) == TP_OK);
    tp_trace(3, 0, 0);
    REQUIRE(tp_trace_read(entries, 2) == 2);
    CHECK_EQ(entries[0].event, 1);
    CHECK_EQ(entries[1].event, 3);
}

static void the_oldest_entries_are_overwritten(void) {
    REQUIRE(tp_trace_enable(true) == TP_OK);
    for (uint64_t i = 0; i < TP_TRACE_ENTRIES + 100; i++) {
        tp_trace(7, i, ~i);
    }
    REQUIRE(tp_trace_read(entries, TP_TRACE_ENTRIES) == TP_TRACE_ENTRIES);
    for (uint64_t i = 0; i < TP_TRACE_ENTRIES; i++) {
        CHECK_EQ(entries[i].first, i + 100);
        CHECK_EQ(entries[i].second, ~(i + 100));
    }
}

#define THREADS 3
#define TRACES  40000

static atomic_uint threads_left;

static void trace_numbers(void *argument) {
    uint64_t thread = (uint64_t)(uintptr_t)argument;
    for (uint64_t i = 0; i < TRACES; i++) {
        tp_trace((uint32_t)thread, i, (i << 8) + thread);
    }
    atomic_fetch_sub(&threads_left, 1);
}

/* Each thread's entries are whole and in their order. */
static void check_entries(size_t count) {
    uint64_t next[THREADS] = {0};
    for (size_t i = 0; i < count; i++) {
        if (entries[i].event >= THREADS) {
            continue; /* of an earlier case */
        }
        uint32_t thread = entries[i].event;
        CHECK_EQ(entries[i].second, (entries[i].first << 8) + thread);
        CHECK_GE(entries[i].first, next[thread]);
        next[thread] = entries[i].first + 1;
    }
}

static void threads_trace_while_another_reads(void) {
    REQUIRE(tp_trace_enable(true) == TP_OK);
    for (unsigned i = 0; i < TP_TRACE_ENTRIES; i++) {
        tp_trace(99, 0, 0);
    }
    atomic_store(&threads_left, THREADS);
    tp_thread threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "trace", trace_numbers, (void *)i) == TP_OK);
    }
    while (atomic_load(&threads_left) > 0) {
        check_entries(tp_trace_read(entries, 1000));
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    size_t count = tp_trace_read(entries, TP_TRACE_ENTRIES);
    CHECK_GT(count, 0);
    check_entries(count);
}

static void the_dump_is_one_line_per_entry(void) {
    REQUIRE(tp_trace_enable(true) == TP_OK);
    for (unsigned i = 0; i < TP_TRACE_ENTRIES; i++) {
        tp_trace(42, 0xabc, i);
    }
    char name[64];
    (void)snprintf(name, sizeof name, "trace-%llu.txt", (unsigned long long)tp_process_id());
    REQUIRE(tp_trace_dump(name) == TP_OK);
    FILE *file = fopen(name, "r");
    REQUIRE(file != NULL);
    char line[256];
    REQUIRE(fgets(line, sizeof line, file) != NULL);
    CHECK_EQ(line[0], '#');
    unsigned count = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned long long time;
        unsigned long long thread;
        unsigned event;
        unsigned first;
        unsigned second;
        CHECK_EQ(
            sscanf(line, "%llu %llu %u 0x%x 0x%x", &time, &thread, &event, &first, &second), 5);
        CHECK_EQ(event, 42);
        CHECK_EQ(first, 0xabc);
        CHECK_EQ(second, count);
        count++;
    }
    CHECK_EQ(count, TP_TRACE_ENTRIES);
    (void)fclose(file);
    CHECK_EQ(remove(name), 0);
    CHECK_EQ(tp_trace_dump("no-such-folder/trace.txt"), TP_ERR_NO_FILE);
}

CHECK_MAIN(CASE(while_off_nothing_is_recorded), CASE(entries_come_back_oldest_first),
    CASE(the_trace_can_be_switched_off_and_on), CASE(the_oldest_entries_are_overwritten),
    CASE(threads_trace_while_another_reads), CASE(the_dump_is_one_line_per_entry))
