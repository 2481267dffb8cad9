/*
 * relay-load: the bus table's traffic through peer-epoll-relay: frames with only the payload,
 * because the connection determines the destination. A pair's sender connects first, then
 * its receiver. There is no handshake, so a link is ready immediately.
 */
#include "links.h"

enum { frame_header = 4 };

static void hello(link_state *link) {
    links_ready(link);
}

static void put_frame(link_state *link, const unsigned char *payload, size_t size) {
    const unsigned char header[frame_header] = {
        (unsigned char)size, (unsigned char)(size >> 8), (unsigned char)(size >> 16), 0};
    links_put(link, header, sizeof header);
    links_put(link, payload, size);
}

static size_t take(link_state *link, unsigned char *bytes, size_t size, uint64_t now_ns) {
    if (size < frame_header) {
        return 0;
    }
    size_t payload = (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16;
    if (payload > route_size_most) {
        links_fail("a frame larger than any that was sent");
    }
    if (size < frame_header + payload) {
        return 0;
    }
    if (links_arrived(link, bytes + frame_header, payload, now_ns)) {
        put_frame(link, bytes + frame_header, route_ack_size);
    }
    return frame_header + payload;
}

int main(int argc, char **argv) {
    const links_protocol protocol = {"relay-load", hello, take, put_frame};
    return links_run(&protocol, argc, argv);
}
