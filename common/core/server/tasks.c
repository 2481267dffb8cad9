/*
 * Tasks of the application. Posted from any thread and run on workers. Those without a delay run on
 * any worker that is free, each by itself (os/port.h). The delayed ones are in a binary heap, under
 * a mutex that is never locked while a task runs.
 */
#include "core/engine/tasks.h"

#include <string.h>

#include "core/base/heap.h"
#include "core/base/invariant.h"
#include "core/engine/server_state.h"
#include "core/memory/grow.h"
#include "core/memory/memory.h"
#include "os/clock.h"

#define DELAY_MAX_MS 86400000u
#define FIRST_SIZE   16u

/* ---- at once: through the port --------------------------------------------------------------- */

typedef struct immediate {
    tp_op op;
    tp_server *server;
    void (*run)(void *context);
    void *context;
} immediate;

static void task_run_immediate(tp_op *op, const tp_completion *completion) {
    immediate *task = TP_CONTAINER_OF(op, immediate, op);
    tp_server *server = task->server;
    (void)completion;
    task->run(task->context);
    tp__free(task);
    unsigned in_port = atomic_fetch_sub(&server->tasks.in_port, 1);
    assert(in_port > 0);
    (void)in_port;
}

static tp_err task_post_now(tp_server *server, void (*run)(void *), void *context) {
    if (atomic_fetch_add(&server->tasks.in_port, 1) >= TP_SERVER_MAX_TASKS) {
        atomic_fetch_sub(&server->tasks.in_port, 1);
        return TP_ERR_FULL;
    }
    tp_err error = TP_ERR_NO_MEMORY;
    immediate *task = tp__allocate(sizeof *task);
    if (task) {
        *task = (immediate){
            .op.done = task_run_immediate, .server = server, .run = run, .context = context};
        error = tp_port_post(server->port, NULL, &task->op);
    }
    if (error) {
        tp__free(task);
        atomic_fetch_sub(&server->tasks.in_port, 1);
    }
    return error;
}

/* ---- later: the heap ------------------------------------------------------------------------- */

