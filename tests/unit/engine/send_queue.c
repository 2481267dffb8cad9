/*
 * The send queue: which thread becomes the flusher, order, and that no packet is left behind; on
 * one thread and under several.
 */
#include "core/engine/send_queue.h"

#include "check.h"
#include "os/thread.h"

static void the_first_push_makes_the_flusher(void) {
    tp__send_queue queue;
    tp__send_queue_init(&queue);
    tp__send_node nodes[4];
    CHECK(tp__send_queue_push(&queue, &nodes[0]));
    CHECK(!tp__send_queue_push(&queue, &nodes[1]));
    tp__send_node *last;
    tp__send_node *taken = tp__send_queue_take(&queue, &last);
    CHECK(last == &nodes[1]);
    CHECK(taken == &nodes[0] && taken->next == &nodes[1] && nodes[1].next == NULL);
    CHECK(!tp__send_queue_push(&queue, &nodes[2])); /* the flusher has not retired */
    CHECK(!tp__send_queue_retire(&queue));
    CHECK(tp__send_queue_take(&queue, &last) == &nodes[2]);
    CHECK(tp__send_queue_take(&queue, &last) == NULL);
    CHECK(!tp__send_queue_seize(&queue));
    CHECK(tp__send_queue_retire(&queue));
    CHECK(tp__send_queue_push(&queue, &nodes[3]));
    CHECK(tp__send_queue_has_more(&queue));
    CHECK(tp__send_queue_take(&queue, &last) == &nodes[3]);
    CHECK(tp__send_queue_retire(&queue));
    CHECK(tp__send_queue_seize(&queue));
    /* Seizing the queue made the caller the flusher. */
    CHECK(!tp__send_queue_push(&queue, &nodes[0]));
}

/* ---- threads --------------------------------------------------------------------------------- */

#define PRODUCERS 4
#define EACH      50000u

typedef struct item {
    tp__send_node node; /* first, so that a taken node is its item */
    unsigned producer;
    unsigned number;
} item;

static tp__send_queue shared;
static item items[PRODUCERS][EACH];
/* Not atomic: only the flusher uses it, and retire and push hand it on. */
static unsigned expected[PRODUCERS];
static unsigned sent; /* likewise */

/* Sends until the queue may be retired, as a flush does. */
static void flush_until_idle(void) {
    do {
        tp__send_node *last;
        tp__send_node *node = tp__send_queue_take(&shared, &last);
        CHECK(node != NULL);
        while (node) {
            item *one = (item *)(void *)node;
            node = node->next;
            if (one->number != expected[one->producer]) {
                CHECK_EQ(one->number, expected[one->producer]);
            }
            expected[one->producer] = one->number + 1;
            sent++;
        }
    } while (!tp__send_queue_retire(&shared));
}

static void produce(void *argument) {
    unsigned producer = (unsigned)(uintptr_t)argument;
    for (unsigned i = 0; i < EACH; i++) {
        item *one = &items[producer][i];
        one->producer = producer;
        one->number = i;
        if (tp__send_queue_push(&shared, &one->node)) {
            flush_until_idle();
        }
    }
}

static void every_producers_order_is_kept(void) {
    tp__send_queue_init(&shared);
    tp_thread threads[PRODUCERS];
    for (unsigned i = 0; i < PRODUCERS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "produce", produce, (void *)(uintptr_t)i) == TP_OK);
    }
    for (unsigned i = 0; i < PRODUCERS; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK_EQ(sent, PRODUCERS * EACH);
    CHECK_EQ(atomic_load(&shared.newest), TP__QUEUE_IDLE);
}

CHECK_MAIN(CASE(the_first_push_makes_the_flusher), CASE(every_producers_order_is_kept))
