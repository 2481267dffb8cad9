/*
 * Into a session's send queue.
 *
 * Any thread that has a reference to the session, and its owner without one. No lock; one
 * allocation of a node from the thread's magazine.
 *
 * A packet is counted before it is pushed, so the limits hold for concurrent senders, except for
 * one packet of each thread that is admitted at the same moment. A queue holds at most its limits
 * and those packets, or one packet that is larger than the limit; with TP_QUEUE_DISCONNECT,
 * TP_QUEUE_STALL_FACTOR times its limits while it waits for the server.
 */
#include "core/engine/server_state.h"
#include "core/memory/block.h"
#include "core/packet/packet_internal.h"
#include "core/session/compact.h"
#include "core/session/pools.h"
#include "proto/frame.h"

#define SPACE_TRIES 8u /* attempts to free space in a full queue, per call */

/* With more packets than this queued, the session's worker counts as blocked. What waits for it is
 * copied, so that no packet keeps a chunk of 64 KiB. (What waits for the peer is copied by
 * compact.c.) */
#define FAR_BEHIND 1024u

/* `times` the limits. */
static bool within_limits(const tp_server_options *options, uint64_t times, uint64_t queued) {
    return (queued & TP__QUEUED_BYTES) <= times * options->queue_bytes &&
           (queued >> TP__QUEUED_SHIFT) <= times * options->queue_packets;
}

/*
 * Counts `amount`, one packet, as queued. Returns the size with it; 0: it does not fit, and nothing
 * has changed.
 *
 * A packet that is larger than the whole limit is admitted to an empty queue; otherwise it could
 * never be sent, however long its sender waited. It is not added before the queue is known to be
 * empty, so two threads that keep trying with such packets do not block each other.
 */
static uint64_t queue_count(tp__session *session, uint64_t times, uint64_t amount) {
    const tp_server_options *options = &session->server->options;
    if (TP_UNLIKELY((amount & TP__QUEUED_BYTES) > times * options->queue_bytes)) {
        return tp__queue_size_add_if_zero(&session->queued, amount) ? amount : 0;
    }
    uint64_t queued = tp__queue_size_add(&session->queued, amount);
    if (TP_UNLIKELY(!within_limits(options, times, queued)) &&
        !within_limits(options, times, tp__queue_size_stable(&session->queued))) {
        tp__queue_size_subtract(&session->queued, amount);
        return 0;
    }
    return queued;
}

/*
 * The same on the owner worker, which checks before it adds: only the owner writes its half. It may
 * not see what others add at this moment, nor they what it adds; then the queue exceeds its limit
 * by what both add.
 */
static uint64_t queue_count_by_owner(tp__session *session, uint64_t times, uint64_t amount) {
    const tp_server_options *options = &session->server->options;
    uint64_t queued = tp__queue_size_now(&session->queued) + amount;
    if (TP_UNLIKELY(!within_limits(options, times, queued)) && queued != amount) {
        return 0;
    }
    tp__queue_size_add_own(&session->queued, amount);
    return queued;
}

static inline uint64_t queue_count_from(
    tp__session *session, bool is_owner, uint64_t times, uint64_t amount) {
    return is_owner ? queue_count_by_owner(session, times, amount)
                    : queue_count(session, times, amount);
}

/* A session is not ended for what the server has not sent: meanwhile its queue may hold more. */
static bool queue_may_grow(const tp__session *session) {
    return session->server->options.queue_policy == TP_QUEUE_DISCONNECT &&
           tp__session_awaits_server(session);
}

TP_NOINLINE static tp__queued queue_over_limit(tp__session *session, tp__worker *worker) {
    tp_server *server = session->server;
    switch (server->options.queue_policy) {
    case TP_QUEUE_DROP:
        TP__COUNT(server, worker, dropped, 1);
        return TP__QUEUE_DROPPED;
    case TP_QUEUE_DISCONNECT:
        if (!queue_may_grow(session)) {
            tp__session_close(session, TP_END_OVERLOAD, 0);
        }
        break;
    case TP_QUEUE_REFUSE:
        break;
    }
    TP__COUNT(server, worker, refused, 1);
    return TP__QUEUE_REFUSED;
}

/* The queue is full. Sends to free space, as long as something is sent, but at most SPACE_TRIES
 * times: another thread may fill the queue as fast. After that the queue may hold more if it waits
 * for the server. */
