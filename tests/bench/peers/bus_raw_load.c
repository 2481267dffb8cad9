/*
 * bus-raw-load: the bus table's traffic through lanserver, written from docs/bus-protocol.md alone.
 * It has the same loop as nats-load, so that the two runs differ in the server only.
 * (bench-bus-load does the same with lanclient and its threads, as services do.)
 *
 * Sender i is instance s<i> of service `sender`, receiver i is r<i> of `receiver`. A sender is
 * ready when its receiver has been announced, a receiver when it has its WELCOME. Acknowledgements
 * ride on the traffic, because every message is answered.
 */
#define _GNU_SOURCE
#include "links.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { frame_data = 0, frame_ping = 1, frame_pong = 2, frame_header = 4, bus_header = 16 };
enum { welcome = 2, peer_up = 3, peer_down = 4, ack = 5, send_to_peer = 6, hello_kind = 1 };
enum { names_room = 64, pairs_most = 1000 };

/* A link's state on the bus. */
static struct member {
    uint32_t partner; /* id of the peer to send to; 0: not known yet */
    uint32_t handled; /* messages received and processed */
    uint32_t correlation;
} members[pairs_most][2];

static struct member *member_of(const link_state *link) {
    return &members[link->pair][link->sender != NULL];
}

static uint32_t get_u32(const unsigned char *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void set_u32(unsigned char *at, uint32_t value) {
    for (int i = 0; i < 4; i++) {
        at[i] = (unsigned char)(value >> (8 * i));
    }
}

static void put_message(link_state *link, uint32_t kind, uint32_t destination, uint32_t correlation,
    const unsigned char *payload, size_t size) {
    unsigned char head[frame_header + bus_header];
    set_u32(head, (uint32_t)(bus_header + size)); /* type 0: DATA */
    set_u32(head + 4, kind);
    set_u32(head + 8, member_of(link)->handled);
    set_u32(head + 12, destination);
    set_u32(head + 16, correlation);
    links_put(link, head, sizeof head);
    links_put(link, payload, size);
}

static void put_to_partner(link_state *link, const unsigned char *payload, size_t size) {
    struct member *member = member_of(link);
    member->correlation += member->correlation == UINT32_MAX ? 2 : 1;
    put_message(link, send_to_peer, member->partner, member->correlation, payload, size);
}

static size_t put_name(unsigned char *at, const char *name) {
    size_t length = strlen(name);
    at[0] = (unsigned char)length;
    at[1] = 0;
    memcpy(at + 2, name, length);
    return 2 + length;
}

static void hello(link_state *link) {
    unsigned char payload[8 + 2 * names_room];
    char instance[16];
    if (link->pair >= pairs_most) {
        links_fail("too many pairs");
    }
    snprintf(instance, sizeof instance, "%s%u", link->sender != NULL ? "s" : "r", link->pair);
    set_u32(payload, 1); /* version */
    set_u32(payload + 4, 1 << 20);
    size_t size = 8;
    size += put_name(payload + size, link->sender != NULL ? "sender" : "receiver");
    size += put_name(payload + size, instance);
    put_message(link, hello_kind, 0, 0, payload, size);
}

/* `payload`: u32 id, then the names of service and instance, each as u16 length and bytes. */
static void take_peer_up(link_state *link, const unsigned char *payload, size_t size) {
    char wanted[16];
    snprintf(wanted, sizeof wanted, "r%u", link->pair);
    size_t service = size >= 6 ? (size_t)payload[4] | (size_t)payload[5] << 8 : size;
    if (size < 8 + service) {
        links_fail("a PEER_UP that is cut short");
    }
    const unsigned char *name = payload + 6 + service;
    size_t length = (size_t)name[0] | (size_t)name[1] << 8;
    if (size != 8 + service + length) {
        links_fail("a PEER_UP of a wrong length");
    }
    if (link->sender != NULL && length == strlen(wanted) && memcmp(name + 2, wanted, length) == 0) {
        member_of(link)->partner = get_u32(payload);
        links_ready(link);
    }
}

static void take_bus_message(
    link_state *link, const unsigned char *bytes, size_t size, uint64_t now_ns) {
    if (size < bus_header) {
        links_fail("a bus message without its header");
    }
    const unsigned char *payload = bytes + bus_header;
    switch (bytes[0]) {
    case welcome:
        if (link->sender == NULL) {
            links_ready(link);
        }
        break;
    case peer_up:
        take_peer_up(link, payload, size - bus_header);
        break;
    case peer_down:
    case ack:
        break;
    case send_to_peer:
        member_of(link)->handled++;
        if (links_arrived(link, payload, size - bus_header, now_ns)) {
            member_of(link)->partner = get_u32(bytes + 4);
            put_to_partner(link, payload, route_ack_size);
        }
        break;
    default:
        links_fail("a bus message that is no answer to what was said");
    }
}

static size_t take(link_state *link, unsigned char *bytes, size_t size, uint64_t now_ns) {
    if (size < frame_header) {
        return 0;
    }
    size_t payload = get_u32(bytes) & 0xFFFFFF;
    if (payload > route_size_most + bus_header) {
        links_fail("a frame larger than any that was sent");
    }
    if (size < frame_header + payload) {
        return 0;
    }
    if (bytes[3] == frame_data) {
        take_bus_message(link, bytes + frame_header, payload, now_ns);
    } else if (bytes[3] == frame_ping) {
        bytes[3] = frame_pong;
        links_put(link, bytes, frame_header + payload);
    } else {
        links_fail("the hub has ended the connection, or sent an unknown frame");
    }
    return frame_header + payload;
}

int main(int argc, char **argv) {
    const links_protocol protocol = {"bus-raw-load", hello, take, put_to_partner};
    return links_run(&protocol, argc, argv);
}
