/*
 * The fixture's links: sockets with their operations, listeners, pairs.
 *
 * Results are written by workers and read by the main thread, so they are atomic. A link's memory
 * is the case's from `closed` on: that store is the worker's last access.
 */
#include "fixture.h"

/* The links that are attached, to print what is in progress when a case gives up. */
static fixture_link *links;
static tp_mutex links_mutex;
static tp_once links_once;

static void links_initialise(void) {
    tp_mutex_init(&links_mutex);
}

static void links_add(fixture_link *link) {
    tp_once_run(&links_once, links_initialise);
    tp_mutex_lock(&links_mutex);
    link->previous = NULL;
    link->next = links;
    if (links != NULL) {
        links->previous = link;
    }
    links = link;
    tp_mutex_unlock(&links_mutex);
}

static void links_remove(fixture_link *link) {
    tp_mutex_lock(&links_mutex);
    if (link->previous != NULL) {
        link->previous->next = link->next;
    } else {
        links = link->next;
    }
    if (link->next != NULL) {
        link->next->previous = link->previous;
    }
    tp_mutex_unlock(&links_mutex);
}

static void print_link(const fixture_link *link) {
    const fixture_op *const ops[] = {
        &link->connect, &link->accept, &link->receive, &link->send, &link->close, &link->task};
    printf("    %s:%s%s%s in progress:", link->name, atomic_load(&link->closing) ? " closing" : "",
        atomic_load(&link->close_returned) ? " (returned)" : "",
        atomic_load(&link->closed) ? " closed" : "");
    for (size_t i = 0; i < TP_COUNT_OF(ops); i++) {
        if (fixture_op_in_progress(ops[i])) {
            printf(" %s", ops[i]->name);
        }
    }
    printf("; received %" PRIu64 " (%s), sent %" PRIu64 " (%s), connect %s\n",
        (uint64_t)atomic_load(&link->received),
        fixture_error_name(atomic_load(&link->receive_result)), (uint64_t)atomic_load(&link->sent),
        fixture_error_name(atomic_load(&link->send_result)),
        fixture_error_name(atomic_load(&link->connect_result)));
}

void fixture_give_up(const char *waited_for, const char *file, int line) {
    printf("%s:%d: %s, %u workers%s: gave up waiting for: %s\n", file, line,
        fixture_under_test.backend, fixture_under_test.workers,
        fixture_under_test.post_receive_buffers ? ", posted receives" : "", waited_for);
    tp_once_run(&links_once, links_initialise);
    tp_mutex_lock(&links_mutex);
    unsigned shown = 0;
    for (const fixture_link *link = links; link != NULL && shown < 20; link = link->next, shown++) {
        print_link(link);
    }
    tp_mutex_unlock(&links_mutex);
    fflush(stdout);
    _Exit(1);
}

/* ---- what comes back ------------------------------------------------------------------------- */

static void after_close(const fixture_op *op) {
    if (atomic_load(&op->link->closed)) {
        fixture_fault("%s of %s came back after the socket's close had", op->name, op->link->name);
    }
}

static void connect_done(fixture_op *op, const tp_completion *completion) {
    fixture_link *link = op->link;
    after_close(op);
    if (link->on_connected != NULL) {
        link->on_connected(link, completion);
    }
    atomic_store(&link->connect_result, (int)completion->error);
    fixture_changed();
}

static void accept_done(fixture_op *op, const tp_completion *completion) {
    fixture_link *link = op->link;
    after_close(op);
    if ((completion->error == TP_OK) != (completion->handle != TP_NO_HANDLE)) {
        fixture_fault("accept of %s delivered %s with handle %lld", link->name,
            fixture_error_name((int)completion->error), (long long)completion->handle);
    }
    if (link->on_accepted != NULL) {
        link->on_accepted(link, completion);
    }
    if (completion->last) {
        atomic_store(&link->accept_result, (int)completion->error);
    }
    fixture_changed();
}

static void check_late_delivery(fixture_link *link, const tp_completion *completion) {
    unsigned late = atomic_fetch_add(&link->late_deliveries, 1) + 1;
    unsigned allowed = link->none_late ? 0 : 1;
    if (late > allowed) {
        fixture_fault("%s was delivered %" PRIu64
                      " bytes after its close had returned (delivery %u of such)",
            link->name, (uint64_t)completion->count, late);
    }
}

