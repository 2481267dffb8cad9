/*
 * The ring buffer of messages that were sent and are not acknowledged: order while it grows, its
 * limit, acknowledged counts, failing memory, and one thread that acknowledges what another pushes.
 */
#include "bus/unacked.h"
#include "check.h"
#include "os/thread.h"

static tp__sent entry(uint32_t n) {
    return (tp__sent){.source = n, .correlation = n + 1, .destination = n + 2, .kind = 6};
}

static void push_many(tp__unconfirmed *ring, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        uint64_t n = tp__unconfirmed_tail(ring);
        CHECK_EQ(tp__unconfirmed_push(ring, entry((uint32_t)n)), TP__PUSHED);
    }
}

static void check_entries(const tp__unconfirmed *ring) {
    for (uint64_t n = tp__unconfirmed_head(ring); n < tp__unconfirmed_tail(ring); n++) {
        CHECK_EQ(tp__unconfirmed_at(ring, n).source, (uint32_t)n);
    }
}

static void entries_stay_in_order_while_it_grows(void) {
    tp__unconfirmed ring;
    tp__unconfirmed_init(&ring, 1000);
    CHECK(ring.ring == NULL);
    for (unsigned round = 0; round < 100; round++) {
        push_many(&ring, 37 + round); /* so that it grows at every offset */
        check_entries(&ring);
        CHECK(tp__unconfirmed_confirm(&ring, (uint32_t)tp__unconfirmed_head(&ring) + 30));
        check_entries(&ring);
        if (tp__unconfirmed_count(&ring) > 800) {
            CHECK(tp__unconfirmed_confirm(&ring, (uint32_t)tp__unconfirmed_tail(&ring)));
            CHECK_EQ(tp__unconfirmed_count(&ring), 0);
            tp__unconfirmed_trim(&ring);
            CHECK(ring.ring == NULL);
        }
    }
    tp__unconfirmed_clear(&ring);
}

static void the_limit_holds(void) {
    tp__unconfirmed ring;
    tp__unconfirmed_init(&ring, 5);
    push_many(&ring, 5);
    CHECK_EQ(tp__unconfirmed_push(&ring, entry(9)), TP__PUSH_FULL);
    CHECK_EQ(tp__unconfirmed_count(&ring), 5);
    tp__unconfirmed_undo(&ring);
    CHECK_EQ(tp__unconfirmed_count(&ring), 4);
    push_many(&ring, 1);
    CHECK(tp__unconfirmed_confirm(&ring, 1));
    push_many(&ring, 1);
    CHECK_EQ(tp__unconfirmed_push(&ring, entry(9)), TP__PUSH_FULL);
    check_entries(&ring);
    tp__unconfirmed_clear(&ring);
}

static void impossible_counts_are_refused(void) {
    tp__unconfirmed ring;
    tp__unconfirmed_init(&ring, 100);
    CHECK(tp__unconfirmed_confirm(&ring, 0));
    CHECK(!tp__unconfirmed_confirm(&ring, 1)); /* nothing was sent */
    push_many(&ring, 10);
    CHECK(!tp__unconfirmed_confirm(&ring, 11));
    CHECK(tp__unconfirmed_confirm(&ring, 10));
    CHECK(tp__unconfirmed_confirm(&ring, 4)); /* an old count: valid, and changes nothing */
    CHECK_EQ(tp__unconfirmed_count(&ring), 0);
    CHECK(tp__unconfirmed_confirm(&ring, UINT32_MAX)); /* likewise: the count before the first */
    CHECK_EQ(tp__unconfirmed_head(&ring), 10);
    tp__unconfirmed_clear(&ring);
}

static void counts_wrap_at_32_bits(void) {
    tp__unconfirmed ring;
    tp__unconfirmed_init(&ring, 100);
    atomic_store(&ring.head, UINT32_MAX - 3);
    atomic_store(&ring.tail, UINT32_MAX - 3);
    push_many(&ring, 10);
    check_entries(&ring);
    CHECK(!tp__unconfirmed_confirm(&ring, 7));
    CHECK(tp__unconfirmed_confirm(&ring, 2));
    CHECK_EQ(tp__unconfirmed_count(&ring), 4);
    CHECK(tp__unconfirmed_confirm(&ring, 6));
    CHECK_EQ(tp__unconfirmed_head(&ring), UINT64_C(0x100000006));
    tp__unconfirmed_clear(&ring);
}

static void without_memory_a_push_fails_and_nothing_is_lost(void) {
    tp__unconfirmed ring;
    tp__unconfirmed_init(&ring, 1000);
    tp__memory_fail_after(1);
    CHECK_EQ(tp__unconfirmed_push(&ring, entry(0)), TP__PUSH_NO_MEMORY);
    CHECK_EQ(tp__unconfirmed_count(&ring), 0);
    push_many(&ring, TP__UNCONFIRMED_FIRST_SIZE);
    tp__memory_fail_after(1);
    CHECK_EQ(tp__unconfirmed_push(&ring, entry(0)), TP__PUSH_NO_MEMORY);
    check_entries(&ring);
    CHECK_EQ(tp__unconfirmed_count(&ring), TP__UNCONFIRMED_FIRST_SIZE);
    push_many(&ring, 1);
    check_entries(&ring);
    tp__memory_fail_after(-1);
    tp__unconfirmed_clear(&ring);
}

