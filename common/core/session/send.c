/*
 * Into a session's send queue.
 *
 * Any thread that holds the session; no lock, one allocation of a node from this thread's magazine.
 * What is queued and not yet with the system is counted before it is pushed, so that the limits
 * hold whoever pushes at once, but for the packet that each thread lets in at the very moment when
 * another does: a queue holds at most its limits and those, or one packet that is larger; with
 * TP_QUEUE_DISCONNECT TP_QUEUE_STALL_FACTOR times the limits while we are what it waits for.
 */
#include "core/engine/server_state.h"
#include "core/memory/block.h"
#include "core/packet/packet_internal.h"
#include "core/session/compact.h"
#include "core/session/pools.h"
#include "proto/frame.h"

#define TRIES 8u /* to make room in a full queue, in one call */

/* So many packets behind, the session's worker is held up: what waits for it is copied, so that
 * none of them holds a chunk of 64 KiB. (What waits for its peer is seen to by compact.c.) */
#define FAR_BEHIND 1024u

/* `times` the limits. */
static bool within_limits(const tp_server_options *options, uint64_t times, uint64_t queued) {
    return (queued & TP__QUEUED_BYTES) <= times * options->queue_bytes &&
           (queued >> TP__QUEUED_SHIFT) <= times * options->queue_packets;
}

/*
 * Counts `amount`, one packet, as queued. Returns what is queued then; 0: it is one too many, and
 * nothing has changed.
 *
 * A packet that is larger than the whole limit is let into an empty queue: it could never be sent
 * otherwise, however long its sender waited. It is not added before that is known, so two threads
 * that try again and again with such packets do not keep each other out.
 */
static uint64_t count_in(tp__session *session, uint64_t times, uint64_t amount) {
    const tp_server_options *options = &session->server->options;
    if (TP_UNLIKELY((amount & TP__QUEUED_BYTES) > times * options->queue_bytes)) {
        return tp__queue_size_add_to_none(&session->queued, amount) ? amount : 0;
    }
    uint64_t queued = tp__queue_size_add(&session->queued, amount);
    if (TP_UNLIKELY(!within_limits(options, times, queued)) &&
        !within_limits(options, times, tp__queue_size_surely(&session->queued))) {
        tp__queue_size_take_off(&session->queued, amount);
        return 0;
    }
    return queued;
}

/*
 * The same at home, which looks before it adds: only home writes its half. What others add at this
 * very moment it may not see, nor they this: then the queue is over its limit by what both add.
 */
static uint64_t count_in_at_home(tp__session *session, uint64_t times, uint64_t amount) {
    const tp_server_options *options = &session->server->options;
    uint64_t queued = tp__queue_size_now(&session->queued) + amount;
    if (TP_UNLIKELY(!within_limits(options, times, queued)) && queued != amount) {
        return 0;
    }
    tp__queue_size_add_own(&session->queued, amount);
    return queued;
}

static inline uint64_t count_in_from(
    tp__session *session, bool home, uint64_t times, uint64_t amount) {
    return home ? count_in_at_home(session, times, amount) : count_in(session, times, amount);
}

/* Nobody is ended for what we have not sent: meanwhile the queue may hold more. */
static bool may_grow(const tp__session *session) {
    return session->server->options.queue_policy == TP_QUEUE_DISCONNECT &&
           tp__session_waits_for_us(session);
}

TP_NOINLINE static tp__queued over_limit(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    switch (server->options.queue_policy) {
    case TP_QUEUE_DROP:
        TP__COUNT(server, worker, dropped, 1);
        return TP__QUEUE_DROPPED;
    case TP_QUEUE_DISCONNECT:
        if (!may_grow(session)) {
            tp__session_close(session, TP_END_OVERLOAD, 0);
        }
        break;
    case TP_QUEUE_REFUSE:
        break;
    }
    TP__COUNT(server, worker, refused, 1);
    return TP__QUEUE_REFUSED;
}

/* The queue is full. Makes room, as often as something of it goes out, but not for ever: another
 * thread may fill it as fast. Then, if we are what it waits for, the queue may hold more. */
TP_NOINLINE static uint64_t let_into_full(
    tp__session *session, tp__worker *worker, bool home, uint64_t amount) {
    uint64_t times = 1;
    unsigned tries = 0;
    uint64_t queued;
    do {
        if (!(worker && ++tries <= TRIES && tp__session_make_room(session, worker))) {
            if (times > 1 || !may_grow(session)) {
                return 0;
            }
            times = TP_QUEUE_STALL_FACTOR;
        }
        queued = count_in_from(session, home, times, amount);
    } while (queued == 0);
    return queued;
}

