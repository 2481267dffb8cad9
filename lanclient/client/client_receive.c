/*
 * Messages from the hub. Runs in the network's on_recv, one message after another, on any worker.
 *
 * A delivery counts as processed when the application's handler has returned: the count is raised
 * after it.
 */
#include <assert.h>
#include <string.h>

#include "lanclient/client/client.h"
#include "proto/frame.h"
#include "twinport/log.h"

static void receive_protocol_error(tp_lanclient *client, tp_session_id session, const char *what) {
    TP_LOG(TP_LOG_ERROR, "lanclient %s: protocol error from the hub: %s", client->service, what);
    tp_server_disconnect_after_send(client->network, session, TP_CLOSE_PROTOCOL);
}

static tp_err reason_to_error(uint16_t reason) {
    switch (reason) {
    case TP_BUS_NO_PEER:
    case TP_BUS_NO_SERVICE:
        return TP_ERR_NO_ROUTE;
    case TP_BUS_QUEUE_FULL:
    case TP_BUS_UNCONFIRMED_FULL:
        return TP_ERR_FULL;
    case TP_BUS_TOO_LARGE:
        return TP_ERR_TOO_LARGE;
    case TP_BUS_PEER_LOST:
        return TP_ERR_PEER_LOST;
    case TP_BUS_NO_MEMORY:
        return TP_ERR_NO_MEMORY;
    case TP_BUS_SHUTDOWN:
        return TP_ERR_CANCELLED;
    case TP_BUS_NO_HANDLER:
        return TP_ERR_UNSUPPORTED;
    default:
        return TP_ERR_PROTOCOL;
    }
}

static tp_delivery receive_delivery(const tp_lanclient *client, const tp_bus_header *header) {
    assert(tp_bus_is_message(header->kind));
    tp_delivery from = {.size = sizeof from,
        .hub = client->hub, /* of this link; it changes only between two links */
        .peer = header->source,
        .ticket = header->correlation,
        .kind = (tp_message_kind)header->kind,
        .key = header->flags & TP_BUS_KEYED ? header->key : TP_NO_KEY};
    return from;
}

/* ---- joining --------------------------------------------------------------------------------- */

static void receive_welcome(tp_lanclient *client, tp_session_id session, tp_packet *packet) {
    assert(tp_packet_size(packet) >= TP_BUS_HEADER);
    const uint8_t *bytes = tp_packet_bytes(packet) + TP_BUS_HEADER;
    if (tp_packet_size(packet) < TP_BUS_HEADER + TP_BUS_WELCOME_SIZE) {
        receive_protocol_error(client, session, "truncated WELCOME");
        return;
    }
    tp_bus_welcome welcome = tp_bus_read_welcome(bytes);
    if (welcome.version != TP_BUS_VERSION || welcome.peer == TP_NO_PEER) {
        receive_protocol_error(client, session, "WELCOME of another version");
        return;
    }
    tp__link_welcomed(client, &welcome);
}

static void receive_refusal(
    tp_lanclient *client, tp_session_id session, const tp_bus_header *header) {
    TP_LOG(TP_LOG_ERROR, "lanclient %s: refused by the hub: %s", client->service,
        tp_bus_reason_name(header->key));
    tp_server_disconnect(client->network, session);
}

/* In REGISTERING: the answer to HELLO, a WELCOME or an ERROR. */
static void receive_hello_answer(
    tp_lanclient *client, tp_session_id session, const tp_bus_header *header, tp_packet *packet) {
    if (header->kind == TP_BUS_WELCOME) {
        receive_welcome(client, session, packet);
    } else if (header->kind == TP_BUS_ERROR) {
        receive_refusal(client, session, header);
    } else {
        receive_protocol_error(client, session, "answer to HELLO is neither WELCOME nor ERROR");
    }
}

