/*
 * peer-libevent: the echo on libevent's bufferevents. Frames are cut out of the input buffer, and
 * each message is passed to bufferevent_write, which gathers them until the socket is writable. The
 * base's thread owns everything; a bufferevent is freed when its connection ends.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static void on_read(struct bufferevent *client, void *context) {
    (void)context;
    struct evbuffer *input = bufferevent_get_input(client);
    unsigned char header[peer_frame_header];
    while (evbuffer_copyout(input, header, sizeof header) == (ev_ssize_t)sizeof header) {
        size_t frame = peer_frame_size(header);
        if (frame == 0) {
            bufferevent_free(client);
            return;
        }
        if (evbuffer_get_length(input) < frame) {
            return;
        }
        const unsigned char *message = evbuffer_pullup(input, (ev_ssize_t)frame);
        if (message == NULL || bufferevent_write(client, message, frame) != 0) {
            bufferevent_free(client);
            return;
        }
        evbuffer_drain(input, frame);
    }
}

static void on_event(struct bufferevent *client, short what, void *context) {
    (void)context;
    if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) != 0) {
        bufferevent_free(client);
    }
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd,
    struct sockaddr *address, int length, void *context) {
    (void)address;
    (void)length;
    (void)context;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct bufferevent *client =
        bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    if (client == NULL) {
        evutil_closesocket(fd);
        return;
    }
    bufferevent_setcb(client, on_read, NULL, on_event, NULL);
    bufferevent_enable(client, EV_READ | EV_WRITE);
}

/* A bufferevent adds and removes its write event for every answer. The change list saves the
 * epoll_ctl calls of pairs that cancel out, and one thread needs no locks. */
static struct event_base *make_base(void) {
    struct event_config *config = event_config_new();
    if (config == NULL) {
        return NULL;
    }
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

int main(int argc, char **argv) {
    uint16_t port = peer_start(argc, argv);
    struct event_base *base = make_base();
    struct sockaddr_in here;
    memset(&here, 0, sizeof here);
    here.sin_family = AF_INET;
    here.sin_port = htons(port);
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct evconnlistener *listener =
        base == NULL ? NULL
                     : evconnlistener_new_bind(base, on_connection, NULL,
                           LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE, peer_backlog,
                           (struct sockaddr *)&here, sizeof here);
    if (listener == NULL) {
        perror("listen");
        return 1;
    }
    peer_announce(evconnlistener_get_fd(listener));
    return event_base_dispatch(base) < 0;
}
