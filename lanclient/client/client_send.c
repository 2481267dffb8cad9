/*
 * Messages to the hub. Any thread; one message at a time, under the client's mutex.
 */
#include <assert.h>
#include <string.h>

#include "core/packet/packet_internal.h"
#include "lanclient/client/client.h"
#include "twinport/log.h"

/* A message being sent. */
typedef struct outgoing {
    tp_bus_header header; /* correlation 0: assign a new ticket */
    tp_packet *packet;
    tp_ticket *ticket;       /* where to store the ticket, or NULL */
    uint64_t hub;            /* 0, or the instance of the only hub it may go to */
    uint32_t also_processed; /* deliveries that this message itself reports as processed: 0 or 1 */
} outgoing;

/* ---- under the mutex ------------------------------------------------------------------------- */

/* Checks whether the message can be accepted. Replies and refusals, which have `hub` set, still
 * pass while the client stops. */
static tp_err outgoing_check(const tp_lanclient *client, const outgoing *message) {
    TP_ASSERT_LOCKED(&client->mutex);
    if (client->state != TP__LINK_UP ||
        (tp__lifecycle_stopping(&client->lifecycle) && message->hub == 0)) {
        return TP_ERR_NOT_CONNECTED;
    }
    if (message->hub != 0 && message->hub != client->hub) {
        return TP_ERR_PEER_LOST;
    }
    if (tp__packet_is_sealed(message->packet)) {
        return TP_ERR_SEALED;
    }
    if (tp_packet_size(message->packet) + TP_BUS_HEADER > client->max_payload) {
        return TP_ERR_TOO_LARGE;
    }
    return tp_packet_error(message->packet);
}

/* The next ticket. It becomes last_ticket only if the message is accepted. */
static tp_ticket next_ticket(const tp_lanclient *client) {
    TP_ASSERT_LOCKED(&client->mutex);
    tp_ticket next = client->last_ticket + 1;
    return next != 0 ? next : 1;
}

/* The reason why the network did not accept a packet. */
static tp_err outgoing_refusal(tp_lanclient *client) {
    TP_ASSERT_LOCKED(&client->mutex);
    tp_session_info info = {.size = sizeof info};
    bool present = tp_server_session_info(client->network, client->session, &info) && !info.ending;
    return present ? TP_ERR_FULL : TP_ERR_NOT_CONNECTED;
}

/* Restores a packet that the network refused: only the caller has it. It is as before and may be
 * sent again. */
static void outgoing_restore(tp_packet *packet) {
    size_t cursor = tp_packet_size(packet) - tp_packet_left(packet) - TP_BUS_HEADER;
    packet->sealed = false;
    tp_packet_pull_head(packet, TP_BUS_HEADER);
    tp_packet_seek(packet, cursor);
}

/* Writes the header and queues the packet. */
static tp_err outgoing_queue(tp_lanclient *client, outgoing *message) {
    TP_ASSERT_LOCKED(&client->mutex);
    assert(client->state == TP__LINK_UP && message->also_processed <= 1);
    uint8_t *head = tp_packet_push_head(message->packet, TP_BUS_HEADER);
    if (!head) {
        return tp_packet_error(message->packet);
    }
    uint32_t processed = atomic_load_explicit(&client->processed, memory_order_acquire);
    processed += message->also_processed;
    message->header.source = processed;
    tp_bus_write(head, &message->header);
    if (!tp_server_send(client->network, client->session, message->packet)) {
        outgoing_restore(message->packet);
        return outgoing_refusal(client);
    }
    atomic_store_explicit(&client->acknowledged, processed, memory_order_relaxed);
    return TP_OK;
}

/* Appends the message to the unacknowledged messages and queues it, as one step. */
static tp_err outgoing_post(tp_lanclient *client, outgoing *message) {
    TP_ASSERT_LOCKED(&client->mutex);
    assert(message->header.correlation != 0 && tp_bus_is_message(message->header.kind));
    tp__sent entry = {.correlation = message->header.correlation,
        .destination = message->header.destination,
        .kind = message->header.kind};
    switch (tp__unconfirmed_push(&client->unconfirmed, entry)) {
    case TP__PUSHED:
        break;
    case TP__PUSH_FULL:
        return TP_ERR_FULL;
    case TP__PUSH_NO_MEMORY:
        return TP_ERR_NO_MEMORY;
    }
    if (message->ticket) {
        *message->ticket = message->header.correlation;
    }
    tp_err error = outgoing_queue(client, message);
    if (error) {
        tp__unconfirmed_undo(&client->unconfirmed);
    } else {
        client->sent++;
    }
    return error;
}

/* ---- messages -------------------------------------------------------------------------------- */

/* Schedules an attempt to connect if the previous one could not be scheduled. Any send does it; of
 * several at once, only one. */
static void client_revive_link(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    bool stranded = client->state == TP__LINK_STRANDED;
    client->state = stranded ? TP__LINK_WAITING : client->state;
    tp_mutex_unlock(&client->mutex);
    if (stranded) {
        tp__link_schedule(client, false);
    }
}

