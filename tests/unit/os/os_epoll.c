/*
 * The epoll back end, where the conformance suite has no control: what happens inside one batch of
 * events, and what the kernel reports only once. One thread is the one worker, so that the case
 * decides what is in a batch.
 */
#include "check.h"

#include <errno.h>
#include <sys/resource.h>

#include "os/clock.h"
#include "os/compiler.h"
#include "os/port.h"
#include "os/thread.h"

typedef struct end {
    tp_socket socket;
    tp_op connect, receive, send, close;
    tp_buffer buffer;
    int connect_error; /* a tp_err, or -1: has not come back; the other results likewise */
    int connect_os_error;
    int receive_error;
    int send_error;
    unsigned receive_ends;
    size_t received;
    bool closed;
    struct end *to_close; /* the end that a delivery here closes, or NULL */
} end;

static tp_port *port;
static tp_worker *worker;
static tp_socket listener;
static tp_op accept_op;
static tp_op listener_close;
static bool listener_closed;
static tp_handle accepted;
static const tp_address loopback = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
static tp_address listening;

static const uint8_t letter = 'x';

/* One wait and one dispatch. */
static void dispatch_once(int timeout_ms) {
    tp_err error = tp_port_wait(worker, timeout_ms);
    CHECK(error == TP_OK || error == TP_ERR_TIMED_OUT);
    (void)tp_port_dispatch(worker);
}

#define DISPATCH_UNTIL(condition)                                                                  \
    do {                                                                                           \
        uint64_t deadline_ = tp_clock_ms() + 60000;                                                \
        while (!(condition) && tp_clock_ms() < deadline_) {                                        \
            dispatch_once(10);                                                                     \
        }                                                                                          \
        REQUIRE(condition);                                                                        \
    } while (0)

/* ---- what comes back ------------------------------------------------------------------------- */

static void on_accept(tp_op *op, const tp_completion *completion) {
    (void)op;
    if (completion->handle != TP_NO_HANDLE) {
        accepted = completion->handle;
    }
}

static void on_listener_closed(tp_op *op, const tp_completion *completion) {
    (void)op;
    (void)completion;
    listener_closed = true;
}

static void on_connect(tp_op *op, const tp_completion *completion) {
    end *e = TP_CONTAINER_OF(op, end, connect);
    CHECK_EQ(e->connect_error, -1);
    e->connect_error = (int)completion->error;
    e->connect_os_error = completion->os_error;
}

static void on_close(tp_op *op, const tp_completion *completion) {
    end *e = TP_CONTAINER_OF(op, end, close);
    (void)completion;
    CHECK(!e->closed);
    e->closed = true;
}

static void close_end(end *e, bool reset) {
    e->close.done = on_close;
    tp_socket_close(&e->socket, &e->close, reset);
}

static void on_receive(tp_op *op, const tp_completion *completion) {
    end *e = TP_CONTAINER_OF(op, end, receive);
    CHECK(!e->closed);
    e->received += completion->count;
    if (completion->last) {
        e->receive_error = (int)completion->error;
        e->receive_ends++;
    }
    if (e->to_close != NULL) {
        end *victim = e->to_close;
        /* The first of the two that gets a delivery closes the other, once. */
        e->to_close = NULL;
        victim->to_close = NULL;
        close_end(victim, false);
    }
}

static void on_send(tp_op *op, const tp_completion *completion) {
    end *e = TP_CONTAINER_OF(op, end, send);
    e->send_error = (int)completion->error;
}

/* ---- a port, pairs --------------------------------------------------------------------------- */

static void open_port(void) {
    const tp_port_options options = {.size = sizeof options, .backend = "epoll", .workers = 1};
    REQUIRE(tp_port_create(&options, &port) == TP_OK);
    worker = tp_port_worker(port, 0);
    memset(&listener, 0, sizeof listener);
    REQUIRE(tp_socket_listen(port, &listener, &loopback, 16, &listening) == TP_OK);
    accept_op.done = on_accept;
    REQUIRE(tp_socket_accept(&listener, &accept_op) == TP_OK);
}

