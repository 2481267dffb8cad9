/*
 * lanclient: what a service links to be on the bus.
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
 *         ...                                    // it is on the bus, whenever the bus is there
 *         tp_lanclient_stop(client);
 *         tp_lanclient_wait(client, -1);
 *         tp_lanclient_destroy(client);
 *     }
 *
 * And from any thread, at any time:
 *
 *     tp_lanclient_send(client, peer, packet, &ticket);             // to one peer
 *     tp_lanclient_send_any(client, "db", TP_NO_KEY, packet, NULL); // to one peer of a service
 *     tp_lanclient_send_all(client, "chat", packet, NULL);          // to all of it
 *     tp_lanclient_request_any(                                     // ... and the answer comes
 *         client, "db", player & 0xFFFF, packet, 500, on_reply, context, NULL);
 *
 * NOTHING VANISHES IN SILENCE. A call that returns TP_OK has taken the message, and one of two
 * things happens to it: it reaches its receiver's handler, or it comes back: to on_returned with
 * its ticket and the reason, or, a request, to its own callback. A call that returns anything else
 * has not taken it and nothing follows. Nothing is kept for later while the bus is away: such calls
 * return TP_ERR_NOT_CONNECTED at once. TP_ERR_PEER_LOST is the one reason that leaves a doubt: the
 * message may have been handled all the same. And one case is left to on_down: what the hub had
 * taken charge of when your connection to it was lost, and then could not deliver, it can bring
 * back to nobody; it counts these (`returned.orphaned` in its stats).
 *
 * HANDLERS run on the client's own worker threads, never from inside a call of yours and never with
 * a lock held: every function here may be called from every handler, except wait and destroy. They
 * come one after another, but for time-outs of requests, which with workers > 1 may run beside
 * them. A handler that blocks holds up everything behind it, and while it does the time of requests
 * does not go on (their replies lie in the socket): so a handler must not wait for the end of a
 * request.
 *
 * PACKETS are counted (packet.h). One that a handler is given is valid until the handler returns;
 * retain it to keep it, send it on to pass it on. One that you send stays yours to release, but its
 * bytes are the bus's from then on: 16 bytes of header are written in front of the payload, in
 * place, and it is sealed. Sending it a second time returns TP_ERR_SEALED: copy it first, or use
 * send_all.
 *
 * Several clients may live in one process; they share nothing but the packets' memory.
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

/* ---- who and what ---------------------------------------------------------------------------- */

/* A peer's number on the bus: given by the hub, never given twice in the hub's life. Forget the
 * ones you know at on_down: after a reconnection your peers, and you, may have new ones. */
typedef uint32_t tp_peer_id;
#define TP_NO_PEER ((tp_peer_id)0)
#define TP_HUB     ((tp_peer_id)0) /* as the peer of a request: the hub itself */

/* A message's number, given by the client that sends it; never 0, and not used again before 2^32 -
 * 1 others. */
typedef uint32_t tp_ticket;

#define TP_NO_KEY   (-1) /* instead of a key: the peers of the service take turns */
#define TP_NAME_MAX 63   /* bytes of a service's or an instance's name: 1..63 of a-z 0-9 . _ - */

/* Somebody on the bus. */
typedef struct tp_peer {
    size_t size; /* sizeof(tp_peer) */
    tp_peer_id id;
    uint32_t reserved;
    char service[TP_NAME_MAX + 1];
    char instance[TP_NAME_MAX + 1];
} tp_peer;

typedef enum tp_message_kind {
    TP_MESSAGE_SEND = 6, /* the values are those on the wire: docs/bus-protocol.md */
    TP_MESSAGE_ANY = 7,
    TP_MESSAGE_ALL = 8,
    TP_MESSAGE_REQUEST = 9,
    TP_MESSAGE_REPLY = 10
} tp_message_kind;

/* A message's arrival: what there is to know besides its packet. Copy it to answer a request
 * later. */
typedef struct tp_delivery {
    size_t size;          /* sizeof(tp_delivery) */
    uint64_t hub;         /* which life of which hub it came through */
    tp_peer_id peer;      /* who sent it */
    tp_ticket ticket;     /* the sender's number for it; of a reply: your request's */
    tp_message_kind kind; /* how it was sent */
    int32_t key;          /* the key it was sent with, or TP_NO_KEY */
} tp_delivery;

/* A message that came back. */
typedef struct tp_returned {
    size_t size;      /* sizeof(tp_returned) */
    tp_ticket ticket; /* as the call gave it; kind REPLY: the ticket of the request it answered */
    tp_message_kind kind; /* SEND, ANY, ALL or REPLY: a request comes back to its own callback */
    tp_err reason;   /* NO_ROUTE, FULL, TOO_LARGE, PEER_LOST, NO_MEMORY, CANCELLED, PROTOCOL ... */
    tp_peer_id peer; /* whom it did not reach, or TP_NO_PEER if it did not get that far */
    uint32_t bus_reason; /* the bus's own word for it (docs/bus-protocol.md), 0: the hub was lost */
} tp_returned;

