/*
 * Sending: tried at once, and continued when the kernel takes bytes again.
 *
 * Runs on the thread of the socket's worker. If the kernel takes less than it was given, or returns
 * EAGAIN, it arms the next output edge by itself. So after a short count no second call is made
 * only to get EAGAIN.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "os/error.h"
#include "os/linux/epoll_port.h"

/* Bytes in one call. Linux takes at most 2 GiB - 4 KiB, and then returns a short count although its
 * buffer is not full: no edge would follow. */
enum { MAX_PER_SEND = 1 << 30 };

enum { FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL };

/*
 * True if the buffers are to be copied into one and sent by send(). The kernel's cost for each
 * piece of a sendmsg() is that of copying 1 to 4 KiB. So the limit grows with the number of pieces.
 * Measured on loopback:
 *
 *     pieces            flattened   gathered
 *     16 of 68 bytes    1.3 us      3.1 us
 *     64 of 512 bytes   3.2 us      8.2 us
 *     4 of 4,096 bytes  gathering is faster
 */
static bool is_worth_flattening(size_t count, size_t total) {
    return total <= FLATTEN_BASE + count * FLATTEN_PER_BUFFER;
}

/* The error of a send, as port.h allows it. */
static tp_err send_error(int os_error) {
    tp_err error = tp_os_translate(os_error);
    switch (error) {
    case TP_ERR_RESET:
    case TP_ERR_CLOSED:
    case TP_ERR_NO_BUFFERS:
        return error;
    case TP_ERR_NO_MEMORY:
        return TP_ERR_NO_BUFFERS;
    default:
        return TP_ERR_OS;
    }
}

/* ---- one call -------------------------------------------------------------------------------- */

/* How many bytes are left to send. */
static uint64_t bytes_left(const epoll_op *op) {
    const tp_buffer *buffers = op->u.send.buffers;
    uint64_t size = 0;
    for (size_t i = 0; i < op->u.send.count; i++) {
        size += buffers[i].size;
    }
    return size - op->u.send.offset;
}

/* Copies what is left to send into the worker's scratch memory, and returns that. */
static const void *flatten(epoll_worker *worker, const epoll_op *op) {
    const tp_buffer *buffer = op->u.send.buffers;
    size_t offset = op->u.send.offset;
    unsigned char *end = worker->scratch;
    for (size_t count = op->u.send.count; count > 0; count--, buffer++) {
        memcpy(end, buffer->bytes + offset, buffer->size - offset);
        end += buffer->size - offset;
        offset = 0;
    }
    return worker->scratch;
}

/* Lists what is left to send, up to MAX_PER_SEND. Returns how many pieces that is. */
static size_t list_pieces(const epoll_op *op, struct iovec *pieces) {
    size_t offset = op->u.send.offset;
    size_t total = 0;
    size_t i = 0;
    for (; i < op->u.send.count && total < MAX_PER_SEND; i++) {
        const tp_buffer *buffer = &op->u.send.buffers[i];
        size_t size = buffer->size - offset;
        size = size < MAX_PER_SEND - total ? size : MAX_PER_SEND - total;
        pieces[i].iov_base = (void *)(buffer->bytes + offset);
        pieces[i].iov_len = size;
        total += size;
        offset = 0;
    }
    return i;
}

TP_NOINLINE static ssize_t send_gathered(int descriptor, const epoll_op *op) {
    struct iovec pieces[TP_PORT_MAX_BUFFERS];
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = pieces;
    message.msg_iovlen = list_pieces(op, pieces);
    return sendmsg(descriptor, &message, FLAGS);
}

/* `size`: what is left, at most MAX_PER_SEND of it. */
static ssize_t send_once(epoll_worker *worker, int descriptor, const epoll_op *op, size_t size) {
    if (op->u.send.count == 1) {
        return send(descriptor, op->u.send.buffers->bytes + op->u.send.offset, size, FLAGS);
    }
    if (is_worth_flattening(op->u.send.count, size)) {
        return send(descriptor, flatten(worker, op), size, FLAGS);
    }
    return send_gathered(descriptor, op);
}

/* Counts `sent` more bytes, which are fewer than are left. */
static void send_advance(epoll_op *op, size_t sent) {
    while (sent >= op->u.send.buffers->size - op->u.send.offset) {
        sent -= op->u.send.buffers->size - op->u.send.offset;
        op->u.send.offset = 0;
        op->u.send.buffers++;
        op->u.send.count--;
    }
    op->u.send.offset += sent;
}

