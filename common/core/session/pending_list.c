/*
 * The list of what is pending: taken from the send queue, in order, and not yet in a send batch.
 *
 * Runs on whoever has `pending`: the flush owner, or a pusher to whom it is open (compact.h).
 */
#include <assert.h>

#include "core/engine/server_state.h"

static void append_list(tp__session *session, tp__send_node *first, tp__send_node *last) {
    if (TP_LIKELY(session->pending != NULL)) {
        session->pending_last->next = first;
    } else {
        session->pending = first;
    }
    session->pending_last = last;
}

/* Into a queue that has an owner: no push makes one. */
static void put_back(tp__session *session, tp__send_node *node) {
    while (node) {
        tp__send_node *next = node->next;
        bool owner = tp__send_queue_push(&session->queue, node);
        assert(!owner);
        (void)owner;
        node = next;
    }
}

/*
 * The end node is the last that is ever pending. A sender that was let in before the end began
 * may push behind it. What it pushed goes back into the queue, from which nothing is taken any
 * more, and the release discards it: so nothing that walks over `pending` meets a node behind the
 * end. tests/model/finish.pml explores it.
 */
static void cut_behind_end(tp__session *session, tp__send_node *first) {
    for (tp__send_node *node = first; node; node = node->next) {
        if (node == &session->end_node) {
            put_back(session, node->next);
            node->next = NULL;
            session->pending_last = node;
            session->end_taken = true;
            return;
        }
    }
}

/* What was pushed goes behind what is pending. FINISHING is set before the end node is pushed: the
 * one who takes that node sees the flag. */
void tp__session_collect(tp__session *session) {
    if (session->end_taken || TP_LIKELY(!tp__send_queue_has_more(&session->queue))) {
        return;
    }
    tp__send_node *last;
    tp__send_node *first = tp__send_queue_take(&session->queue, &last);
    append_list(session, first, last);
    if (TP_UNLIKELY(tp__life_read(&session->life) & TP__LIFE_FINISHING)) {
        cut_behind_end(session, first);
    }
}

void tp__session_pend(tp__session *session, tp__send_node *node) {
    tp__session_collect(session);
    node->next = NULL;
    if (TP_UNLIKELY(session->end_taken)) {
        put_back(session, node);
    } else {
        append_list(session, node, node);
    }
}
