/*
 * The backlog: a session's packets that were taken from the send queue, in order, and are not yet
 * in a send batch.
 *
 * Runs on the thread that has the backlog: the flusher, or a pusher that has taken it while it is
 * open (compact.h).
 */
#include <assert.h>

#include "core/engine/server_state.h"
#include "core/session/compact.h"

static void backlog_append_list(tp__session *session, tp__send_node *first, tp__send_node *last) {
    assert(first && last && !last->next && !session->end_taken);
    if (TP_LIKELY(session->backlog != NULL)) {
        session->backlog_last->next = first;
    } else {
        session->backlog = first;
    }
    session->backlog_last = last;
}

/* Pushes the nodes back into the queue. There is a flusher, so no push makes one. */
static void backlog_requeue(tp__session *session, tp__send_node *node) {
    while (node) {
        tp__send_node *next = node->next;
        bool flusher = tp__send_queue_push(&session->queue, node);
        assert(!flusher);
        (void)flusher;
        node = next;
    }
}

/*
 * The end node is the last node of the backlog. A sender that was admitted before the end began may
 * push behind it. What it pushed goes back into the queue, from which nothing more is taken, and
 * the release discards it. So a walk over the backlog never meets a node behind the end node.
 * tests/model/finish.pml explores this.
 */
static void backlog_cut_behind_end(tp__session *session, tp__send_node *first) {
    for (tp__send_node *node = first; node; node = node->next) {
        if (node == &session->end_node) {
            backlog_requeue(session, node->next);
            assert(!session->end_taken);
            node->next = NULL;
            session->backlog_last = node;
            session->end_taken = true;
            return;
        }
    }
}

/* FINISHING is set before the end node is pushed, so the thread that takes that node sees the
 * flag. */
void tp__session_collect(tp__session *session) {
    if (session->end_taken || TP_LIKELY(!tp__send_queue_has_more(&session->queue))) {
        return;
    }
    assert(tp__backlog_is_had(session));
    tp__send_node *last;
    tp__send_node *first = tp__send_queue_take(&session->queue, &last);
    backlog_append_list(session, first, last);
    if (TP_UNLIKELY(tp__life_read(&session->life) & TP__LIFE_FINISHING)) {
        backlog_cut_behind_end(session, first);
    }
}

void tp__session_append_backlog(tp__session *session, tp__send_node *node) {
    tp__session_collect(session);
    node->next = NULL;
    if (TP_UNLIKELY(session->end_taken)) {
        backlog_requeue(session, node);
    } else {
        backlog_append_list(session, node, node);
    }
}
