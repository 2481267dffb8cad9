/*
 * lanclient: connects a service to the bus. A service links this library.
 *
 *     #include <twinport/lanclient.h>
 *
 *     static void on_request(tp_lanclient *client, const tp_delivery *from, tp_packet *packet) {
 *         tp_packet *answer = tp_packet_new(8);
 *         tp_packet_put_u64(answer, tp_packet_get_u64(packet) + 1);
 *         tp_lanclient_reply(client, from, answer, NULL);
 *         tp_packet_release(answer);
 *     }
 *
 *     int main(void) {
 *         tp_lanclient_options options;
 *         tp_lanclient_defaults(&options);
 *         options.service = "counter";
 *         tp_address_parse("127.0.0.1:7400", &options.address);
 *
 *         tp_lanclient_handlers handlers = {.size = sizeof handlers, .on_request = on_request};
 *         tp_lanclient *client = NULL;
 *         tp_err error = tp_lanclient_create(&options, &handlers, &client);
 *         if (!error) error = tp_lanclient_start(client);
 *         ...                         // connected whenever the hub can be reached
 *         tp_lanclient_stop(client);
 *         tp_lanclient_wait(client, -1);
 *         tp_lanclient_destroy(client);
 *     }
 *
 * From any thread, at any time:
 *
 *     tp_lanclient_send(client, peer, packet, &ticket);             // to one peer
 *     tp_lanclient_send_any(client, "db", TP_NO_KEY, packet, NULL); // to one peer of a service
 *     tp_lanclient_send_all(client, "chat", packet, NULL);          // to all peers of a service
 *     tp_lanclient_request_any(                                     // with an answer
 *         client, "db", player & 0xFFFF, packet, 500, on_reply, context, NULL);
 *
 * NO MESSAGE IS LOST SILENTLY. A call that returns TP_OK has accepted the message. Then the message
 * either reaches its receiver's handler, or it returns: to on_returned, with its ticket and the
 * reason; a request returns to its own callback. A call that returns an error has not accepted the
 * message, and no callback follows. Messages are not stored while the client is not connected: the
 * call returns TP_ERR_NOT_CONNECTED at once. Two limits:
 *
 *   - TP_ERR_PEER_LOST leaves the outcome open: the message may have been processed.
 *   - If the connection to the hub is lost, the hub cannot return a message that it had
 *     acknowledged before and could not deliver afterwards. It counts these as `returned.orphaned`
 *     in its statistics. on_down reports the loss of the connection.
 *
 * HANDLERS run on the client's own worker threads, never inside a call of the application, and
 * never with a lock held. Every function of this header may be called from every handler, except
 * tp_lanclient_wait() and tp_lanclient_destroy(). Handlers run one after another; only callbacks of
 * requests that time out may run beside them, if `workers` > 1. A handler that blocks delays all
 * events behind it. Meanwhile the time-outs of requests stand still, because their replies may be
 * waiting in the socket. So a handler must not wait for the end of a request.
 *
 * PACKETS are reference counted (packet.h). The packet given to a handler is valid until the
 * handler returns; retain it to keep it, or send it to forward it. The caller of a send keeps its
 * own reference and releases it, but must not write to the packet any more: the bus writes its
 * 16-byte header in front of the payload, in place, and seals the packet. A second send of the
 * packet returns TP_ERR_SEALED: copy it before, or use tp_lanclient_send_all().
 *
 * A message is *acknowledged* when the hub has reported that it has processed it; names in this
 * header call it `confirmed`, and before that `unconfirmed`.
 *
 * Several clients may exist in one process; they share only the memory for packets.
 */
#ifndef TWINPORT_LANCLIENT_H
#define TWINPORT_LANCLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "twinport/address.h"
#include "twinport/error.h"
#include "twinport/packet.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tp_lanclient tp_lanclient;

/* ---- peers and messages ---------------------------------------------------------------------- */

/* A peer's id on the bus: assigned by the hub, and never twice in the hub's lifetime. Discard all
 * ids at on_down: after a reconnection the client's own id and those of the peers may be new. */
typedef uint32_t tp_peer_id;
#define TP_NO_PEER ((tp_peer_id)0)
#define TP_HUB     ((tp_peer_id)0) /* the hub itself, as the peer of a request */

/* A message's number, assigned by the client that sends it. Never 0; repeats only after 2^32 - 1
 * messages. */
typedef uint32_t tp_ticket;

