/*
 * Threads, the locks of the slow paths, and one pointer per thread. Any thread may call any
 * function. The paths of sending, receiving and releasing take no lock.
 */
#ifndef TWINPORT_OS_THREAD_H
#define TWINPORT_OS_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "twinport/error.h"

typedef struct tp_thread {
    uint64_t os[2];
} tp_thread;

/* Starts a thread that runs main(argument). `name` is copied; debuggers show up to 15 bytes of it.
 * TP_ERR_NO_MEMORY or TP_ERR_OS. */
tp_err tp_thread_start(
    tp_thread *thread, const char *name, void (*main)(void *argument), void *argument);
/* Waits for the thread's end and frees it. Called once for each started thread. */
void tp_thread_join(tp_thread *thread);

/* The calling thread's number, which no other running thread has. */
uint64_t tp_thread_id(void);

/* How many processors this process may use at once, at least 1: those that it may run on, or fewer
 * if (on Linux) the quota of its control group, rounded up, is smaller. */
unsigned tp_processor_count(void);

/* Lowers the calling thread's priority below that of the process's other threads, for the rest of
 * its life: for work that delays nothing else. On error (TP_ERR_OS, TP_ERR_ACCESS) nothing
 * changes. */
tp_err tp_thread_lower_priority(void);

/*
 * Gives the calling thread, for the rest of its life, only processor time that no other thread
 * uses. On Linux by SCHED_IDLE, with the shortest slice where the kernel has slices: any thread
 * that wakes up preempts it at once. On Windows by THREAD_PRIORITY_LOWEST. While other threads use
 * all processors it may not run for a second and more, and keeps the locks that it holds. On error
 * (TP_ERR_OS, TP_ERR_ACCESS, TP_ERR_UNSUPPORTED) the policy does not change.
 */
tp_err tp_thread_go_idle(void);

/* Yields the processor once: for the threads of tests, and for the rare spin on a lock-free
 * transfer. */
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

/* Asserts that the calling thread has locked the mutex: the claim "under the mutex" of a function's
 * comment, as code. Compiled where assertions are; in a build of the seam without them, it checks
 * nothing. */
#ifdef NDEBUG
#define TP_ASSERT_LOCKED(mutex) ((void)0)
#else
#define TP_ASSERT_LOCKED(mutex) tp_mutex_assert_locked((mutex), __FILE__, __LINE__)
#endif
void tp_mutex_assert_locked(const tp_mutex *mutex, const char *file, int line);

void tp_condition_init(tp_condition *condition);
void tp_condition_destroy(tp_condition *condition);
/* Waits, with the mutex locked by the caller, for at most timeout_ms (-1: without limit). False if
 * the time has passed. May return without a wake-up. */
bool tp_condition_wait(tp_condition *condition, tp_mutex *mutex, int timeout_ms);
void tp_condition_wake_all(tp_condition *condition);

/* A counting semaphore. A post never waits, not even for a thread that was preempted in the middle
 * of a wait: that is its advantage over mutex and condition. */
typedef struct tp_semaphore {
    uint64_t os[6];
} tp_semaphore;

/* Initialises it with the count 0. TP_ERR_OS or the system's error (Windows: no handle is left). */
tp_err tp_semaphore_init(tp_semaphore *semaphore);
/* Frees an initialised semaphore on which no thread waits. */
void tp_semaphore_destroy(tp_semaphore *semaphore);
/* Increments the count, to at most 2^31-1. The thread whose wait takes it sees what was written
 * before. */
void tp_semaphore_post(tp_semaphore *semaphore);
/* Decrements the count, after waiting until it is not 0. */
void tp_semaphore_wait(tp_semaphore *semaphore);

/* Runs `initialise` exactly once in the process, on the first thread that calls; other threads wait
 * for its end. */
typedef struct tp_once {
    uint64_t os[1]; /* all zero at first */
} tp_once;
void tp_once_run(tp_once *once, void (*initialise)(void));

/*
 * The thread's record: one pointer, NULL until it is set. Reading it takes a few instructions: no
 * platform emulates thread-local storage for it. `at_exit` runs with the record on its thread when
 * the thread ends; the function that is given first in the process is used for all threads.
 * TP_ERR_NO_MEMORY or TP_ERR_OS.
 */
void *tp_thread_record(void);
tp_err tp_thread_set_record(void *record, void (*at_exit)(void *record));

#endif