/* Counts the packet in, at home or from elsewhere. Returns what is queued then; 0: it is not let
 * in. */
static inline uint64_t let_in(
    tp__session *session, tp__worker *worker, bool home, uint64_t amount) {
    uint64_t queued = count_in_from(session, home, 1, amount);
    return TP_LIKELY(queued > 0) ? queued : let_into_full(session, worker, home, amount);
}

/* A reference of the queue's own, to the packet or to a copy of it. */
static tp_packet *take(tp_packet *packet, uint64_t queued) {
    bool behind = (queued >> TP__QUEUED_SHIFT) > FAR_BEHIND;
    tp_packet *copy = TP_UNLIKELY(behind) && packet->chunk && packet->sealed
                          ? tp__packet_kept_copy(packet)
                          : NULL;
    return copy ? copy : tp__packet_retain(packet);
}

/* `local`: the calling thread's record. */
static inline tp__send_node *new_node(tp__session *session, tp__worker *worker, tp__local *local) {
    tp__send_node *node = tp__pool_allocate_on(local, tp__node_pool());
    if (TP_UNLIKELY(!node)) {
        TP__COUNT(session->server, worker, no_memory, 1);
    }
    return node;
}

/*
 * Home needs no atomic step for a packet while it has the flush owner's role. Order: what was
 * pushed before is collected first. That is what home itself pushed while the role was on its way
 * to it, and what others pushed of which home knows, by a mutex or a message: a push that happened
 * before is seen by the relaxed look at the queue. The role leaves home only with nothing pending
 * (go_on in flush.c). tests/model/home.pml explores it.
 */
static void append(tp__session *session, tp__worker *home, tp__send_node *node) {
    if (TP_UNLIKELY(!session->owned_at_home)) {
        if (!tp__send_queue_seize(&session->queue)) {
            /* Somebody else's push has made a flush set out for here. Until it arrives nobody but
             * home could make the queue idle, so this push cannot make an owner. */
            tp__send_queue_push(&session->queue, node);
            return;
        }
        tp__life_hold(&session->life);
        session->owned_at_home = true;
        tp__session_await_flush(session, home);
    }
    if (!tp__pending_is_owned(session)) {
        tp__send_queue_push(&session->queue, node); /* there is an owner, whose send waits */
        tp__compact(session);
        return;
    }
    tp__session_pend(session, node);
}

tp__queued tp__session_queue_at_home(tp__session *session, tp__worker *home, tp_packet *packet) {
    uint64_t amount = TP__QUEUED_ONE | tp__packet_frame_size(packet);
    uint64_t queued = let_in(session, home, true, amount);
    if (TP_UNLIKELY(queued == 0)) {
        return over_limit(session, home);
    }
    tp__send_node *node = new_node(session, home, home->local);
    if (TP_UNLIKELY(!node)) {
        tp__queue_size_add_own(&session->queued, UINT64_C(0) - amount);
        return TP__QUEUE_REFUSED;
    }
    node->packet = tp__packet_retain(packet);
    append(session, home, node);
    if (TP_UNLIKELY(tp__passes_one_send(session->server, queued))) {
        tp__session_send_now(session, home);
    }
    return TP__QUEUED;
}

/* By a thread that is not the session's home. True: its push has made it the flush owner. */
static tp__queued queue_from_elsewhere(
    tp__session *session, tp__worker *worker, tp_packet *packet, bool *owner) {
    uint64_t amount = TP__QUEUED_ONE | tp__packet_frame_size(packet);
    uint64_t queued = let_in(session, worker, false, amount);
    if (TP_UNLIKELY(queued == 0)) {
        return over_limit(session, worker);
    }
    tp__send_node *node = new_node(session, worker, tp__local_get());
    if (TP_UNLIKELY(!node)) {
        tp__queue_size_take_off(&session->queued, amount);
        return TP__QUEUE_REFUSED;
    }
    node->packet = take(packet, queued);
    *owner = tp__send_queue_push(&session->queue, node);
    if (*owner) {
        return TP__QUEUED;
    }
    if (TP_UNLIKELY(tp__passes_one_send(session->server, queued)) && worker) {
        tp__session_send_now(session, worker);
    }
    tp__compact(session);
    return TP__QUEUED;
}

/*
 * The hold: if the push makes the caller the flush owner, it goes over to the flush; else it is
 * given back here.
 */
