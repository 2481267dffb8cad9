/*
 * The handshake threads. Workers put jobs into a lock-free queue (jobs.h), the threads take them
 * out.
 *
 * A thread of priority TP_HANDSHAKE_IDLE may stop for a second at any instruction while other
 * programs use all processors. So no other thread waits for anything that it may hold: it holds no
 * lock, one slot of the queue for no longer than one compare-and-swap, and jobs for `batch_ms` plus
 * the work of one job. One exception remains: the C library's allocator, which libcrypto calls.
 * With memory arenas for each thread (glibc) no thread waits for an idle one there; with one heap
 * for all (Windows, musl) a thread may.
 *
 * A job that waits too long is taken by the reserve thread. Its priority is not idle, because a
 * thread cannot raise itself from idle priority without a permission. If the idle threads have run
 * no job at all meanwhile, which happens when other programs use all processors but not in a mere
 * flood, the reserve leads for a while: it takes every job as it arrives and the idle threads take
 * none, so that no job is stuck in an idle thread.
 *
 * Exactly once. A job is in the queue from offer until one thread takes it out: a handshake thread
 * while `started`, the stopping thread when `started` is false. No job enters after that: offer
 * counts itself into `offering` before it reads `started`; the stopping thread clears `started` and
 * then waits until `offering` is 0. So stop takes out all jobs that are left.
 *
 * NO LOST WAKE-UP. A thread that finds no job counts itself into `count` of its group, looks again,
 * and only then waits at the semaphore. Offer puts the job in, then reads `count`, and if it is not
 * 0 subtracts one and posts. All four steps are sequentially consistent, so at least one of the two
 * threads sees the other. Each subtraction by an offer is one post. A thread that finds a job in
 * its second look subtracts one itself; if the count is 0 by then, another thread has subtracted
 * it, and the post of that thread is consumed instead. So no post is left over. The reserve thread
 * sleeps in the same way, alone, at a semaphore of its own. While jobs arrive it looks by the clock
 * instead, so that it is not woken for each of them.
 */
#include "wanserver/handshake/handshakes.h"

#include <assert.h>

#include "core/base/invariant.h"
#include "core/memory/memory.h"
#include "os/clock.h"
#include "os/thread.h"
#include "twinport/log.h"
#include "wanserver/handshake/jobs.h"

/* How long the reserve leads, in multiples of overdue_ms. A job that an idle thread has taken is
 * stuck in it, so the idle threads are not tried again too soon. */
#define LEAD_TIMES 10u

typedef struct sleeper_group {
    tp_semaphore wakeup;
    bool made;
    _Atomic unsigned count;
} sleeper_group;

struct tp__handshakes {
    tp__handshakes_options options;
    tp__jobs jobs;
    atomic_bool started;
    _Atomic unsigned offering; /* threads inside offer */
    sleeper_group idle;
    sleeper_group reserve;
    tp_mutex mutex; /* guards `stopped`, for the reserve thread and the stopping thread */
    tp_condition stopped;
    atomic_bool reserve_leads;
    _Atomic uint64_t progress; /* jobs that the idle threads have run */
    _Atomic uint64_t overdue;
    atomic_bool priority_refused; /* a refusal of a priority has been logged */
    unsigned threads;             /* to be joined; used only by start and stop */
    bool has_reserve;
    tp_thread thread[TP__HANDSHAKE_THREADS_MAX];
    tp_thread reserve_thread;
};

/* ---- sleeping -------------------------------------------------------------------------------- */

/* Subtracts one sleeper; false: there is none. */
static bool sleepers_take_one(sleeper_group *group) {
    unsigned count = atomic_load(&group->count);
    while (count > 0) {
        if (atomic_compare_exchange_weak(&group->count, &count, count - 1)) {
            return true;
        }
    }
    return false;
}

/* Wakes one sleeper; false: there is none. */
static bool sleepers_wake_one(sleeper_group *group) {
    bool sleeps = sleepers_take_one(group);
    if (sleeps) {
        tp_semaphore_post(&group->wakeup);
    }
    return sleeps;
}

/* Whether a thread of this group may take a job now. */
static bool handshakes_have_work(tp__handshakes *handshakes, const sleeper_group *group) {
    bool allowed = group == &handshakes->reserve || !atomic_load(&handshakes->reserve_leads);
    return allowed && tp__jobs_any(&handshakes->jobs);
}