static tp_err outgoing_send(tp_lanclient *client, outgoing *message) {
    tp_mutex_lock(&client->mutex);
    tp_err error = outgoing_check(client, message);
    if (!error && message->header.correlation != 0) {
        error = outgoing_post(client, message); /* a reply, with the request's ticket */
    } else if (!error) {
        message->header.correlation = next_ticket(client);
        error = outgoing_post(client, message);
        client->last_ticket = error ? client->last_ticket : message->header.correlation;
    }
    tp_mutex_unlock(&client->mutex);
    if (TP_UNLIKELY(error == TP_ERR_NOT_CONNECTED)) {
        client_revive_link(client);
    }
    return error;
}

/* Stores the service's hash in the destination, and the key. */
static tp_err address_service(tp_bus_header *header, const char *service, int32_t key) {
    size_t size = service ? strlen(service) : 0;
    if (!tp_bus_name_valid(service, size) || key < TP_NO_KEY || key > UINT16_MAX) {
        return TP_ERR_INVALID;
    }
    header->destination = tp_bus_service_hash(service, size);
    if (header->destination == 0) {
        return TP_ERR_INVALID; /* 0 stands for all services; the hub refuses such a name */
    }
    if (key != TP_NO_KEY) {
        header->flags |= TP_BUS_KEYED;
        header->key = (uint16_t)key;
    }
    return TP_OK;
}

tp_err tp_lanclient_send(
    tp_lanclient *client, tp_peer_id peer, tp_packet *packet, tp_ticket *ticket) {
    if (peer == TP_NO_PEER || !packet) {
        return TP_ERR_INVALID;
    }
    outgoing message = {
        .header = {.kind = TP_BUS_SEND, .destination = peer}, .packet = packet, .ticket = ticket};
    return outgoing_send(client, &message);
}

tp_err tp_lanclient_send_any(
    tp_lanclient *client, const char *service, int32_t key, tp_packet *packet, tp_ticket *ticket) {
    outgoing message = {.header = {.kind = TP_BUS_ANY}, .packet = packet, .ticket = ticket};
    tp_err error = address_service(&message.header, service, key);
    return error || !packet ? TP_ERR_INVALID : outgoing_send(client, &message);
}

tp_err tp_lanclient_send_all(
    tp_lanclient *client, const char *service, tp_packet *packet, tp_ticket *ticket) {
    outgoing message = {.header = {.kind = TP_BUS_ALL}, .packet = packet, .ticket = ticket};
    tp_err error = service ? address_service(&message.header, service, TP_NO_KEY) : TP_OK;
    return error || !packet ? TP_ERR_INVALID : outgoing_send(client, &message);
}

/* ---- requests -------------------------------------------------------------------------------- */

/*
 * Adds the request to the table and posts its message, in this order, so that the reply finds the
 * request. If the message cannot be posted, the request is taken out again; if it has timed out
 * meanwhile and its callback was called, the caller gets TP_OK, since an accepted request is one
 * whose callback is called.
 */
static tp_err outgoing_post_request(
    tp_lanclient *client, outgoing *message, tp__request request, unsigned timeout_ms) {
    TP_ASSERT_LOCKED(&client->mutex);
    assert(request.on_reply && message->header.kind == TP_BUS_REQUEST);
    request.ticket = message->header.correlation = next_ticket(client);
    uint64_t now_ms = tp__lanclient_now_locked(client);
    tp_err error = tp__requests_add(&client->requests, request, now_ms, timeout_ms);
    if (error) {
        return error;
    }
    error = outgoing_post(client, message);
    tp__request taken;
    if (error && !tp__requests_take(&client->requests, request.ticket, &taken)) {
        error = TP_OK;
    }
    if (!error) {
        client->last_ticket = request.ticket;
        client->requested++;
    }
    return error;
}

static tp_err outgoing_request(tp_lanclient *client, outgoing *message, unsigned timeout_ms,
    tp_on_reply *on_reply, void *context) {
    if (!message->packet || !on_reply || timeout_ms > 86400000) {
        return TP_ERR_INVALID;
    }
    bool to_service = message->header.flags & TP_BUS_TO_SERVICE;
    tp__request entry = {.peer = to_service ? TP_NO_PEER : message->header.destination,
        .on_reply = on_reply,
        .context = context};
    timeout_ms = timeout_ms ? timeout_ms : client->options.request_timeout_ms;
    tp_mutex_lock(&client->mutex);
    tp_err error = outgoing_check(client, message);
    if (!error) {
        error = outgoing_post_request(client, message, entry, timeout_ms);
    }
    tp_mutex_unlock(&client->mutex);
    if (TP_LIKELY(!error)) {
        tp__tick_arm(client);
    } else if (error == TP_ERR_NOT_CONNECTED) {
        client_revive_link(client);
    }
    return error;
}

tp_err tp_lanclient_request(tp_lanclient *client, tp_peer_id peer, tp_packet *packet,
    unsigned timeout_ms, tp_on_reply *on_reply, void *context, tp_ticket *ticket) {
    outgoing message = {.header = {.kind = TP_BUS_REQUEST, .destination = peer},
        .packet = packet,
        .ticket = ticket};
    return outgoing_request(client, &message, timeout_ms, on_reply, context);
}

