/*
 * The handshake threads. The queue is a ring under the mutex; I/O workers put in, the threads take out.
 *
 * Exactly once: a job is in the ring from offer until one holder of the mutex takes it out, a thread while
 * `started`, the stopping one when `started` is false. After that nothing comes in, so what stop takes out
 * is all there was.
 *
 * A thread of low priority may lose the processor while it holds the mutex. It holds it for some ten
 * instructions in a handshake's hundred microseconds, and a worker that then waits leaves it a processor.
 */
#include "wanserver/handshakes.h"

#include "core/memory.h"
#include "os/thread.h"
#include "twinport/log.h"

struct tp__handshakes {
    tp__handshakes_options options;
    tp_mutex mutex;
    tp_condition work;
    bool started;      /* under the mutex, like all that follows but the last two */
    unsigned sleeping; /* threads that wait for work */
    unsigned first;    /* of the ring, the next to be taken */
    unsigned waiting;  /* jobs in the ring */
    void **ring;       /* options.queue places */
    unsigned threads;  /* that are to be joined; starter's and stopper's alone */
    tp_thread thread[TP__HANDSHAKE_THREADS_MAX];
};

/* With the mutex, and with waiting > 0. */
static void *take_first(tp__handshakes *handshakes) {
    void *job = handshakes->ring[handshakes->first];
    handshakes->first = (handshakes->first + 1) % handshakes->options.queue;
    handshakes->waiting--;
    return job;
}

/* With the mutex. False: it is time to end. */
static bool wait_for_work(tp__handshakes *handshakes) {
    while (handshakes->started && handshakes->waiting == 0) {
        handshakes->sleeping++;
        (void)tp_condition_wait(&handshakes->work, &handshakes->mutex, -1);
        handshakes->sleeping--;
    }
    return handshakes->started;
}

/* With the mutex, which it gives up meanwhile; and with waiting > 0. */
static void run_some(tp__handshakes *handshakes) {
    void *done[TP__HANDSHAKES_TOGETHER];
    unsigned count = 0;
    do {
        void *job = take_first(handshakes);
        tp_mutex_unlock(&handshakes->mutex);
        handshakes->options.run(job);
        done[count++] = job;
        tp_mutex_lock(&handshakes->mutex);
    } while (handshakes->waiting > 0 && handshakes->started && count < TP__HANDSHAKES_TOGETHER);
    tp_mutex_unlock(&handshakes->mutex);
    handshakes->options.deliver(done, count);
    tp_mutex_lock(&handshakes->mutex);
}

static void run_jobs(void *argument) {
    tp__handshakes *handshakes = argument;
    tp_err error = tp_thread_lower_priority();
    if (error) {
        TP_LOG(TP_LOG_WARNING, "handshakes: no lower priority: %s", tp_err_text(error));
    }
    tp_mutex_lock(&handshakes->mutex);
    while (wait_for_work(handshakes)) {
        run_some(handshakes);
    }
    tp_mutex_unlock(&handshakes->mutex);
}

bool tp__handshakes_offer(tp__handshakes *handshakes, void *job) {
    tp_mutex_lock(&handshakes->mutex);
    bool taken = handshakes->started && handshakes->waiting < handshakes->options.queue;
    if (taken) {
        unsigned place = (handshakes->first + handshakes->waiting) % handshakes->options.queue;
        handshakes->ring[place] = job;
        handshakes->waiting++;
    }
    bool wake = taken && handshakes->sleeping > 0;
    tp_mutex_unlock(&handshakes->mutex);
    if (wake) {
        tp_condition_wake_one(&handshakes->work);
    }
    return taken;
}

unsigned tp__handshakes_waiting(tp__handshakes *handshakes) {
    tp_mutex_lock(&handshakes->mutex);
    unsigned waiting = handshakes->waiting;
    tp_mutex_unlock(&handshakes->mutex);
    return waiting;
}

/* ---- life ------------------------------------------------------------------------------------- */

static void set_started(tp__handshakes *handshakes, bool started) {
    tp_mutex_lock(&handshakes->mutex);
    handshakes->started = started;
    tp_mutex_unlock(&handshakes->mutex);
}

static void drop_waiting(tp__handshakes *handshakes) {
    tp_mutex_lock(&handshakes->mutex);
    while (handshakes->waiting > 0) {
        void *job = take_first(handshakes);
        tp_mutex_unlock(&handshakes->mutex);
        handshakes->options.drop(job);
        tp_mutex_lock(&handshakes->mutex);
    }
    tp_mutex_unlock(&handshakes->mutex);
}

tp_err tp__handshakes_start(tp__handshakes *handshakes) {
    if (handshakes->threads > 0) {
        return TP_ERR_STATE;
    }
    set_started(handshakes, true);
    while (handshakes->threads < handshakes->options.threads) {
        tp_err error = tp_thread_start(
            &handshakes->thread[handshakes->threads], "tp-handshake", run_jobs, handshakes);
        if (error) {
            tp__handshakes_stop(handshakes);
            return error;
        }
        handshakes->threads++;
    }
    return TP_OK;
}

void tp__handshakes_stop(tp__handshakes *handshakes) {
    set_started(handshakes, false);
    tp_condition_wake_all(&handshakes->work);
    drop_waiting(handshakes);
    while (handshakes->threads > 0) {
        tp_thread_join(&handshakes->thread[--handshakes->threads]);
    }
}

tp_err tp__handshakes_create(const tp__handshakes_options *options, tp__handshakes **handshakes) {
    *handshakes = NULL;
    if (options->threads < 1 || options->threads > TP__HANDSHAKE_THREADS_MAX ||
        options->queue < 1 || options->queue > UINT32_MAX / 2 || options->run == NULL ||
        options->deliver == NULL || options->drop == NULL) {
        return TP_ERR_INVALID;
    }
    tp__handshakes *made = tp__allocate_zeroed(1, sizeof *made);
    void **ring = tp__allocate_zeroed(options->queue, sizeof *ring);
    if (made == NULL || ring == NULL) {
        tp__free(ring);
        tp__free(made);
        return TP_ERR_NO_MEMORY;
    }
    made->options = *options;
    made->ring = ring;
    tp_mutex_init(&made->mutex);
    tp_condition_init(&made->work);
    *handshakes = made;
    return TP_OK;
}

void tp__handshakes_destroy(tp__handshakes *handshakes) {
    if (handshakes != NULL) {
        tp_condition_destroy(&handshakes->work);
        tp_mutex_destroy(&handshakes->mutex);
        tp__free(handshakes->ring);
        tp__free(handshakes);
    }
}
