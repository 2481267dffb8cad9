/*
 * Any messages of up to four clients to the hub of the bus: valid and invalid HELLOs, every kind of
 * message, acknowledged or not, and clients that disconnect at any moment. The hub's statistics
 * must add up, and everything it sends must be frames with a whole header.
 *
 *     steps of   byte 0: the client (bits 0, 1) and the action (bits 2..4)
 *                byte 1: n, or how the HELLO is made
 *                n bytes of payload
 */
#include "fuzz_port.h"

#include "lanserver/bus/hub_internal.h"
#include "proto/bus.h"

static tp__hub *hub;

static void make_hub(void) {
    tp__hub_options options;
    tp__hub_defaults(&options);
    options.server.workers = 1;
    options.server.max_sessions = FUZZ_STREAMS;
    options.server.queue_bytes = 4096;
    options.server.queue_packets = 40;
    options.server.queue_policy = TP_QUEUE_REFUSE;
    options.unconfirmed_limit = 8;
    options.max_services = 3;
    REQUIRE(tp__hub_create(&options, &hub) == TP_OK);
    tp__hub_connections_reset(&hub->connections, hub->server);
    fuzz_attach_worker(hub->server);
}

static void send_frame(fuzz_stream *stream, const uint8_t *payload, size_t size) {
    uint8_t frame[TP_FRAME_HEADER + 600];
    REQUIRE(size <= 600);
    if (!stream->receive) {
        return;
    }
    tp_frame_write(frame, TP_FRAME_DATA, (uint32_t)size);
    memcpy(frame + TP_FRAME_HEADER, payload, size);
    fuzz_deliver(stream, frame, TP_FRAME_HEADER + size);
}

/* A valid HELLO of one of a few services. */
static void send_hello(fuzz_stream *stream, uint8_t how) {
    const char names[] = "abcdefgh";
    uint8_t message[TP_BUS_HEADER + TP_BUS_HELLO_FIXED + 6];
    const tp_bus_header header = {.kind = TP_BUS_HELLO};
    uint8_t *at = message + TP_BUS_HEADER;
    tp_bus_write(message, &header);
    tp_bus_put_u16(at, TP_BUS_VERSION);
    tp_bus_put_u16(at + 2, 0);
    tp_bus_put_u32(at + 4, how & 0x80 ? 64 : 1 << 20);
    tp_bus_put_u16(at + 8, 1);
    at[10] = (uint8_t)names[how & 3];
    tp_bus_put_u16(at + 11, 1);
    at[13] = (uint8_t)names[how >> 2 & 7];
    send_frame(stream, message, sizeof message);
}

/* A message whose header is nearly right, to a peer that may exist. */
static void send_message(fuzz_stream *stream, const uint8_t *bytes, size_t size) {
    static uint32_t correlation;
    uint8_t message[TP_BUS_HEADER + 256] = {0};
    uint32_t destination = 0;
    if (size > 2 && bytes[1] < 4) { /* one of the connected peers */
        destination = bytes[1] < hub->up_count ? hub->up[bytes[1]]->public_id : 0;
    } else if (size > 2 && bytes[1] < 8) { /* one of the services */
        char name = (char)('a' + (bytes[1] & 3));
        destination = tp_bus_service_hash(&name, 1);
    }
    const tp_bus_header header = {
        .kind = size ? (uint8_t)(bytes[0] % 16) : 0,
        .flags = size > 3 ? bytes[2] : 0,
        .key = size > 4 ? bytes[3] : 0,
        .destination = destination,
        .correlation = ++correlation,
    };
    tp_bus_write(message, &header);
    memcpy(message + TP_BUS_HEADER, bytes, size);
    send_frame(stream, message, TP_BUS_HEADER + size);
}

static void check_sent(fuzz_stream *stream) {
    for (size_t at = 0; at < stream->out_size;) {
        REQUIRE(stream->out_size - at >= TP_FRAME_HEADER);
        tp_frame_header header = tp_frame_read(stream->out + at);
        at += TP_FRAME_HEADER;
        REQUIRE(stream->out_size - at >= header.length);
        if (header.type == TP_FRAME_DATA) {
            REQUIRE(header.length >= TP_BUS_HEADER);
        }
        at += header.length;
    }
    stream->out_size = 0;
}

static void check_stats(void) {
    tp__hub_stats stats;
    tp__hub_get_stats(hub, &stats);
    REQUIRE(stats.accepted == stats.delivered + stats.returned + stats.outstanding);
    uint64_t sum = 0;
    for (unsigned i = 0; i < TP_BUS_REASON_END; i++) {
        sum += stats.returned_by[i];
    }
    REQUIRE(sum == stats.returned);
}

/* Runs the delayed task that is due first, whatever the time. */
static void run_first_task(void) {
    tp__tasks *tasks = &hub->server->tasks;
    if (tasks->count > 0) {
        tasks->heap[0].due_ms = 0; /* no other one is due, so they stay */
        tp__tasks_run(tasks, 0);
    }
}

static void do_step(unsigned index, unsigned what, uint8_t how, const uint8_t *bytes, size_t size) {
    fuzz_stream *stream = &fuzz_port.streams[index];
    if (!stream->socket) {
        tp__session_start(fuzz_accept(hub->server, index), fuzz_worker);
    }
    switch (what) {
    case 0:
        send_hello(stream, how);
        break;
    case 1:
        send_frame(stream, bytes, size);
        break;
    case 2:
        fuzz_end(stream, TP_ERR_CLOSED);
        break;
    case 3:
        fuzz_end(stream, TP_ERR_RESET);
        break;
    case 4:
        run_first_task();
        break;
    case 5:
        tp__memory_fail_after(1 + how % 8);
        send_message(stream, bytes, size);
        tp__memory_fail_after(-1);
        break;
    default:
        send_message(stream, bytes, size);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!hub) {
        make_hub();
    }
    for (size_t at = 0; at + 2 <= size;) {
        unsigned what = data[at] >> 2 & 7;
        size_t count = what == 0 || (what >= 2 && what <= 4) ? 0 : data[at + 1];
        if (count > size - at - 2) {
            count = size - at - 2;
        }
        do_step(data[at] & 3u, what, data[at + 1], data + at + 2, count);
        if (!(data[at] & 0x20)) { /* otherwise more follows in the same batch */
            fuzz_run();
        }
        at += 2 + count;
        for (unsigned i = 0; i < FUZZ_STREAMS; i++) {
            check_sent(&fuzz_port.streams[i]);
        }
        check_stats();
    }
    for (unsigned i = 0; i < FUZZ_STREAMS; i++) {
        fuzz_end(&fuzz_port.streams[i], TP_ERR_CLOSED);
        fuzz_run();
    }
    REQUIRE(tp_server_session_count(hub->server) == 0);
    REQUIRE(hub->up_count == 0);
    check_stats();
    tp__hub_stats stats;
    tp__hub_get_stats(hub, &stats);
    REQUIRE(stats.outstanding == 0);
    return 0;
}