static void close_port(void) {
    listener_closed = false;
    listener_close.done = on_listener_closed;
    tp_socket_close(&listener, &listener_close, false);
    DISPATCH_UNTIL(listener_closed);
    tp_port_destroy(port);
}

static void end_init(end *e) {
    memset(e, 0, sizeof *e);
    e->connect_error = -1;
    e->receive_error = -1;
    e->send_error = -1;
}

static void pair(end *client, end *server) {
    end_init(client);
    end_init(server);
    accepted = TP_NO_HANDLE;
    client->connect.done = on_connect;
    REQUIRE(tp_socket_connect(port, &client->socket, &listening, NULL, &client->connect) == TP_OK);
    DISPATCH_UNTIL(client->connect_error != -1 && accepted != TP_NO_HANDLE);
    REQUIRE(client->connect_error == TP_OK);
    REQUIRE(tp_socket_attach(port, &server->socket, accepted, NULL) == TP_OK);
}

static void receive(end *e) {
    e->receive.done = on_receive;
    REQUIRE(tp_socket_receive(worker, &e->socket, &e->receive) == TP_OK);
}

static void send_letter(end *e) {
    e->buffer = (tp_buffer){.bytes = &letter, .size = 1};
    e->send.done = on_send;
    e->send_error = -1;
    REQUIRE(tp_socket_send(worker, &e->socket, &e->send, &e->buffer, 1) == TP_OK);
}