tp_err tp_lanclient_request_any(tp_lanclient *client, const char *service, int32_t key,
    tp_packet *packet, unsigned timeout_ms, tp_on_reply *on_reply, void *context,
    tp_ticket *ticket) {
    outgoing message = {.header = {.kind = TP_BUS_REQUEST, .flags = TP_BUS_TO_SERVICE},
        .packet = packet,
        .ticket = ticket};
    tp_err error = address_service(&message.header, service, key);
    return error ? error : outgoing_request(client, &message, timeout_ms, on_reply, context);
}

/* ---- answers --------------------------------------------------------------------------------- */

tp_err tp_lanclient_reply(
    tp_lanclient *client, const tp_delivery *asked, tp_packet *packet, tp_ticket *ticket) {
    if (!packet || !asked || asked->kind != TP_MESSAGE_REQUEST || asked->peer == TP_NO_PEER) {
        return TP_ERR_INVALID;
    }
    outgoing message = {
        .header = {.kind = TP_BUS_REPLY, .destination = asked->peer, .correlation = asked->ticket},
        .packet = packet,
        .ticket = ticket,
        .hub = asked->hub};
    return outgoing_send(client, &message);
}

static uint16_t error_to_reason(tp_err error) {
    switch (error) {
    case TP_ERR_UNSUPPORTED:
        return TP_BUS_NO_HANDLER;
    case TP_ERR_FULL:
        return TP_BUS_QUEUE_FULL;
    case TP_ERR_NO_ROUTE:
        return TP_BUS_NO_SERVICE;
    case TP_ERR_NO_MEMORY:
        return TP_BUS_NO_MEMORY;
    case TP_ERR_CANCELLED:
        return TP_BUS_SHUTDOWN;
    case TP_ERR_PROTOCOL:
        return TP_BUS_MALFORMED;
    default:
        return 0;
    }
}

static tp_err outgoing_refuse(
    tp_lanclient *client, const tp_delivery *asked, tp_err reason, uint32_t also_processed) {
    uint16_t key = error_to_reason(reason);
    if (key == 0 || !asked || asked->peer == TP_NO_PEER) {
        return TP_ERR_INVALID;
    }
    tp_peer_id self = tp_lanclient_self(client);
    tp_bus_error error = {.peer = self, .destination = self, .kind = (uint8_t)asked->kind};
    outgoing message = {.header = {.kind = TP_BUS_ERROR,
                            .key = key,
                            .destination = asked->peer,
                            .correlation = asked->ticket},
        .packet = tp_packet_new(TP_BUS_ERROR_FIXED),
        .hub = asked->hub,
        .also_processed = also_processed};
    if (!message.packet) {
        return TP_ERR_NO_MEMORY;
    }
    tp_bus_write_error(tp_packet_put_space(message.packet, TP_BUS_ERROR_FIXED), &error);
    tp_err outcome = outgoing_send(client, &message);
    tp_packet_release(message.packet);
    return outcome;
}

tp_err tp_lanclient_refuse(tp_lanclient *client, const tp_delivery *asked, tp_err reason) {
    return outgoing_refuse(client, asked, reason, 0);
}

/* The ERROR also counts the delivery as processed. With two messages, a connection lost between
 * them would return the message to its sender twice. Until `processed` is raised, another thread's
 * message may carry the older count, which does no harm. If the ERROR cannot be sent, the delivery
 * must not be acknowledged: the connection is ended, after which nothing is sent, and the hub
 * returns all unacknowledged messages. (`session` is changed only by the link's handlers, so this
 * handler may read it.) */
void tp_lanclient_decline(tp_lanclient *client, const tp_delivery *from, tp_err reason) {
    tp_err error =
        outgoing_refuse(client, from, error_to_reason(reason) ? reason : TP_ERR_UNSUPPORTED, 1);
    if (error && tp_server_disconnect(client->network, client->session)) {
        TP_LOG(TP_LOG_ERROR, "lanclient %s: disconnected, declined message not returned: %s",
            client->service, tp_err_text(error));
    }
}

/* ---- acknowledgement ------------------------------------------------------------------------- */

/* If it cannot be sent now, the next tick tries again. */
void tp__lanclient_ack_locked(tp_lanclient *client) {
    TP_ASSERT_LOCKED(&client->mutex);
    uint32_t processed = atomic_load_explicit(&client->processed, memory_order_relaxed);
    bool unacknowledged =
        processed != atomic_load_explicit(&client->acknowledged, memory_order_relaxed);
    tp_packet *packet = unacknowledged && client->state == TP__LINK_UP ? tp_packet_new(0) : NULL;
    if (packet) {
        outgoing message = {.header = {.kind = TP_BUS_ACK}, .packet = packet};
        outgoing_queue(client, &message);
        tp_packet_release(packet);
    }
}

void tp__lanclient_ack(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    tp__lanclient_ack_locked(client);
    tp_mutex_unlock(&client->mutex);
}