/* Waits until a thread of this group may take a job. False: the thread must end. */
static bool handshakes_wait(tp__handshakes *handshakes, sleeper_group *group) {
    while (atomic_load(&handshakes->started) && !handshakes_have_work(handshakes, group)) {
        atomic_fetch_add(&group->count, 1);
        bool wanted = !atomic_load(&handshakes->started) || handshakes_have_work(handshakes, group);
        if (!wanted || !sleepers_take_one(group)) {
            tp_semaphore_wait(&group->wakeup);
        }
    }
    return atomic_load(&handshakes->started);
}

/* ---- on the threads -------------------------------------------------------------------------- */

/* Takes jobs that were put in at `until_ms` or before, runs them and delivers them as one batch.
 * False: there was none. */
static bool run_batch(tp__handshakes *handshakes, uint64_t until_ms) {
    void *done[TP__HANDSHAKES_BATCH];
    unsigned count = 0;
    uint64_t begin_ms = tp_clock_ms();
    bool more = true;
    while (more && count < TP__HANDSHAKES_BATCH && atomic_load(&handshakes->started)) {
        void *job = tp__jobs_take_old(&handshakes->jobs, until_ms);
        more = job != NULL;
        if (job != NULL) {
            handshakes->options.run(job);
            done[count++] = job;
            more = tp_clock_ms() - begin_ms < handshakes->options.batch_ms;
        }
    }
    atomic_fetch_add(until_ms == UINT64_MAX ? &handshakes->progress : &handshakes->overdue, count);
    if (count > 0) {
        handshakes->options.deliver(done, count);
    }
    return count > 0;
}

static tp_err lower_priority(tp_handshake_priority priority) {
    switch (priority) {
    case TP_HANDSHAKE_IDLE:
        return tp_thread_go_idle();
    case TP_HANDSHAKE_LOW:
        return tp_thread_lower_priority();
    default:
        return TP_OK;
    }
}

static void apply_priority(tp__handshakes *handshakes, tp_handshake_priority priority) {
    tp_err error = lower_priority(priority);
    if (error && !atomic_exchange(&handshakes->priority_refused, true)) {
        TP_LOG(TP_LOG_INFO, "handshakes: cannot lower thread priority: %s", tp_err_text(error));
    }
    if (error && priority == TP_HANDSHAKE_IDLE) {
        (void)tp_thread_lower_priority(); /* the next best */
    }
}

static void idle_thread_run(void *argument) {
    tp__handshakes *handshakes = argument;
    apply_priority(handshakes, handshakes->options.priority);
    while (handshakes_wait(handshakes, &handshakes->idle)) {
        (void)run_batch(handshakes, UINT64_MAX);
    }
}

/* Waits for `ms`, or until stop. False: the thread must end. */
static bool reserve_pause(tp__handshakes *handshakes, unsigned ms) {
    uint64_t until_ms = tp_clock_ms() + ms;
    tp_mutex_lock(&handshakes->mutex);
    uint64_t now_ms;
    while (atomic_load(&handshakes->started) && (now_ms = tp_clock_ms()) < until_ms) {
        (void)tp_condition_wait(&handshakes->stopped, &handshakes->mutex, (int)(until_ms - now_ms));
    }
    tp_mutex_unlock(&handshakes->mutex);
    return atomic_load(&handshakes->started);
}

/* Leads for LEAD_TIMES * overdue_ms. A job that was put in while the idle threads were not woken,
 * and that is still in the queue at the end, is found by the last loop: offer reads reserve_leads
 * after it has put the job in. */
static void reserve_lead(tp__handshakes *handshakes) {
    assert(!atomic_load(&handshakes->reserve_leads)); /* only the reserve thread sets it */
    uint64_t until_ms = tp_clock_ms() + LEAD_TIMES * (uint64_t)handshakes->options.overdue_ms;
    atomic_store(&handshakes->reserve_leads, true);
    while (handshakes_wait(handshakes, &handshakes->reserve) && tp_clock_ms() < until_ms) {
        (void)run_batch(handshakes, tp_clock_ms());
    }
    atomic_store(&handshakes->reserve_leads, false);
    while (tp__jobs_any(&handshakes->jobs) && sleepers_wake_one(&handshakes->idle)) {
    }
}