static void close_and_wait(end *e, bool reset) {
    close_end(e, reset);
    DISPATCH_UNTIL(e->closed);
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void an_event_behind_a_close_in_one_batch_is_harmless(void) {
    end clients[2];
    end *servers[2];
    open_port();
    for (unsigned i = 0; i < 2; i++) {
        servers[i] = malloc(sizeof *servers[i]);
        REQUIRE(servers[i] != NULL);
        pair(&clients[i], servers[i]);
        receive(servers[i]);
    }
    servers[0]->to_close = servers[1];
    servers[1]->to_close = servers[0];
    dispatch_once(0); /* handles the edges of the attach */
    /* On loopback a byte has arrived when the send returns, so both edges are in one batch. */
    send_letter(&clients[0]);
    send_letter(&clients[1]);
    dispatch_once(0);
    DISPATCH_UNTIL(servers[0]->closed || servers[1]->closed);
    unsigned closed_first = servers[0]->closed ? 0 : 1;
    CHECK_EQ(servers[closed_first]->received, 0);
    CHECK_EQ(servers[closed_first]->receive_ends, 1);
    CHECK_EQ(servers[closed_first]->receive_error, TP_ERR_CANCELLED);
    CHECK_EQ(servers[1 - closed_first]->received, 1);
    /* Its memory is the case's again; a sanitizer reports any further access. */
    free(servers[closed_first]);
    DISPATCH_UNTIL(clients[0].send_error == TP_OK && clients[1].send_error == TP_OK);
    close_and_wait(servers[1 - closed_first], false);
    free(servers[1 - closed_first]);
    close_and_wait(&clients[0], false);
    close_and_wait(&clients[1], false);
    close_port();
}

static void a_connect_closed_in_the_batch_that_completes_it_is_cancelled(void) {
    end client;
    end server;
    end late;
    open_port();
    pair(&client, &server);
    receive(&server);
    dispatch_once(0);
    end_init(&late);
    late.connect.done = on_connect;
    server.to_close = &late;
    /* The letter's edge comes first, then that of the connect, which succeeds at once on
     * loopback. */
    accepted = TP_NO_HANDLE;
    send_letter(&client);
    REQUIRE(tp_socket_connect(port, &late.socket, &listening, NULL, &late.connect) == TP_OK);
    DISPATCH_UNTIL(late.closed && accepted != TP_NO_HANDLE);
    CHECK_EQ(server.received, 1);
    CHECK_EQ(late.connect_error, TP_ERR_CANCELLED);
    tp_handle_close(accepted, false);
    close_and_wait(&server, false);
    close_and_wait(&client, false);
    close_port();
}

static void a_reset_that_the_send_got_is_reported_by_the_receive_too(void) {
    end client;
    end server;
    open_port();
    pair(&client, &server);
    receive(&client);
    tp_socket_pause(worker, &client.socket);
    close_and_wait(&server, true);
    /* The kernel reports the reset once, and the send gets it. */
    send_letter(&client);
    DISPATCH_UNTIL(client.send_error != -1);
    CHECK_EQ(client.send_error, TP_ERR_RESET);
    CHECK_EQ(client.receive_error, -1);
    tp_socket_resume(worker, &client.socket);
    DISPATCH_UNTIL(client.receive_error != -1);
    CHECK_EQ(client.receive_error, TP_ERR_RESET);
    close_and_wait(&client, false);
    close_port();
}

static void a_reset_that_the_receive_got_is_reported_by_the_send_too(void) {
    end client;
    end server;
    open_port();
    pair(&client, &server);
    receive(&client);
    close_and_wait(&server, true);
    DISPATCH_UNTIL(client.receive_error != -1);
    CHECK_EQ(client.receive_error, TP_ERR_RESET);
    send_letter(&client);
    DISPATCH_UNTIL(client.send_error != -1);
    CHECK_EQ(client.send_error, TP_ERR_RESET);
    close_and_wait(&client, false);
    close_port();
}

static void a_connect_that_fails_at_once_comes_back_later(void) {
    /* TCP to a broadcast address: connect() itself fails, before anything is sent. */
    const tp_address broadcast = {
        .ip = {[10] = 0xff, [11] = 0xff, [12] = 255, [13] = 255, [14] = 255, [15] = 255},
        .port = 9};
    end client;
    open_port();
    end_init(&client);
    client.connect.done = on_connect;
    REQUIRE(tp_socket_connect(port, &client.socket, &broadcast, NULL, &client.connect) == TP_OK);
    CHECK_EQ(client.connect_error, -1);
    DISPATCH_UNTIL(client.connect_error != -1);
    CHECK_EQ(client.connect_error, TP_ERR_UNREACHABLE);
    CHECK_EQ(client.connect_os_error, ENETUNREACH);
    close_and_wait(&client, false);
    close_port();
}

/* Connects to a port that was free a moment ago, until the system has used every local port that it
 * can assign, including that one. */
static void no_socket_connects_to_itself(void) {
    open_port();
    tp_address free_port = listening;
    /* Linux binds to ports of one parity and connects from those of the other. */
    free_port.port ^= 1;
    listener_closed = false;
    listener_close.done = on_listener_closed;
    tp_socket_close(&listener, &listener_close, false);
    DISPATCH_UNTIL(listener_closed);
    unsigned refused = 0, established = 0;
    for (unsigned i = 0; i < 40000; i++) {
        end e;
        end_init(&e);
        e.connect.done = on_connect;
        REQUIRE(tp_socket_connect(port, &e.socket, &free_port, NULL, &e.connect) == TP_OK);
        DISPATCH_UNTIL(e.connect_error >= 0);
        refused += e.connect_error == TP_ERR_REFUSED;
        established += e.connect_error == TP_OK;
        close_and_wait(&e, true);
    }
    CHECK_EQ(established, 0);
    CHECK_EQ(refused, 40000);
    tp_port_destroy(port);
}

static void an_end_is_reported_to_each_receive(void) {
    end client;
    end server;
    open_port();
    pair(&client, &server);
    close_and_wait(&server, false);
    for (unsigned i = 1; i <= 3; i++) {
        /* No new edge reports the end. */
        client.receive_error = -1;
        receive(&client);
        DISPATCH_UNTIL(client.receive_error != -1);
        CHECK_EQ(client.receive_error, TP_ERR_CLOSED);
        CHECK_EQ(client.receive_ends, i);
    }
    close_and_wait(&client, false);
    close_port();
}

/* ---- a herd ---------------------------------------------------------------------------------- */

enum { HERD = 8, ARRIVALS = 200 };

static tp_port *herd_port;
static atomic_bool herd_leaves;
static atomic_uint arrived;

static void count_arrival(tp_op *op, const tp_completion *completion) {
    (void)op;
    if (completion->handle != TP_NO_HANDLE) {
        tp_handle_close(completion->handle, true);
        atomic_fetch_add(&arrived, 1);
    }
}

static void run_worker(void *worker_slot) {
    while (!atomic_load(&herd_leaves)) {
        CHECK_EQ(tp_port_wait(worker_slot, -1), TP_OK);
        (void)tp_port_dispatch(worker_slot);
    }
}

static void note_closed(tp_op *op, const tp_completion *completion) {
    (void)op, (void)completion;
    atomic_store(&herd_leaves, true);
    tp_port_wake(herd_port);
}

/* How often the threads of this process have closed_first to sleep. */
static long sleeps(void) {
    struct rusage usage;
    REQUIRE(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_nvcsw;
}

/* A wake-up for a connection that another thread has taken ends within the kernel: no wait returns,
 * but the thread goes to sleep once more. */
static void a_connection_wakes_no_herd(void) {
    const tp_port_options options = {.size = sizeof options, .backend = "epoll", .workers = HERD};
    tp_thread threads[HERD];
    tp_socket herd_listener = {0};
    tp_op accepting = {.done = count_arrival};
    tp_op closing = {.done = note_closed};
    end peer;
    open_port(); /* for the clients */
    REQUIRE(tp_port_create(&options, &herd_port) == TP_OK);
    tp_address own = listening;
    REQUIRE(tp_socket_listen(herd_port, &herd_listener, &loopback, 16, &listening) == TP_OK);
    REQUIRE(tp_socket_accept(&herd_listener, &accepting) == TP_OK);
    for (unsigned i = 0; i < HERD; i++) {
        REQUIRE(tp_thread_start(&threads[i], "herd", run_worker, tp_port_worker(herd_port, i)) ==
                TP_OK);
    }
    long before = sleeps();
    for (unsigned i = 0; i < ARRIVALS; i++) {
        end_init(&peer);
        peer.connect.done = on_connect;
        REQUIRE(tp_socket_connect(port, &peer.socket, &listening, NULL, &peer.connect) == TP_OK);
        DISPATCH_UNTIL(peer.connect_error >= 0 && atomic_load(&arrived) == i + 1);
        close_and_wait(&peer, true);
    }
    long slept = sleeps() - before;
    printf(
        "    %d connections, %d workers: threads went to sleep %ld times\n", ARRIVALS, HERD, slept);
    CHECK_LT(slept, (long)ARRIVALS * HERD / 2);
    tp_socket_close(&herd_listener, &closing, false);
    for (unsigned i = 0; i < HERD; i++) {
        tp_thread_join(&threads[i]);
    }
    tp_port_destroy(herd_port);
    listening = own;
    close_port();
}

CHECK_MAIN(CASE(an_event_behind_a_close_in_one_batch_is_harmless),
    CASE(a_connect_closed_in_the_batch_that_completes_it_is_cancelled),
    CASE(a_reset_that_the_send_got_is_reported_by_the_receive_too),
    CASE(a_reset_that_the_receive_got_is_reported_by_the_send_too),
    CASE(a_connect_that_fails_at_once_comes_back_later), CASE(an_end_is_reported_to_each_receive),
    CASE(no_socket_connects_to_itself), CASE(a_connection_wakes_no_herd))
