/*
 * Threads, slim locks and the thread's record.
 *
 * Any thread. A started thread owns its start_block and frees it before it runs main; a tp_thread
 * owns the handle until join. Locks are SRWLOCK and CONDITION_VARIABLE, which own nothing.
 *
 * The record is kept twice: in a TLS slot, because reading that takes a few instructions, and in an
 * FLS slot, because that has a callback at the thread's end, also for threads that other code
 * started.
 */
#include "os/thread.h"

#include <limits.h>
#include <process.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "os/compiler.h"
#include "os/error.h"
#include "os/stream.h"
#include "os/win32/system.h"

/* ---- threads --------------------------------------------------------------------------------- */

#define NAME_SIZE 16

typedef struct start_block {
    void (*main)(void *argument);
    void *argument;
    wchar_t name[NAME_SIZE];
} start_block;

/* Looked up at run time: not every SDK that has the other functions used here declares it. */
typedef HRESULT WINAPI describe_thread(HANDLE thread, const wchar_t *name);

static void name_thread(const wchar_t *name) {
    void (*found)(void) =
        (void (*)(void))GetProcAddress(GetModuleHandleW(L"kernel32.dll"), "SetThreadDescription");
    if (found != NULL) {
        (void)((describe_thread *)found)(GetCurrentThread(), name);
    }
}

static unsigned __stdcall run_thread(void *context) {
    start_block *block = context;
    start_block own = *block;
    free(block);
    name_thread(own.name);
    own.main(own.argument);
    return 0;
}

tp_err tp_thread_start(
    tp_thread *thread, const char *name, void (*main)(void *argument), void *argument) {
    start_block *block = malloc(sizeof *block);
    if (block == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    block->main = main;
    block->argument = argument;
    size_t length = 0;
    while (length < NAME_SIZE - 1 && name[length] != '\0') {
        block->name[length] = (wchar_t)(unsigned char)name[length];
        length++;
    }
    block->name[length] = L'\0';
    /* Not CreateThread(): the C library has to initialise its threads. */
    uintptr_t handle = _beginthreadex(NULL, 0, run_thread, block, 0, NULL);
    if (handle == 0) {
        tp_err error = tp_os_fail((int)_doserrno);
        free(block);
        return error;
    }
    thread->os[0] = handle;
    return TP_OK;
}

void tp_thread_join(tp_thread *thread) {
    HANDLE handle = (HANDLE)(uintptr_t)thread->os[0];
    (void)WaitForSingleObject(handle, INFINITE);
    (void)CloseHandle(handle);
    thread->os[0] = 0;
}

uint64_t tp_thread_id(void) {
    return GetCurrentThreadId();
}

unsigned tp_processor_count(void) {
    DWORD_PTR ours = 0;
    DWORD_PTR system = 0;
    unsigned count = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &ours, &system)) {
        for (; ours != 0; ours &= ours - 1) {
            count++;
        }
    }
    if (count == 0) { /* the process spans processor groups, which no mask can represent */
        count = (unsigned)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    }
    return count > 0 ? count : 1;
}

void tp_thread_yield(void) {
    (void)SwitchToThread();
}

/* ---- locks ----------------------------------------------------------------------------------- */

_Static_assert(sizeof(SRWLOCK) <= sizeof(uint64_t), "an SRWLOCK fits into a tp_mutex's first word");
_Static_assert(sizeof(CONDITION_VARIABLE) <= sizeof(tp_condition),
    "a CONDITION_VARIABLE fits into a tp_condition");
_Static_assert(sizeof(INIT_ONCE) <= sizeof(tp_once), "an INIT_ONCE fits into a tp_once");
_Static_assert(alignof(SRWLOCK) <= alignof(tp_mutex), "a tp_mutex is aligned for an SRWLOCK");

/* All three are one pointer, which only the system's functions read and write. */
static SRWLOCK *lock_of(tp_mutex *mutex) {
    return (SRWLOCK *)(void *)mutex->os;
}

#ifdef NDEBUG
static void mutex_set_owner(tp_mutex *mutex, bool locked) {
    (void)mutex, (void)locked;
}

void tp_mutex_assert_locked(const tp_mutex *mutex, const char *file, int line) {
    (void)mutex, (void)file, (void)line;
}
#else
/* Behind the SRWLOCK: the id of the thread that has the mutex, or 0. */
static LONG64 volatile *mutex_owner_of(const tp_mutex *mutex) {
    return (LONG64 volatile *)(uintptr_t)&mutex->os[1];
}

static void mutex_set_owner(tp_mutex *mutex, bool locked) {
    (void)InterlockedExchange64(mutex_owner_of(mutex), locked ? (LONG64)GetCurrentThreadId() : 0);
}

void tp_mutex_assert_locked(const tp_mutex *mutex, const char *file, int line) {
    if (InterlockedCompareExchange64(mutex_owner_of(mutex), 0, 0) != (LONG64)GetCurrentThreadId()) {
        tp_stream_last_words("%s:%d: the calling thread has not locked the mutex", file, line);
        abort();
    }
}
#endif

static CONDITION_VARIABLE *variable_of(tp_condition *condition) {
    return (CONDITION_VARIABLE *)(void *)condition->os;
}