#define TP_NO_KEY   (-1) /* instead of a key: the peers of the service take turns */
#define TP_NAME_MAX 63   /* bytes of the name of a service or instance: 1..63 of a-z 0-9 . _ - */

/* A peer on the bus. */
typedef struct tp_peer {
    size_t size; /* sizeof(tp_peer) */
    tp_peer_id id;
    uint32_t reserved;
    char service[TP_NAME_MAX + 1];
    char instance[TP_NAME_MAX + 1];
} tp_peer;

typedef enum tp_message_kind {
    TP_MESSAGE_SEND = 6, /* the values are those of the bus protocol: docs/bus-protocol.md */
    TP_MESSAGE_ANY = 7,
    TP_MESSAGE_ALL = 8,
    TP_MESSAGE_REQUEST = 9,
    TP_MESSAGE_REPLY = 10
} tp_message_kind;

/* A received message or request, without its packet. Copy it to answer a request later. */
typedef struct tp_delivery {
    size_t size;          /* sizeof(tp_delivery) */
    uint64_t hub;         /* the instance of the hub it came through; new at each start of a hub */
    tp_peer_id peer;      /* the sender */
    tp_ticket ticket;     /* the sender's ticket; in a reply, the ticket of the request */
    tp_message_kind kind; /* how it was sent */
    int32_t key;          /* the key it was sent with, or TP_NO_KEY */
} tp_delivery;

/* A returned message. */
typedef struct tp_returned {
    size_t size;      /* sizeof(tp_returned) */
    tp_ticket ticket; /* as the call stored it; kind REPLY: the ticket of the request it answered */
    tp_message_kind kind; /* SEND, ANY, ALL or REPLY; a request returns to its own callback */
    /* TP_ERR_NO_ROUTE, TP_ERR_FULL, TP_ERR_TOO_LARGE, TP_ERR_PEER_LOST, TP_ERR_NO_MEMORY,
     * TP_ERR_CANCELLED, TP_ERR_UNSUPPORTED or TP_ERR_PROTOCOL. */
    tp_err reason;
    tp_peer_id peer;     /* the peer it did not reach, or TP_NO_PEER if it was not sent to one */
    uint32_t bus_reason; /* the bus's reason (docs/bus-protocol.md); 0: the hub was lost */
} tp_returned;

/* ---- handlers -------------------------------------------------------------------------------- */

/* All handlers are optional (NULL). */
typedef struct tp_lanclient_handlers {
    size_t size; /* sizeof(tp_lanclient_handlers) */

    /* The client is on the bus, with the id `self`. tp_lanclient_peers() has the peers already;
     * on_peer_up follows for each of them. Called again after each reconnection. */
    void (*on_up)(tp_lanclient *client, tp_peer_id self);

    /* The client is off the bus. `why`: TP_OK after tp_lanclient_stop(); otherwise the reason, and
     * the client reconnects by itself. Before it, in this order: each message that the hub had not
     * acknowledged is returned (TP_ERR_PEER_LOST: it may have been processed), each open request is
     * answered with an error, on_peer_down is called for each peer. */
    void (*on_down)(tp_lanclient *client, tp_err why);

    /* A peer joined or left the bus. Not called for this client itself. */
    void (*on_peer_up)(tp_lanclient *client, const tp_peer *peer);
    void (*on_peer_down)(tp_lanclient *client, const tp_peer *peer);

    /* A message. It is acknowledged to the hub when this handler has returned. Without this handler
     * messages return to their senders (TP_ERR_UNSUPPORTED). */
    void (*on_message)(tp_lanclient *client, const tp_delivery *from, tp_packet *packet);

    /* A request. Answer it with tp_lanclient_reply() or tp_lanclient_refuse(), here or later, from
     * any thread. Without this handler requests are answered with an error (TP_ERR_UNSUPPORTED). */
    void (*on_request)(tp_lanclient *client, const tp_delivery *from, tp_packet *packet);

    /* A message of this client returned. A message to all may return once for each of its
     * receivers. */
    void (*on_returned)(tp_lanclient *client, const tp_returned *returned);
} tp_lanclient_handlers;

