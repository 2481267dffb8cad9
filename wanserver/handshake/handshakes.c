/*
 * The handshake threads. I/O workers put jobs into a queue without locks (jobs.h), the threads take
 * them out.
 *
 * A thread at idle priority may stand still for a second wherever it is, while others use all
 * processors. So it holds nothing of ours that anybody waits for: no lock, one place in the queue
 * for no longer than one compare-and-swap, and jobs in its hands for `together_ms` and one job's
 * work. What it cannot help is the C library's allocator, which libcrypto calls: with memory arenas
 * of its own for each thread (glibc) nobody waits for it there, with one heap for all (Windows,
 * musl) somebody may.
 * What waits too long is taken by the reserve thread, which is not idle: a thread cannot raise
 * itself from idle without a permission. If the idle threads have done nothing at all meanwhile, as
 * when others use all processors, and not as in a flood, the reserve leads for a while: it takes
 * all jobs as they come, and the idle threads none, so that none is stuck in their hands.
 *
 * Exactly once: a job is in the queue from offer until somebody takes it out, a thread while
 * `started`, the stopping one when `started` is false. After that nothing comes in: who offers
 * counts itself into `inside` before it looks at `started`, and the stopping one, which has written
 * it, waits until none is inside. So what stop takes out is all there was.
 *
 * NO LOST WAKE-UP. A thread that finds nothing counts itself into `sleepers`, looks again, and then
 * waits at the semaphore. Who offers puts the job in, then looks at `sleepers`, and if it is not 0
 * takes one off and posts. All four steps are sequentially consistent: one of the two sees the
 * other. Each count that is taken off is one post, and each thread that is still counted when it
 * looks again takes its own count off instead, or, if somebody else has, takes that post: so none
 * is left over. The reserve thread sleeps in the same way, alone, at a semaphore of its own; while
 * jobs come it looks by the clock instead, so that it is not woken for each.
 */
#include "wanserver/handshake/handshakes.h"

#include "core/memory/memory.h"
#include "os/clock.h"
#include "os/thread.h"
#include "twinport/log.h"
#include "wanserver/handshake/jobs.h"

/* How long the reserve leads, in times of overdue_ms: what an idle thread has taken before is stuck
 * in its hands, so it is not tried again too soon. */
#define LEAD 10u

typedef struct sleepers {
    tp_semaphore permission;
    bool made;
    _Atomic unsigned count;
} sleepers;

struct tp__handshakes {
    tp__handshakes_options options;
    tp__jobs jobs;
    atomic_bool started;
    _Atomic unsigned inside; /* threads that are in offer */
    sleepers idle;
    sleepers reserve;
    tp_mutex mutex; /* the reserve thread's and the stopping one's */
    tp_condition stopped;
    atomic_bool reserve_leads;
    _Atomic uint64_t progress; /* jobs that idle threads have run */
    _Atomic uint64_t overdue;
    atomic_bool refused; /* the system's refusal of a priority has been said */
    unsigned threads;    /* that are to be joined; starter's and stopper's alone */
    bool has_reserve;
    tp_thread thread[TP__HANDSHAKE_THREADS_MAX];
    tp_thread reserve_thread;
};

/* ---- sleeping -------------------------------------------------------------------------------- */

/* Takes one off; false: there is none. */
static bool take_off(sleepers *those) {
    unsigned count = atomic_load(&those->count);
    while (count > 0) {
        if (atomic_compare_exchange_weak(&those->count, &count, count - 1)) {
            return true;
        }
    }
    return false;
}

static bool wake_one(sleepers *those) {
    bool sleeps = take_off(those);
    if (sleeps) {
        tp_semaphore_post(&those->permission);
    }
    return sleeps;
}

static bool has_work(tp__handshakes *handshakes, const sleepers *of) {
    bool allowed = of == &handshakes->reserve || !atomic_load(&handshakes->reserve_leads);
    return allowed && tp__jobs_any(&handshakes->jobs);
}

/* False: it is time to end. */
static bool wait_for_work(tp__handshakes *handshakes, sleepers *with) {
    while (atomic_load(&handshakes->started) && !has_work(handshakes, with)) {
        atomic_fetch_add(&with->count, 1);
        bool wanted = !atomic_load(&handshakes->started) || has_work(handshakes, with);
        if (!wanted || !take_off(with)) {
            tp_semaphore_wait(&with->permission);
        }
    }
    return atomic_load(&handshakes->started);
}

/* ---- on the threads -------------------------------------------------------------------------- */

