/* nats-load: the bus table's traffic through a nats-server, in its text protocol. Sender i
 * publishes to subject r.i with reply subject s.i; receiver i has subscribed to r.i and publishes
 * the ack to the reply subject it was given; sender i has subscribed to s.i. Short subjects and
 * verbose off: the least work for the server. A link is ready when the server has answered a PING
 * that followed its SUB. */
#define _GNU_SOURCE
#include "links.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void hello(link_state *link) {
    char text[256];
    int length = snprintf(text, sizeof text,
        "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\","
        "\"protocol\":1}\r\nSUB %s.%u 1\r\nPING\r\n",
        link->sender != NULL ? "s" : "r", link->pair);
    links_put(link, text, (size_t)length);
}

static void publish(
    link_state *link, const char *subjects, const unsigned char *payload, size_t size) {
    char line[128];
    int length = snprintf(line, sizeof line, "PUB %s %zu\r\n", subjects, size);
    links_put(link, line, (size_t)length);
    links_put(link, payload, size);
    links_put(link, "\r\n", 2);
}

static void message(link_state *link, const unsigned char *payload, size_t size) {
    char subjects[32];
    snprintf(subjects, sizeof subjects, "r.%u s.%u", link->pair, link->pair);
    publish(link, subjects, payload, size);
}

/* Takes `MSG subject sid [reply] size` (`line_size` bytes with its end) and its payload. The line
 * is copied before it is cut into words, because an incomplete payload makes the same bytes come
 * again. */
static size_t take_message(
    link_state *link, const unsigned char *line, size_t line_size, size_t size, uint64_t now_ns) {
    char words[4][64];
    char copy[256];
    if (line_size >= sizeof copy) {
        links_fail("a MSG line that is too long");
    }
    memcpy(copy, line, line_size);
    copy[line_size] = '\0';
    int count = sscanf(copy + 4, "%63s %63s %63s %63s", words[0], words[1], words[2], words[3]);
    if (count < 3) {
        links_fail("a MSG line that is none");
    }
    size_t payload_size = strtoul(words[count - 1], NULL, 10);
    if (payload_size > route_size_most) {
        links_fail("a message larger than any that was sent");
    }
    if (size - line_size < payload_size + 2) {
        return 0;
    }
    if (links_arrived(link, line + line_size, payload_size, now_ns)) {
        publish(link, count == 4 ? words[2] : "", line + line_size, route_ack_size);
    }
    return line_size + payload_size + 2;
}

static size_t take(link_state *link, unsigned char *bytes, size_t size, uint64_t now_ns) {
    const unsigned char *end = memchr(bytes, '\n', size);
    if (end == NULL) {
        return 0;
    }
    size_t line_size = (size_t)(end + 1 - bytes);
    if (line_size > 4 && memcmp(bytes, "MSG ", 4) == 0) {
        return take_message(link, bytes, line_size, size, now_ns);
    }
    if (line_size > 4 && memcmp(bytes, "PING", 4) == 0) {
        links_put(link, "PONG\r\n", 6);
    } else if (line_size > 4 && memcmp(bytes, "PONG", 4) == 0) {
        links_ready(link);
    } else if (line_size > 4 && memcmp(bytes, "-ERR", 4) == 0) {
        bytes[line_size - 1] = '\0';
        links_fail((const char *)bytes);
    }
    return line_size;
}

int main(int argc, char **argv) {
    const links_protocol protocol = {"nats-load", hello, take, message};
    return links_run(&protocol, argc, argv);
}
