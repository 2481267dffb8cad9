/*
 * What other threads want of one worker: a queue that any thread pushes to and the worker takes
 * whole. What any worker may do is in epoll_shared.c.
 *
 * `posts` is one word with three kinds of value:
 *   NULL     nothing is there, and the worker is awake or has been woken;
 *   ASLEEP   nothing is there, and the worker is in epoll_wait() or may be on its way into it;
 *   an op    the newest of a chain of ops, linked by `next` from newer to older.
 *
 * NO LOST WAKE-UP. All that is decided, is decided by read-modify-writes of this one word, and
 * those have one order that all threads agree on, whatever happens to other words. Before it sleeps
 * the worker turns NULL into ASLEEP, and does not sleep if it finds an op. A poster that turns
 * ASLEEP into its op is therefore the only one to do so since the worker announced its sleep, and
 * it sounds the alarm; posters that find an op or NULL know that somebody else has, or that the
 * worker will look here before it sleeps. Who rouses it turns ASLEEP into NULL, and sounds the
 * alarm too. So there is one write to the eventfd per sleep, and none at a busy worker.
 *
 * THE OPS' CONTENTS. A push is a release and the take an acquire of the same word. A push on top of
 * other ops is a read-modify-write, which continues the release sequence of those below it, so the
 * one acquire sees what all the posters wrote.
 *
 * NO ABA. The only pop takes the whole chain by exchange; a pusher's compare of a stale top that
 * has come back under the same address still links to exactly that op, which is then really on top.
 *
 * The eventfd is registered edge-triggered and never read: each write is a new edge, and at one
 * write per sleep its 64-bit count does not fill.
 */
#include <assert.h>
#include <errno.h>
#include <unistd.h>

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
    /* It could only be refused with the count near 2^64; the edge would be pending then anyway. */
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
    /* Nothing is read through the word here, and its own order is all that counts for the posts.
     * Sequentially consistent for the sake of what is shared: see epoll_shared.c. */
    epoll_op *top = NULL;
    return atomic_compare_exchange_strong(&worker->posts, &top, ASLEEP) || top == ASLEEP;
}

void tp__epoll_awake(epoll_worker *worker) {
    epoll_op *top = atomic_load_explicit(&worker->posts, memory_order_relaxed);
    if (top == ASLEEP) {
        /* If it fails, a poster has woken it. */
        (void)atomic_compare_exchange_strong_explicit(
            &worker->posts, &top, NULL, memory_order_relaxed, memory_order_relaxed);
    }
    if (TP_UNLIKELY(atomic_load_explicit(&worker->late, memory_order_relaxed))) {
        atomic_store_explicit(&worker->late, false, memory_order_relaxed);
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
    epoll_op *oldest = NULL;
    while (newest != NULL) {
        epoll_op *older = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = older;
    }
    while (oldest != NULL) {
        epoll_op *next = oldest->next;
        epoll_list_push(&worker->ready, oldest);
        oldest = next;
    }
}

/*
 * A socket's worker runs its posts; its name stays in the socket after the close, as `binds`
 * promises. What names no socket, or one that was never attached, is shared: the callee of this
 * very call may block next, so not even this thread's worker keeps it for itself.
 *
 * Within its own dispatch a worker's posts go straight to its ready list. Their order against this
 * thread's earlier posts from outside of dispatch holds too: dispatch takes the queue first.
 */
tp_err tp__epoll_post(tp_port *port, tp_socket *tp_named, tp_op *tp) {
    epoll_op *op = (epoll_op *)tp;
    const epoll_socket *named = (const epoll_socket *)tp_named;
    epoll_worker *worker = named != NULL ? named->worker : NULL;
    op->socket = NULL;
    op->sent = 0;
    op->os_error = 0;
    op->error = TP_OK;
    op->kind = OP_RESULT;
    if (worker == NULL) {
        tp__epoll_share(epoll_port_of(port), op);
    } else if (worker == current) {
        epoll_list_push(&worker->ready, op);
    } else {
        tp__epoll_hand_over(worker, op);
    }
    return TP_OK;
}
