/*
 * What all peers of the benchmark share and what is not compared: the command line, the listening
 * line, the end by SIGTERM, the length in a frame's header. Peers are foreign programs: they share
 * nothing with twinport and may use OS headers.
 */
#ifndef TWINPORT_BENCH_PEER_H
#define TWINPORT_BENCH_PEER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    peer_frame_header = 4,
    peer_largest_payload =
        1 << 20, /* the LAN's default limit; a longer frame ends the connection */
    peer_backlog = 4096
};

/* Reads `PEER --port N`; anything else prints the usage and exits with 2. SIGTERM then ends the
 * process with exit code 0, and SIGPIPE is ignored. */
uint16_t peer_start(int argc, char **argv);

/* Prints `listening on 127.0.0.1:PORT`, the peer's first line, with the port of `listener`. */
void peer_announce(int listener);

/* A non-blocking socket that listens on 127.0.0.1:port (0: any free port), with its line printed.
 * Accepted sockets inherit TCP_NODELAY. Exits with 1 and a message on failure. */
int peer_listen(uint16_t port);

/* The size of the frame that begins at `header`, header included; 0 if it is over the limit. */
static inline size_t peer_frame_size(const unsigned char *header) {
    size_t payload = (size_t)header[0] | ((size_t)header[1] << 8) | ((size_t)header[2] << 16);
    return payload <= peer_largest_payload ? peer_frame_header + payload : 0;
}

#ifdef __cplusplus
}
#endif
#endif
