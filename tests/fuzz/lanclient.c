/*
 * Any messages of a hub to lanclient, while its user sends, requests and answers, memory runs out
 * and the link is lost. Each request is answered exactly once; each sent message is acknowledged,
 * lost or unacknowledged; a user that was never up is notified of nothing; everything the client
 * sends are frames with a whole header.
 *
 *     steps of   byte 0: the action (bits 0..2), more in the same batch (bit 5)
 *                byte 1: n
 *                n bytes
 */
#include "fuzz_port.h"

#include "lanclient/client/client.h"

#define REQUESTS 64u

static tp_lanclient *client;
static bool up;
static bool open[REQUESTS]; /* requests that were accepted and are not answered yet */
static unsigned turn;

static void on_up(tp_lanclient *of, tp_peer_id self) {
    REQUIRE(of == client && !up && self != TP_NO_PEER);
    up = true;
}

static void on_down(tp_lanclient *of, tp_err why) {
    REQUIRE(of == client && up);
    (void)why;
    for (unsigned i = 0; i < REQUESTS; i++) {
        REQUIRE(!open[i]);
    }
    REQUIRE(tp_lanclient_peers(client, NULL, NULL, 0) == 0);
    up = false;
}

static void on_peer(tp_lanclient *of, const tp_peer *peer) {
    REQUIRE(of == client && up && peer->id != TP_NO_PEER);
    REQUIRE(strlen(peer->service) <= TP_NAME_MAX && strlen(peer->instance) <= TP_NAME_MAX);
}

static void on_message(tp_lanclient *of, const tp_delivery *from, tp_packet *packet) {
    REQUIRE(of == client && up && from->size == sizeof *from);
    if (from->peer != TP_NO_PEER && turn++ % 2) {
        (void)tp_lanclient_send(client, from->peer, packet, NULL);
    }
}

static void on_request(tp_lanclient *of, const tp_delivery *from, tp_packet *packet) {
    REQUIRE(of == client && up && from->kind == TP_MESSAGE_REQUEST);
    if (turn++ % 3 == 0) {
        (void)tp_lanclient_refuse(client, from, TP_ERR_FULL);
    } else {
        (void)tp_lanclient_reply(client, from, packet, NULL);
    }
}

static void on_returned(tp_lanclient *of, const tp_returned *returned) {
    REQUIRE(of == client && up && returned->reason != TP_OK);
}

static void on_reply(
    tp_lanclient *of, tp_err error, const tp_delivery *from, tp_packet *packet, void *context) {
    bool *mine = context;
    REQUIRE(of == client && *mine);
    REQUIRE((error == TP_OK) == (from != NULL) && (error == TP_OK) == (packet != NULL));
    *mine = false;
}

static void make_client(void) {
    tp_lanclient_options options;
    tp_lanclient_defaults(&options);
    options.service = "fuzz";
    options.address.port = 1;
    options.max_frame = 4096;
    options.queue_bytes = 4096;
    options.queue_packets = 40;
    options.max_unconfirmed = 20;
    options.max_requests = 16;
    const tp_lanclient_handlers handlers = {.size = sizeof handlers,
        .on_up = on_up,
        .on_down = on_down,
        .on_peer_up = on_peer,
        .on_peer_down = on_peer,
        .on_message = on_message,
        .on_request = on_request,
        .on_returned = on_returned};
    REQUIRE(tp_lanclient_create(&options, &handlers, &client) == TP_OK);
    client->lifecycle.started = true;
    fuzz_attach_worker(client->network);
}

/* ---- the hub --------------------------------------------------------------------------------- */

static void hub_sends(const tp_bus_header *header, const uint8_t *bytes, size_t size) {
    fuzz_stream *stream = &fuzz_port.streams[0];
    uint8_t frame[TP_FRAME_HEADER + TP_BUS_HEADER + 256];
    REQUIRE(size <= 256);
    if (!stream->receive) {
        return;
    }
    size_t head = header ? TP_BUS_HEADER : 0;
    tp_frame_write(frame, TP_FRAME_DATA, (uint32_t)(head + size));
    if (header) {
        tp_bus_write(frame + TP_FRAME_HEADER, header);
    }
    memcpy(frame + TP_FRAME_HEADER + head, bytes, size);
    fuzz_deliver(stream, frame, TP_FRAME_HEADER + head + size);
}

static void hub_sends_welcome(uint8_t how) {
    uint8_t bytes[TP_BUS_WELCOME_SIZE];
    const tp_bus_header header = {.kind = TP_BUS_WELCOME};
    const tp_bus_welcome welcome = {.version = TP_BUS_VERSION,
        .peer = 1 + (how >> 2),
        .hub = 1 + (how & 1),
        .max_payload = how & 2 ? 100 : 1u << 20,
        .ack_messages = how >> 4,
        .peers = how >> 6};
    tp_bus_write_welcome(bytes, &welcome);
    hub_sends(&header, bytes, sizeof bytes);
}