static void receive_done(fixture_op *op, const tp_completion *completion) {
    fixture_link *link = op->link;
    bool carries = completion->bytes != NULL && completion->count > 0;
    after_close(op);
    if (atomic_exchange(&link->delivering, true)) {
        fixture_fault("two deliveries of %s at a time", link->name);
    }
    if (carries != (completion->error == TP_OK) || carries == completion->last) {
        fixture_fault("receive of %s delivered %" PRIu64 " bytes with %s%s", link->name,
            (uint64_t)completion->count, fixture_error_name((int)completion->error),
            completion->last ? ", the last" : "");
    }
    if (carries && atomic_load(&link->close_returned)) {
        check_late_delivery(link, completion);
    }
    if (carries && link->on_bytes != NULL) {
        link->on_bytes(link, completion);
    }
    if (carries) {
        atomic_fetch_add(&link->received, completion->count);
    }
    if (completion->last && link->on_received_all != NULL) {
        link->on_received_all(link, completion);
    }
    atomic_store(&link->delivering, false);
    if (completion->last) {
        atomic_store(&link->receive_result, (int)completion->error);
        fixture_changed();
    }
}

static void send_done(fixture_op *op, const tp_completion *completion) {
    fixture_link *link = op->link;
    size_t size = link->sending;
    after_close(op);
    if (completion->count > size || (completion->error == TP_OK && completion->count != size)) {
        fixture_fault("send of %" PRIu64 " bytes to %s came back with %s and %" PRIu64,
            (uint64_t)size, link->name, fixture_error_name((int)completion->error),
            (uint64_t)completion->count);
    }
    atomic_fetch_add(&link->sent, completion->count);
    atomic_store(&link->send_result, (int)completion->error);
    if (link->on_sent != NULL) {
        link->on_sent(link, completion);
    }
    if (!fixture_op_in_progress(op)) {
        fixture_changed();
    }
}

static void close_done(fixture_op *op, const tp_completion *completion) {
    fixture_link *link = op->link;
    const fixture_op *const others[] = {&link->connect, &link->accept, &link->receive, &link->send};
    if (completion->error != TP_OK) {
        fixture_fault("close of %s came back with %s", link->name,
            fixture_error_name((int)completion->error));
    }
    for (size_t i = 0; i < TP_COUNT_OF(others); i++) {
        if (fixture_op_in_progress(others[i])) {
            fixture_fault("close of %s came back before its %s", link->name, others[i]->name);
        }
    }
    if (atomic_load(&link->running) != 0) {
        fixture_fault("close of %s came back while another of its `done`s runs", link->name);
    }
    links_remove(link);
    atomic_store(&link->closed, true);
    fixture_changed();
}

/* ---- starts ---------------------------------------------------------------------------------- */

static void link_op_init(fixture_link *link, fixture_op *op, const char *name, fixture_done *done) {
    fixture_op_init(op, name, done, NULL);
    op->link = link;
}

void fixture_link_init(fixture_link *link, fixture *s, const char *name) {
    memset(link, 0, sizeof *link);
    link->fixture = s;
    link->name = name;
    link_op_init(link, &link->connect, "connect", connect_done);
    link_op_init(link, &link->accept, "accept", accept_done);
    link_op_init(link, &link->receive, "receive", receive_done);
    link_op_init(link, &link->send, "send", send_done);
    link_op_init(link, &link->close, "close", close_done);
    link_op_init(link, &link->task, "task", NULL);
    atomic_store(&link->connect_result, FIXTURE_PENDING);
    atomic_store(&link->accept_result, FIXTURE_PENDING);
    atomic_store(&link->receive_result, FIXTURE_PENDING);
    atomic_store(&link->send_result, FIXTURE_PENDING);
}

static tp_err link_attached(fixture_link *link, tp_err error) {
    /* A link that failed to attach is not listed; its memory has been the case's all the time. */
    if (error != TP_OK) {
        links_remove(link);
        atomic_store(&link->attached, false);
    }
    return error;
}

/* Called before the attach, because the link's first completion may come before the attach
 * returns. */
static void link_attaching(fixture_link *link) {
    links_add(link);
    atomic_store(&link->attached, true);
}

tp_err fixture_connect(fixture_link *link, const tp_address *address) {
    static const tp_socket_options options = {.nodelay = true};
    link_attaching(link);
    fixture_op_starting(&link->connect);
    tp_err error =
        tp_socket_connect(link->fixture->port, &link->socket, address, &options, &link->connect.op);
    fixture_op_started(&link->connect, error);
    return error == TP_OK ? TP_OK : link_attached(link, error);
}

