/*
 * The check of the delayed tasks finds each invariant that is broken: every case breaks one field
 * of a heap that is made by hand, looks, and repairs it.
 */
#include "core/engine/tasks.h"

#include <string.h>

#include "check.h"
#include "check_finds.h"

static tp__tasks tasks;
static tp__delayed heap[4];

static void run_nothing(void *context) {
    (void)context;
}

/* Due at 10, 20 and 20, posted in this order. */
static void open_heap(void) {
    tp__tasks_init(&tasks);
    for (unsigned i = 0; i < 3; i++) {
        heap[i] = (tp__delayed){.due_ms = i ? 20 : 10, .order = i, .run = run_nothing};
    }
    tasks.heap = heap;
    tasks.capacity = 4;
    tasks.count = 3;
    tasks.posted = 3;
    atomic_store(&tasks.next_due_ms, 10);
}

static void close_heap(void) {
    tasks.heap = NULL;
    tp__tasks_destroy(&tasks);
}

/* What the check finds, or "". Under the mutex. */
static const char *found(void) {
    return text_of(tp__tasks_check(&tasks));
}

/* Breaks something, sees that the check finds it, and repairs it. */
#define CHECK_FOUND(text, break_, repair) CHECK_FINDS(found(), text, break_, repair)

static void the_check_finds_a_broken_heap(void) {
    open_heap();
    tp_mutex_lock(&tasks.mutex);
    CHECK_EQ(strcmp(found(), ""), 0);
    CHECK_FOUND("count <= tasks->capacity", tasks.count = 5, tasks.count = 3);
    CHECK_FOUND("count <= tasks->posted", tasks.posted = 2, tasks.posted = 3);
    CHECK_FOUND("heap != NULL", tasks.heap = NULL, tasks.heap = heap);
    CHECK_FOUND("task->run", heap[1].run = NULL, heap[1].run = run_nothing);
    CHECK_FOUND("order < tasks->posted", heap[2].order = 3, heap[2].order = 2);
    CHECK_FOUND("order->before", heap[2].due_ms = 9, heap[2].due_ms = 20);
    CHECK_FOUND("due_ms ==", heap[0].due_ms = 11, heap[0].due_ms = 10);
    CHECK_FOUND("due_ms ==", atomic_store(&tasks.next_due_ms, UINT64_MAX),
        atomic_store(&tasks.next_due_ms, 10));
    tp_mutex_unlock(&tasks.mutex);
    close_heap();
}

static void an_empty_heap_is_whole(void) {
    tp__tasks_init(&tasks);
    tp_mutex_lock(&tasks.mutex);
    CHECK_EQ(strcmp(found(), ""), 0);
    CHECK_FOUND("due_ms ==", atomic_store(&tasks.next_due_ms, 0),
        atomic_store(&tasks.next_due_ms, UINT64_MAX));
    tp_mutex_unlock(&tasks.mutex);
    tp__tasks_destroy(&tasks);
}

CHECK_MAIN(CASE(the_check_finds_a_broken_heap), CASE(an_empty_heap_is_whole))
