/*
 * The guard of the port: a call from any thread enters before it uses the port and leaves after it.
 * A thread that holds a session need not ask whether the server runs: it only counts itself
 * (session/end.c).
 *
 * Invariant: the port is not freed while `callers` is above 0. Both the counting here and the state
 * are sequentially consistent: either the caller sees that a stop has begun, or the stop sees the
 * caller.
 */
#include "core/engine/server_state.h"

/*
 * The first look spares a stop that is under way the calls that keep coming: what they add to
 * `callers` it would have to wait for.
 */
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
    atomic_fetch_sub(&server->callers, 1);
}
