/*
 * The guard of the port: a call from any thread enters before it uses the port and leaves after it.
 * A thread that has a reference to a session need not check that the server runs: it only counts
 * itself (session/end.c).
 *
 * Invariant: the port is not freed while `callers` is above 0. The count and the state are both
 * sequentially consistent, so either the caller sees that a stop has begun, or the stop sees the
 * caller.
 */
#include "core/engine/server_state.h"

/* Checks the state before it counts: otherwise callers that keep arriving during a stop would keep
 * `callers` above 0 and delay it. */
bool tp__server_enter_port(tp_server *server) {
    if (tp__server_state_now(server) != TP__SERVER_RUNNING) {
        return false;
    }
    atomic_fetch_add(&server->callers, 1);
    if (tp__server_state_now(server) == TP__SERVER_RUNNING) {
        return true;
    }
    atomic_fetch_sub(&server->callers, 1);
    return false;
}

void tp__server_leave_port(tp_server *server) {
    unsigned callers = atomic_fetch_sub(&server->callers, 1);
    assert(callers > 0);
    (void)callers;
}
