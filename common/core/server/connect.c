/*
 * Outgoing connections: from tp_server_connect() to a session like any other.
 *
 * Begun on any thread; the completion runs on a worker. A connection that is not established in
 * time is cut by the sweep.
 */
#include "core/engine/server_state.h"

static void connect_done(tp_op *op, const tp_completion *completion) {
    tp__session *session = TP_CONTAINER_OF(op, tp__session, receive_op);
    if (completion->error) {
        tp__session_close(session, TP_END_CONNECT_FAILED, completion->os_error);
    } else {
        tp__session_start(session, tp_worker_context(completion->worker));
    }
}

static tp_err connect_begin(tp_server *server, const tp_address *address, tp_session_id *id) {
    tp__session *session = tp__session_open(server, address, true);
    if (!session) {
        return TP_ERR_FULL;
    }
    assert(session->outgoing && !session->joined);
    if (!session->has_quota) {
        tp__session_abandon(session);
        return TP_ERR_FULL;
    }
    *id = tp__session_id(session);
    const tp_socket_options options = tp__server_socket_options(server);
    session->receive_op.done = connect_done;
    /* This reference keeps the session while the port works on it: the completion may run before
     * the call has returned. */
    tp__session_retain(session, TP__REFERENCE_CALL);
    tp_err error =
        tp_socket_connect(server->port, &session->socket, address, &options, &session->receive_op);
    if (error) {
        *id = TP_NO_SESSION;
        tp__session_abandon(session);
    } else if (tp__life_read(&session->life) & TP__LIFE_OPENING) {
        /* From here on the sweep may cut it. If it joins at this moment, a session that has joined
         * gets a deadline, which the sweep ignores. */
        uint64_t none = 0;
        uint64_t by_ms = tp__session_deadline_ms(session, server->options.connect_timeout_ms);
        atomic_compare_exchange_strong(&session->finish_by_ms, &none, by_ms);
    }
    tp__session_leave(session, TP__REFERENCE_CALL);
    return error;
}

tp_err tp_server_connect(tp_server *server, const tp_address *address, tp_session_id *session) {
    *session = TP_NO_SESSION;
    if (server->layer.begin) {
        return TP_ERR_UNSUPPORTED; /* layers are for accepted connections */
    }
    if (!tp__server_enter_port(server)) {
        return TP_ERR_STATE;
    }
    tp_err error = connect_begin(server, address, session);
    tp__server_leave_port(server);
    return error;
}