/*
 * The answer to a request. Called exactly once for each accepted request, on a worker.
 *
 * `error` TP_OK: `packet` is the reply and `from` describes it; both are valid until the callback
 * returns. Otherwise both are NULL:
 *
 *     TP_ERR_TIMED_OUT    no answer in time
 *     TP_ERR_NO_ROUTE     no such peer, or no peer of the service
 *     TP_ERR_FULL         the receiver's queue or its limit of unacknowledged messages is full
 *     TP_ERR_PEER_LOST    the receiver, or the hub, was lost: the request may have been processed
 *     TP_ERR_UNSUPPORTED  the receiver has no handler for requests
 *     TP_ERR_TOO_LARGE    larger than the receiver accepts
 *     TP_ERR_CANCELLED    this client, or the hub, was stopped
 *     TP_ERR_PROTOCOL     the request is malformed
 *     TP_ERR_NO_MEMORY    there was no memory
 *
 * Some of them are also what a receiver may refuse with: tp_lanclient_refuse().
 */
typedef void tp_on_reply(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context);

/* ---- options --------------------------------------------------------------------------------- */

typedef struct tp_lanclient_options {
    size_t size;         /* sizeof(tp_lanclient_options) */
    tp_address address;  /* the hub's address */
    const char *service; /* name of this service: 1..63 bytes of a-z 0-9 . _ - ; copied */
    /* Name of this instance, likewise; copied. A choice by key finds an instance again by this name
     * after a restart. NULL: the process id and a random number. */
    const char *instance;
    void *context; /* of the application: tp_lanclient_context() */

    const char *io;   /* "auto", "epoll" or "iocp"; copied */
    unsigned workers; /* worker threads, 1..64 */

    /* Request low scheduling latency for the workers, on which all handlers run: see
     * tp_thread_ask_low_latency() in process.h, which other threads may call as well. For handlers
     * that answer and return. Set it to false if handlers compute for long and share their
     * processors with other threads, because they are then interrupted more often. If the system
     * refuses, that is logged once. */
    bool low_latency;

    unsigned request_timeout_ms; /* time-out of requests with timeout_ms 0, 1..86,400,000 */
    unsigned max_requests;       /* open requests, 1..TP_LANCLIENT_MAX_REQUESTS */
    unsigned max_unconfirmed;    /* unacknowledged messages, 1..16,777,216 */
    /* Back-off: a reconnection waits a random time between 0 and a bound. The bound begins at
     * backoff_min_ms and doubles at each failure up to backoff_max_ms; 1..3,600,000. A link that
     * lasted less than backoff_max_ms counts as a failure. */
    unsigned backoff_min_ms;
    unsigned backoff_max_ms;

    size_t max_frame;       /* largest bus message accepted, header included, 1,024..2^24-1 */
    size_t queue_bytes;     /* send queue, bytes, 1,024..2^32-1; empty: any message */
    unsigned queue_packets; /* send queue, packets, 1..2^24-1 */
    bool nodelay;           /* true: Nagle's algorithm is off */

    /* For the connection, and again for WELCOME and the list of peers, 100..600,000. */
    unsigned connect_timeout_ms;
    /* Silence of the hub after which it counts as lost, 0: never; otherwise from 100. */
    unsigned idle_timeout_ms;
    /* tp_lanclient_stop(): time for acknowledgements, 0..600,000. */
    unsigned drain_timeout_ms;
    /* After this time without a message the client frees its tables and all cached packets; 0:
     * never; at most 86,400,000. Memory that a burst needed is freed earlier. */
    unsigned idle_trim_ms;
} tp_lanclient_options;

#define TP_LANCLIENT_MAX_REQUESTS 1048576u

/* Fills in the defaults: one worker, low latency, request time-out 5 s, 65,536 open requests,
 * 65,536 unacknowledged messages, back-off 50 ms to 5 s, 1 MiB frames, a send queue of 16 MiB and
 * 65,536 packets, Nagle off, connect 5 s, idle 60 s, drain 5 s, trim after 30 s. `address` and
 * `service` must be set by the caller. Any thread. */
void tp_lanclient_defaults(tp_lanclient_options *options);

/* ---- creation, start and stop ---------------------------------------------------------------- */

/* Creates a client, which is not started. Options, handlers and names are copied. TP_ERR_INVALID
 * (the log names the option), TP_ERR_NO_MEMORY. On error *client is NULL. The caller destroys the
 * client with tp_lanclient_destroy(). Any thread. */
tp_err tp_lanclient_create(const tp_lanclient_options *options,
    const tp_lanclient_handlers *handlers, tp_lanclient **client);