static void reserve_thread_run(void *argument) {
    tp__handshakes *handshakes = argument;
    unsigned overdue_ms = handshakes->options.overdue_ms;
    apply_priority(handshakes, TP_HANDSHAKE_LOW);
    while (handshakes_wait(handshakes, &handshakes->reserve)) {
        uint64_t progress = atomic_load(&handshakes->progress);
        bool any = false;
        if (!reserve_pause(handshakes, overdue_ms / 2 + 1)) {
            return;
        }
        while (run_batch(handshakes, tp_clock_ms() - overdue_ms)) {
            any = true;
        }
        if (any && progress == atomic_load(&handshakes->progress)) {
            reserve_lead(handshakes);
        }
    }
}

bool tp__handshakes_offer(tp__handshakes *handshakes, void *job) {
    assert(job);
    atomic_fetch_add(&handshakes->offering, 1);
    bool taken =
        atomic_load(&handshakes->started) && tp__jobs_put(&handshakes->jobs, job, tp_clock_ms());
    atomic_fetch_sub(&handshakes->offering, 1);
    if (taken) {
        if (!atomic_load(&handshakes->reserve_leads)) {
            (void)sleepers_wake_one(&handshakes->idle);
        }
        (void)sleepers_wake_one(&handshakes->reserve);
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

static tp_err handshakes_start_threads(tp__handshakes *handshakes) {
    tp_err error = TP_OK;
    while (!error && handshakes->threads < handshakes->options.threads) {
        error = tp_thread_start(
            &handshakes->thread[handshakes->threads], "tp-handshake", idle_thread_run, handshakes);
        handshakes->threads += !error;
    }
    bool wanted =
        handshakes->options.priority == TP_HANDSHAKE_IDLE && handshakes->options.overdue_ms > 0;
    if (!error && wanted) {
        error = tp_thread_start(
            &handshakes->reserve_thread, "tp-hs-overdue", reserve_thread_run, handshakes);
        handshakes->has_reserve = !error;
    }
    return error;
}

tp_err tp__handshakes_start(tp__handshakes *handshakes) {
    if (handshakes->threads > 0) {
        return TP_ERR_STATE;
    }
    assert(!atomic_load(&handshakes->started) && !handshakes->has_reserve);
    atomic_store(&handshakes->started, true);
    tp_err error = handshakes_start_threads(handshakes);
    if (error) {
        tp__handshakes_stop(handshakes);
    }
    return error;
}

static void handshakes_announce_stop(tp__handshakes *handshakes) {
    tp_mutex_lock(&handshakes->mutex);
    atomic_store(&handshakes->started, false);
    tp_condition_wake_all(&handshakes->stopped);
    tp_mutex_unlock(&handshakes->mutex);
    while (atomic_load(&handshakes->offering) > 0) { /* for a few instructions of a worker */
        tp_thread_yield();
    }
    while (sleepers_wake_one(&handshakes->idle) || sleepers_wake_one(&handshakes->reserve)) {
    }
}

void tp__handshakes_stop(tp__handshakes *handshakes) {
    void *job;
    handshakes_announce_stop(handshakes);
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
    assert(tp__jobs_waiting(&handshakes->jobs) == 0);
    TP__VERIFY(tp__jobs_check(&handshakes->jobs));
}

static bool handshakes_options_valid(const tp__handshakes_options *options) {
    return options->threads >= 1 && options->threads <= TP__HANDSHAKE_THREADS_MAX &&
           options->queue >= 1 && options->queue <= UINT32_MAX / 2 && options->run != NULL &&
           options->deliver != NULL && options->drop != NULL &&
           (unsigned)options->priority <= TP_HANDSHAKE_NORMAL && options->overdue_ms <= 60000 &&
           options->batch_ms >= 1;
}

static tp_err sleepers_init(sleeper_group *group) {
    tp_err error = tp_semaphore_init(&group->wakeup);
    group->made = !error;
    return error;
}

tp_err tp__handshakes_create(const tp__handshakes_options *options, tp__handshakes **handshakes) {
    *handshakes = NULL;
    if (!handshakes_options_valid(options)) {
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
        error = sleepers_init(&made->idle);
    }
    if (!error) {
        error = sleepers_init(&made->reserve);
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
    assert(handshakes->threads == 0 && !handshakes->has_reserve);
    assert(!atomic_load(&handshakes->started));
    if (handshakes->idle.made) {
        tp_semaphore_destroy(&handshakes->idle.wakeup);
    }
    if (handshakes->reserve.made) {
        tp_semaphore_destroy(&handshakes->reserve.wakeup);
    }
    tp__jobs_destroy(&handshakes->jobs);
    tp_condition_destroy(&handshakes->stopped);
    tp_mutex_destroy(&handshakes->mutex);
    tp__free(handshakes);
}