#define CHECK_BROKEN(type, field, value, text)                                                     \
    do {                                                                                           \
        type good_ = (field);                                                                      \
        (field) = (value);                                                                         \
        CHECK(strstr(found(&ring), (text)) != NULL);                                               \
        (field) = good_;                                                                           \
        CHECK_STR(found(&ring), "");                                                               \
    } while (0)

static const char *found(const tp__unconfirmed *ring) {
    const char *broken = tp__unconfirmed_check(ring);
    return broken ? broken : "";
}

static void the_check_finds_what_is_broken(void) {
    tp__unconfirmed ring;
    tp__unconfirmed_init(&ring, 100);
    CHECK_STR(found(&ring), "");
    push_many(&ring, 80);
    CHECK(tp__unconfirmed_confirm(&ring, 5));
    CHECK_STR(found(&ring), "");
    CHECK_BROKEN(uint64_t, ring.head, 82, "head <= tail + 1");
    CHECK_BROKEN(uint64_t, ring.tail, 106, "count <= ring->limit");
    CHECK_BROKEN(uint32_t, ring.limit, 74, "count <= ring->limit");
    CHECK_BROKEN(uint32_t, ring.capacity, 64, "count <= ring->capacity");
    CHECK_BROKEN(uint32_t, ring.capacity, 96, "ring->capacity - 1");
    CHECK_BROKEN(uint32_t, ring.capacity, 256, "ring->capacity / 2 < ring->limit");
    CHECK_BROKEN(tp__sent *, ring.ring, NULL, "ring->ring == NULL");
    tp__unconfirmed_clear(&ring);
    CHECK_STR(found(&ring), "");
}

/* A receiver that does not wait for a message before it acknowledges it, while the push is undone:
 * the only case in which head passes tail. */
static void an_acknowledged_push_may_be_undone(void) {
    tp__unconfirmed ring;
    tp__unconfirmed_init(&ring, 100);
    push_many(&ring, 1);
    CHECK(tp__unconfirmed_confirm(&ring, 1));
    tp__unconfirmed_undo(&ring);
    CHECK_EQ(tp__unconfirmed_count(&ring), 0);
    CHECK_EQ(tp__unconfirmed_acknowledged(&ring), 0); /* nothing was sent */
    CHECK_STR(found(&ring), "");
    push_many(&ring, 1);
    CHECK_EQ(tp__unconfirmed_acknowledged(&ring), 1);
    CHECK_EQ(tp__unconfirmed_count(&ring), 0);
    push_many(&ring, 1);
    CHECK_EQ(tp__unconfirmed_count(&ring), 1);
    CHECK_STR(found(&ring), "");
    tp__unconfirmed_clear(&ring);
}

/* One thread acknowledges what another has pushed, as soon as it sees it. */
enum { TOTAL = 1000000 };

static void confirm_all(void *context) {
    tp__unconfirmed *ring = context;
    uint64_t confirmed = 0;
    while (confirmed < TOTAL) {
        uint64_t tail = tp__unconfirmed_tail(ring);
        if (tail == confirmed) {
            tp_thread_yield();
            continue;
        }
        CHECK(tp__unconfirmed_confirm(ring, (uint32_t)tail));
        confirmed = tail;
    }
}

static void two_threads_share_a_ring(void) {
    tp__unconfirmed ring;
    tp__unconfirmed_init(&ring, 4096);
    tp_thread confirmer;
    REQUIRE(tp_thread_start(&confirmer, "confirmer", confirm_all, &ring) == TP_OK);
    for (uint32_t n = 0; n < TOTAL;) {
        tp__push pushed = tp__unconfirmed_push(&ring, entry(n));
        REQUIRE(pushed != TP__PUSH_NO_MEMORY);
        if (pushed == TP__PUSHED) {
            n++;
        } else {
            tp_thread_yield();
        }
    }
    tp_thread_join(&confirmer);
    CHECK_EQ(tp__unconfirmed_count(&ring), 0);
    CHECK_LE(ring.capacity, 4096);
    tp__unconfirmed_clear(&ring);
}

CHECK_MAIN(CASE(entries_stay_in_order_while_it_grows), CASE(the_limit_holds),
    CASE(impossible_counts_are_refused), CASE(counts_wrap_at_32_bits),
    CASE(without_memory_a_push_fails_and_nothing_is_lost), CASE(the_check_finds_what_is_broken),
    CASE(an_acknowledged_push_may_be_undone), CASE(two_threads_share_a_ring))