/* What is taken has been there since `until_ms` or before. False: there was nothing. */
static bool run_some(tp__handshakes *handshakes, uint64_t until_ms) {
    void *done[TP__HANDSHAKES_TOGETHER];
    unsigned count = 0;
    uint64_t begin_ms = tp_clock_ms();
    bool goes_on = true;
    while (goes_on && count < TP__HANDSHAKES_TOGETHER && atomic_load(&handshakes->started)) {
        void *job = tp__jobs_take_old(&handshakes->jobs, until_ms);
        goes_on = job != NULL;
        if (job != NULL) {
            handshakes->options.run(job);
            done[count++] = job;
            goes_on = tp_clock_ms() - begin_ms < handshakes->options.together_ms;
        }
    }
    atomic_fetch_add(until_ms == UINT64_MAX ? &handshakes->progress : &handshakes->overdue, count);
    if (count > 0) {
        handshakes->options.deliver(done, count);
    }
    return count > 0;
}

static tp_err go_down(tp_handshake_priority priority) {
    switch (priority) {
    case TP_HANDSHAKE_IDLE:
        return tp_thread_go_idle();
    case TP_HANDSHAKE_LOW:
        return tp_thread_lower_priority();
    default:
        return TP_OK;
    }
}

static void take_priority(tp__handshakes *handshakes, tp_handshake_priority priority) {
    tp_err error = go_down(priority);
    if (error && !atomic_exchange(&handshakes->refused, true)) {
        TP_LOG(TP_LOG_INFO, "handshakes: the system gives the threads no lower priority: %s",
            tp_err_text(error));
    }
    if (error && priority == TP_HANDSHAKE_IDLE) {
        (void)tp_thread_lower_priority(); /* better than nothing */
    }
}

static void run_jobs(void *argument) {
    tp__handshakes *handshakes = argument;
    take_priority(handshakes, handshakes->options.priority);
    while (wait_for_work(handshakes, &handshakes->idle)) {
        (void)run_some(handshakes, UINT64_MAX);
    }
}

/* False: it is time to end. */
static bool pause_for(tp__handshakes *handshakes, unsigned ms) {
    uint64_t until_ms = tp_clock_ms() + ms;
    tp_mutex_lock(&handshakes->mutex);
    uint64_t now_ms;
    while (atomic_load(&handshakes->started) && (now_ms = tp_clock_ms()) < until_ms) {
        (void)tp_condition_wait(&handshakes->stopped, &handshakes->mutex, (int)(until_ms - now_ms));
    }
    tp_mutex_unlock(&handshakes->mutex);
    return atomic_load(&handshakes->started);
}

/* What comes in while the idle threads are not woken, and is still there at the end, is seen here:
 * whoever has put it in has looked at reserve_leads afterwards. */
static void lead(tp__handshakes *handshakes) {
    uint64_t until_ms = tp_clock_ms() + LEAD * (uint64_t)handshakes->options.overdue_ms;
    atomic_store(&handshakes->reserve_leads, true);
    while (wait_for_work(handshakes, &handshakes->reserve) && tp_clock_ms() < until_ms) {
        (void)run_some(handshakes, tp_clock_ms());
    }
    atomic_store(&handshakes->reserve_leads, false);
    while (tp__jobs_any(&handshakes->jobs) && wake_one(&handshakes->idle)) {
    }
}

static void run_overdue(void *argument) {
    tp__handshakes *handshakes = argument;
    unsigned overdue_ms = handshakes->options.overdue_ms;
    take_priority(handshakes, TP_HANDSHAKE_LOW);
    while (wait_for_work(handshakes, &handshakes->reserve)) {
        uint64_t progress = atomic_load(&handshakes->progress);
        bool any = false;
        if (!pause_for(handshakes, overdue_ms / 2 + 1)) {
            return;
        }
        while (run_some(handshakes, tp_clock_ms() - overdue_ms)) {
            any = true;
        }
        if (any && progress == atomic_load(&handshakes->progress)) {
            lead(handshakes);
        }
    }
}

bool tp__handshakes_offer(tp__handshakes *handshakes, void *job) {
    atomic_fetch_add(&handshakes->inside, 1);
    bool taken =
        atomic_load(&handshakes->started) && tp__jobs_put(&handshakes->jobs, job, tp_clock_ms());
    atomic_fetch_sub(&handshakes->inside, 1);
    if (taken) {
        if (!atomic_load(&handshakes->reserve_leads)) {
            (void)wake_one(&handshakes->idle);
        }
        (void)wake_one(&handshakes->reserve);
    }
    return taken;
}

