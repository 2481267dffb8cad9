/*
 * Enforces memory_limit: while the process holds more memory, sessions are ended, the one with the
 * largest queue first.
 *
 * Runs on workers, between two batches, one at a time: `budget_busy` hands the budget's fields from
 * one to the next, by acquire and release. After a session has been ended, nothing more is done
 * until it has been released and its memory is back, or until RELEASE_WAIT_MS have passed:
 * otherwise many would be ended for what one holds. Sessions are compared without a reference,
 * which only decides which one is examined; a reference is taken before it is ended.
 */
#include "core/server/budget.h"

#include <inttypes.h>

#include "core/server/trim.h"
#include "twinport/log.h"

#define CHECK_MS        10u /* between two checks, while too much is held */
#define RELEASE_WAIT_MS 2000u

/* A session with a smaller queue is not ended: its memory would make no difference. */
#define QUEUE_MIN ((uint64_t)64 << 10)

static uint64_t queued_bytes(const tp__session *session) {
    return tp__queue_size_now(&session->queued) & TP__QUEUED_BYTES;
}

static bool session_can_end(uint64_t life) {
    return (life & TP__LIFE_NUMBER) != 0 &&
           !(life & (TP__LIFE_OPENING | TP__LIFE_CLOSING | TP__LIFE_RELEASED));
}

/* The session with the most bytes in its queue; TP_NO_SESSION if none has QUEUE_MIN. */
static tp_session_id budget_find_largest(const tp_server *server) {
    uint32_t used = atomic_load_explicit(&server->slots.used, memory_order_acquire);
    uint64_t most = QUEUE_MIN - 1;
    tp_session_id found = TP_NO_SESSION;
    for (uint32_t index = 0; index < used; index++) {
        const tp__session *session = &server->sessions[index];
        uint64_t bytes = queued_bytes(session);
        uint64_t life = tp__life_read(&session->life);
        if (bytes > most && session_can_end(life)) {
            most = bytes;
            found = (life & TP__LIFE_NUMBER) | index;
        }
    }
    return found;
}

/* A session that is being ended after what is queued keeps its own reason. */
static void budget_end_session(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    uint64_t bytes = queued_bytes(session);
    if (!tp__session_close(session, TP_END_OVERLOAD, 0)) {
        return;
    }
    char peer[TP_ADDRESS_TEXT];
    TP__COUNT(server, worker, memory_ended, 1);
    TP_LOG(TP_LOG_WARNING,
        "%s: ended %s, with %" PRIu64 " bytes in the largest queue: %" PRIu64
        " bytes of memory are held, memory_limit is %" PRIu64,
        server->name, tp_address_format(&session->peer, peer), bytes, tp__memory_held(),
        server->options.memory_limit);
}

static void budget_end_largest(tp_server *server, tp__worker *worker, uint64_t now_ms) {
    tp_session_id id = budget_find_largest(server);
    tp__session *session =
        id != TP_NO_SESSION ? tp__session_enter(server, id, TP__LIFE_CLOSING) : NULL;
    if (!session) {
        TP_LOG(TP_LOG_WARNING,
            "%s: ended no session, none has 64 KiB in its queue: %" PRIu64
            " bytes of memory are held, memory_limit is %" PRIu64,
            server->name, tp__memory_held(), server->options.memory_limit);
        server->budget_due_ms = now_ms + RELEASE_WAIT_MS;
        return;
    }
    budget_end_session(session, worker);
    server->budget_ended = id;
    server->budget_until_ms = now_ms + RELEASE_WAIT_MS;
    tp__session_leave(session, TP__REFERENCE_CALL);
}

/* Has the session that was ended last not been released yet? */
static bool budget_awaits_release(const tp_server *server, uint64_t now_ms) {
    tp_session_id id = server->budget_ended;
    if (id == TP_NO_SESSION || now_ms >= server->budget_until_ms) {
        return false;
    }
    assert(tp_session_slot(id) < server->slots.count);
    uint64_t life = tp__life_read(&server->sessions[tp_session_slot(id)].life);
    return ((life ^ id) & TP__LIFE_NUMBER) == 0 && !(life & TP__LIFE_RELEASED);
}

static void budget_check(tp_server *server, tp__worker *worker, uint64_t now_ms) {
    assert(atomic_load(&server->budget_busy));
    server->budget_due_ms = now_ms + CHECK_MS;
    if (budget_awaits_release(server, now_ms)) {
        return;
    }
    (void)tp__trim_all();
    if (tp__memory_held() > server->options.memory_limit) {
        budget_end_largest(server, worker, now_ms);
    }
}

void tp__budget_enforce(tp__worker *worker) {
    TP_ASSERT_ON_WORKER(worker);
    tp_server *server = worker->server;
    uint64_t now_ms = tp__worker_now_ms(worker);
    if (atomic_exchange_explicit(&server->budget_busy, true, memory_order_acquire)) {
        return;
    }
    if (now_ms >= server->budget_due_ms) {
        budget_check(server, worker, now_ms);
    }
    atomic_store_explicit(&server->budget_busy, false, memory_order_release);
}
