/*
 * Threads, locks and the thread's record, on pthreads.
 *
 * Any thread. A started thread owns the block with its name and argument, and frees it before it
 * runs main. Locks are in the caller's memory. This file owns only the key that makes the record's
 * at_exit run.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "os/compiler.h"
#include "os/error.h"
#include "os/stream.h"
#include "os/thread.h"

typedef struct TP_MAY_ALIAS mutex_view {
    pthread_mutex_t mutex;
    _Atomic uintptr_t owner; /* mutex_self() of the thread that has it, or 0; not under NDEBUG */
} mutex_view;

typedef struct TP_MAY_ALIAS condition_view {
    pthread_cond_t condition;
} condition_view;

typedef struct TP_MAY_ALIAS semaphore_view {
    sem_t semaphore;
} semaphore_view;

typedef struct TP_MAY_ALIAS once_view {
    pthread_once_t once;
} once_view;

typedef struct TP_MAY_ALIAS thread_view {
    pthread_t thread;
} thread_view;

_Static_assert(sizeof(mutex_view) <= sizeof(tp_mutex), "a mutex fits");
_Static_assert(sizeof(condition_view) <= sizeof(tp_condition), "a condition fits");
_Static_assert(sizeof(semaphore_view) <= sizeof(tp_semaphore), "a semaphore fits");
_Static_assert(sizeof(once_view) <= sizeof(tp_once), "a once fits");
_Static_assert(sizeof(thread_view) <= sizeof(tp_thread), "a thread fits");
_Static_assert(PTHREAD_ONCE_INIT == 0, "all zero is a fresh once");

/* Aborts on an error: a lock that fails means corrupted memory or a defect in the caller. */
static void must(int error, const char *what) {
    if (TP_UNLIKELY(error != 0)) {
        tp_stream_last_words("%s: %s", what, strerror(error));
        abort();
    }
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { NAME_SIZE = 16 };

typedef struct start_block {
    void (*main)(void *argument);
    void *argument;
    char name[NAME_SIZE];
} start_block;

static void *run_thread(void *block_pointer) {
    start_block *block = block_pointer;
    void (*body)(void *) = block->main;
    void *argument = block->argument;
    /* The name is for debuggers only, so a failure does not matter. */
    (void)pthread_setname_np(pthread_self(), block->name);
    free(block);
    body(argument);
    return NULL;
}

tp_err tp_thread_start(
    tp_thread *thread, const char *name, void (*body)(void *argument), void *argument) {
    start_block *block = malloc(sizeof *block);
    if (block == NULL) {
        (void)tp_os_fail(ENOMEM);
        return TP_ERR_NO_MEMORY;
    }
    block->main = body;
    block->argument = argument;
    (void)snprintf(block->name, sizeof block->name, "%s", name);
    int error = pthread_create(&((thread_view *)thread)->thread, NULL, run_thread, block);
    if (error != 0) {
        free(block);
        (void)tp_os_fail(error);
        /* EAGAIN: the resources for another thread are lacking. */
        return error == ENOMEM || error == EAGAIN ? TP_ERR_NO_MEMORY : TP_ERR_OS;
    }
    return TP_OK;
}

void tp_thread_join(tp_thread *thread) {
    must(pthread_join(((thread_view *)thread)->thread, NULL), "a thread could not be joined");
}

void tp_thread_yield(void) {
    (void)sched_yield();
}

/* ---- locks ----------------------------------------------------------------------------------- */

#ifdef NDEBUG
static void mutex_set_owner(mutex_view *mutex, bool locked) {
    (void)mutex, (void)locked;
}

void tp_mutex_assert_locked(const tp_mutex *mutex, const char *file, int line) {
    (void)mutex, (void)file, (void)line;
}
#else
/* A number of the calling thread: the address of a variable of its own. */
static uintptr_t mutex_self(void) {
    static _Thread_local char self;
    return (uintptr_t)&self;
}

static void mutex_set_owner(mutex_view *mutex, bool locked) {
    atomic_store_explicit(&mutex->owner, locked ? mutex_self() : 0, memory_order_relaxed);
}

void tp_mutex_assert_locked(const tp_mutex *mutex, const char *file, int line) {
    const mutex_view *view = (const mutex_view *)mutex;
    if (atomic_load_explicit(&view->owner, memory_order_relaxed) != mutex_self()) {
        tp_stream_last_words("%s:%d: the calling thread has not locked the mutex", file, line);
        abort();
    }
}
#endif

void tp_mutex_init(tp_mutex *mutex) {
    must(pthread_mutex_init(&((mutex_view *)mutex)->mutex, NULL), "mutex");
    mutex_set_owner((mutex_view *)mutex, false);
}

void tp_mutex_destroy(tp_mutex *mutex) {
    must(pthread_mutex_destroy(&((mutex_view *)mutex)->mutex), "a mutex was destroyed in use");
}

void tp_mutex_lock(tp_mutex *mutex) {
    must(pthread_mutex_lock(&((mutex_view *)mutex)->mutex), "a mutex could not be locked");
    mutex_set_owner((mutex_view *)mutex, true);
}

void tp_mutex_unlock(tp_mutex *mutex) {
    TP_ASSERT_LOCKED(mutex);
    mutex_set_owner((mutex_view *)mutex, false);
    must(pthread_mutex_unlock(&((mutex_view *)mutex)->mutex), "a mutex could not be unlocked");
}

void tp_condition_init(tp_condition *condition) {
    pthread_condattr_t attributes;
    must(pthread_condattr_init(&attributes), "condition");
    /* Monotonic, so that setting the wall clock neither shortens nor lengthens a wait. */
    must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC), "condition");
    must(pthread_cond_init(&((condition_view *)condition)->condition, &attributes), "condition");
    (void)pthread_condattr_destroy(&attributes);
}