/* ---- handlers -------------------------------------------------------------------------------- */

/* All of them optional. */
typedef struct tp_lanclient_handlers {
    size_t size; /* sizeof(tp_lanclient_handlers) */

    /* On the bus, with this id; the peers that are there already are known (tp_lanclient_peers),
     * and on_peer_up follows for each of them. Called again after each reconnection. */
    void (*on_up)(tp_lanclient *client, tp_peer_id self);

    /* Off the bus. TP_OK: you stopped it. Anything else: why; it reconnects by itself. Before it,
     * in this order: every message that the hub had not confirmed has come back (TP_ERR_PEER_LOST:
     * it may have been handled), every open request has been answered with an error, every peer has
     * gone. */
    void (*on_down)(tp_lanclient *client, tp_err why);

    /* Peers come and go; never yourself. */
    void (*on_peer_up)(tp_lanclient *client, const tp_peer *peer);
    void (*on_peer_down)(tp_lanclient *client, const tp_peer *peer);

    /* A message. It counts as handled, and is confirmed to the hub, when this returns. Without this
     * handler messages are returned to their senders (TP_ERR_UNSUPPORTED). */
    void (*on_message)(tp_lanclient *client, const tp_delivery *from, tp_packet *packet);

    /* A request: answer it with tp_lanclient_reply(), here or later, from any thread. Without this
     * handler requests are answered with an error (TP_ERR_UNSUPPORTED). */
    void (*on_request)(tp_lanclient *client, const tp_delivery *from, tp_packet *packet);

    /* A message of yours came back. One sent to all may come back once for each of its
     * receivers. */
    void (*on_returned)(tp_lanclient *client, const tp_returned *returned);
} tp_lanclient_handlers;

/*
 * The answer to a request: called exactly once for each request that was taken, on a worker.
 * `error` TP_OK: `packet` is the reply and `from` says whose. Otherwise both are NULL:
 * TP_ERR_TIMED_OUT, TP_ERR_NO_ROUTE (nobody there), TP_ERR_FULL (its queue is), TP_ERR_PEER_LOST
 * (it, or the hub, was lost: the request may have been handled), TP_ERR_UNSUPPORTED (it takes no
 * requests), TP_ERR_TOO_LARGE, TP_ERR_CANCELLED (this client, or the hub, was stopped),
 * TP_ERR_PROTOCOL, TP_ERR_NO_MEMORY.
 */
typedef void tp_on_reply(
    tp_lanclient *client, tp_err error, const tp_delivery *from, tp_packet *packet, void *context);

/* ---- options --------------------------------------------------------------------------------- */

typedef struct tp_lanclient_options {
    size_t size;          /* sizeof(tp_lanclient_options) */
    tp_address address;   /* the hub's */
    const char *service;  /* what you are: 1..63 bytes of a-z 0-9 . _ - ; copied */
    const char *instance; /* which one of it, likewise; NULL: the process's number and a random one;
                             by key an instance is found again under its name; copied */
    void *context;        /* yours: tp_lanclient_context() */

    const char *io;   /* "auto", "epoll", "iocp"; copied */
    unsigned workers; /* threads, 1..64 */

    /* The workers, on which all handlers run, ask the system to be run soon: see
     * tp_thread_ask_low_latency() in process.h, which threads of your own may call as well. For
     * handlers that answer and return; set it to false if they compute for long and share their
     * processors with others, for then they are interrupted more often. What the system refuses is
     * said once in the log. */
    bool low_latency;

    unsigned request_timeout_ms; /* of requests that give 0, 1..86,400,000 */
    unsigned max_requests;       /* open at once, 1..TP_LANCLIENT_MAX_REQUESTS */
    unsigned max_unconfirmed;    /* messages the hub has not confirmed yet, 1..16,777,216 */
    unsigned backoff_min_ms;     /* reconnection waits a random time between 0 and this ... */
    unsigned backoff_max_ms;     /* ... which doubles at each failure up to this; 1..3,600,000. A
                                    link that was lost before it lasted this long is one, too */

    size_t max_frame;       /* the largest bus message taken, header included, 1,024..2^24-1 */
    size_t queue_bytes;     /* send queue, bytes, 1,024..2^32-1; an empty one takes any message */
    unsigned queue_packets; /* send queue, packets, 1..2^24-1 */
    bool nodelay;           /* true switches Nagle off */

    unsigned connect_timeout_ms; /* to be connected, and again to be welcomed, 100..600,000 */
    unsigned
        idle_timeout_ms; /* silence of the hub that counts as its loss, 0: never; else from 100 */
    unsigned drain_timeout_ms; /* tp_lanclient_stop(): time for confirmations to come, 0..600,000 */
    unsigned
        idle_trim_ms; /* after this long without a message its tables are given back too, and all
                              packets that are ready; 0: never. What a burst needed goes before */
} tp_lanclient_options;

