/* The lock-free stack of indexes: order, ABA, and many threads on few nodes. */
#include "check.h"

#include "core/memory/stack.h"
#include "os/thread.h"

enum { nodes = 8, threads = 4, rounds = 300000 };

static _Atomic uint32_t next[nodes + 1];

static _Atomic uint32_t *next_of(void *context, uint32_t index) {
    (void)context;
    return &next[index];
}

static void the_last_index_is_popped_first(void) {
    tp__stack stack = {0};
    CHECK_EQ(tp__stack_pop(&stack, next_of, NULL), 0);
    for (uint32_t i = 1; i <= nodes; i++) {
        tp__stack_push(&stack, next_of, NULL, i);
    }
    for (uint32_t i = nodes; i >= 1; i--) {
        CHECK_EQ(tp__stack_pop(&stack, next_of, NULL), i);
    }
    CHECK_EQ(tp__stack_pop(&stack, next_of, NULL), 0);
}

/* A pop stalls between reading `next` and its exchange, while the node that it has read is popped
 * and pushed back with another one below it: the same top, but not the same head. */
static void a_top_that_came_back_is_detected(void) {
    tp__stack stack = {0};
    for (uint32_t i = 1; i <= 3; i++) {
        tp__stack_push(&stack, next_of, NULL, i);
    }
    uint64_t stalled = atomic_load(&stack.head);
    CHECK_EQ(tp__stack_pop(&stack, next_of, NULL), 3);
    CHECK_EQ(tp__stack_pop(&stack, next_of, NULL), 2);
    tp__stack_push(&stack, next_of, NULL, 3);
    CHECK_EQ((uint32_t)atomic_load(&stack.head), (uint32_t)stalled);
    CHECK_NE(atomic_load(&stack.head), stalled);
}

/* Two stacks, so that nodes come back in ever new orders, which provokes ABA errors. */
static tp__stack stacks[2];

/* Not atomic: only the thread that popped the node writes it, and the stack hands it over. The
 * thread sanitizer checks the order; the count, that no two threads have a node at a time. */
static unsigned touched[nodes + 1];

static atomic_uint gathered; /* no thread begins before all exist */

static void carry(void *argument) {
    unsigned from = *(unsigned *)argument % 2;
    atomic_fetch_add(&gathered, 1);
    while (atomic_load(&gathered) < threads) {
        tp_thread_yield();
    }
    for (unsigned i = 0; i < rounds; i++) {
        uint32_t index = tp__stack_pop(&stacks[(from + i) % 2], next_of, NULL);
        if (index == 0) {
            continue;
        }
        touched[index]++;
        uint32_t second = tp__stack_pop(&stacks[(from + i) % 2], next_of, NULL);
        if (second != 0) {
            touched[second]++;
            tp__stack_push(&stacks[(from + i + 1) % 2], next_of, NULL, index);
            tp__stack_push(&stacks[(from + i) % 2], next_of, NULL, second);
        } else {
            tp__stack_push(&stacks[(from + i + 1) % 2], next_of, NULL, index);
        }
    }
}

static void no_index_is_lost_or_duplicated(void) {
    tp_thread running[threads];
    unsigned number[threads];
    for (uint32_t i = 1; i <= nodes; i++) {
        tp__stack_push(&stacks[i % 2], next_of, NULL, i);
    }
    for (unsigned i = 0; i < threads; i++) {
        number[i] = i;
        REQUIRE(tp_thread_start(&running[i], "carry", carry, &number[i]) == TP_OK);
    }
    for (unsigned i = 0; i < threads; i++) {
        tp_thread_join(&running[i]);
    }
    unsigned seen[nodes + 1] = {0};
    unsigned found = 0;
    for (unsigned s = 0; s < 2; s++) {
        uint32_t index;
        while ((index = tp__stack_pop(&stacks[s], next_of, NULL)) != 0 && found <= nodes) {
            seen[index]++;
            found++;
        }
    }
    CHECK_EQ(found, nodes);
    for (uint32_t i = 1; i <= nodes; i++) {
        CHECK_EQ(seen[i], 1);
    }
}

CHECK_MAIN(CASE(the_last_index_is_popped_first), CASE(a_top_that_came_back_is_detected),
    CASE(no_index_is_lost_or_duplicated))