tp_err fixture_attach(fixture_link *link, tp_handle handle) {
    static const tp_socket_options options = {.nodelay = true};
    link_attaching(link);
    tp_err error = tp_socket_attach(link->fixture->port, &link->socket, handle, &options);
    return link_attached(link, error);
}

tp_err fixture_listen(
    fixture_link *link, const tp_address *address, unsigned backlog, tp_address *bound) {
    link_attaching(link);
    tp_err error = tp_socket_listen(link->fixture->port, &link->socket, address, backlog, bound);
    return link_attached(link, error);
}

tp_err fixture_accept(fixture_link *link) {
    fixture_op_starting(&link->accept);
    tp_err error = tp_socket_accept(&link->socket, &link->accept.op);
    fixture_op_started(&link->accept, error);
    return error;
}

tp_err fixture_receive(tp_worker *worker, fixture_link *link) {
    fixture_op_starting(&link->receive);
    tp_err error = tp_socket_receive(worker, &link->socket, &link->receive.op);
    fixture_op_started(&link->receive, error);
    return error;
}

tp_err fixture_send(tp_worker *worker, fixture_link *link, const tp_buffer *buffers, size_t count) {
    link->sending = 0;
    for (size_t i = 0; i < count; i++) {
        link->sending += buffers[i].size;
    }
    fixture_op_starting(&link->send);
    tp_err error = tp_socket_send(worker, &link->socket, &link->send.op, buffers, count);
    fixture_op_started(&link->send, error);
    return error;
}

tp_err fixture_send_bytes(
    tp_worker *worker, fixture_link *link, tp_buffer *buffer, const void *bytes, size_t size) {
    *buffer = (tp_buffer){.bytes = bytes, .size = size};
    return fixture_send(worker, link, buffer, 1);
}

static void link_close(fixture_link *link, bool reset) {
    fixture_op_starting(&link->close);
    tp_socket_close(&link->socket, &link->close.op, reset);
    fixture_op_started(&link->close, TP_OK);
    /* The link's memory is the case's from `closed` on, which the case may have seen by now. Cases
     * that close on a worker also wait for `close_returned` before they reuse the memory. */
    atomic_store(&link->close_returned, true);
}

void fixture_shut(fixture_link *link, bool reset) {
    if (atomic_exchange(&link->closing, true)) {
        fixture_fault("the case closes %s twice", link->name);
    }
    link_close(link, reset);
}

void fixture_shut_once(fixture_link *link, bool reset) {
    if (!atomic_exchange(&link->closing, true)) {
        link_close(link, reset);
    }
}

bool fixture_link_over(const fixture_link *link) {
    return atomic_load(&link->closed) && atomic_load(&link->close_returned);
}

void fixture_shut_and_wait(fixture_link *link, bool reset) {
    fixture_shut(link, reset);
    FIXTURE_UNTIL(fixture_link_over(link));
}

typedef struct task {
    fixture_act *act;
    void *argument;
    atomic_bool done;
} task;

static void task_done(fixture_op *op, const tp_completion *completion) {
    task *t = op->context;
    if (!tp_port_serves(completion->worker, &op->link->socket)) {
        fixture_fault("a post to %s ran on worker %u, which does not serve it", op->link->name,
            fixture_index_of(completion->worker));
    }
    t->act(completion->worker, op->link, t->argument);
    atomic_store(&t->done, true);
    fixture_changed();
}

void fixture_run(fixture_link *link, fixture_act *act, void *argument) {
    task t = {.act = act, .argument = argument};
    link->task.done = task_done;
    link->task.context = &t;
    REQUIRE(fixture_post(link->fixture->port, &link->socket, &link->task) == TP_OK);
    FIXTURE_UNTIL(atomic_load(&t.done));
}

void fixture_act_receive(tp_worker *worker, fixture_link *link, void *argument) {
    (void)argument;
    CHECK_EQ(fixture_receive(worker, link), TP_OK);
}

void fixture_act_finish(tp_worker *worker, fixture_link *link, void *argument) {
    (void)argument;
    tp_socket_finish(worker, &link->socket);
}

void fixture_act_pause(tp_worker *worker, fixture_link *link, void *argument) {
    (void)argument;
    tp_socket_pause(worker, &link->socket);
}

void fixture_act_resume(tp_worker *worker, fixture_link *link, void *argument) {
    (void)argument;
    tp_socket_resume(worker, &link->socket);
}