static void send_fail(epoll_socket *socket, epoll_op *op, int os_error) {
    /* EPIPE means only that the connection is over. If the receive has got the reason, that is the
     * error; any other error is kept for the receive, because the kernel reports it once. */
    if (os_error == EPIPE && socket->broken != 0) {
        os_error = socket->broken;
    } else if (os_error != EPIPE) {
        socket->broken = os_error;
    }
    op->os_error = os_error;
    op->error = (uint8_t)send_error(os_error);
}

/* Sends what the kernel takes. True: the op is over and has its result; false: an output edge will
 * come. */
static bool send_transmit(epoll_worker *worker, epoll_socket *socket, epoll_op *op) {
    for (;;) {
        uint64_t left = bytes_left(op);
        size_t size = left < MAX_PER_SEND ? (size_t)left : MAX_PER_SEND;
        ssize_t sent = size == 0 ? 0 : send_once(worker, socket->descriptor, op, size);
        if (TP_LIKELY(sent >= 0)) {
            op->sent += (size_t)sent;
            if (TP_LIKELY((uint64_t)sent == left)) {
                return true;
            }
            send_advance(op, (size_t)sent);
            if ((size_t)sent < size) {
                return false;
            }
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return false;
        } else if (errno != EINTR) {
            send_fail(socket, op, errno);
            return true;
        }
    }
}

/* ---- the operation --------------------------------------------------------------------------- */

static void send_begin(epoll_op *op, epoll_socket *socket, const tp_buffer *buffers, size_t count) {
    op->socket = socket;
    op->u.send.buffers = buffers;
    op->u.send.count = count;
    op->u.send.offset = 0;
    op->sent = 0;
    op->os_error = 0;
    op->error = TP_OK;
    op->kind = OP_RESULT;
}

void tp__epoll_send_more(epoll_worker *worker, epoll_socket *socket) {
    epoll_op *op = socket->output;
    if (send_transmit(worker, socket, op)) {
        socket->output = NULL;
        epoll_list_push(&worker->ready, op);
    }
}

tp_err tp__epoll_send(
    tp_worker *head, tp_socket *tp, tp_op *send_op, const tp_buffer *buffers, size_t count) {
    epoll_worker *worker = epoll_worker_of(head);
    epoll_socket *socket = (epoll_socket *)tp;
    epoll_op *op = (epoll_op *)send_op;
    assert(socket->worker == worker);
    if (TP_UNLIKELY(atomic_load_explicit(&socket->closing, memory_order_relaxed))) {
        (void)tp_os_fail(0);
        return TP_ERR_CANCELLED;
    }
    if (TP_UNLIKELY(socket->output != NULL)) {
        (void)tp_os_fail(0);
        return TP_ERR_STATE;
    }
    send_begin(op, socket, buffers, count);
    if (send_transmit(worker, socket, op)) {
        epoll_list_push(&worker->ready, op);
    } else {
        socket->output = op;
    }
    return TP_OK;
}

/* If the kernel takes only a part, its output edge comes with no send in progress and is ignored:
 * the next send tries at once anyway. */
tp_err tp__epoll_send_now(
    tp_worker *head, tp_socket *tp, const tp_buffer *buffers, size_t count, size_t *sent) {
    epoll_worker *worker = epoll_worker_of(head);
    epoll_socket *socket = (epoll_socket *)tp;
    epoll_op op;
    assert(socket->worker == worker && socket->output == NULL);
    if (TP_UNLIKELY(atomic_load_explicit(&socket->closing, memory_order_relaxed))) {
        (void)tp_os_fail(0);
        return TP_ERR_CANCELLED;
    }
    send_begin(&op, socket, buffers, count);
    (void)send_transmit(worker, socket, &op);
    *sent = op.sent;
    if (TP_UNLIKELY(op.error != TP_OK)) {
        (void)tp_os_fail(op.os_error);
    }
    return (tp_err)op.error;
}

bool tp__epoll_send_take_back(tp_worker *head, tp_socket *tp, tp_op *send_op, size_t *sent) {
    epoll_worker *worker = epoll_worker_of(head);
    epoll_socket *socket = (epoll_socket *)tp;
    epoll_op *op = (epoll_op *)send_op;
    assert(socket->worker == worker);
    if (socket->output == op) {
        socket->output = NULL;
    } else if (op->error != TP_OK || !epoll_list_remove(&worker->ready, op)) {
        return false;
    }
    *sent = op->sent;
    return true;
}

/* Each send_transmit() reads the buffers that are left again. */
bool tp__epoll_send_waits(const tp_worker *head, const tp_socket *tp) {
    const epoll_socket *socket = (const epoll_socket *)tp;
    assert(&socket->worker->head == head);
    (void)head;
    return socket->output != NULL;
}