#define TP_LANCLIENT_MAX_REQUESTS 1048576u

/* Fills in: one worker, low latency, request time-out 5 s, 65,536 requests and unconfirmed
 * messages, back-off 50 ms to 5 s, 1 MiB frames, 16 MiB and 65,536 packets of queue, Nagle off,
 * connect 5 s, idle 60 s, drain 5 s, trim after 30 s. `address` and `service` are yours to set. */
void tp_lanclient_defaults(tp_lanclient_options *options);

/* ---- life ------------------------------------------------------------------------------------ */

/* Makes a client; options, handlers and names are copied. TP_ERR_INVALID (the log says which
 * option), TP_ERR_NO_MEMORY. On error *client is NULL. */
tp_err tp_lanclient_create(const tp_lanclient_options *options,
    const tp_lanclient_handlers *handlers, tp_lanclient **client);

/* Starts the workers and begins to connect; the hub need not be there yet. TP_ERR_STATE (running),
 * TP_ERR_UNSUPPORTED (io), TP_ERR_NO_MEMORY, TP_ERR_NO_DESCRIPTORS, TP_ERR_OS. Not from a
 * handler. */
tp_err tp_lanclient_start(tp_lanclient *client);

/*
 * Begins to stop and returns at once; any thread, any handler. From here on sends return
 * TP_ERR_NOT_CONNECTED. What was sent is given drain_timeout_ms to be confirmed; meanwhile messages
 * still arrive, and replies to them can still be sent. Then the connection ends and on_down is
 * called with TP_OK. Again: no effect.
 */
void tp_lanclient_stop(tp_lanclient *client);

/* The same, but the whole stop takes stop_ms at most, beside what your own handlers take: for a
 * program that must be gone by a time. In a stop that is under way it only brings the end
 * forward. */
void tp_lanclient_stop_within(tp_lanclient *client, unsigned stop_ms);

/* Waits until a stop has finished, at most timeout_ms (-1: for ever); one that came while it was
 * being started also until that call is over, and no longer if that call fails. After TP_OK no
 * handler runs any more and it may be started again. TP_ERR_TIMED_OUT, TP_ERR_WRONG_THREAD (from a
 * handler of this client), TP_ERR_STATE (nobody asked it to stop). One thread at a time. */
tp_err tp_lanclient_wait(tp_lanclient *client, int timeout_ms);

/* Frees. A stop that is under way is waited for; one that nobody asked for happens here, without
 * drain. NULL is ignored. Not from a handler of this client: that stops the process with a
 * message. */
void tp_lanclient_destroy(tp_lanclient *client);

void *tp_lanclient_context(const tp_lanclient *client);

/* Your id on the bus now, or TP_NO_PEER while you are not on it. Any thread. */
tp_peer_id tp_lanclient_self(const tp_lanclient *client);

/* The largest packet that the hub of this link takes, in bytes, or 0 while you are not on the bus.
 * Any thread. */
size_t tp_lanclient_max_message(const tp_lanclient *client);

/* ---- sending: any thread, any handler -------------------------------------------------------- */

/*
 * What all the calls below have in common. `packet`: see the top; it stays yours to release.
 * `ticket` may be NULL; it is written before the message can come back. Messages from one thread to
 * one receiver arrive in the order of the calls. Errors, after which nothing else happens:
 *
 *     TP_ERR_NOT_CONNECTED  not on the bus now, or stopping
 *     TP_ERR_FULL           the send queue, max_unconfirmed or max_requests is reached
 *     TP_ERR_TOO_LARGE      larger than the hub accepts: tp_lanclient_max_message()
 *     TP_ERR_SEALED         the packet has been sent before; or whatever error the packet carries
 *     TP_ERR_INVALID        a name, key, peer or time-out is out of range, or an argument is NULL
 *     TP_ERR_NO_MEMORY
 */

/* To one peer (yourself included). */
tp_err tp_lanclient_send(
    tp_lanclient *client, tp_peer_id peer, tp_packet *packet, tp_ticket *ticket);

/* To one peer of a service, yourself included if you are of it. `key` 0..65,535: the same peer for
 * the same key, as long as it is there; the others keep theirs when one comes or goes. TP_NO_KEY:
 * in turn. */
tp_err tp_lanclient_send_any(
    tp_lanclient *client, const char *service, int32_t key, tp_packet *packet, tp_ticket *ticket);

/* To every other peer of a service; `service` NULL: to every other peer on the bus. If there is
 * none, it comes back with TP_ERR_NO_ROUTE. */