void tp_mutex_init(tp_mutex *mutex) {
    InitializeSRWLock(lock_of(mutex));
    mutex_set_owner(mutex, false);
}

void tp_mutex_destroy(tp_mutex *mutex) {
    (void)mutex;
}

void tp_mutex_lock(tp_mutex *mutex) {
    AcquireSRWLockExclusive(lock_of(mutex));
    mutex_set_owner(mutex, true);
}

void tp_mutex_unlock(tp_mutex *mutex) {
    TP_ASSERT_LOCKED(mutex);
    mutex_set_owner(mutex, false);
    ReleaseSRWLockExclusive(lock_of(mutex));
}

void tp_condition_init(tp_condition *condition) {
    InitializeConditionVariable(variable_of(condition));
}

void tp_condition_destroy(tp_condition *condition) {
    (void)condition;
}

bool tp_condition_wait(tp_condition *condition, tp_mutex *mutex, int timeout_ms) {
    DWORD limit = timeout_ms < 0 ? INFINITE : (DWORD)timeout_ms;
    TP_ASSERT_LOCKED(mutex);
    mutex_set_owner(mutex, false);
    bool woken = SleepConditionVariableSRW(variable_of(condition), lock_of(mutex), limit, 0);
    mutex_set_owner(mutex, true);
    return woken;
}

void tp_condition_wake_all(tp_condition *condition) {
    WakeAllConditionVariable(variable_of(condition));
}

tp_err tp_semaphore_init(tp_semaphore *semaphore) {
    HANDLE handle = CreateSemaphoreW(NULL, 0, LONG_MAX, NULL);
    if (handle == NULL) {
        return tp_os_fail_last();
    }
    semaphore->os[0] = (uint64_t)(uintptr_t)handle;
    return TP_OK;
}

void tp_semaphore_destroy(tp_semaphore *semaphore) {
    (void)CloseHandle((HANDLE)(uintptr_t)semaphore->os[0]);
    semaphore->os[0] = 0;
}

void tp_semaphore_post(tp_semaphore *semaphore) {
    (void)ReleaseSemaphore((HANDLE)(uintptr_t)semaphore->os[0], 1, NULL);
}

void tp_semaphore_wait(tp_semaphore *semaphore) {
    (void)WaitForSingleObject((HANDLE)(uintptr_t)semaphore->os[0], INFINITE);
}

/* In C a void pointer cannot point to a function, but to a struct with its address. */
typedef struct initialiser {
    void (*run)(void);
} initialiser;

static BOOL CALLBACK run_initialiser(INIT_ONCE *once, void *parameter, void **context) {
    (void)once;
    (void)context;
    const initialiser *it = parameter;
    it->run();
    return TRUE;
}

void tp_once_run(tp_once *once, void (*initialise)(void)) {
    initialiser it = {initialise};
    (void)InitOnceExecuteOnce((INIT_ONCE *)(void *)once->os, run_initialiser, &it, NULL);
}

/* ---- the record ------------------------------------------------------------------------------ */

/*
 * `record_slot` changes once, from TLS_OUT_OF_INDEXES to the slot's number. A thread that has set a
 * record has seen the number itself. A thread that still reads the old value has no record and
 * returns NULL. So a relaxed load is enough.
 */
static _Atomic DWORD record_slot = TLS_OUT_OF_INDEXES;
static tp_once record_once;
static DWORD record_end_slot = FLS_OUT_OF_INDEXES;
static void (*_Atomic record_at_exit)(void *record);
static atomic_bool process_exits;

static void note_exit(void) {
    atomic_store(&process_exits, true);
}

/*
 * Also called for the thread that ends the process, after the system has killed all other threads,
 * possibly while they held locks. Nothing may be freed then.
 */
static void WINAPI end_record(void *record) {
    void (*at_exit)(void *) = atomic_load(&record_at_exit);
    if (record == NULL || at_exit == NULL || atomic_load(&process_exits)) {
        return;
    }
    at_exit(record);
    (void)TlsSetValue(atomic_load_explicit(&record_slot, memory_order_relaxed), NULL);
}

static void make_slots(void) {
    DWORD slot = TlsAlloc();
    record_end_slot = FlsAlloc(end_record);
    (void)atexit(note_exit);
    atomic_store(&record_slot, slot);
}

void *tp_thread_record(void) {
    DWORD slot = atomic_load_explicit(&record_slot, memory_order_relaxed);
    return TP_LIKELY(slot != TLS_OUT_OF_INDEXES) ? TlsGetValue(slot) : NULL;
}

tp_err tp_thread_set_record(void *record, void (*at_exit)(void *record)) {
    tp_once_run(&record_once, make_slots);
    DWORD slot = atomic_load_explicit(&record_slot, memory_order_relaxed);
    if (slot == TLS_OUT_OF_INDEXES || record_end_slot == FLS_OUT_OF_INDEXES) {
        return TP_ERR_NO_MEMORY;
    }
    void (*none)(void *) = NULL;
    (void)atomic_compare_exchange_strong(&record_at_exit, &none, at_exit);
    if (!FlsSetValue(record_end_slot, record) || !TlsSetValue(slot, record)) {
        return tp_os_fail_last();
    }
    return TP_OK;
}
