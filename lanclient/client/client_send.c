/*
 * What goes to the hub. Any thread; one message at a time, under the client's mutex.
 */
#include <string.h>

#include "core/packet/packet_internal.h"
#include "lanclient/client/client.h"
#include "twinport/log.h"

/* A message on its way out. */
typedef struct outgoing {
    tp_bus_header header; /* correlation 0: a new ticket is given */
    tp_packet *packet;
    tp_ticket *ticket; /* where to write it, or NULL */
    uint64_t hub;      /* 0, or the only hub it may go to */
    uint32_t handles;  /* deliveries that are handled by this very message: 0 or 1 */
} outgoing;

/* ---- under the mutex ------------------------------------------------------------------------- */

/* May the message be taken? Replies end something, so they still pass while stopping. */
static tp_err admit(const tp_lanclient *client, const outgoing *message) {
    if (client->state != TP__LINK_UP || (client->stopping && message->hub == 0)) {
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

/* It is given only when the message is taken: then it becomes last_ticket. */
static tp_ticket next_ticket(const tp_lanclient *client) {
    tp_ticket next = client->last_ticket + 1;
    return next != 0 ? next : 1;
}

/* Why the network has not taken a packet. */
static tp_err refusal(tp_lanclient *client) {
    tp_session_info info = {.size = sizeof info};
    bool there = tp_server_session_info(client->network, client->session, &info) && !info.ending;
    return there ? TP_ERR_FULL : TP_ERR_NOT_CONNECTED;
}

/* The network refused the packet, so nobody but the caller has it: it is as it was before, and may
 * be sent again. */
static void give_back(tp_packet *packet) {
    size_t cursor = tp_packet_size(packet) - tp_packet_left(packet) - TP_BUS_HEADER;
    packet->sealed = false;
    tp_packet_pull_head(packet, TP_BUS_HEADER);
    tp_packet_seek(packet, cursor);
}

/* Writes the header and queues the packet. */
static tp_err queue(tp_lanclient *client, outgoing *message) {
    uint8_t *head = tp_packet_push_head(message->packet, TP_BUS_HEADER);
    if (!head) {
        return tp_packet_error(message->packet);
    }
    uint32_t handled = atomic_load_explicit(&client->handled, memory_order_acquire);
    handled += message->handles;
    message->header.source = handled;
    tp_bus_write(head, &message->header);
    if (!tp_server_send(client->network, client->session, message->packet)) {
        give_back(message->packet);
        return refusal(client);
    }
    atomic_store_explicit(&client->told, handled, memory_order_relaxed);
    return TP_OK;
}

/* Enters the message among the unconfirmed ones and queues it. */
static tp_err post(tp_lanclient *client, outgoing *message) {
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
    tp_err error = queue(client, message);
    if (error) {
        tp__unconfirmed_undo(&client->unconfirmed);
    } else {
        client->sent++;
    }
    return error;
}

/* ---- messages -------------------------------------------------------------------------------- */

/* An attempt to connect that could not be scheduled is made up for by whoever misses it: one only,
 * if several do at once. */
static void revive(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    bool stranded = client->state == TP__LINK_STRANDED;
    client->state = stranded ? TP__LINK_WAITING : client->state;
    tp_mutex_unlock(&client->mutex);
    if (stranded) {
        tp__link_schedule(client, false);
    }
}

static tp_err send(tp_lanclient *client, outgoing *message) {
    tp_mutex_lock(&client->mutex);
    tp_err error = admit(client, message);
    if (!error && message->header.correlation != 0) {
        error = post(client, message); /* it answers, under the asker's number */
    } else if (!error) {
        message->header.correlation = next_ticket(client);
        error = post(client, message);
        client->last_ticket = error ? client->last_ticket : message->header.correlation;
    }
    tp_mutex_unlock(&client->mutex);
    if (TP_UNLIKELY(error == TP_ERR_NOT_CONNECTED)) {
        revive(client);
    }
    return error;
}

/* The service's hash into the destination. */
static tp_err address_service(tp_bus_header *header, const char *service, int32_t key) {
    size_t size = service ? strlen(service) : 0;
    if (!tp_bus_name_valid(service, size) || key < TP_NO_KEY || key > UINT16_MAX) {
        return TP_ERR_INVALID;
    }
    header->destination = tp_bus_service_hash(service, size);
    if (header->destination == 0) {
        return TP_ERR_INVALID; /* it stands for all services: the hub takes none of that name */
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
    return send(client, &message);
}

tp_err tp_lanclient_send_any(
    tp_lanclient *client, const char *service, int32_t key, tp_packet *packet, tp_ticket *ticket) {
    outgoing message = {.header = {.kind = TP_BUS_ANY}, .packet = packet, .ticket = ticket};
    tp_err error = address_service(&message.header, service, key);
    return error || !packet ? TP_ERR_INVALID : send(client, &message);
}

tp_err tp_lanclient_send_all(
    tp_lanclient *client, const char *service, tp_packet *packet, tp_ticket *ticket) {
    outgoing message = {.header = {.kind = TP_BUS_ALL}, .packet = packet, .ticket = ticket};
    tp_err error = service ? address_service(&message.header, service, TP_NO_KEY) : TP_OK;
    return error || !packet ? TP_ERR_INVALID : send(client, &message);
}

/* ---- requests -------------------------------------------------------------------------------- */

/*
 * The request is in the table before its message leaves: the reply finds it. If the message cannot
 * leave it is taken out again, unless its time has passed meanwhile and its callback has been
 * called: then the caller is told that it was taken, as it was.
 */
static tp_err post_request(
    tp_lanclient *client, outgoing *message, tp__request request, unsigned timeout_ms) {
    request.ticket = message->header.correlation = next_ticket(client);
    uint64_t now_ms = tp__lanclient_now_locked(client);
    tp_err error = tp__requests_add(&client->requests, request, now_ms, timeout_ms);
    if (error) {
        return error;
    }
    error = post(client, message);
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

static tp_err request(tp_lanclient *client, outgoing *message, unsigned timeout_ms,
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
    tp_err error = admit(client, message);
    if (!error) {
        error = post_request(client, message, entry, timeout_ms);
    }
    tp_mutex_unlock(&client->mutex);
    if (TP_LIKELY(!error)) {
        tp__tick_arm(client);
    } else if (error == TP_ERR_NOT_CONNECTED) {
        revive(client);
    }
    return error;
}

tp_err tp_lanclient_request(tp_lanclient *client, tp_peer_id peer, tp_packet *packet,
    unsigned timeout_ms, tp_on_reply *on_reply, void *context, tp_ticket *ticket) {
    outgoing message = {.header = {.kind = TP_BUS_REQUEST, .destination = peer},
        .packet = packet,
        .ticket = ticket};
    return request(client, &message, timeout_ms, on_reply, context);
}

tp_err tp_lanclient_request_any(tp_lanclient *client, const char *service, int32_t key,
    tp_packet *packet, unsigned timeout_ms, tp_on_reply *on_reply, void *context,
    tp_ticket *ticket) {
    outgoing message = {.header = {.kind = TP_BUS_REQUEST, .flags = TP_BUS_TO_SERVICE},
        .packet = packet,
        .ticket = ticket};
    tp_err error = address_service(&message.header, service, key);
    return error ? error : request(client, &message, timeout_ms, on_reply, context);
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
    return send(client, &message);
}

static uint16_t reason_of(tp_err error) {
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

static tp_err refuse(
    tp_lanclient *client, const tp_delivery *asked, tp_err reason, uint32_t handles) {
    uint16_t key = reason_of(reason);
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
        .handles = handles};
    if (!message.packet) {
        return TP_ERR_NO_MEMORY;
    }
    tp_bus_write_error(tp_packet_put_space(message.packet, TP_BUS_ERROR_FIXED), &error);
    tp_err outcome = send(client, &message);
    tp_packet_release(message.packet);
    return outcome;
}

tp_err tp_lanclient_refuse(tp_lanclient *client, const tp_delivery *asked, tp_err reason) {
    return refuse(client, asked, reason, 0);
}

/* Both in one message: were the link lost between the two, the sender would get it back twice.
 * Until `handled` follows, another thread's message may say the older count, which does no harm.
 * If it does not leave, `handled` must not be told: behind the cut nothing is, and the hub
 * returns what is not confirmed. (`session` is changed by the link's handlers alone.) */
void tp_lanclient_decline(tp_lanclient *client, const tp_delivery *from, tp_err reason) {
    tp_err error = refuse(client, from, reason_of(reason) ? reason : TP_ERR_UNSUPPORTED, 1);
    if (error && tp_server_disconnect(client->network, client->session)) {
        TP_LOG(TP_LOG_ERROR, "lanclient %s: it cannot return what it does not take: %s",
            client->service, tp_err_text(error));
    }
}

/* ---- confirmation ---------------------------------------------------------------------------- */

/* If it cannot be sent now, the next tick tries again. */
void tp__lanclient_ack_locked(tp_lanclient *client) {
    uint32_t handled = atomic_load_explicit(&client->handled, memory_order_relaxed);
    bool news = handled != atomic_load_explicit(&client->told, memory_order_relaxed);
    tp_packet *packet = news && client->state == TP__LINK_UP ? tp_packet_new(0) : NULL;
    if (packet) {
        outgoing message = {.header = {.kind = TP_BUS_ACK}, .packet = packet};
        queue(client, &message);
        tp_packet_release(packet);
    }
}

void tp__lanclient_ack(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    tp__lanclient_ack_locked(client);
    tp_mutex_unlock(&client->mutex);
}
