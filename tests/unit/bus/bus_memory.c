/*
 * Memory that runs out at each allocation of a peer's life on the bus.
 *
 * The n-th allocation fails, for n = 1, 2, ... until the peer's life needs fewer. The peer must be
 * served, receive an error or be disconnected, but never be left waiting; the other peers go on,
 * and the hub's statistics add up.
 */
#include "bus_fixture.h"

#include "core/memory/memory.h"
#include "core/packet/packet_internal.h"
#include "core/session/pools.h"
#include "proto/bus.h"
#include "proto/frame.h"
#include "raw_peer.h"

/* Larger than the rest of a chunk: a packet with memory of its own. */
#define BODY             60000u
#define MOST_ALLOCATIONS 300
#define MOST_PAYLOAD     (TP_BUS_HEADER + BODY)

/* How a peer's life ended. WAITS must not happen. */
typedef enum outcome { SERVED, RETURNED, ENDED, WAITS } outcome;

typedef struct test_peer {
    raw_peer *peer;
    uint32_t id;
    uint8_t in[MOST_PAYLOAD];
    uint8_t out[MOST_PAYLOAD];
} test_peer;

static test_peer visitor, bystander;

static void send_bus(test_peer *g, tp_bus_header header, size_t body) {
    tp_bus_write(g->out, &header);
    (void)raw_send_frame(g->peer, TP_FRAME_DATA, g->out, TP_BUS_HEADER + body);
}

static size_t put_text(uint8_t *at, const char *text) {
    size_t size = strlen(text);
    tp_bus_put_u16(at, (uint16_t)size);
    memcpy(at + 2, text, size);
    return 2 + size;
}

static void send_hello(test_peer *g, const char *service) {
    uint8_t *body = g->out + TP_BUS_HEADER;
    tp_bus_put_u16(body, TP_BUS_VERSION);
    tp_bus_put_u16(body + 2, 0);
    tp_bus_put_u32(body + 4, 1u << 20);
    size_t size = TP_BUS_HELLO_FIXED;
    size += put_text(body + size, service);
    size += put_text(body + size, "i");
    send_bus(g, (tp_bus_header){.kind = TP_BUS_HELLO}, size);
}

/* Reads the next bus message of one of two kinds and skips others. SERVED if it is of the first
 * kind. */
static outcome await_message(test_peer *g, uint8_t kind, uint8_t instead) {
    for (;;) {
        unsigned type = 99;
        long size = raw_receive_frame(g->peer, &type, g->in, sizeof g->in);
        if (size < 0 || type == TP_FRAME_CLOSE) {
            raw_finish(g->peer); /* a peer that receives CLOSE ends its stream */
            return raw_end(g->peer) == TP_ERR_TIMED_OUT ? WAITS : ENDED;
        }
        tp_bus_header header = {0};
        if (type == TP_FRAME_DATA && size >= (long)TP_BUS_HEADER) {
            header = tp_bus_read(g->in);
        }
        if (header.kind == kind) {
            return SERVED;
        }
        if (header.kind == instead) {
            return RETURNED;
        }
    }
}

static outcome join(test_peer *g, tp__hub *hub, const char *service) {
    tp_address address = tp_server_address(tp__hub_server(hub));
    g->peer = raw_connect(&address);
    if (g->peer == NULL) {
        return ENDED;
    }
    send_hello(g, service);
    outcome welcome = await_message(g, TP_BUS_WELCOME, TP_BUS_ERROR);
    if (welcome == SERVED) {
        g->id = tp_bus_read_welcome(g->in + TP_BUS_HEADER).peer;
    }
    return welcome;
}

/* A message to itself, across the hub and back, acknowledged. */
static outcome send_to_self(test_peer *g) {
    memset(g->out, 0x5a, sizeof g->out);
    send_bus(g, (tp_bus_header){.kind = TP_BUS_SEND, .destination = g->id, .correlation = 1}, BODY);
    outcome heard = await_message(g, TP_BUS_SEND, TP_BUS_ERROR);
    if (heard == SERVED) {
        CHECK_MEM(g->in + TP_BUS_HEADER, g->out + TP_BUS_HEADER, BODY);
        send_bus(g, (tp_bus_header){.kind = TP_BUS_ACK, .source = 1}, 0);
    }
    return heard;
}

static outcome leave(test_peer *g, outcome so_far) {
    if (g->peer == NULL) {
        return so_far;
    }
    if (so_far == SERVED || so_far == RETURNED) {
        uint8_t normal[2] = {0, 0};
        (void)raw_send_frame(g->peer, TP_FRAME_CLOSE, normal, sizeof normal);
        raw_finish(g->peer);
        if (raw_end(g->peer) == TP_ERR_TIMED_OUT) {
            so_far = WAITS;
        }
    }
    raw_close(g->peer, false);
    g->peer = NULL;
    return so_far;
}

static outcome join_and_leave(tp__hub *hub) {
    outcome so_far = join(&visitor, hub, "visitor");
    if (so_far == SERVED) {
        so_far = send_to_self(&visitor);
    }
    return leave(&visitor, so_far);
}

static void trim_all_memory(void) {
    REQUIRE(tp__pools_open() == TP_OK);
    tp__packets_trim();
    tp_pool_trim(tp__node_pool());
    tp_pool_trim(tp__send_batch_pool());
}

/* One life with the n-th allocation failing. Returns whether there were n allocations. */
static bool attempt(long n, unsigned counts[4], unsigned *lost) {
    trim_all_memory();
    tp__hub *hub = hub_open_default();
    REQUIRE(join(&bystander, hub, "bystander") == SERVED);
    uint64_t before = tp__memory_allocations();
    tp__memory_fail_after(n);
    outcome what = join_and_leave(hub);
    tp__memory_fail_after(-1);
    bool failed = tp__memory_allocations() - before >= (uint64_t)n;
    counts[what]++;
    CHECK_NE(what, WAITS);

    CHECK_EQ(join_and_leave(hub), SERVED); /* the next peer is served */
    /* The bystander stays, unless the hub had no memory to announce the visitor to it: then the hub
     * ends it. */
    outcome beside = send_to_self(&bystander);
    CHECK(beside == SERVED || (beside == ENDED && failed));
    *lost += beside != SERVED;
    CHECK_NE(leave(&bystander, beside), WAITS);
    hub_close(hub);
    if (!failed) {
        CHECK_EQ(what, SERVED);
        CHECK_EQ(beside, SERVED);
    }
    return failed;
}

static void a_peer_is_served_or_ended_at_every_failed_allocation(void) {
    unsigned counts[4] = {0}, lost = 0;
    long n = 1;
    while (n < MOST_ALLOCATIONS && attempt(n, counts, &lost)) {
        n++;
    }
    CHECK_LT(n, MOST_ALLOCATIONS);
    CHECK_GT(counts[ENDED] + counts[RETURNED], 2);
    printf(
        "    %ld allocations failed one by one: %u peers served all the same, %u told, %u ended; "
        "%u beside them ended\n",
        n - 1, counts[SERVED] - 1, counts[RETURNED], counts[ENDED], lost);
}

CHECK_MAIN(CASE(a_peer_is_served_or_ended_at_every_failed_allocation))
