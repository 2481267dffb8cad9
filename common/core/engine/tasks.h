/*
 * Tasks: functions of the application that run on a worker, at once or after a delay.
 *
 * Tasks without a delay go through the port. Tasks with one wait in a heap, ordered by due time,
 * under a mutex (this is not the message path), until a worker runs them after a wait (sweep.c).
 */
#ifndef TWINPORT_CORE_ENGINE_TASKS_H
#define TWINPORT_CORE_ENGINE_TASKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "os/thread.h"
#include "twinport/server.h"

struct tp__worker;

typedef struct tp__delayed {
    uint64_t due_ms;
    uint64_t order; /* of posting: tasks due at the same time run in this order */
    void (*run)(void *context);
    void *context;
} tp__delayed;

typedef struct tp__tasks {
    tp_mutex mutex;
    tp__delayed *heap; /* heap[0] is due first; under the mutex, like the next three */
    unsigned count;
    unsigned capacity;
    uint64_t posted;
    _Atomic uint64_t next_due_ms; /* of heap[0]; UINT64_MAX if there is none */
    _Atomic bool running;         /* a worker is running those that are due */
    _Atomic unsigned in_port;     /* tasks without a delay that have not finished yet */
} tp__tasks;

void tp__tasks_init(tp__tasks *tasks);

/* Drops the delayed tasks, as a stop does. */
void tp__tasks_clear(tp__tasks *tasks);
void tp__tasks_destroy(tp__tasks *tasks);

/* The heap's order and its bounds, and the time that is published. Returns the first condition that
 * is false, or NULL. Under the mutex. */
const char *tp__tasks_check(const tp__tasks *tasks);

/* Runs the tasks that are due. One worker at a time. */
void tp__tasks_run(tp__tasks *tasks, uint64_t now_ms);

#endif
