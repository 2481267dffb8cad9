/*
 * A server without threads and without a network, for the harnesses.
 *
 * The server is never started. Its only worker is the harness's thread, and its port is the back
 * end below, which queues operations and completes them when the harness asks for it. Include once
 * per harness.
 */
#ifndef TWINPORT_TESTS_FUZZ_PORT_H
#define TWINPORT_TESTS_FUZZ_PORT_H

#include <string.h>

#include "core/engine/server_state.h"
#include "core/memory/memory.h"
#include "core/memory/thread_cache.h"
#include "fuzz.h"
#include "os/error.h"
#include "os/port_backend.h"
#include "proto/frame.h"
#include "twinport/log.h"

#define FUZZ_STREAMS 4u
#define FUZZ_QUEUED  256u
#define FUZZ_OUT     (1u << 20)

/* A connection, as its peer sees it. */
typedef struct fuzz_stream {
    tp_socket *socket; /* NULL: none */
    tp_op *receive;    /* in progress, or NULL */
    bool closing;      /* tp_socket_close() has been called */
    size_t out_size;   /* bytes sent by the server */
    uint8_t out[FUZZ_OUT];
} fuzz_stream;

typedef struct fuzz_queued {
    tp_op *op;
    fuzz_stream *closed; /* of a close: its stream is free afterwards */
    tp_completion completion;
} fuzz_queued;

static struct {
    tp_port head;
    tp_worker worker;
    fuzz_queued queue[FUZZ_QUEUED];
    size_t from, to;
    fuzz_stream streams[FUZZ_STREAMS];
} fuzz_port;

static tp__worker *fuzz_worker;

static void fuzz_enqueue(tp_op *op, fuzz_stream *closed, tp_completion completion) {
    REQUIRE(fuzz_port.to < FUZZ_QUEUED);
    completion.worker = &fuzz_port.worker;
    completion.last = true;
    completion.handle = TP_NO_HANDLE;
    fuzz_port.queue[fuzz_port.to++] = (fuzz_queued){op, closed, completion};
}

static fuzz_stream *fuzz_stream_of(const tp_socket *socket) {
    for (unsigned i = 0; i < FUZZ_STREAMS; i++) {
        if (fuzz_port.streams[i].socket == socket) {
            return &fuzz_port.streams[i];
        }
    }
    REQUIRE(false && "a socket of this port");
    return NULL;
}

static size_t fuzz_dispatch(tp_worker *worker) {
    size_t ran = 0;
    (void)worker;
    while (fuzz_port.from < fuzz_port.to) {
        fuzz_queued next = fuzz_port.queue[fuzz_port.from++];
        if (fuzz_port.from == fuzz_port.to) {
            fuzz_port.from = fuzz_port.to = 0;
        }
        if (next.closed) {
            next.closed->socket = NULL;
        }
        next.op->done(next.op, &next.completion);
        ran++;
    }
    return ran;
}

static tp_err fuzz_post(tp_port *port, tp_socket *socket, tp_op *op) {
    (void)port, (void)socket;
    fuzz_enqueue(op, NULL, (tp_completion){0});
    return TP_OK;
}

static void fuzz_wake(tp_port *port) {
    (void)port;
}

static bool fuzz_serves(const tp_worker *worker, const tp_socket *socket) {
    (void)worker, (void)socket;
    return true;
}

/* The handle is the stream's index. */
static tp_err fuzz_attach(
    tp_port *port, tp_socket *socket, tp_handle handle, const tp_socket_options *options) {
    fuzz_stream *stream = &fuzz_port.streams[handle];
    (void)options;
    REQUIRE(stream->socket == NULL);
    stream->socket = socket;
    stream->receive = NULL;
    stream->closing = false;
    stream->out_size = 0;
    tp__socket_set_owner(socket, port);
    return TP_OK;
}

static tp_err fuzz_receive(tp_worker *worker, tp_socket *socket, tp_op *op) {
    fuzz_stream *stream = fuzz_stream_of(socket);
    (void)worker;
    REQUIRE(stream->receive == NULL);
    if (stream->closing) {
        return TP_ERR_CANCELLED;
    }
    stream->receive = op;
    return TP_OK;
}

static size_t fuzz_take(fuzz_stream *stream, const tp_buffer *buffers, size_t count) {
    size_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        REQUIRE(stream->out_size + buffers[i].size <= sizeof stream->out);
        memcpy(stream->out + stream->out_size, buffers[i].bytes, buffers[i].size);
        stream->out_size += buffers[i].size;
        sum += buffers[i].size;
    }
    return sum;
}

