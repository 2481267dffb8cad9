/* See peer.h. One thread; nothing here runs once a peer serves. */
#define _GNU_SOURCE
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void end_at_once(int signal_number) {
    (void)signal_number;
    _exit(0);
}

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

uint16_t peer_start(int argc, char **argv) {
    char *end = NULL;
    long port = -1;
    if (argc == 3 && strcmp(argv[1], "--port") == 0) {
        port = strtol(argv[2], &end, 10);
    }
    if (end == NULL || end == argv[2] || *end != '\0' || port < 0 || port > 65535) {
        fprintf(stderr, "usage: %s --port N\n", argv[0]);
        exit(2);
    }
    signal(SIGTERM, end_at_once);
    signal(SIGPIPE, SIG_IGN);
    return (uint16_t)port;
}

void peer_announce(int listener) {
    struct sockaddr_in bound;
    socklen_t length = sizeof bound;
    if (getsockname(listener, (struct sockaddr *)&bound, &length) != 0) {
        fail("getsockname");
    }
    printf("listening on 127.0.0.1:%u\n", (unsigned)ntohs(bound.sin_port));
    fflush(stdout);
}

int peer_listen(uint16_t port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0) {
        fail("socket");
    }
    const int on = 1;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        bind(listener, (struct sockaddr *)&here, sizeof here) != 0 ||
        listen(listener, peer_backlog) != 0) {
        fail("listen");
    }
    peer_announce(listener);
    return listener;
}