unsigned tp__handshakes_waiting(tp__handshakes *handshakes) {
    return (unsigned)tp__jobs_waiting(&handshakes->jobs);
}

uint64_t tp__handshakes_overdue(const tp__handshakes *handshakes) {
    return atomic_load_explicit(&handshakes->overdue, memory_order_relaxed);
}

/* ---- life ------------------------------------------------------------------------------------ */

static tp_err start_threads(tp__handshakes *handshakes) {
    tp_err error = TP_OK;
    while (!error && handshakes->threads < handshakes->options.threads) {
        error = tp_thread_start(
            &handshakes->thread[handshakes->threads], "tp-handshake", run_jobs, handshakes);
        handshakes->threads += !error;
    }
    bool wanted =
        handshakes->options.priority == TP_HANDSHAKE_IDLE && handshakes->options.overdue_ms > 0;
    if (!error && wanted) {
        error =
            tp_thread_start(&handshakes->reserve_thread, "tp-hs-overdue", run_overdue, handshakes);
        handshakes->has_reserve = !error;
    }
    return error;
}

tp_err tp__handshakes_start(tp__handshakes *handshakes) {
    if (handshakes->threads > 0) {
        return TP_ERR_STATE;
    }
    atomic_store(&handshakes->started, true);
    tp_err error = start_threads(handshakes);
    if (error) {
        tp__handshakes_stop(handshakes);
    }
    return error;
}

static void say_stopped(tp__handshakes *handshakes) {
    tp_mutex_lock(&handshakes->mutex);
    atomic_store(&handshakes->started, false);
    tp_condition_wake_all(&handshakes->stopped);
    tp_mutex_unlock(&handshakes->mutex);
    while (atomic_load(&handshakes->inside) > 0) { /* a few instructions of a worker's */
        tp_thread_yield();
    }
    while (wake_one(&handshakes->idle) || wake_one(&handshakes->reserve)) {
    }
}

void tp__handshakes_stop(tp__handshakes *handshakes) {
    void *job;
    say_stopped(handshakes);
    while ((job = tp__jobs_take(&handshakes->jobs)) != NULL) {
        handshakes->options.drop(job);
    }
    while (handshakes->threads > 0) {
        tp_thread_join(&handshakes->thread[--handshakes->threads]);
    }
    if (handshakes->has_reserve) {
        tp_thread_join(&handshakes->reserve_thread);
        handshakes->has_reserve = false;
    }
}

static bool is_valid(const tp__handshakes_options *options) {
    return options->threads >= 1 && options->threads <= TP__HANDSHAKE_THREADS_MAX &&
           options->queue >= 1 && options->queue <= UINT32_MAX / 2 && options->run != NULL &&
           options->deliver != NULL && options->drop != NULL &&
           (unsigned)options->priority <= TP_HANDSHAKE_NORMAL && options->overdue_ms <= 60000 &&
           options->together_ms >= 1;
}

static tp_err make_semaphore(sleepers *those) {
    tp_err error = tp_semaphore_init(&those->permission);
    those->made = !error;
    return error;
}

tp_err tp__handshakes_create(const tp__handshakes_options *options, tp__handshakes **handshakes) {
    *handshakes = NULL;
    if (!is_valid(options)) {
        return TP_ERR_INVALID;
    }
    tp__handshakes *made = tp__allocate_zeroed(1, sizeof *made);
    if (made == NULL) {
        return TP_ERR_NO_MEMORY;
    }
    made->options = *options;
    tp_mutex_init(&made->mutex);
    tp_condition_init(&made->stopped);
    tp_err error = tp__jobs_create(&made->jobs, options->queue);
    if (!error) {
        error = make_semaphore(&made->idle);
    }
    if (!error) {
        error = make_semaphore(&made->reserve);
    }
    if (error) {
        tp__handshakes_destroy(made);
        return error;
    }
    *handshakes = made;
    return TP_OK;
}

void tp__handshakes_destroy(tp__handshakes *handshakes) {
    if (handshakes == NULL) {
        return;
    }
    if (handshakes->idle.made) {
        tp_semaphore_destroy(&handshakes->idle.permission);
    }
    if (handshakes->reserve.made) {
        tp_semaphore_destroy(&handshakes->reserve.permission);
    }
    tp__jobs_destroy(&handshakes->jobs);
    tp_condition_destroy(&handshakes->stopped);
    tp_mutex_destroy(&handshakes->mutex);
    tp__free(handshakes);
}
