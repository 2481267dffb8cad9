/*
 * More memory than is allowed: sessions are ended, the one with the largest queue first.
 *
 * Runs on workers, between two batches, one at a time (`budget_busy`; what belongs to it is handed
 * from one to the next by that flag, acquire and release). One session is ended, and then nothing
 * more is done until it has been released and what it had is back, or PATIENCE_MS have passed: else
 * many would be ended for what one holds. What is read of a session that is not held decides only
 * which one is looked at; it is held before it is ended.
 */
#include "core/server/budget.h"

#include <inttypes.h>

#include "core/server/trim.h"
#include "twinport/log.h"

#define LOOK_MS     10u /* between two looks, while there is too much */
#define PATIENCE_MS 2000u

/* A queue below this is not what the memory is needed for: its session's end would bring nothing
 * back, and the next one's neither. */
#define MATTERS ((uint64_t)64 << 10)

static uint64_t queued_bytes(const tp__session *session) {
    return tp__queue_size_now(&session->queued) & TP__QUEUED_BYTES;
}

static bool can_be_ended(uint64_t life) {
    return (life & TP__LIFE_NUMBER) != 0 &&
           !(life & (TP__LIFE_OPENING | TP__LIFE_CLOSING | TP__LIFE_RELEASED));
}

/* The session with the most bytes in its queue; 0 if nobody has as many as matter. */
static tp_session_id find_largest(const tp_server *server) {
    uint32_t used = atomic_load_explicit(&server->slots.used, memory_order_acquire);
    uint64_t most = MATTERS - 1;
    tp_session_id found = TP_NO_SESSION;
    for (uint32_t index = 0; index < used; index++) {
        const tp__session *session = &server->sessions[index];
        uint64_t bytes = queued_bytes(session);
        uint64_t life = tp__life_read(&session->life);
        if (bytes > most && can_be_ended(life)) {
            most = bytes;
            found = (life & TP__LIFE_NUMBER) | index;
        }
    }
    return found;
}

/* One that is being ended after what waits keeps its own reason. */
static void end(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    uint64_t bytes = queued_bytes(session);
    if (!tp__session_close(session, TP_END_OVERLOAD, 0)) {
        return;
    }
    char peer[TP_ADDRESS_TEXT];
    TP__COUNT(server, worker, memory_ended, 1);
    TP_LOG(TP_LOG_WARNING,
        "%s: memory_limit is %" PRIu64 " and %" PRIu64 " bytes are held: %s, with %" PRIu64
        " bytes in the largest queue, is ended (overload)",
        server->name, server->options.memory_limit, tp__memory_held(),
        tp_address_format(&session->peer, peer), bytes);
}

static void end_largest(tp_server *server, tp__worker *worker, uint64_t now_ms) {
    tp_session_id id = find_largest(server);
    tp__session *session =
        id != TP_NO_SESSION ? tp__session_enter(server, id, TP__LIFE_CLOSING) : NULL;
    if (!session) {
        TP_LOG(TP_LOG_WARNING,
            "%s: memory_limit is %" PRIu64 " and %" PRIu64 " bytes are held, but no session has "
            "64 KiB in its queue",
            server->name, server->options.memory_limit, tp__memory_held());
        server->budget_due_ms = now_ms + PATIENCE_MS;
        return;
    }
    end(session, worker);
    server->budget_ended = id;
    server->budget_until_ms = now_ms + PATIENCE_MS;
    tp__session_leave(session);
}

/* The one that was ended last has not been released yet. */
static bool is_to_be_waited_for(const tp_server *server, uint64_t now_ms) {
    tp_session_id id = server->budget_ended;
    if (id == TP_NO_SESSION || now_ms >= server->budget_until_ms) {
        return false;
    }
    uint64_t life = tp__life_read(&server->sessions[tp_session_slot(id)].life);
    return ((life ^ id) & TP__LIFE_NUMBER) == 0 && !(life & TP__LIFE_RELEASED);
}

static void look(tp_server *server, tp__worker *worker, uint64_t now_ms) {
    server->budget_due_ms = now_ms + LOOK_MS;
    if (is_to_be_waited_for(server, now_ms)) {
        return;
    }
    (void)tp__trim_all();
    if (tp__memory_held() > server->options.memory_limit) {
        end_largest(server, worker, now_ms);
    }
}

void tp__budget_enforce(tp__worker *worker) {
    tp_server *server = worker->server;
    uint64_t now_ms = tp__worker_now_ms(worker);
    if (atomic_exchange_explicit(&server->budget_busy, true, memory_order_acquire)) {
        return;
    }
    if (now_ms >= server->budget_due_ms) {
        look(server, worker, now_ms);
    }
    atomic_store_explicit(&server->budget_busy, false, memory_order_release);
}