TP_NOINLINE static uint64_t queue_admit_full(
    tp__session *session, tp__worker *worker, bool is_owner, uint64_t amount) {
    uint64_t times = 1;
    unsigned tries = 0;
    uint64_t queued;
    do {
        if (!(worker && ++tries <= SPACE_TRIES && tp__session_send_for_space(session, worker))) {
            if (times > 1 || !queue_may_grow(session)) {
                return 0;
            }
            times = TP_QUEUE_STALL_FACTOR;
        }
        queued = queue_count_from(session, is_owner, times, amount);
    } while (queued == 0);
    return queued;
}

/* Counts the packet, on the owner worker or elsewhere. Returns the size with it; 0: it is not
 * admitted. */
static inline uint64_t queue_admit(
    tp__session *session, tp__worker *worker, bool is_owner, uint64_t amount) {
    assert(amount >> TP__QUEUED_SHIFT == 1); /* one packet */
    uint64_t queued = queue_count_from(session, is_owner, 1, amount);
    return TP_LIKELY(queued > 0) ? queued : queue_admit_full(session, worker, is_owner, amount);
}

/* Takes a reference for the queue, to the packet or to a copy of it. */
static tp_packet *packet_for_queue(tp_packet *packet, uint64_t queued) {
    bool behind = (queued >> TP__QUEUED_SHIFT) > FAR_BEHIND;
    tp_packet *copy = TP_UNLIKELY(behind) && packet->chunk && packet->sealed
                          ? tp__packet_kept_copy(packet)
                          : NULL;
    return copy ? copy : tp__packet_retain(packet);
}

/* `thread`: the calling thread's cache. */
static inline tp__send_node *send_node_new(
    tp__session *session, tp__worker *worker, tp__thread_cache *thread) {
    tp__send_node *node = tp__pool_allocate_on(thread, tp__node_pool());
    if (TP_UNLIKELY(!node)) {
        TP__COUNT(session->server, worker, no_memory, 1);
    }
    return node;
}

/*
 * The owner needs no atomic exchange for a packet while it is the flusher. To keep the order, it
 * first collects what was pushed before: what the owner itself pushed while the role was on its way
 * to it, and what others pushed before an event that the owner knows of (by a mutex or a message).
 * A push that happened before is seen by the relaxed look at the queue. The role leaves the owner
 * only when nothing is queued (flush_continue() in flush.c). tests/model/owner.pml explores this.
 */
static void queue_append_by_owner(tp__session *session, tp__worker *owner, tp__send_node *node) {
    assert(tp__session_is_owner(session, owner) && node->packet);
    if (TP_UNLIKELY(!session->owner_flushes)) {
        if (!tp__send_queue_seize(&session->queue)) {
            /* Another thread's push has sent the role here. Until it arrives, only the owner could
             * make the queue idle, so this push does not make a flusher. */
            tp__send_queue_push(&session->queue, node);
            return;
        }
        tp__session_retain(session, TP__REFERENCE_FLUSH);
        session->owner_flushes = true;
        tp__session_await_flush(session, owner);
    }
    if (!tp__backlog_is_owned(session)) {
        tp__send_queue_push(&session->queue, node); /* this worker's send waits */
        tp__compact(session);
        return;
    }
    tp__session_append_backlog(session, node);
}

tp__queued tp__session_queue_by_owner(tp__session *session, tp__worker *owner, tp_packet *packet) {
    TP_ASSERT_WORKER(session);
    assert(tp__session_is_owner(session, owner));
    uint64_t amount = TP__QUEUED_ONE | tp__packet_frame_size(packet);
    uint64_t queued = queue_admit(session, owner, true, amount);
    if (TP_UNLIKELY(queued == 0)) {
        return queue_over_limit(session, owner);
    }
    tp__send_node *node = send_node_new(session, owner, owner->thread_cache);
    if (TP_UNLIKELY(!node)) {
        tp__queue_size_add_own(&session->queued, UINT64_C(0) - amount);
        return TP__QUEUE_REFUSED;
    }
    node->packet = tp__packet_retain(packet);
    queue_append_by_owner(session, owner, node);
    if (TP_UNLIKELY(tp__exceeds_one_send(session->server, queued))) {
        tp__session_send_now(session, owner);
    }
    return TP__QUEUED;
}

/* On a thread that is not the session's owner. *flusher: the push has made it the flusher. */
static tp__queued session_queue_shared(
    tp__session *session, tp__worker *worker, tp_packet *packet, bool *flusher) {
    assert(!tp__session_is_owner(session, worker));
    uint64_t amount = TP__QUEUED_ONE | tp__packet_frame_size(packet);
    uint64_t queued = queue_admit(session, worker, false, amount);
    if (TP_UNLIKELY(queued == 0)) {
        return queue_over_limit(session, worker);
    }
    tp__send_node *node = send_node_new(session, worker, tp__thread_cache_get());
    if (TP_UNLIKELY(!node)) {
        tp__queue_size_subtract(&session->queued, amount);
        return TP__QUEUE_REFUSED;
    }
    node->packet = packet_for_queue(packet, queued);
    *flusher = tp__send_queue_push(&session->queue, node);
    if (*flusher) {
        return TP__QUEUED;
    }
    if (TP_UNLIKELY(tp__exceeds_one_send(session->server, queued)) && worker) {
        tp__session_send_now(session, worker);
    }
    tp__compact(session);
    return TP__QUEUED;
}

