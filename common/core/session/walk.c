/*
 * A walk over the sessions of a server, for a layer. Any thread. Each session is entered by the
 * number that its life word has at that moment, so that the walk needs no list and no lock.
 */
#include "core/engine/server_state.h"

void tp__layer_each_session(tp_server *server, void (*visit)(tp__session *session)) {
    uint32_t used = atomic_load_explicit(&server->slots.used, memory_order_acquire);
    for (uint32_t index = 0; index < used; index++) {
        uint64_t life = tp__life_read(&server->sessions[index].life);
        tp__session *session =
            tp__session_enter(server, (life & TP__LIFE_NUMBER) | index, TP__LIFE_CLOSING);
        if (session) {
            visit(session);
            tp__session_leave(session, TP__REFERENCE_CALL);
        }
    }
}
