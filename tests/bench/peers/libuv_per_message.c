/*
 * peer-libuv-per-message: the echo as a typical user of libuv writes it: a buffer per read, frames
 * cut out of the stream, and for each message a request with a copy of the message and one
 * uv_write. libuv's loop thread owns everything; a client is freed by its close callback.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct client {
    uv_tcp_t tcp;        /* first: the handle is the client */
    unsigned char *part; /* the beginning of an incomplete frame */
    size_t part_size;
};

struct write {
    uv_write_t request;
    unsigned char message[];
};

static void after_close(uv_handle_t *handle) {
    struct client *client = (struct client *)handle;
    free(client->part);
    free(client);
}

static void drop(struct client *client) {
    if (!uv_is_closing((uv_handle_t *)client)) {
        uv_close((uv_handle_t *)client, after_close);
    }
}

static void after_write(uv_write_t *request, int status) {
    if (status < 0) {
        drop((struct client *)request->handle);
    }
    free(request);
}

static void on_message(struct client *client, const unsigned char *frame, size_t size) {
    struct write *write = malloc(sizeof *write + size);
    if (write == NULL) {
        drop(client);
        return;
    }
    memcpy(write->message, frame, size);
    uv_buf_t buffer = uv_buf_init((char *)write->message, (unsigned)size);
    if (uv_write(&write->request, (uv_stream_t *)client, &buffer, 1, after_write) != 0) {
        free(write);
        drop(client);
    }
}

/* Passes on every whole frame and returns the bytes used. */
static size_t cut_frames(struct client *client, const unsigned char *bytes, size_t size) {
    size_t at = 0;
    while (size - at >= peer_frame_header && !uv_is_closing((uv_handle_t *)client)) {
        size_t frame = peer_frame_size(bytes + at);
        if (frame == 0) {
            drop(client);
        } else if (size - at < frame) {
            break;
        } else {
            on_message(client, bytes + at, frame);
            at += frame;
        }
    }
    return at;
}

static void keep_part(struct client *client, const unsigned char *bytes, size_t size) {
    unsigned char *part = NULL;
    if (size != 0) {
        part = malloc(size);
        if (part == NULL) {
            drop(client);
            return;
        }
        memcpy(part, bytes, size);
    }
    free(client->part);
    client->part = part;
    client->part_size = size;
}

static void on_bytes(struct client *client, const unsigned char *bytes, size_t size) {
    if (client->part_size != 0) {
        unsigned char *joined = realloc(client->part, client->part_size + size);
        if (joined == NULL) {
            drop(client);
            return;
        }
        memcpy(joined + client->part_size, bytes, size);
        client->part = joined;
        bytes = joined;
        size += client->part_size;
    }
    size_t used = cut_frames(client, bytes, size);
    if (client->part_size != 0 || used != size) {
        keep_part(client, bytes + used, size - used);
    }
}

static void on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)handle;
    buffer->base = malloc(suggested);
    buffer->len = buffer->base != NULL ? suggested : 0;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    if (count > 0) {
        on_bytes((struct client *)stream, (const unsigned char *)buffer->base, (size_t)count);
    } else if (count < 0) {
        drop((struct client *)stream);
    }
    free(buffer->base);
}

static void on_connection(uv_stream_t *listener, int status) {
    if (status < 0) {
        return;
    }
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return;
    }
    uv_tcp_init(listener->loop, &client->tcp);
    if (uv_accept(listener, (uv_stream_t *)client) != 0 || uv_tcp_nodelay(&client->tcp, 1) != 0 ||
        uv_read_start((uv_stream_t *)client, on_buffer, on_read) != 0) {
        drop(client);
    }
}

int main(int argc, char **argv) {
    uint16_t port = peer_start(argc, argv);
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    struct sockaddr_in here;
    uv_os_fd_t fd;
    uv_tcp_init(loop, &listener);
    uv_ip4_addr("127.0.0.1", port, &here);
    int error = uv_tcp_bind(&listener, (const struct sockaddr *)&here, 0);
    if (error == 0) {
        error = uv_listen((uv_stream_t *)&listener, peer_backlog, on_connection);
    }
    if (error == 0) {
        error = uv_fileno((uv_handle_t *)&listener, &fd);
    }
    if (error != 0) {
        fprintf(stderr, "listen: %s\n", uv_strerror(error));
        return 1;
    }
    peer_announce(fd);
    return uv_run(loop, UV_RUN_DEFAULT);
}