tp_err tp_lanclient_send_all(
    tp_lanclient *client, const char *service, tp_packet *packet, tp_ticket *ticket);

/* Asks a peer (TP_HUB: the hub, which knows the request "stats"). `on_reply` is called exactly once
 * if this returns TP_OK, and not otherwise; it may be called before this returns. `timeout_ms`
 * 1..86,400,000, 0: the option's; its resolution is about 20 ms. Time in which a handler or a
 * stopped process kept the client from listening to the hub does not count. */
tp_err tp_lanclient_request(tp_lanclient *client, tp_peer_id peer, tp_packet *packet,
    unsigned timeout_ms, tp_on_reply *on_reply, void *context, tp_ticket *ticket);

/* Asks one peer of a service; `key` as for send_any. Which peer it is only the hub knows: if it is
 * lost before it has handled the request, that comes back at once, as TP_ERR_PEER_LOST; if it is
 * lost later, between handling it and answering, nobody is left who would know, and the time-out
 * tells. Where that is too late, ask a peer of your choice (tp_lanclient_peers) with
 * tp_lanclient_request(): its end is the end of all requests to it. */
tp_err tp_lanclient_request_any(tp_lanclient *client, const char *service, int32_t key,
    tp_packet *packet, unsigned timeout_ms, tp_on_reply *on_reply, void *context,
    tp_ticket *ticket);

/* Answers a request, once. `request` is what on_request was given, or a copy of it.
 * TP_ERR_PEER_LOST if it came through a hub that has been lost since. Allowed while stopping. */
tp_err tp_lanclient_reply(
    tp_lanclient *client, const tp_delivery *request, tp_packet *packet, tp_ticket *ticket);

/* Refuses to answer a request: its sender gets `reason` (TP_ERR_UNSUPPORTED, TP_ERR_FULL,
 * TP_ERR_NO_ROUTE, TP_ERR_NO_MEMORY, TP_ERR_CANCELLED or TP_ERR_PROTOCOL) at once instead of a
 * time-out, which it has if this fails. Another message that is refused comes back to its
 * sender's on_returned; but it counts as handled when on_message returns, whether this has failed
 * or not, and comes back a second time if the connection is lost just then: see
 * tp_lanclient_decline(). */
tp_err tp_lanclient_refuse(tp_lanclient *client, const tp_delivery *request, tp_err reason);

/* Gives the message or request in hand back to its sender, once, with `reason` as above (any
 * other counts as TP_ERR_UNSUPPORTED): from within on_message or on_request alone, with the
 * delivery that they were called with. If there is neither room nor memory for that, the
 * connection is cut (logged), and the hub returns the message with all others that are not
 * confirmed. */
void tp_lanclient_decline(tp_lanclient *client, const tp_delivery *from, tp_err reason);

/* ---- looking around: any thread, any handler ------------------------------------------------- */

/* The peers of a service (NULL: all), by rising id, at most `room` of them into `peers`;
 * peers[0].size must be set to sizeof(tp_peer) if `room` is not 0. Returns how many there are,
 * which may be more than `room`. Without yourself. */
size_t tp_lanclient_peers(
    const tp_lanclient *client, const char *service, tp_peer *peers, size_t room);

/* One peer; peer->size must be set. False if it is not on the bus. */
bool tp_lanclient_find_peer(const tp_lanclient *client, tp_peer_id id, tp_peer *peer);

/* Since creation, unless it says now. sent = confirmed + lost + unconfirmed. */
typedef struct tp_lanclient_stats {
    size_t size;            /* sizeof(tp_lanclient_stats), set by the caller */
    uint64_t sent;          /* messages taken: sends, requests, replies, refusals */
    uint64_t confirmed;     /* ... of which the hub has taken charge */
    uint64_t lost;          /* ... and came back because the hub was lost before it said so */
    uint64_t unconfirmed;   /* ... now */
    uint64_t returned;      /* messages the bus sent back, requests included */
    uint64_t received;      /* messages handled: of on_message, on_request, replies and refusals */
    uint64_t requests;      /* requests taken */
    uint64_t requests_open; /* now */
    uint64_t replies;       /* requests answered with a reply */
    uint64_t timed_out;     /* ... with TP_ERR_TIMED_OUT */
    uint64_t peers_gone;    /* ... with TP_ERR_PEER_LOST, for whom it had asked was gone */
    uint64_t late;          /* replies and errors for requests that had been answered already */
    uint64_t connections;   /* times it came up */
    uint64_t connect_failures; /* attempts that did not get as far as on_up */
    uint64_t trims;            /* times memory was given back */
} tp_lanclient_stats;

/* Any thread; exact when nothing moves, and close to it otherwise. */
void tp_lanclient_get_stats(const tp_lanclient *client, tp_lanclient_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
