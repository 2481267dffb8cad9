/*
 * What other threads hand to a worker: a queue onto which any thread pushes, and which the worker
 * takes as a whole, onto its ready list. And the worker's sleep, which a push ends. Work for any
 * worker is in epoll_shared.c.
 *
 * Runs on any thread; falling asleep, waking up and taking the queue on the worker's. Owns nothing
 * but the thread's note of the worker whose dispatch it runs.
 *
 * The queue is one word, `posts`, with three kinds of value:
 *   NULL     no ops; the worker is awake or has been woken
 *   ASLEEP   no ops; the worker is in epoll_wait(), or may be about to call it
 *   an op    the newest of a chain of ops, linked by `next` from newer to older
 *
 * NO LOST WAKE-UP. Everything is decided by read-modify-writes of this one word. They have one
 * order on which all threads agree, whatever happens to other words. Before the worker sleeps it
 * turns NULL into ASLEEP; if it finds an op, it does not sleep. So a poster that turns ASLEEP into
 * its op is the only one to do so since the worker announced its sleep, and that poster sounds the
 * alarm. A poster that finds an op or NULL need not: another thread has woken the worker, or the
 * worker will look here before it sleeps. tp__epoll_rouse() turns ASLEEP into NULL and sounds the
 * alarm too. So there is one write to the eventfd per sleep, and none while the worker is busy.
 *
 * MEMORY ORDER. A push is a release and the take is an acquire of the same word. A push on top of
 * other ops is a read-modify-write, which continues the release sequence of the pushes below it. So
 * the one acquire sees what all the posters wrote.
 *
 * NO ABA. The only pop takes the whole chain by an exchange. If a pusher's compare-and-exchange
 * succeeds with a top that was removed and has come back at the same address, the new op links to
 * exactly that op, which is on top again.
 *
 * The eventfd is registered edge-triggered and never read. Each write is a new edge, and with one
 * write per sleep its 64-bit count does not overflow.
 */
#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "os/chain.h"
#include "os/linux/epoll_port.h"

static epoll_op asleep_mark;
#define ASLEEP (&asleep_mark)

static TP_THREAD_LOCAL epoll_worker *current;

epoll_worker *tp__epoll_current(void) {
    return current;
}

void tp__epoll_set_current(epoll_worker *worker) {
    current = worker;
}

void tp__epoll_sound_alarm(epoll_worker *worker) {
    const uint64_t one = 1;
    ssize_t written;
    do {
        written = write(worker->alarm, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
    /* It can fail only with the count near 2^64, and then an edge is pending anyway. */
    assert(written == (ssize_t)sizeof one);
}

void tp__epoll_hand_over(epoll_worker *worker, epoll_op *op) {
    epoll_op *top = atomic_load_explicit(&worker->posts, memory_order_relaxed);
    do {
        op->next = top == ASLEEP ? NULL : top;
    } while (!atomic_compare_exchange_weak_explicit(
        &worker->posts, &top, op, memory_order_release, memory_order_relaxed));
    if (top == ASLEEP) {
        tp__epoll_sound_alarm(worker);
    }
}

bool tp__epoll_has_posts(epoll_worker *worker) {
    const epoll_op *top = atomic_load_explicit(&worker->posts, memory_order_relaxed);
    return top != NULL && top != ASLEEP;
}

bool tp__epoll_fall_asleep(epoll_worker *worker) {
    /* No op is read here, so for the posts the word's own order is enough. Sequentially consistent
     * for the shared work: see epoll_shared.c. */
    epoll_op *top = NULL;
    return atomic_compare_exchange_strong(&worker->posts, &top, ASLEEP) || top == ASLEEP;
}

void tp__epoll_awake(epoll_worker *worker) {
    epoll_op *top = atomic_load_explicit(&worker->posts, memory_order_relaxed);
    if (top == ASLEEP) {
        /* If it fails, another thread has woken the worker. */
        (void)atomic_compare_exchange_strong_explicit(
            &worker->posts, &top, NULL, memory_order_relaxed, memory_order_relaxed);
    }
    if (TP_UNLIKELY(atomic_load_explicit(&worker->unresponsive, memory_order_relaxed))) {
        atomic_store_explicit(&worker->unresponsive, false, memory_order_relaxed);
    }
}

bool tp__epoll_is_asleep(epoll_worker *worker) {
    return atomic_load(&worker->posts) == ASLEEP;
}

bool tp__epoll_rouse(epoll_worker *worker) {
    epoll_op *top = ASLEEP;
    if (!atomic_compare_exchange_strong(&worker->posts, &top, NULL)) {
        return false;
    }
    tp__epoll_sound_alarm(worker);
    return true;
}

void tp__epoll_take_posts(epoll_worker *worker) {
    if (atomic_load_explicit(&worker->posts, memory_order_relaxed) == NULL) {
        return;
    }
    epoll_op *newest = atomic_exchange_explicit(&worker->posts, NULL, memory_order_acquire);
    if (newest == ASLEEP) {
        return;
    }
    /* Oldest first, so that the posts of one thread keep their order. */
    epoll_op *oldest = tp__chain_reverse(newest, offsetof(epoll_op, next));
    while (oldest != NULL) {
        epoll_op *next = oldest->next;
        epoll_list_push(&worker->ready, oldest);
        oldest = next;
    }
}