/* Starts the workers and begins to connect; the hub need not be reachable yet. TP_ERR_STATE (the
 * client runs), TP_ERR_UNSUPPORTED (`io`), TP_ERR_NO_MEMORY, TP_ERR_NO_DESCRIPTORS, TP_ERR_OS. Not
 * from a handler. */
tp_err tp_lanclient_start(tp_lanclient *client);

/*
 * Begins to stop and returns at once. Any thread, any handler. From here on sends return
 * TP_ERR_NOT_CONNECTED. Sent messages get drain_timeout_ms to be acknowledged; meanwhile messages
 * are still received, and can still be answered. Then the connection ends and on_down is called
 * with TP_OK. A second call has no effect.
 */
void tp_lanclient_stop(tp_lanclient *client);

/* As tp_lanclient_stop(), but the whole stop takes at most stop_ms, not counting the time that
 * handlers take: for a program that must end by a certain time. If a stop is in progress, this call
 * can only shorten it. */
void tp_lanclient_stop_within(tp_lanclient *client, unsigned stop_ms);

/* Waits until a stop has finished, at most timeout_ms (-1: without limit). If the stop was
 * requested during tp_lanclient_start(), that call is waited for as well, and if it fails the wait
 * ends. After TP_OK no handler runs any more, and the client may be started again.
 * TP_ERR_TIMED_OUT, TP_ERR_WRONG_THREAD (called from a handler of this client), TP_ERR_STATE (no
 * stop was requested). One thread at a time. */
tp_err tp_lanclient_wait(tp_lanclient *client, int timeout_ms);

/* Frees the client. It waits for a stop in progress; if none was requested, it stops without drain.
 * NULL is ignored. Not from a handler of this client: that ends the process with a message. No
 * other call may be in progress. */
void tp_lanclient_destroy(tp_lanclient *client);

void *tp_lanclient_context(const tp_lanclient *client);

/* The client's own id, or TP_NO_PEER while it is not on the bus. Any thread. */
tp_peer_id tp_lanclient_self(const tp_lanclient *client);

/* The largest packet, in bytes, that the hub of the current link accepts; 0 while the client is not
 * on the bus. Any thread. */
size_t tp_lanclient_max_message(const tp_lanclient *client);

/* ---- sending: any thread, any handler -------------------------------------------------------- */

/*
 * Common to all calls below. `packet`: see PACKETS above; the caller keeps its reference. `ticket`
 * may be NULL; it is stored before the message can return. Messages from one thread to one receiver
 * arrive in the order of the calls. Errors, after which nothing else happens:
 *
 *     TP_ERR_NOT_CONNECTED  the client is not on the bus, or is stopping
 *     TP_ERR_FULL           the send queue, max_unconfirmed or max_requests is full
 *     TP_ERR_TOO_LARGE      larger than the hub accepts: tp_lanclient_max_message()
 *     TP_ERR_SEALED         the packet has been sent before
 *     TP_ERR_INVALID        a name, key, peer or time-out is out of range, or an argument is NULL
 *     TP_ERR_NO_MEMORY
 *     ...                   the error that the packet carries, if any
 */

/* Sends to one peer; this client's own id is allowed. */
tp_err tp_lanclient_send(
    tp_lanclient *client, tp_peer_id peer, tp_packet *packet, tp_ticket *ticket);

/* Sends to one peer of a service; this client may be chosen if it belongs to the service. `key`
 * 0..65,535 chooses the same peer for the same key as long as that peer is on the bus; when a peer
 * joins or leaves, only that peer's keys move. TP_NO_KEY: the peers take turns. */
tp_err tp_lanclient_send_any(
    tp_lanclient *client, const char *service, int32_t key, tp_packet *packet, tp_ticket *ticket);

/* Sends to every other peer of a service; `service` NULL: to every other peer on the bus. If there
 * is none, the message returns with TP_ERR_NO_ROUTE. */
tp_err tp_lanclient_send_all(
    tp_lanclient *client, const char *service, tp_packet *packet, tp_ticket *ticket);

/*
 * Sends a request to a peer. TP_HUB: to the hub, which answers the request "stats" with its
 * statistics as text.
 *
 * If the call returns TP_OK, `on_reply` is called exactly once with `context`, possibly before this
 * call returns; otherwise it is not called. `timeout_ms` 1..86,400,000, 0: request_timeout_ms; the
 * resolution is about 20 ms. Time in which a handler, or a stopped process, kept the client from
 * receiving does not count.
 */
