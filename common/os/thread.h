/*
 * Threads, the locks of the slow paths, and one pointer per thread.
 * No lock is taken on the send, receive and release paths.
 */
#ifndef TWINPORT_OS_THREAD_H
#define TWINPORT_OS_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "twinport/error.h"

typedef struct tp_thread {
    uint64_t os[2];
} tp_thread;

/* Starts a thread that runs main(argument). `name` (up to 15 bytes are shown by debuggers) is
 * copied. TP_ERR_NO_MEMORY or TP_ERR_OS. */
tp_err tp_thread_start(
    tp_thread *thread, const char *name, void (*main)(void *argument), void *argument);
/* Waits for the thread's end and frees it. Once per started thread. */
void tp_thread_join(tp_thread *thread);

/* A number that no other living thread has. */
uint64_t tp_thread_id(void);

/* Processors this process may use at once, at least 1: those it may run on, or fewer if on Linux
 * its control group's quota is for fewer (rounded up). */
unsigned tp_processor_count(void);

/* Lowers the calling thread's priority below that of the process's others, for the rest of its
 * life: for work that others must not wait for. TP_ERR_OS and the like; then it goes on as it
 * was. */
tp_err tp_thread_lower_priority(void);

/* Leaves the calling thread, for the rest of its life, what no other thread wants of the processor:
 * SCHED_IDLE, which whoever wakes up displaces at once, with the shortest slice where there are
 * slices; on Windows THREAD_PRIORITY_LOWEST. It may stand still for a second and more while others
 * use all processors, with whatever lock it holds then. Errors as above. */
tp_err tp_thread_go_idle(void);

/* Gives the processor away once: for the tests' threads and the rare spin on a lock-free
 * hand-over. */
void tp_thread_yield(void);

typedef struct tp_mutex {
    uint64_t os[6];
} tp_mutex;
typedef struct tp_condition {
    uint64_t os[6];
} tp_condition;

void tp_mutex_init(tp_mutex *mutex);
void tp_mutex_destroy(tp_mutex *mutex);
void tp_mutex_lock(tp_mutex *mutex);
void tp_mutex_unlock(tp_mutex *mutex);

void tp_condition_init(tp_condition *condition);
void tp_condition_destroy(tp_condition *condition);
/* Waits with the mutex held, at most timeout_ms (-1: for ever). False if the time has passed.
 * May wake without cause. */
bool tp_condition_wait(tp_condition *condition, tp_mutex *mutex, int timeout_ms);
void tp_condition_wake_all(tp_condition *condition);
/* One of those that wait, if there is one. */
void tp_condition_wake_one(tp_condition *condition);

/* A count of permissions to go on. To post one never waits, not even for a thread that has lost the
 * processor in the middle of a wait: that is what it has before mutex and condition. */
typedef struct tp_semaphore {
    uint64_t os[6];
} tp_semaphore;

/* With no permission in it. TP_ERR_OS and the like (Windows: no handle is left). */
tp_err tp_semaphore_init(tp_semaphore *semaphore);
/* One that init has made, and that nobody waits at. */
void tp_semaphore_destroy(tp_semaphore *semaphore);
/* One permission more: 2^31-1 of them at most. What was written before is seen by whoever takes
 * it. */
void tp_semaphore_post(tp_semaphore *semaphore);
/* Takes one; waits until there is one. */
void tp_semaphore_wait(tp_semaphore *semaphore);

/* Runs `initialise` exactly once in the process, whoever comes first; the others wait for it. */
typedef struct tp_once {
    uint64_t os[1]; /* all zero before */
} tp_once;
void tp_once_run(tp_once *once, void (*initialise)(void));

/*
 * The thread's record: one pointer, NULL until it is set. Reading it is a few instructions (no
 * emulated thread-local storage on any platform). `at_exit` runs on that thread when it ends; the
 * one function given first serves all threads. TP_ERR_NO_MEMORY or TP_ERR_OS.
 */
void *tp_thread_record(void);
tp_err tp_thread_set_record(void *record, void (*at_exit)(void *record));

#endif
