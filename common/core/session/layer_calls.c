/*
 * What a layer does with sessions and packets, beside filling and receiving (layer.h): references,
 * posts, packets. Owns nothing.
 */
#include "core/engine/server_state.h"
#include "core/packet/packet_internal.h"
#include "twinport/log.h"

/* Two definitions, because the layer must not see the second one.
 * NOLINTNEXTLINE(misc-redundant-expression) */
_Static_assert(TP__LAYER_PACKET_MAX == TP__PACKET_SMALL, "layer.h states the size");

tp__session *tp__layer_enter(tp_server *server, tp_session_id id) {
    return tp__session_enter(server, id, TP__LIFE_CLOSING);
}

void tp__layer_retain(tp__session *session) {
    tp__session_retain(session, TP__REFERENCE_LAYER);
}

bool tp__layer_post(tp__session *session, tp_op *op, const char *where) {
    tp_server *server = session->server;
    if (tp__session_post(session, op)) {
        return true;
    }
    tp__count_shared(&server->outside.errors, 1);
    TP_LOG(TP_LOG_ERROR, "%s: %s: cannot post to a worker (system error %d)", server->name, where,
        tp_os_error());
    return false;
}

bool tp__layer_send_raw(tp__session *session, tp_packet *packet) {
    TP_ASSERT_WORKER(session);
    assert(!tp__packet_is_sealed(packet) && tp_packet_size(packet) > 0);
    tp__session_retain(session, TP__REFERENCE_CALL);
    return tp__session_queue(session, packet) == TP__QUEUED;
}

tp_packet *tp__layer_packet(size_t size) {
    return tp__packet_received(size);
}

tp_packet *tp__layer_packet_kept(size_t size) {
    return tp__packet_kept(size);
}