void tp_condition_destroy(tp_condition *condition) {
    must(pthread_cond_destroy(&((condition_view *)condition)->condition),
        "a condition was destroyed in use");
}

static bool condition_wait(pthread_cond_t *c, pthread_mutex_t *m, int timeout_ms) {
    if (timeout_ms < 0) {
        must(pthread_cond_wait(c, m), "a condition could not be waited for");
        return true;
    }
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    int error = pthread_cond_timedwait(c, m, &until);
    if (error == ETIMEDOUT) {
        return false;
    }
    must(error, "a condition could not be waited for");
    return true;
}

bool tp_condition_wait(tp_condition *condition, tp_mutex *mutex, int timeout_ms) {
    mutex_view *view = (mutex_view *)mutex;
    TP_ASSERT_LOCKED(mutex);
    mutex_set_owner(view, false);
    bool woken =
        condition_wait(&((condition_view *)condition)->condition, &view->mutex, timeout_ms);
    mutex_set_owner(view, true);
    return woken;
}

void tp_condition_wake_all(tp_condition *condition) {
    must(pthread_cond_broadcast(&((condition_view *)condition)->condition), "condition");
}

tp_err tp_semaphore_init(tp_semaphore *semaphore) {
    return sem_init(&((semaphore_view *)semaphore)->semaphore, 0, 0) ? tp_os_fail_last() : TP_OK;
}

void tp_semaphore_destroy(tp_semaphore *semaphore) {
    (void)sem_destroy(&((semaphore_view *)semaphore)->semaphore);
}

void tp_semaphore_post(tp_semaphore *semaphore) {
    must(sem_post(&((semaphore_view *)semaphore)->semaphore) ? errno : 0, "semaphore");
}

void tp_semaphore_wait(tp_semaphore *semaphore) {
    sem_t *s = &((semaphore_view *)semaphore)->semaphore;
    int error;
    do {
        error = sem_wait(s) ? errno : 0;
    } while (error == EINTR);
    must(error, "a semaphore could not be waited for");
}

void tp_once_run(tp_once *once, void (*initialise)(void)) {
    must(pthread_once(&((once_view *)once)->once, initialise), "once");
}

/* ---- the record ------------------------------------------------------------------------------ */

/*
 * The record is read from plain thread-local storage, which takes one or two instructions here. The
 * key only serves to run its destructor when the thread ends.
 */
static TP_THREAD_LOCAL void *thread_record;

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;
static pthread_mutex_t at_exit_lock = PTHREAD_MUTEX_INITIALIZER;
static void (*record_at_exit)(void *record); /* guarded by at_exit_lock */

/* Sets the at_exit function if none is set yet. Returns the one in use. */
static void (*first_at_exit(void (*given)(void *record)))(void *record) {
    must(pthread_mutex_lock(&at_exit_lock), "record");
    if (record_at_exit == NULL) {
        record_at_exit = given;
    }
    void (*first)(void *) = record_at_exit;
    must(pthread_mutex_unlock(&at_exit_lock), "record");
    return first;
}

static void end_record(void *record) {
    void (*at_exit)(void *) = first_at_exit(NULL);
    /* tp_thread_record() still returns the record inside at_exit: freeing memory may need it. */
    if (at_exit != NULL) {
        at_exit(record);
    }
    thread_record = NULL;
}

static void create_key(void) {
    key_error = pthread_key_create(&key, end_record);
}

void *tp_thread_record(void) {
    return thread_record;
}

tp_err tp_thread_set_record(void *record, void (*at_exit)(void *record)) {
    must(pthread_once(&key_once, create_key), "record");
    int error = key_error != 0 ? key_error : pthread_setspecific(key, record);
    if (error != 0) {
        (void)tp_os_fail(error);
        return error == ENOMEM ? TP_ERR_NO_MEMORY : TP_ERR_OS;
    }
    (void)first_at_exit(at_exit);
    thread_record = record;
    return TP_OK;
}