tp_err tp_lanclient_request(tp_lanclient *client, tp_peer_id peer, tp_packet *packet,
    unsigned timeout_ms, tp_on_reply *on_reply, void *context, tp_ticket *ticket);

/* Sends a request to one peer of a service; `key` as for tp_lanclient_send_any(). Only the hub
 * knows which peer got it. If that peer is lost before it has processed the request, the request
 * returns at once with TP_ERR_PEER_LOST. If it is lost later, between processing and answering,
 * only the time-out ends the request. Where that is too late, choose a peer (tp_lanclient_peers())
 * and use tp_lanclient_request(): when that peer is lost, all requests to it end. */
tp_err tp_lanclient_request_any(tp_lanclient *client, const char *service, int32_t key,
    tp_packet *packet, unsigned timeout_ms, tp_on_reply *on_reply, void *context,
    tp_ticket *ticket);

/* Answers a request, once. `request`: the delivery that on_request was called with, or a copy.
 * TP_ERR_PEER_LOST if the hub through which it came has been lost since and the client is connected
 * to another, or to a restarted one. Allowed while the client stops. */
tp_err tp_lanclient_reply(
    tp_lanclient *client, const tp_delivery *request, tp_packet *packet, tp_ticket *ticket);

/* Refuses a request: its sender gets `reason` (TP_ERR_UNSUPPORTED, TP_ERR_FULL, TP_ERR_NO_ROUTE,
 * TP_ERR_NO_MEMORY, TP_ERR_CANCELLED or TP_ERR_PROTOCOL) at once. If this call fails, the sender
 * gets a time-out. Another message that is refused returns to its sender's on_returned. But it also
 * counts as processed when on_message returns, whether this call succeeded or not, and returns a
 * second time if the connection is lost just then: see tp_lanclient_decline(). */
tp_err tp_lanclient_refuse(tp_lanclient *client, const tp_delivery *request, tp_err reason);

/* Returns the current message or request to its sender, exactly once, with `reason` as above (any
 * other reason counts as TP_ERR_UNSUPPORTED). Only within on_message or on_request, with the
 * delivery they were called with. If the send queue is full or there is no memory, the connection
 * is ended (logged), and the hub returns this message with all others that are not acknowledged. */
void tp_lanclient_decline(tp_lanclient *client, const tp_delivery *from, tp_err reason);

/* ---- queries: any thread, any handler -------------------------------------------------------- */

/* Copies the peers of a service (NULL: all), sorted by id, at most `capacity` of them, into
 * `peers`. If `capacity` is not 0, peers[0].size must be set to sizeof(tp_peer). Returns the number
 * of matching peers, which may exceed `capacity`. This client itself is not included. */
size_t tp_lanclient_peers(
    const tp_lanclient *client, const char *service, tp_peer *peers, size_t capacity);

/* Copies one peer; peer->size must be set to sizeof(tp_peer). False if it is not on the bus. */
bool tp_lanclient_find_peer(const tp_lanclient *client, tp_peer_id id, tp_peer *peer);

/* Counters since creation, except those marked "now". sent = confirmed + lost + unconfirmed. */
typedef struct tp_lanclient_stats {
    size_t size;               /* sizeof(tp_lanclient_stats), set by the caller */
    uint64_t sent;             /* accepted messages: sends, requests, replies, refusals */
    uint64_t confirmed;        /* accepted messages that the hub has acknowledged */
    uint64_t lost;             /* accepted messages that returned when the hub was lost */
    uint64_t unconfirmed;      /* accepted messages that are unacknowledged now */
    uint64_t returned;         /* messages returned by the bus, requests included */
    uint64_t received;         /* processed messages, requests, replies and refusals */
    uint64_t requests;         /* accepted requests */
    uint64_t requests_open;    /* open requests now */
    uint64_t replies;          /* requests answered with a reply */
    uint64_t timed_out;        /* requests answered with TP_ERR_TIMED_OUT */
    uint64_t peers_gone;       /* requests answered with TP_ERR_PEER_LOST, because the peer left */
    uint64_t late;             /* replies and errors for requests that were answered already */
    uint64_t connections;      /* times the link came up */
    uint64_t connect_failures; /* attempts that failed before on_up */
    uint64_t trims;            /* times idle memory was freed */
} tp_lanclient_stats;

/* Fills in the counters; stats->size must be set. Any thread. Exact while nothing is in motion,
 * otherwise approximate. */
void tp_lanclient_get_stats(const tp_lanclient *client, tp_lanclient_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