tp__queued tp__session_queue(tp__session *session, tp_packet *packet) {
    tp__worker *worker = tp__worker_here(session->server);
    if (tp__session_is_at_home(session, worker)) {
        tp__queued verdict = tp__session_queue_at_home(session, worker, packet);
        tp__session_leave(session);
        return verdict;
    }
    bool owner = false;
    tp__queued verdict = queue_from_elsewhere(session, worker, packet, &owner);
    if (owner) {
        tp__session_flush(session);
        return verdict;
    }
    tp__session_leave(session);
    return verdict;
}

void tp__session_control(
    tp__session *session, uint8_t frame_type, const void *payload, size_t size) {
    tp_packet *packet = tp_packet_copy_of(payload, size);
    if (!packet) {
        TP__COUNT(session->server, tp__worker_here(session->server), no_memory, 1);
        return; /* the peer's silence limit tells, if this was needed */
    }
    tp__packet_seal(packet, frame_type);
    tp__life_hold(&session->life);
    tp__session_queue(session, packet);
    tp_packet_release(packet);
}

/* ---- the public calls ------------------------------------------------------------------------ */

#define BARRED_FROM_SENDING (TP__LIFE_OPENING | TP__LIFE_ENDING)

static bool sendable(const tp_packet *packet) {
    return tp_packet_error(packet) == TP_OK && tp_packet_size(packet) <= TP_PACKET_MAX;
}

/*
 * The session with this id if the calling worker is its home; else NULL, which says nothing about
 * the id.
 *
 * Needs no hold: `home` is this worker only between a join and a release that both run on this very
 * thread, so if it is seen here, the session cannot be released before the caller has returned to
 * the worker's loop, and its number cannot change. Anybody may begin to end it meanwhile, just as
 * if it were held.
 */
static tp__session *find_at_home(const tp_server *server, tp_session_id id, tp__worker *worker) {
    uint32_t index = (uint32_t)id & (TP_MAX_SESSIONS - 1);
    if (index >= server->slots.count || !tp__session_is_at_home(&server->sessions[index], worker)) {
        return NULL;
    }
    return &server->sessions[index];
}

static tp__queued no_session(tp_server *server, tp__worker *worker) {
    TP__COUNT(server, worker, no_session, 1);
    return TP__QUEUE_REFUSED;
}

TP_NOINLINE static tp__queued send_from_elsewhere(
    tp_server *server, tp__worker *worker, tp_session_id id, tp_packet *packet) {
    tp__session *session = tp__session_enter(server, id, BARRED_FROM_SENDING);
    return session ? tp__session_queue(session, packet) : no_session(server, worker);
}

static inline tp__queued send_sealed(tp_server *server, tp_session_id id, tp_packet *packet) {
    tp__worker *worker = tp__worker_here(server);
    tp__session *session = find_at_home(server, id, worker);
    if (!session) {
        return send_from_elsewhere(server, worker, id, packet);
    }
    uint64_t life = tp__life_read(&session->life);
    if (TP_LIKELY(((life ^ id) & TP__LIFE_NUMBER) == 0 && !(life & BARRED_FROM_SENDING))) {
        return tp__session_queue_at_home(session, worker, packet);
    }
    return no_session(server, worker);
}

bool tp_server_send(tp_server *server, tp_session_id session, tp_packet *packet) {
    if (!sendable(packet)) {
        return false;
    }
    tp__packet_seal(packet, TP_FRAME_DATA);
    return send_sealed(server, session, packet) != TP__QUEUE_REFUSED;
}

size_t tp_server_send_many(
    tp_server *server, const tp_session_id *sessions, size_t count, tp_packet *packet) {
    if (!sendable(packet)) {
        return 0;
    }
    tp__packet_seal(packet, TP_FRAME_DATA);
    size_t taken = 0;
    for (size_t i = 0; i < count; i++) {
        taken += send_sealed(server, sessions[i], packet) == TP__QUEUED;
    }
    return taken;
}

size_t tp_server_broadcast(tp_server *server, tp_packet *packet, tp_session_id except) {
    if (!sendable(packet)) {
        return 0;
    }
    tp__packet_seal(packet, TP_FRAME_DATA);
    size_t taken = 0;
    uint32_t used = atomic_load_explicit(&server->slots.used, memory_order_acquire);
    for (uint32_t index = 0; index < used; index++) {
        uint64_t life = tp__life_read(&server->sessions[index].life);
        tp_session_id id = (life & TP__LIFE_NUMBER) | index;
        if ((life & BARRED_FROM_SENDING) || id == except) {
            continue;
        }
        tp__session *session = tp__session_enter(server, id, BARRED_FROM_SENDING);
        if (session) {
            taken += tp__session_queue(session, packet) == TP__QUEUED;
        }
    }
    return taken;
}
