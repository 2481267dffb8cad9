/*
 * What a layer reads of the core's structures (layer.h). Changes nothing and owns nothing. The
 * threads are those that layer.h names for each call.
 */
#include "core/engine/server_state.h"

/* ---- a session ------------------------------------------------------------------------------- */

void *tp__layer_context(const tp__session *session) {
    return session->server->layer.context;
}

void *tp__layer_state(const tp__session *session) {
    return tp__layer_state_at(session->server, session->index);
}

tp_server *tp__layer_server(const tp__session *session) {
    return session->server;
}

tp_session_id tp__layer_id(const tp__session *session) {
    return tp__session_id(session);
}

uint32_t tp__layer_slot(const tp__session *session) {
    return session->index;
}

const tp_address *tp__layer_peer(const tp__session *session) {
    return &session->peer;
}

bool tp__layer_takes_input(const tp__session *session) {
    return tp__session_takes_input(session);
}

bool tp__layer_is_closing(const tp__session *session) {
    return tp__life_read(&session->life) & TP__LIFE_CLOSING;
}

bool tp__layer_is_same_worker(const tp__session *one, const tp__session *other) {
    return atomic_load_explicit(&one->owner, memory_order_relaxed) ==
           atomic_load_explicit(&other->owner, memory_order_relaxed);
}

/* Before RELEASED another thread may still be writing the reason. */
tp_end_reason tp__layer_reason(const tp__session *session) {
    assert(tp__life_read(&session->life) & TP__LIFE_RELEASED);
    return (tp_end_reason)session->reason;
}

bool tp__layer_has_joined(const tp__session *session) {
    assert(tp__life_read(&session->life) & TP__LIFE_RELEASED);
    return session->joined;
}

/* ---- a worker -------------------------------------------------------------------------------- */

tp__layer_times tp__layer_worker_times(const tp__worker *worker) {
    TP_ASSERT_ON_WORKER(worker);
    return (tp__layer_times){.now_ms = tp__worker_now_ms(worker), .stall_ms = worker->stall_ms};
}

unsigned tp__layer_worker_index(const tp__worker *worker) {
    assert(worker->index < worker->server->options.workers);
    return worker->index;
}

tp__worker *tp__layer_worker(const tp_completion *completion) {
    return tp_worker_context(completion->worker);
}

/* ---- a server -------------------------------------------------------------------------------- */

const char *tp__layer_server_name(const tp_server *server) {
    return server->name;
}

const tp_server_options *tp__layer_server_options(const tp_server *server) {
    return &server->options;
}

uint32_t tp__layer_slots(const tp_server *server) {
    return server->slots.count;
}

tp__session *tp__layer_session_at(const tp_server *server, uint32_t slot) {
    return slot < server->slots.count ? &server->sessions[slot] : NULL;
}

void *tp__layer_state_at(const tp_server *server, uint32_t slot) {
    assert(server->layer_states);
    return slot < server->slots.count ? server->layer_states + slot * server->layer.state_bytes
                                      : NULL;
}
