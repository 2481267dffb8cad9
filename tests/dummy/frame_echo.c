/*
 * frame-echo: a frame echo on common/os alone, for the test of tp-dummy. On request it answers
 * wrongly, and then the dummy must report it.
 *
 *     frame-echo [--fault NAME] [--every N]
 *
 * Prints "listening PORT" and serves until its standard input ends; then it closes all connections,
 * as some peers never close theirs. A fault happens to every N-th message (default 100) of the
 * whole process.
 *
 * Threads: the main thread, which is the only worker, and one that waits for the end of the input
 * and posts it. A peer is on the list from its attach until the `done` of its close, which frees
 * its memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/compiler.h"
#include "os/port.h"
#include "os/thread.h"
#include "proto/frame.h"

#define PENDING_MAX (4u << 20) /* bytes of unsent answers at which the peer is not read any more */

/* X(code, name) */
#define WRONGS(X)                                                                                  \
    X(NOTHING, "none")                                                                             \
    X(CORRUPT, "corrupt")     /* one bit of the answer is changed */                               \
    X(DROP, "drop")           /* no answer */                                                      \
    X(REORDER, "reorder")     /* the answer after the next one */                                  \
    X(SHORTEN, "shorten")     /* one byte too short */                                             \
    X(DUPLICATE, "duplicate") /* sent twice */                                                     \
    X(HANG_UP, "hang-up")     /* the connection is closed instead */                               \
    X(PING, "ping")           /* no fault: a PING before the answer, whose PONG is awaited */      \
    X(ANSWER_GARBAGE, "answer-garbage") /* garbage is answered as if it were a message */          \
    X(BEAR_GARBAGE, "bear-garbage")     /* garbage is neither cut nor answered */                  \
    X(WRONG_REASON, "wrong-reason")     /* garbage is cut, with another reason */                  \
    X(NEVER_END, "never-end")           /* CLOSE and the end of the stream are ignored */

typedef enum wrong {
#define WRONG_ENUM(code, name) code,
    WRONGS(WRONG_ENUM)
#undef WRONG_ENUM
} wrong;

static const char *const wrong_names[] = {
#define WRONG_NAME(code, name) name,
    WRONGS(WRONG_NAME)
#undef WRONG_NAME
};

typedef struct bytes {
    uint8_t *data;
    size_t size;
    size_t capacity;
} bytes;

typedef struct peer {
    struct peer *next;
    struct peer **link; /* the pointer that points to this peer */
    tp_socket socket;
    tp_op begin;
    tp_op receive;
    tp_op send;
    tp_op close;
    bytes in;     /* the frame being received */
    bytes out;    /* answers */
    bytes flying; /* answers being sent */
    bytes held;   /* reorder: the answer that waits for the next one */
    tp_buffer buffer;
    bool sending;
    bool paused;
    bool ending; /* close when everything is sent */
    bool closing;
    bool bearing; /* garbage was received: ignores all input */
} peer;

static struct {
    wrong fault;
    unsigned long every;
    unsigned long messages;
    unsigned long pings;
    tp_port *port;
    tp_socket listener;
    tp_op end;   /* posted when the input has ended */
    tp_op close; /* of the listener */
    peer *peers;
    bool ending; /* no more peers are accepted */
    bool closed; /* the listener is closed */
} echo = {.every = 100};

static void require(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "frame-echo: %s\n", what);
        exit(3);
    }
}