static void receive_peer_up(
    tp_lanclient *client, tp_session_id session, bool arriving, tp_packet *packet) {
    tp_peer peer;
    memset(&peer, 0, sizeof peer);
    peer.size = sizeof peer;
    tp_packet_seek(packet, TP_BUS_HEADER);
    peer.id = tp_packet_get_u32(packet);
    tp_packet_get_string(packet, peer.service, sizeof peer.service);
    tp_packet_get_string(packet, peer.instance, sizeof peer.instance);
    if (tp_packet_error(packet) != TP_OK || peer.id == TP_NO_PEER) {
        receive_protocol_error(client, session, "malformed PEER_UP");
        return;
    }
    if (tp__peer_table_add(&client->peers, &peer) != TP_OK) {
        TP_LOG(
            TP_LOG_ERROR, "lanclient %s: peer not added, reconnecting: no memory", client->service);
        /* After reconnecting it gets the full list. */
        tp_server_disconnect(client->network, session);
        return;
    }
    if (arriving) {
        tp__link_arrived(client);
    } else if (client->handlers.on_peer_up) {
        client->handlers.on_peer_up(client, &peer);
    }
}

/* PEER_DOWN: open requests to the peer are answered with TP_ERR_PEER_LOST. */
static void receive_peer_down(tp_lanclient *client, tp_session_id session, tp_packet *packet) {
    if (tp_packet_size(packet) < TP_BUS_HEADER + TP_BUS_PEER_DOWN_SIZE) {
        receive_protocol_error(client, session, "truncated PEER_DOWN");
        return;
    }
    tp_peer_id id = tp_bus_get_u32(tp_packet_bytes(packet) + TP_BUS_HEADER);
    uint32_t from = 0;
    tp__request request;
    while (id != TP_NO_PEER && tp__requests_take_next(&client->requests, id, &from, &request)) {
        tp__count_shared(&client->peers_gone, 1);
        tp__request_answer(client, &request, TP_ERR_PEER_LOST, NULL, NULL);
    }
    tp_peer peer;
    if (tp__peer_table_remove(&client->peers, id, &peer) && client->handlers.on_peer_down) {
        client->handlers.on_peer_down(client, &peer);
    }
}

/* ---- messages -------------------------------------------------------------------------------- */

void tp__request_answer(tp_lanclient *client, const tp__request *request, tp_err error,
    const tp_delivery *from, tp_packet *packet) {
    assert(request->ticket != 0 && request->on_reply);
    assert((error == TP_OK) == (from != NULL) && (error == TP_OK) == (packet != NULL));
    if (error == TP_OK) {
        tp__count_shared(&client->replies, 1);
    } else if (error == TP_ERR_TIMED_OUT) {
        tp__count_shared(&client->timed_out, 1);
    }
    request->on_reply(client, error, from, packet, request->context);
}

static void receive_message(tp_lanclient *client, const tp_bus_header *header, tp_packet *packet) {
    bool request = header->kind == TP_BUS_REQUEST;
    void (*handler)(tp_lanclient *, const tp_delivery *, tp_packet *) =
        request ? client->handlers.on_request : client->handlers.on_message;
    tp_delivery from = receive_delivery(client, header);
    if (!handler) {
        tp_lanclient_decline(client, &from, TP_ERR_UNSUPPORTED);
        return;
    }
    tp_packet_pull_head(packet, TP_BUS_HEADER);
    handler(client, &from, packet);
}

static void receive_reply(tp_lanclient *client, const tp_bus_header *header, tp_packet *packet) {
    tp__request request;
    if (!tp__requests_take(&client->requests, header->correlation, &request)) {
        tp__count_shared(&client->late, 1);
        return;
    }
    tp_delivery from = receive_delivery(client, header);
    tp_packet_pull_head(packet, TP_BUS_HEADER);
    tp__request_answer(client, &request, TP_OK, &from, packet);
}