/* A message whose header is nearly right. */
static void hub_sends_message(const uint8_t *bytes, size_t size) {
    uint8_t seeds[5] = {0};
    for (size_t i = 0; i < 5 && i < size; i++) {
        seeds[i] = bytes[i];
    }
    uint32_t sent = (uint32_t)tp__unconfirmed_tail(&client->unconfirmed);
    const tp_bus_header header = {.kind = seeds[0] % 16,
        .flags = seeds[1],
        .key = seeds[2] % 24,
        .source = seeds[3] % 8,
        .destination = seeds[1] & TP_BUS_ACK_VALID ? sent - seeds[2] % 8 : 0,
        .correlation = client->last_ticket - seeds[4] % 16};
    size_t head = size < 5 ? size : 5;
    hub_sends(&header, bytes + head, size - head);
}

/* ---- the user -------------------------------------------------------------------------------- */

static void request(tp_peer_id peer, tp_packet *packet) {
    for (unsigned i = 0; i < REQUESTS; i++) {
        if (!open[i]) {
            open[i] = true;
            tp_err error =
                peer < 8 ? tp_lanclient_request(client, peer, packet, 1, on_reply, &open[i], NULL)
                         : tp_lanclient_request_any(
                               client, "any", TP_NO_KEY, packet, 60000, on_reply, &open[i], NULL);
            open[i] = open[i] && error == TP_OK;
            return;
        }
    }
}

static void user_acts(uint8_t how) {
    tp_packet *packet = tp_packet_new(how);
    if (!packet) {
        return;
    }
    (void)tp_packet_put_space(packet, how);
    switch (how & 3) {
    case 0:
        (void)tp_lanclient_send(client, 1 + (how >> 4), packet, NULL);
        break;
    case 1:
        (void)tp_lanclient_send_all(client, how & 4 ? "all" : NULL, packet, NULL);
        break;
    default:
        request(how >> 4, packet);
        break;
    }
    tp_packet_release(packet);
}

/* The client never connects by itself: the harness makes the connections. So the tick is its only
 * task. */
static void run_first_task(void) {
    tp__tasks *tasks = &client->network->tasks;
    if (tasks->count > 0) {
        tasks->heap[0].due_ms = 0; /* no other one is due, so they stay */
        tp__tasks_run(tasks, 0);
    }
}

/* ---- invariants ------------------------------------------------------------------------------ */

static void check_sent(void) {
    fuzz_stream *stream = &fuzz_port.streams[0];
    for (size_t at = 0; at < stream->out_size;) {
        REQUIRE(stream->out_size - at >= TP_FRAME_HEADER);
        tp_frame_header header = tp_frame_read(stream->out + at);
        at += TP_FRAME_HEADER;
        REQUIRE(stream->out_size - at >= header.length);
        REQUIRE(header.type != TP_FRAME_DATA || header.length >= TP_BUS_HEADER);
        at += header.length;
    }
    stream->out_size = 0;
}

static void check_stats(void) {
    tp_lanclient_stats stats = {.size = sizeof stats};
    tp_lanclient_get_stats(client, &stats);
    REQUIRE(stats.sent == stats.confirmed + stats.lost + stats.unconfirmed);
    uint64_t asked = 0;
    for (unsigned i = 0; i < REQUESTS; i++) {
        asked += open[i];
    }
    REQUIRE(stats.requests_open == asked);
    REQUIRE(up == (tp_lanclient_self(client) != TP_NO_PEER));
}

static void connect_link(void) {
    client->lifecycle.stopping = false;
    client->state = TP__LINK_CONNECTING;
    tp__session_start(fuzz_accept(client->network, 0), fuzz_worker);
}

static void lose_link(tp_err error) {
    client->lifecycle.stopping = true; /* so that the client does not reconnect */
    fuzz_end(&fuzz_port.streams[0], error);
    fuzz_run();
    REQUIRE(tp_server_session_count(client->network) == 0 && !up);
}

static void do_step(unsigned what, uint8_t how, const uint8_t *bytes, size_t size) {
    switch (what) {
    case 0:
        hub_sends_welcome(how);
        break;
    case 1:
        hub_sends(NULL, bytes, size);
        break;
    case 2:
        user_acts(how);
        break;
    case 3:
        run_first_task();
        break;
    case 4:
        tp__memory_fail_after(1 + how % 4);
        hub_sends_message(bytes, size);
        user_acts(how);
        tp__memory_fail_after(-1);
        break;
    case 5:
        lose_link(TP_ERR_RESET);
        connect_link();
        break;
    default:
        hub_sends_message(bytes, size);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!client) {
        make_client();
    }
    connect_link();
    for (size_t at = 0; at + 2 <= size;) {
        unsigned what = data[at] & 7u;
        size_t count = what == 1 || what == 4 || what > 5 ? data[at + 1] : 0;
        if (count > size - at - 2) {
            count = size - at - 2;
        }
        client->lifecycle.stopping = fuzz_port.streams[0].socket == NULL;
        do_step(what, data[at + 1], data + at + 2, count);
        if (!(data[at] & 0x20)) {
            client->lifecycle.stopping |= fuzz_port.streams[0].closing;
            fuzz_run();
        }
        if (fuzz_port.streams[0].socket == NULL) {
            connect_link();
        }
        at += 2 + count;
        check_sent();
        check_stats();
    }
    lose_link(TP_ERR_CLOSED);
    check_stats();
    return 0;
}