static void append(bytes *b, const uint8_t *data, size_t size) {
    if (size == 0) {
        return;
    }
    if (b->size + size > b->capacity) {
        b->capacity = 2 * (b->size + size);
        b->data = realloc(b->data, b->capacity);
        require(b->data != NULL, "no memory");
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

/* ---- a peer's end ---------------------------------------------------------------------------- */

static void peer_add(peer *p) {
    p->next = echo.peers;
    p->link = &echo.peers;
    if (p->next != NULL) {
        p->next->link = &p->next;
    }
    echo.peers = p;
}

static void peer_remove(peer *p) {
    *p->link = p->next;
    if (p->next != NULL) {
        p->next->link = p->link;
    }
}

static void close_done(tp_op *op, const tp_completion *completion) {
    peer *p = TP_CONTAINER_OF(op, peer, close);
    (void)completion;
    peer_remove(p);
    free(p->in.data);
    free(p->out.data);
    free(p->flying.data);
    free(p->held.data);
    free(p);
}

static void peer_close(peer *p) {
    if (!p->closing) {
        p->closing = true;
        p->close.done = close_done;
        tp_socket_close(&p->socket, &p->close, false);
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static void flush(tp_worker *worker, peer *p) {
    if (p->sending || p->closing) {
        return;
    }
    if (p->out.size == 0) {
        if (p->ending) {
            peer_close(p);
        }
        return;
    }
    bytes empty = p->flying;
    p->flying = p->out;
    p->out = empty;
    p->out.size = 0;
    p->buffer = (tp_buffer){.bytes = p->flying.data, .size = p->flying.size};
    p->sending = true;
    require(tp_socket_send(worker, &p->socket, &p->send, &p->buffer, 1) == TP_OK, "send");
}

static void send_done(tp_op *op, const tp_completion *completion) {
    peer *p = TP_CONTAINER_OF(op, peer, send);
    p->sending = false;
    if (completion->error != TP_OK) {
        peer_close(p);
        return;
    }
    flush(completion->worker, p);
    if (p->paused && !p->closing && p->out.size < PENDING_MAX) {
        p->paused = false;
        tp_socket_resume(completion->worker, &p->socket);
    }
}

static void answer_wrongly(peer *p, uint8_t *frame, size_t size) {
    static const uint8_t ping[] = {3, 0, 0, TP_FRAME_PING, 'a', 'b', 'c'};
    switch (echo.fault) {
    case CORRUPT:
        frame[size - 1] ^= 1;
        append(&p->out, frame, size);
        break;
    case REORDER:
        append(&p->held, frame, size);
        break;
    case SHORTEN:
        tp_frame_write(frame, TP_FRAME_DATA, (uint32_t)(size - TP_FRAME_HEADER - 1));
        append(&p->out, frame, size - 1);
        break;
    case DUPLICATE:
        append(&p->out, frame, size);
        append(&p->out, frame, size);
        break;
    case HANG_UP:
        p->ending = true;
        break;
    case PING:
        append(&p->out, ping, sizeof ping);
        append(&p->out, frame, size);
        echo.pings++;
        break;
    default: /* DROP */
        break;
    }
}

static bool fault_of_messages(void) {
    return echo.fault != NOTHING && echo.fault <= PING;
}

static void answer(peer *p, uint8_t *frame, size_t size) {
    echo.messages++;
    if (fault_of_messages() && echo.messages % echo.every == 0) {
        answer_wrongly(p, frame, size);
        return;
    }
    append(&p->out, frame, size);
    append(&p->out, p->held.data, p->held.size);
    p->held.size = 0;
}

static void cut_garbage(peer *p) {
    uint8_t farewell[TP_FRAME_HEADER + TP_FRAME_CLOSE_MIN];
    static const uint8_t unasked[] = {1, 0, 0, TP_FRAME_DATA, 'x'};
    if (echo.fault == BEAR_GARBAGE) {
        p->bearing = true;
        return;
    }
    if (echo.fault == ANSWER_GARBAGE) {
        append(&p->out, unasked, sizeof unasked);
    }
    append(&p->out, farewell,
        tp_frame_write_close(
            farewell, echo.fault == WRONG_REASON ? TP_CLOSE_IDLE : TP_CLOSE_PROTOCOL));
    p->ending = true;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static void take_frame(peer *p, tp_frame_header header) {
    switch (header.type) {
    case TP_FRAME_DATA:
        answer(p, p->in.data, p->in.size);
        break;
    case TP_FRAME_PING:
        p->in.data[3] = TP_FRAME_PONG;
        append(&p->out, p->in.data, p->in.size);
        break;
    case TP_FRAME_PONG:
        require(echo.pings > 0 && header.length == 3 && memcmp(p->in.data + 4, "abc", 3) == 0,
            "a PONG that answers no PING");
        break;
    case TP_FRAME_CLOSE:
        p->ending = echo.fault != NEVER_END;
        break;
    default:
        break;
    }
    p->in.size = 0;
}

static void take(peer *p, const uint8_t *data, size_t count) {
    while (count > 0 && !p->ending && !p->bearing) {
        bool headed = p->in.size >= TP_FRAME_HEADER;
        tp_frame_header header = {0};
        size_t wanted = TP_FRAME_HEADER;
        if (headed) {
            header = tp_frame_read(p->in.data);
            wanted = TP_FRAME_HEADER + header.length;
        }
        size_t part = wanted - p->in.size < count ? wanted - p->in.size : count;
        append(&p->in, data, part);
        data += part;
        count -= part;
        if (!headed && p->in.size == TP_FRAME_HEADER) {
            header = tp_frame_read(p->in.data);
            headed = true;
            wanted = TP_FRAME_HEADER + header.length;
            if (!tp_frame_allowed(header, TP_FRAME_DEFAULT_LIMIT)) {
                cut_garbage(p);
                return;
            }
        }
        if (headed && p->in.size == wanted) {
            take_frame(p, header);
        }
    }
}

static void receive_done(tp_op *op, const tp_completion *completion) {
    peer *p = TP_CONTAINER_OF(op, peer, receive);
    if (p->closing) {
        return;
    }
    if (completion->last) {
        if (echo.fault == NEVER_END) {
            return;
        }
        p->ending = true;
    } else {
        take(p, completion->bytes, completion->count);
    }
    flush(completion->worker, p);
    if (!p->closing && !p->paused && !completion->last && p->out.size >= PENDING_MAX) {
        p->paused = true;
        tp_socket_pause(completion->worker, &p->socket);
    }
}

/* ---- accepting ------------------------------------------------------------------------------- */

static void begin_done(tp_op *op, const tp_completion *completion) {
    peer *p = TP_CONTAINER_OF(op, peer, begin);
    if (p->closing) {
        return;
    }
    require(tp_socket_receive(completion->worker, &p->socket, &p->receive) == TP_OK, "receive");
}

static void accepted(tp_op *op, const tp_completion *completion) {
    static const tp_socket_options options = {.nodelay = true};
    (void)op;
    if (completion->handle == TP_NO_HANDLE) {
        return;
    }
    if (echo.ending) {
        tp_handle_close(completion->handle, true);
        return;
    }
    peer *p = calloc(1, sizeof *p);
    require(p != NULL, "no memory");
    p->begin.done = begin_done;
    p->receive.done = receive_done;
    p->send.done = send_done;
    if (tp_socket_attach(echo.port, &p->socket, completion->handle, &options) != TP_OK) {
        tp_handle_close(completion->handle, true);
        free(p);
        return;
    }
    peer_add(p);
    require(tp_port_post(echo.port, &p->socket, &p->begin) == TP_OK, "post");
}

/* ---- the end --------------------------------------------------------------------------------- */

static void listener_closed(tp_op *op, const tp_completion *completion) {
    (void)op, (void)completion;
    echo.closed = true;
}

static void input_ended(tp_op *op, const tp_completion *completion) {
    (void)op, (void)completion;
    echo.ending = true;
    echo.close.done = listener_closed;
    tp_socket_close(&echo.listener, &echo.close, false);
    for (peer *p = echo.peers; p != NULL; p = p->next) {
        peer_close(p);
    }
}

static void wait_for_the_end_of_input(void *argument) {
    (void)argument;
    while (getchar() != EOF) {
    }
    echo.end.done = input_ended;
    require(tp_port_post(echo.port, NULL, &echo.end) == TP_OK, "post");
}

static bool read_arguments(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        bool known = false;
        if (strcmp(argv[i], "--every") == 0) {
            echo.every = strtoul(argv[i + 1], NULL, 10);
            known = echo.every > 0;
        }
        for (size_t w = 0; strcmp(argv[i], "--fault") == 0 && w < TP_COUNT_OF(wrong_names); w++) {
            if (strcmp(argv[i + 1], wrong_names[w]) == 0) {
                echo.fault = (wrong)w;
                known = true;
            }
        }
        if (!known) {
            return false;
        }
    }
    return argc % 2 == 1;
}

int main(int argc, char **argv) {
    tp_op accept = {.done = accepted};
    tp_address address = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    tp_port_options options = {.size = sizeof options, .workers = 1};
    tp_thread input;
    if (!read_arguments(argc, argv)) {
        fprintf(stderr, "frame-echo [--fault NAME] [--every N]\n");
        return 2;
    }
    require(tp_port_create(&options, &echo.port) == TP_OK, "port");
    require(
        tp_socket_listen(echo.port, &echo.listener, &address, 512, &address) == TP_OK, "listen");
    require(tp_socket_accept(&echo.listener, &accept) == TP_OK, "accept");
    require(tp_thread_start(&input, "input", wait_for_the_end_of_input, NULL) == TP_OK, "thread");
    printf("listening %u\n", (unsigned)address.port);
    fflush(stdout);
    tp_worker *worker = tp_port_worker(echo.port, 0);
    while (!echo.closed || echo.peers != NULL) {
        require(tp_port_wait(worker, -1) == TP_OK, "wait");
        (void)tp_port_dispatch(worker);
    }
    tp_thread_join(&input);
    tp_port_destroy(echo.port);
    return 0;
}
