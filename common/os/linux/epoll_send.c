/*
 * Sending: tried at once, and gone on with when the kernel has room again.
 *
 * Runs on the socket's worker. The kernel taking less than it was given arms the next output edge
 * by itself (as EAGAIN does), so a short count is not followed by a call only to be told EAGAIN.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "os/error.h"
#include "os/linux/epoll_port.h"

/* Linux takes at most 2 GiB - 4 KiB in one call and then comes back short without having run out of
 * room: no edge would follow. */
enum { MOST_AT_ONCE = 1 << 30 };

enum { FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL };

/*
 * Small buffers are copied into one and sent by send(): the kernel's toll for each piece of a
 * sendmsg() is that of copying one to four KiB (measured on loopback: 16 pieces of 68 bytes cost
 * 1.3 us flattened and 3.1 us gathered, 64 of 512 bytes 3.2 us and 8.2 us; at 4 of 4,096 bytes
 * gathering wins). So the limit grows with the number of pieces.
 */
static bool is_worth_flattening(size_t count, size_t total) {
    return total <= FLATTEN_BASE + count * FLATTEN_PER_BUFFER;
}

/* What the contract lets a send end with. */
static tp_err end_error(int os_error) {
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

/* Bytes that are left to send. */
static uint64_t count_left(const epoll_op *op) {
    const tp_buffer *buffers = op->u.send.buffers;
    uint64_t size = 0;
    for (size_t i = 0; i < op->u.send.count; i++) {
        size += buffers[i].size;
    }
    return size - op->u.send.offset;
}

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

/* Lists what is left to send, up to MOST_AT_ONCE. Returns how many pieces that is. */
static size_t gather(const epoll_op *op, struct iovec *pieces) {
    size_t offset = op->u.send.offset;
    size_t total = 0;
    size_t i = 0;
    for (; i < op->u.send.count && total < MOST_AT_ONCE; i++) {
        const tp_buffer *buffer = &op->u.send.buffers[i];
        size_t size = buffer->size - offset;
        size = size < MOST_AT_ONCE - total ? size : MOST_AT_ONCE - total;
        pieces[i].iov_base = (void *)(buffer->bytes + offset);
        pieces[i].iov_len = size;
        total += size;
        offset = 0;
    }
    return i;
}

TP_NOINLINE static ssize_t write_gathered(int descriptor, const epoll_op *op) {
    struct iovec pieces[TP_PORT_MAX_BUFFERS];
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = pieces;
    message.msg_iovlen = gather(op, pieces);
    return sendmsg(descriptor, &message, FLAGS);
}

/* `size`: what is left, at most MOST_AT_ONCE of it. */
static ssize_t write_out(epoll_worker *worker, int descriptor, const epoll_op *op, size_t size) {
    if (op->u.send.count == 1) {
        return send(descriptor, op->u.send.buffers->bytes + op->u.send.offset, size, FLAGS);
    }
    if (is_worth_flattening(op->u.send.count, size)) {
        return send(descriptor, flatten(worker, op), size, FLAGS);
    }
    return write_gathered(descriptor, op);
}

/* Counts `sent` more bytes as sent, which are not all that is left. */
static void advance(epoll_op *op, size_t sent) {
    while (sent >= op->u.send.buffers->size - op->u.send.offset) {
        sent -= op->u.send.buffers->size - op->u.send.offset;
        op->u.send.offset = 0;
        op->u.send.buffers++;
        op->u.send.count--;
    }
    op->u.send.offset += sent;
}

static void fail(epoll_socket *socket, epoll_op *op, int os_error) {
    /* EPIPE says only that it is over. If the receive has met the reason, that is the answer;
     * otherwise what we met is kept for the receive, to which the kernel will not repeat it. */
    if (os_error == EPIPE && socket->broken != 0) {
        os_error = socket->broken;
    } else if (os_error != EPIPE) {
        socket->broken = os_error;
    }
    op->os_error = os_error;
    op->error = (uint8_t)end_error(os_error);
}

/* Sends what the kernel takes. True if the op has its result; false: an output edge will come. */
static bool transmit(epoll_worker *worker, epoll_socket *socket, epoll_op *op) {
    for (;;) {
        uint64_t left = count_left(op);
        size_t size = left < MOST_AT_ONCE ? (size_t)left : MOST_AT_ONCE;
        ssize_t sent = size == 0 ? 0 : write_out(worker, socket->descriptor, op, size);
        if (TP_LIKELY(sent >= 0)) {
            op->sent += (size_t)sent;
            if (TP_LIKELY((uint64_t)sent == left)) {
                return true;
            }
            advance(op, (size_t)sent);
            if ((size_t)sent < size) {
                return false;
            }
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return false;
        } else if (errno != EINTR) {
            fail(socket, op, errno);
            return true;
        }
    }
}

/* ---- the operation --------------------------------------------------------------------------- */

static void begin(epoll_op *op, epoll_socket *socket, const tp_buffer *buffers, size_t count) {
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
    if (transmit(worker, socket, op)) {
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
    begin(op, socket, buffers, count);
    if (transmit(worker, socket, op)) {
        epoll_list_push(&worker->ready, op);
    } else {
        socket->output = op;
    }
    return TP_OK;
}

/* If the kernel takes less than all, the output edge that it owes comes with no send in progress
 * and says nothing: the next send tries at once anyway. */
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
    begin(&op, socket, buffers, count);
    (void)transmit(worker, socket, &op);
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

/* What is left of its buffers is read anew by each transmit(). */
bool tp__epoll_send_waits(const tp_worker *head, const tp_socket *tp) {
    const epoll_socket *socket = (const epoll_socket *)tp;
    assert(&socket->worker->head == head);
    (void)head;
    return socket->output != NULL;
}
