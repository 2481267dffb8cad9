/*
 * The ledger of session ends: order, capacity, missing memory, and writers and readers at the same
 * time.
 */
#include "core/engine/ledger.h"
#include "check.h"
#include "core/memory/memory.h"
#include "os/thread.h"
#include "twinport/server.h"

/* An end whose fields all derive from `n`. */
static tp_session_end end_number(uint64_t n) {
    tp_session_end end = {.size = sizeof end,
        .session = n + 1,
        .reason = (tp_end_reason)(n % TP_END_REASON_COUNT),
        .os_error = -(int)n,
        .close_code = (uint32_t)n,
        .pending_packets = (uint32_t)n + 1,
        .pending_bytes = n + 2,
        .received_messages = n + 3,
        .received_bytes = n + 4,
        .sent_messages = n + 5,
        .sent_bytes = n + 6,
        .age_ms = n + 7,
        .ended_wall_ms = n + 8};
    for (unsigned i = 0; i < 16; i++) {
        end.peer.ip[i] = (uint8_t)(n + i);
    }
    end.peer.port = (uint16_t)n;
    return end;
}

static void check_end(const tp_session_end *end, uint64_t n) {
    tp_session_end wanted = end_number(n);
    CHECK_EQ(end->size, sizeof *end);
    CHECK_EQ(end->session, wanted.session);
    CHECK(tp_address_equal(&end->peer, &wanted.peer));
    CHECK_EQ(end->reason, wanted.reason);
    CHECK_EQ(end->os_error, wanted.os_error);
    CHECK_EQ(end->close_code, wanted.close_code);
    CHECK_EQ(end->pending_packets, wanted.pending_packets);
    CHECK_EQ(end->pending_bytes, wanted.pending_bytes);
    CHECK_EQ(end->received_messages, wanted.received_messages);
    CHECK_EQ(end->received_bytes, wanted.received_bytes);
    CHECK_EQ(end->sent_messages, wanted.sent_messages);
    CHECK_EQ(end->sent_bytes, wanted.sent_bytes);
    CHECK_EQ(end->age_ms, wanted.age_ms);
    CHECK_EQ(end->ended_wall_ms, wanted.ended_wall_ms);
}

static tp_session_end ends[TP_LEDGER_ENTRIES + 10];

static void the_newest_end_is_read_first(void) {
    tp__ledger *ledger = tp__ledger_create();
    REQUIRE(ledger != NULL);
    CHECK_EQ(tp__ledger_read(ledger, ends, 10), 0);
    for (uint64_t n = 0; n < 5; n++) {
        tp_session_end end = end_number(n);
        end.size = 0; /* the size of what is read is set */
        tp__ledger_record(ledger, &end);
    }
    CHECK_EQ(tp__ledger_read(ledger, ends, 0), 0);
    CHECK_EQ(tp__ledger_read(ledger, ends, 2), 2);
    check_end(&ends[0], 4);
    check_end(&ends[1], 3);
    CHECK_EQ(tp__ledger_read(ledger, ends, 10), 5);
    for (uint64_t i = 0; i < 5; i++) {
        check_end(&ends[i], 4 - i);
    }
    CHECK_EQ(tp__ledger_count(ledger), 5);
    tp__ledger_destroy(ledger);
    tp__ledger_destroy(NULL);
}

static void only_the_last_ends_are_kept(void) {
    tp__ledger *ledger = tp__ledger_create();
    REQUIRE(ledger != NULL);
    for (uint64_t n = 0; n < TP_LEDGER_ENTRIES + 500; n++) {
        tp_session_end end = end_number(n);
        tp__ledger_record(ledger, &end);
    }
    CHECK_EQ(tp__ledger_read(ledger, ends, TP_LEDGER_ENTRIES + 10), TP_LEDGER_ENTRIES);
    for (uint64_t i = 0; i < TP_LEDGER_ENTRIES; i++) {
        check_end(&ends[i], TP_LEDGER_ENTRIES + 499 - i);
    }
    CHECK_EQ(tp__ledger_count(ledger), TP_LEDGER_ENTRIES + 500);
    tp__ledger_destroy(ledger);
}

static void without_memory_the_ledger_is_empty(void) {
    uint64_t live = tp__memory_live();
    for (long n = 1; n <= 2; n++) {
        tp__memory_fail_after(n);
        CHECK(tp__ledger_create() == NULL);
        tp__memory_fail_after(-1);
        CHECK_EQ(tp__memory_live(), live);
    }
}

#define WRITERS 3
#define RECORDS 20000

static tp__ledger *shared;
static atomic_uint writers_left;

static void record_ends(void *argument) {
    uint64_t first = (uint64_t)(uintptr_t)argument * RECORDS;
    for (uint64_t n = first; n < first + RECORDS; n++) {
        tp_session_end end = end_number(n);
        tp__ledger_record(shared, &end);
    }
    atomic_fetch_sub(&writers_left, 1);
}

static void workers_record_while_others_read(void) {
    shared = tp__ledger_create();
    REQUIRE(shared != NULL);
    atomic_store(&writers_left, WRITERS);
    tp_thread threads[WRITERS];
    for (uintptr_t i = 0; i < WRITERS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "ledger", record_ends, (void *)i) == TP_OK);
    }
    while (atomic_load(&writers_left) > 0) {
        size_t count = tp__ledger_read(shared, ends, 64);
        for (size_t i = 0; i < count; i++) {
            check_end(&ends[i], ends[i].session - 1);
        }
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK_EQ(tp__ledger_count(shared), WRITERS * RECORDS);
    CHECK_GT(tp__ledger_read(shared, ends, TP_LEDGER_ENTRIES), 0);
    tp__ledger_destroy(shared);
}

CHECK_MAIN(CASE(the_newest_end_is_read_first), CASE(only_the_last_ends_are_kept),
    CASE(without_memory_the_ledger_is_empty), CASE(workers_record_while_others_read))