static tp_err fuzz_send(
    tp_worker *worker, tp_socket *socket, tp_op *op, const tp_buffer *buffers, size_t count) {
    fuzz_stream *stream = fuzz_stream_of(socket);
    (void)worker;
    if (stream->closing) {
        return TP_ERR_CANCELLED;
    }
    fuzz_enqueue(op, NULL, (tp_completion){.count = fuzz_take(stream, buffers, count)});
    return TP_OK;
}

static tp_err fuzz_send_now(
    tp_worker *worker, tp_socket *socket, const tp_buffer *buffers, size_t count, size_t *sent) {
    fuzz_stream *stream = fuzz_stream_of(socket);
    (void)worker;
    if (stream->closing) {
        return TP_ERR_CANCELLED;
    }
    *sent = fuzz_take(stream, buffers, count);
    return TP_OK;
}

/* Every send completes immediately. */
static bool fuzz_send_take_back(tp_worker *worker, tp_socket *socket, tp_op *op, size_t *sent) {
    (void)worker, (void)socket, (void)op, (void)sent;
    return false;
}

static void fuzz_finish(tp_worker *worker, tp_socket *socket) {
    (void)worker, (void)socket;
}

/* The peer ends the stream, or it breaks. */
static void fuzz_end(fuzz_stream *stream, tp_err error) {
    if (stream->socket && stream->receive) {
        fuzz_enqueue(stream->receive, NULL, (tp_completion){.error = error});
        stream->receive = NULL;
    }
}

static void fuzz_close(tp_socket *socket, tp_op *op, bool reset) {
    fuzz_stream *stream = fuzz_stream_of(socket);
    (void)reset;
    REQUIRE(!stream->closing);
    stream->closing = true;
    fuzz_end(stream, TP_ERR_CANCELLED);
    fuzz_enqueue(op, stream, (tp_completion){0});
}

static const tp__port_backend fuzz_backend = {
    .name = "fuzz",
    .binds = true,
    .dispatch = fuzz_dispatch,
    .post = fuzz_post,
    .wake = fuzz_wake,
    .serves = fuzz_serves,
    .attach = fuzz_attach,
    .receive = fuzz_receive,
    .send = fuzz_send,
    .send_now = fuzz_send_now,
    .send_take_back = fuzz_send_take_back,
    .finish = fuzz_finish,
    .close = fuzz_close,
};

const tp__port_backend *const tp__port_backend_list[] = {&fuzz_backend, NULL};

tp_err tp__port_platform_start(void) {
    return TP_OK;
}

/* Makes the calling thread the server's only worker. */
static void fuzz_attach_worker(tp_server *server) {
    tp_log_set_level(TP_LOG_OFF);
    fuzz_port.head.backend = &fuzz_backend;
    fuzz_port.head.workers = 1;
    fuzz_port.worker.backend = &fuzz_backend;
    fuzz_port.worker.port = &fuzz_port.head;
    server->port = &fuzz_port.head;
    atomic_store(&server->state, TP__SERVER_RUNNING);
    fuzz_worker = &server->workers[0];
    fuzz_worker->server = server;
    fuzz_worker->port_worker = &fuzz_port.worker;
    tp_worker_set_context(fuzz_worker->port_worker, fuzz_worker);
    fuzz_worker->thread_cache = tp__thread_cache_get();
    REQUIRE(fuzz_worker->thread_cache != NULL);
    fuzz_worker->thread_cache->worker = fuzz_worker;
}

/* Completes all operations that were started. */
static void fuzz_run(void) {
    fuzz_dispatch(fuzz_worker->port_worker);
    while (fuzz_worker->flush_first) {
        tp__worker_flush(fuzz_worker);
        fuzz_dispatch(fuzz_worker->port_worker);
    }
}

/* Opens the session of an accepted connection, which joins. */
static tp__session *fuzz_accept(tp_server *server, unsigned stream) {
    const tp_address peer = {.port = 1};
    const tp_socket_options options = tp__server_socket_options(server);
    tp__session *session = tp__session_open(server, &peer, false);
    REQUIRE(session != NULL && session->has_quota);
    REQUIRE(tp_socket_attach(server->port, &session->socket, (tp_handle)stream, &options) == TP_OK);
    return session;
}

/* Delivers bytes of the peer, which are freed afterwards. */
static void fuzz_deliver(fuzz_stream *stream, const uint8_t *bytes, size_t size) {
    uint8_t *exact = malloc(size ? size : 1); /* of exact size */
    REQUIRE(exact != NULL);
    memcpy(exact, bytes, size);
    const tp_completion completion = {
        .worker = &fuzz_port.worker, .bytes = exact, .count = size, .handle = TP_NO_HANDLE};
    stream->receive->done(stream->receive, &completion);
    free(exact);
}

#endif