static bool task_before(const void *left, const void *right, const void *context) {
    const tp__delayed *a = left;
    const tp__delayed *b = right;
    (void)context;
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static const tp__heap_order task_order = {.size = sizeof(tp__delayed), .before = task_before};

static void tasks_publish_next_due(tp__tasks *tasks) {
    TP_ASSERT_LOCKED(&tasks->mutex);
    atomic_store(&tasks->next_due_ms, tasks->count ? tasks->heap[0].due_ms : UINT64_MAX);
}

static tp_err tasks_reserve(tp__tasks *tasks) {
    TP_ASSERT_LOCKED(&tasks->mutex);
    if (tasks->count < tasks->capacity) {
        return TP_OK;
    }
    if (tasks->count >= TP_SERVER_MAX_TASKS) {
        return TP_ERR_FULL;
    }
    TP__VERIFY(tp__tasks_check(tasks)); /* each time that it has doubled */
    unsigned capacity = tp__doubled(tasks->capacity, FIRST_SIZE);
    tp__delayed *heap = tp__larger_copy(tasks->heap, tasks->count, capacity, sizeof *heap);
    if (!heap) {
        return TP_ERR_NO_MEMORY;
    }
    tp__free(tasks->heap);
    tasks->heap = heap;
    tasks->capacity = capacity;
    return TP_OK;
}

static void tasks_insert(tp__tasks *tasks, tp__delayed task) {
    TP_ASSERT_LOCKED(&tasks->mutex);
    assert(tasks->count < tasks->capacity);
    tp__heap_push(&task_order, tasks->heap, tasks->count++, &task);
}

static tp__delayed tasks_remove_first(tp__tasks *tasks) {
    TP_ASSERT_LOCKED(&tasks->mutex);
    assert(tasks->count > 0);
    tp__delayed first = tasks->heap[0];
    tp__heap_remove_first(&task_order, tasks->heap, tasks->count--);
    assert(tasks->count == 0 || !task_before(&tasks->heap[0], &first, NULL));
    return first;
}

const char *tp__tasks_check(const tp__tasks *tasks) {
    TP_ASSERT_LOCKED(&tasks->mutex);
    TP__INVARIANT(tasks->count <= tasks->capacity);
    TP__INVARIANT(tasks->count <= TP_SERVER_MAX_TASKS && tasks->count <= tasks->posted);
    TP__INVARIANT((tasks->heap != NULL) == (tasks->capacity > 0));
    for (unsigned at = 0; at < tasks->count; at++) {
        const tp__delayed *task = &tasks->heap[at];
        TP__INVARIANT(task->run && task->order < tasks->posted);
    }
    const char *broken = tp__heap_check(&task_order, tasks->heap, tasks->count);
    if (broken) {
        return broken;
    }
    uint64_t due_ms = atomic_load(&tasks->next_due_ms);
    TP__INVARIANT(due_ms == (tasks->count ? tasks->heap[0].due_ms : UINT64_MAX));
    return NULL;
}

static tp_err task_post_delayed(
    tp_server *server, unsigned delay_ms, void (*run)(void *), void *context) {
    tp__tasks *tasks = &server->tasks;
    uint64_t due_ms = tp_clock_ms() + delay_ms;
    tp_mutex_lock(&tasks->mutex);
    tp_err error = tasks_reserve(tasks);
    bool earliest = false;
    if (!error) {
        tasks_insert(tasks, (tp__delayed){due_ms, tasks->posted++, run, context});
        earliest = tasks->heap[0].due_ms == due_ms;
        tasks_publish_next_due(tasks);
    }
    tp_mutex_unlock(&tasks->mutex);
    /* All workers may be waiting for something later, and a timekeeper that posts this in a handler
     * may block there before it waits again. The time is published before they are woken, so a
     * worker that computes its wait after that sees it. The worker that runs delayed tasks checks
     * the heap itself afterwards. */
    tp__worker *here = tp__worker_here(server);
    if (earliest && !(here && here->runs_tasks)) {
        tp_port_wake(server->port);
    }
    return error;
}

void tp__tasks_run(tp__tasks *tasks, uint64_t now_ms) {
    tp_mutex_lock(&tasks->mutex);
    while (tasks->count > 0 && tasks->heap[0].due_ms <= now_ms) {
        tp__delayed task = tasks_remove_first(tasks);
        tasks_publish_next_due(tasks);
        tp_mutex_unlock(&tasks->mutex);
        task.run(task.context);
        tp_mutex_lock(&tasks->mutex);
    }
    tp_mutex_unlock(&tasks->mutex);
}

/* ---- init, clear, destroy, post -------------------------------------------------------------- */

void tp__tasks_init(tp__tasks *tasks) {
    memset(tasks, 0, sizeof *tasks);
    tp_mutex_init(&tasks->mutex);
    atomic_init(&tasks->next_due_ms, UINT64_MAX);
}

void tp__tasks_clear(tp__tasks *tasks) {
    tp_mutex_lock(&tasks->mutex);
    TP__VERIFY(tp__tasks_check(tasks));
    tasks->count = 0;
    tasks_publish_next_due(tasks);
    tp_mutex_unlock(&tasks->mutex);
}

void tp__tasks_destroy(tp__tasks *tasks) {
    tp__free(tasks->heap);
    tp_mutex_destroy(&tasks->mutex);
}

tp_err tp_server_post(
    tp_server *server, unsigned delay_ms, void (*task)(void *context), void *context) {
    if (!task || delay_ms > DELAY_MAX_MS) {
        return TP_ERR_INVALID;
    }
    if (!tp__server_enter_port(server)) {
        return TP_ERR_STATE;
    }
    tp_err error = delay_ms ? task_post_delayed(server, delay_ms, task, context)
                            : task_post_now(server, task, context);
    tp__server_leave_port(server);
    return error;
}