static void receive_bus_error(tp_lanclient *client, tp_session_id session,
    const tp_bus_header *header, const tp_packet *packet) {
    if (tp_packet_size(packet) < TP_BUS_HEADER + TP_BUS_ERROR_FIXED) {
        receive_protocol_error(client, session, "truncated ERROR");
        return;
    }
    tp_bus_error error = tp_bus_read_error(tp_packet_bytes(packet) + TP_BUS_HEADER);
    tp__request request;
    tp__count_shared(&client->returned, 1);
    if (error.kind == TP_BUS_REQUEST) {
        if (tp__requests_take(&client->requests, header->correlation, &request)) {
            tp__request_answer(client, &request, reason_to_error(header->key), NULL, NULL);
        } else {
            tp__count_shared(&client->late, 1);
        }
    } else if (error.kind != TP_BUS_ERROR && client->handlers.on_returned) {
        tp_returned returned = {.size = sizeof returned,
            .ticket = header->correlation,
            .kind = (tp_message_kind)error.kind,
            .reason = reason_to_error(header->key),
            .peer = error.peer,
            .bus_reason = header->key};
        client->handlers.on_returned(client, &returned);
    }
}

/* In ARRIVING: only the announced PEER_UPs may come, or an ERROR if the hub has no memory or queue
 * space to send them all. */
static void receive_arriving(
    tp_lanclient *client, tp_session_id session, const tp_bus_header *header, tp_packet *packet) {
    switch (header->kind) {
    case TP_BUS_PEER_UP:
        receive_peer_up(client, session, true, packet);
        break;
    case TP_BUS_ACK:
        break;
    case TP_BUS_ERROR:
        receive_refusal(client, session, header);
        break;
    default:
        receive_protocol_error(client, session, "message before the PEER_UPs");
        break;
    }
}

static void receive_dispatch(
    tp_lanclient *client, tp_session_id session, const tp_bus_header *header, tp_packet *packet) {
    switch (header->kind) {
    case TP_BUS_SEND:
    case TP_BUS_ANY:
    case TP_BUS_ALL:
    case TP_BUS_REQUEST:
        receive_message(client, header, packet);
        break;
    case TP_BUS_REPLY:
        receive_reply(client, header, packet);
        break;
    case TP_BUS_ERROR:
        receive_bus_error(client, session, header, packet);
        break;
    case TP_BUS_PEER_UP:
        receive_peer_up(client, session, false, packet);
        break;
    case TP_BUS_PEER_DOWN:
        receive_peer_down(client, session, packet);
        break;
    case TP_BUS_ACK:
        break;
    default:
        receive_protocol_error(client, session, "message of a kind that the hub does not send");
        break;
    }
}

/* The link's state. Only its handlers leave REGISTERING and ARRIVING, so the value stays valid in
 * this handler. */
static tp__link_state receive_link_state(tp_lanclient *client) {
    if (TP_LIKELY(tp_lanclient_self(client) != TP_NO_PEER)) {
        return TP__LINK_UP;
    }
    tp_mutex_lock(&client->mutex);
    tp__link_state state = client->state;
    tp_mutex_unlock(&client->mutex);
    return state;
}

void tp__link_on_recv(tp_server *network, tp_session_id session, tp_packet *packet) {
    tp_lanclient *client = tp_server_context(network);
    if (TP_UNLIKELY(tp_packet_size(packet) < TP_BUS_HEADER)) {
        receive_protocol_error(client, session, "message shorter than its header");
        return;
    }
    tp_bus_header header = tp_bus_read(tp_packet_bytes(packet));
    if (header.flags & TP_BUS_ACK_VALID &&
        !tp__unconfirmed_confirm(&client->unconfirmed, header.destination)) {
        receive_protocol_error(client, session, "acknowledges messages that were not sent");
        return;
    }
    tp__link_state state = receive_link_state(client);
    if (TP_UNLIKELY(state == TP__LINK_REGISTERING)) {
        receive_hello_answer(client, session, &header, packet);
        return;
    }
    if (TP_UNLIKELY(state == TP__LINK_ARRIVING)) {
        receive_arriving(client, session, &header, packet);
        return;
    }
    receive_dispatch(client, session, &header, packet);
    if (tp_bus_is_message(header.kind) && header.source != TP_BUS_HUB) {
        tp__count_shared(&client->received, 1);
        tp__tick_processed(client);
    }
}
