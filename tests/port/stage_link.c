/*
 * The stage's links: sockets with their operations, listeners, pairs.
 *
 * Threads: results are written by workers and read by the main thread, so they are atomic. A link's
 * memory is the case's from `closed` on: that store is the last touch of the worker that made it.
 */
#include "stage.h"

/* Links that are attached, for the account of what is in progress when a case gives up. */
static stage_link *links;
static tp_mutex links_mutex;
static tp_once links_once;

static void links_initialise(void) {
    tp_mutex_init(&links_mutex);
}

static void links_add(stage_link *link) {
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

static void links_remove(stage_link *link) {
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

static void print_link(const stage_link *link) {
    const stage_op *const ops[] = {
        &link->connect, &link->accept, &link->receive, &link->send, &link->close, &link->task};
    printf("    %s:%s%s%s in progress:", link->name, atomic_load(&link->closing) ? " closing" : "",
        atomic_load(&link->close_returned) ? " (returned)" : "",
        atomic_load(&link->closed) ? " closed" : "");
    for (size_t i = 0; i < TP_COUNT_OF(ops); i++) {
        if (stage_op_in_progress(ops[i])) {
            printf(" %s", ops[i]->name);
        }
    }
    printf("; received %" PRIu64 " (%s), sent %" PRIu64 " (%s), connect %s\n",
        (uint64_t)atomic_load(&link->received),
        stage_error_name(atomic_load(&link->receive_result)), (uint64_t)atomic_load(&link->sent),
        stage_error_name(atomic_load(&link->send_result)),
        stage_error_name(atomic_load(&link->connect_result)));
}

void stage_give_up(const char *waited_for, const char *file, int line) {
    printf("%s:%d: %s, %u workers%s: waited in vain for: %s\n", file, line, stage_on_trial.backend,
        stage_on_trial.workers, stage_on_trial.post_receive_buffers ? ", posted receives" : "",
        waited_for);
    tp_once_run(&links_once, links_initialise);
    tp_mutex_lock(&links_mutex);
    unsigned shown = 0;
    for (const stage_link *link = links; link != NULL && shown < 20; link = link->next, shown++) {
        print_link(link);
    }
    tp_mutex_unlock(&links_mutex);
    fflush(stdout);
    _Exit(1);
}

/* ---- what comes back ------------------------------------------------------------------------- */

static void after_close(const stage_op *op) {
    if (atomic_load(&op->link->closed)) {
        stage_fault("%s of %s came back after the socket's close had", op->name, op->link->name);
    }
}

static void connect_done(stage_op *op, const tp_completion *completion) {
    stage_link *link = op->link;
    after_close(op);
    if (link->on_connected != NULL) {
        link->on_connected(link, completion);
    }
    atomic_store(&link->connect_result, (int)completion->error);
    stage_changed();
}

static void accept_done(stage_op *op, const tp_completion *completion) {
    stage_link *link = op->link;
    after_close(op);
    if ((completion->error == TP_OK) != (completion->handle != TP_NO_HANDLE)) {
        stage_fault("accept of %s delivered %s with handle %lld", link->name,
            stage_error_name((int)completion->error), (long long)completion->handle);
    }
    if (link->on_accepted != NULL) {
        link->on_accepted(link, completion);
    }
    if (completion->last) {
        atomic_store(&link->accept_result, (int)completion->error);
    }
    stage_changed();
}

static void check_late_delivery(stage_link *link, const tp_completion *completion) {
    unsigned late = atomic_fetch_add(&link->late_deliveries, 1) + 1;
    unsigned allowed = link->none_late ? 0 : 1;
    if (late > allowed) {
        stage_fault("%s was delivered %" PRIu64
                    " bytes after its close had returned (delivery %u of such)",
            link->name, (uint64_t)completion->count, late);
    }
}

static void receive_done(stage_op *op, const tp_completion *completion) {
    stage_link *link = op->link;
    bool carries = completion->bytes != NULL && completion->count > 0;
    after_close(op);
    if (atomic_exchange(&link->delivering, true)) {
        stage_fault("two deliveries of %s at a time", link->name);
    }
    if (carries != (completion->error == TP_OK) || carries == completion->last) {
        stage_fault("receive of %s delivered %" PRIu64 " bytes with %s%s", link->name,
            (uint64_t)completion->count, stage_error_name((int)completion->error),
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
        stage_changed();
    }
}

static void send_done(stage_op *op, const tp_completion *completion) {
    stage_link *link = op->link;
    size_t size = link->sending;
    after_close(op);
    if (completion->count > size || (completion->error == TP_OK && completion->count != size)) {
        stage_fault("send of %" PRIu64 " bytes to %s came back with %s and %" PRIu64,
            (uint64_t)size, link->name, stage_error_name((int)completion->error),
            (uint64_t)completion->count);
    }
    atomic_fetch_add(&link->sent, completion->count);
    atomic_store(&link->send_result, (int)completion->error);
    if (link->on_sent != NULL) {
        link->on_sent(link, completion);
    }
    if (!stage_op_in_progress(op)) {
        stage_changed();
    }
}

static void close_done(stage_op *op, const tp_completion *completion) {
    stage_link *link = op->link;
    const stage_op *const others[] = {&link->connect, &link->accept, &link->receive, &link->send};
    if (completion->error != TP_OK) {
        stage_fault(
            "close of %s came back with %s", link->name, stage_error_name((int)completion->error));
    }
    for (size_t i = 0; i < TP_COUNT_OF(others); i++) {
        if (stage_op_in_progress(others[i])) {
            stage_fault("close of %s came back before its %s", link->name, others[i]->name);
        }
    }
    if (atomic_load(&link->running) != 0) {
        stage_fault("close of %s came back while another of its `done`s runs", link->name);
    }
    links_remove(link);
    atomic_store(&link->closed, true);
    stage_changed();
}

/* ---- starts ---------------------------------------------------------------------------------- */

static void link_op_init(stage_link *link, stage_op *op, const char *name, stage_done *done) {
    stage_op_init(op, name, done, NULL);
    op->link = link;
}

void stage_link_init(stage_link *link, stage *s, const char *name) {
    memset(link, 0, sizeof *link);
    link->stage = s;
    link->name = name;
    link_op_init(link, &link->connect, "connect", connect_done);
    link_op_init(link, &link->accept, "accept", accept_done);
    link_op_init(link, &link->receive, "receive", receive_done);
    link_op_init(link, &link->send, "send", send_done);
    link_op_init(link, &link->close, "close", close_done);
    link_op_init(link, &link->task, "task", NULL);
    atomic_store(&link->connect_result, STAGE_PENDING);
    atomic_store(&link->accept_result, STAGE_PENDING);
    atomic_store(&link->receive_result, STAGE_PENDING);
    atomic_store(&link->send_result, STAGE_PENDING);
}

static tp_err attached(stage_link *link, tp_err error) {
    /* A link that failed to attach is not on the list; its memory is the case's all along. */
    if (error != TP_OK) {
        links_remove(link);
        atomic_store(&link->attached, false);
    }
    return error;
}

/* Before the call that attaches: the link's first completion may be there before it returns. */
static void attaching(stage_link *link) {
    links_add(link);
    atomic_store(&link->attached, true);
}

tp_err stage_connect(stage_link *link, const tp_address *address) {
    static const tp_socket_options options = {.nodelay = true};
    attaching(link);
    stage_op_starting(&link->connect);
    tp_err error =
        tp_socket_connect(link->stage->port, &link->socket, address, &options, &link->connect.op);
    stage_op_started(&link->connect, error);
    return error == TP_OK ? TP_OK : attached(link, error);
}

tp_err stage_attach(stage_link *link, tp_handle handle) {
    static const tp_socket_options options = {.nodelay = true};
    attaching(link);
    tp_err error = tp_socket_attach(link->stage->port, &link->socket, handle, &options);
    return attached(link, error);
}

tp_err stage_listen(
    stage_link *link, const tp_address *address, unsigned backlog, tp_address *bound) {
    attaching(link);
    tp_err error = tp_socket_listen(link->stage->port, &link->socket, address, backlog, bound);
    return attached(link, error);
}

tp_err stage_accept(stage_link *link) {
    stage_op_starting(&link->accept);
    tp_err error = tp_socket_accept(&link->socket, &link->accept.op);
    stage_op_started(&link->accept, error);
    return error;
}

tp_err stage_receive(tp_worker *worker, stage_link *link) {
    stage_op_starting(&link->receive);
    tp_err error = tp_socket_receive(worker, &link->socket, &link->receive.op);
    stage_op_started(&link->receive, error);
    return error;
}

tp_err stage_send(tp_worker *worker, stage_link *link, const tp_buffer *buffers, size_t count) {
    link->sending = 0;
    for (size_t i = 0; i < count; i++) {
        link->sending += buffers[i].size;
    }
    stage_op_starting(&link->send);
    tp_err error = tp_socket_send(worker, &link->socket, &link->send.op, buffers, count);
    stage_op_started(&link->send, error);
    return error;
}

tp_err stage_send_bytes(
    tp_worker *worker, stage_link *link, tp_buffer *buffer, const void *bytes, size_t size) {
    *buffer = (tp_buffer){.bytes = bytes, .size = size};
    return stage_send(worker, link, buffer, 1);
}

static void shut(stage_link *link, bool reset) {
    stage_op_starting(&link->close);
    tp_socket_close(&link->socket, &link->close.op, reset);
    stage_op_started(&link->close, TP_OK);
    /* The link's memory is the case's from `closed` on, which the case may have seen by now: cases
     * that close from a worker wait for `close_returned` too before they let go of it. */
    atomic_store(&link->close_returned, true);
}

void stage_shut(stage_link *link, bool reset) {
    if (atomic_exchange(&link->closing, true)) {
        stage_fault("the case closes %s twice", link->name);
    }
    shut(link, reset);
}

void stage_shut_once(stage_link *link, bool reset) {
    if (!atomic_exchange(&link->closing, true)) {
        shut(link, reset);
    }
}

bool stage_link_over(const stage_link *link) {
    return atomic_load(&link->closed) && atomic_load(&link->close_returned);
}

void stage_shut_and_wait(stage_link *link, bool reset) {
    stage_shut(link, reset);
    STAGE_UNTIL(stage_link_over(link));
}

typedef struct task {
    stage_act *act;
    void *argument;
    atomic_bool done;
} task;

static void task_done(stage_op *op, const tp_completion *completion) {
    task *t = op->context;
    if (!tp_port_serves(completion->worker, &op->link->socket)) {
        stage_fault("a post to %s ran on worker %u, which does not serve it", op->link->name,
            tp_worker_index(completion->worker));
    }
    t->act(completion->worker, op->link, t->argument);
    atomic_store(&t->done, true);
    stage_changed();
}

void stage_run(stage_link *link, stage_act *act, void *argument) {
    task t = {.act = act, .argument = argument};
    link->task.done = task_done;
    link->task.context = &t;
    REQUIRE(stage_post(link->stage->port, &link->socket, &link->task) == TP_OK);
    STAGE_UNTIL(atomic_load(&t.done));
}

void stage_act_receive(tp_worker *worker, stage_link *link, void *argument) {
    (void)argument;
    CHECK_EQ(stage_receive(worker, link), TP_OK);
}

void stage_act_finish(tp_worker *worker, stage_link *link, void *argument) {
    (void)argument;
    tp_socket_finish(worker, &link->socket);
}

void stage_act_pause(tp_worker *worker, stage_link *link, void *argument) {
    (void)argument;
    tp_socket_pause(worker, &link->socket);
}

void stage_act_resume(tp_worker *worker, stage_link *link, void *argument) {
    (void)argument;
    tp_socket_resume(worker, &link->socket);
}