/*
 * The caller's reference goes to the flush if the push has made it the flusher; otherwise it is
 * given back here.
 */
tp__queued tp__session_queue(tp__session *session, tp_packet *packet) {
    tp__worker *worker = tp__worker_here(session->server);
    if (tp__session_is_owner(session, worker)) {
        tp__queued verdict = tp__session_queue_by_owner(session, worker, packet);
        tp__session_leave(session, TP__REFERENCE_CALL);
        return verdict;
    }
    bool flusher = false;
    tp__queued verdict = session_queue_shared(session, worker, packet, &flusher);
    if (flusher) {
        tp__session_pass_reference(session, TP__REFERENCE_CALL, TP__REFERENCE_FLUSH);
        tp__session_flush(session);
        return verdict;
    }
    tp__session_leave(session, TP__REFERENCE_CALL);
    return verdict;
}

void tp__session_control(
    tp__session *session, uint8_t frame_type, const void *payload, size_t size) {
    tp_packet *packet = tp_packet_copy_of(payload, size);
    if (!packet) {
        TP__COUNT(session->server, tp__worker_here(session->server), no_memory, 1);
        return; /* if it was needed, the idle time-out ends the session */
    }
    tp__packet_seal(packet, frame_type);
    tp__session_retain(session, TP__REFERENCE_CALL);
    tp__session_queue(session, packet);
    tp_packet_release(packet);
}

/* ---- the public calls ------------------------------------------------------------------------ */

#define BARRED_FROM_SENDING (TP__LIFE_OPENING | TP__LIFE_ENDING)

static bool packet_is_sendable(const tp_packet *packet) {
    return tp_packet_error(packet) == TP_OK && tp_packet_size(packet) <= TP_PACKET_MAX;
}

/*
 * The session with this id if the calling worker is its owner; otherwise NULL, which tells nothing
 * about the id.
 *
 * No reference is needed: `owner` is this worker only between a start and a release that both run
 * on this thread. So if it is seen here, the session cannot be released before the caller has
 * returned to the worker's loop, and its number cannot change. Any thread may begin to end it
 * meanwhile, just as if the caller had a reference.
 */
static tp__session *session_find_owned(
    const tp_server *server, tp_session_id id, tp__worker *worker) {
    uint32_t index = (uint32_t)id & (TP_MAX_SESSIONS - 1);
    if (index >= server->slots.count || !tp__session_is_owner(&server->sessions[index], worker)) {
        return NULL;
    }
    return &server->sessions[index];
}

static tp__queued send_no_session(tp_server *server, tp__worker *worker) {
    TP__COUNT(server, worker, no_session, 1);
    return TP__QUEUE_REFUSED;
}

TP_NOINLINE static tp__queued send_shared(
    tp_server *server, tp__worker *worker, tp_session_id id, tp_packet *packet) {
    tp__session *session = tp__session_enter(server, id, BARRED_FROM_SENDING);
    assert(!session || session->joined);
    return session ? tp__session_queue(session, packet) : send_no_session(server, worker);
}

static inline tp__queued send_sealed(tp_server *server, tp_session_id id, tp_packet *packet) {
    tp__worker *worker = tp__worker_here(server);
    tp__session *session = session_find_owned(server, id, worker);
    if (!session) {
        return send_shared(server, worker, id, packet);
    }
    uint64_t life = tp__life_read(&session->life);
    if (TP_LIKELY(((life ^ id) & TP__LIFE_NUMBER) == 0 && !(life & BARRED_FROM_SENDING))) {
        return tp__session_queue_by_owner(session, worker, packet);
    }
    return send_no_session(server, worker);
}

bool tp_server_send(tp_server *server, tp_session_id session, tp_packet *packet) {
    if (!packet_is_sendable(packet)) {
        return false;
    }
    tp__packet_seal(packet, TP_FRAME_DATA);
    return send_sealed(server, session, packet) != TP__QUEUE_REFUSED;
}

size_t tp_server_send_many(
    tp_server *server, const tp_session_id *sessions, size_t count, tp_packet *packet) {
    if (!packet_is_sendable(packet)) {
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
    if (!packet_is_sendable(packet)) {
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
