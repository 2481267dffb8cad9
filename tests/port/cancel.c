/*
 * Theme `cancel`: closing at every moment.
 *
 * The closes come from the main thread, from a closer thread, from workers and from inside every
 * kind of `done`. The fixture checks that everything that was started comes back, once, before the
 * close.
 */
#include "fixture.h"

#include "cases.h"

#define BLOCK  (16u << 20) /* more than the buffers of both sides hold */
#define ROUNDS 150

static uint8_t block[BLOCK];
static tp_buffer block_buffer = {.bytes = block, .size = BLOCK};

static void send_block(tp_worker *worker, fixture_link *link, void *argument) {
    (void)argument;
    CHECK_EQ(fixture_send(worker, link, &block_buffer, 1), TP_OK);
}

static void check_ended(const fixture_link *link, const char *what, int result) {
    if (result == FIXTURE_PENDING) {
        fixture_fault("the %s of %s has not come back", what, link->name);
    }
}

static void close_with_everything_in_progress(void) {
    for (int reset = 0; reset < 2; reset++) {
        fixture s;
        fixture_listener listener;
        fixture_link client;
        fixture_link server;
        fixture_open(&s);
        fixture_listener_open(&listener, &s);
        fixture_link_init(&client, &s, "client");
        fixture_link_init(&server, &s, "server");
        fixture_pair(&listener, &client, &server);
        /* The server does not read, so the client's send cannot end. */
        fixture_run(&client, fixture_act_receive, NULL);
        fixture_run(&client, send_block, NULL);
        fixture_run(&server, send_block, NULL);
        FIXTURE_UNTIL(atomic_load(&client.received) > 0);
        fixture_shut(&client, reset == 1);
        fixture_shut(&server, reset == 1);
        fixture_shut(&listener.link, false);
        FIXTURE_UNTIL(fixture_link_over(&client) && fixture_link_over(&server));
        FIXTURE_UNTIL(fixture_link_over(&listener.link));
        check_ended(&client, "receive", atomic_load(&client.receive_result));
        check_ended(&client, "send", atomic_load(&client.send_result));
        check_ended(&server, "send", atomic_load(&server.send_result));
        CHECK_EQ(atomic_load(&listener.link.accept_result), TP_ERR_CANCELLED);
        tp_mutex_destroy(&listener.mutex);
        fixture_close(&s);
    }
}

/* The backlog of one is never emptied, so further connects stay in progress. */
static void close_while_a_connect_is_in_progress(void) {
    enum { CLIENTS = 8 };
    fixture s;
    fixture_listener listener;
    fixture_link clients[CLIENTS];
    tp_address where = fixture_loopback(0);
    fixture_open(&s);
    REQUIRE(fixture_listener_open_at(&listener, &s, &where, 1, false) == TP_OK);
    for (unsigned i = 0; i < CLIENTS; i++) {
        fixture_link_init(&clients[i], &s, "client");
        REQUIRE(fixture_connect(&clients[i], &listener.address) == TP_OK);
    }
    FIXTURE_UNTIL(atomic_load(&clients[0].connect_result) == TP_OK);
    unsigned in_progress = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        in_progress += fixture_op_in_progress(&clients[i].connect);
    }
    printf("    %u of %u connects in progress\n", in_progress, (unsigned)CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        fixture_shut(&clients[i], false);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        FIXTURE_UNTIL(fixture_link_over(&clients[i]));
        check_ended(&clients[i], "connect", atomic_load(&clients[i].connect_result));
    }
    fixture_shut_and_wait(&listener.link, false);
    tp_mutex_destroy(&listener.mutex);
    fixture_close(&s);
}

static void close_right_after_a_connect_was_started(void) {
    fixture s;
    fixture_listener listener;
    uint64_t chance = 5;
    fixture_open(&s);
    fixture_listener_open(&listener, &s);
    for (int i = 0; i < ROUNDS; i++) {
        fixture_link client;
        fixture_link_init(&client, &s, "client");
        REQUIRE(fixture_connect(&client, &listener.address) == TP_OK);
        for (uint32_t wait = fixture_chance(&chance) % 20; wait > 0; wait--) {
            tp_thread_yield();
        }
        fixture_shut_and_wait(&client, i % 2 == 0);
        int result = atomic_load(&client.connect_result);
        if (result != TP_OK && result != TP_ERR_CANCELLED) {
            fixture_fault("the connect came back with %s", fixture_error_name(result));
        }
    }
    fixture_listener_close(&listener);
    fixture_close(&s);
}

/* ---- close inside each `done` ---------------------------------------------------------------- */

static void shut_here(fixture_link *link, const tp_completion *completion) {
    (void)completion;
    fixture_shut_once(link, false);
}

static void shut_inside_delivery(fixture_link *link, const tp_completion *completion) {
    link->none_late = true;
    shut_here(link, completion);
}

typedef enum moment { IN_CONNECT, IN_DELIVERY, IN_LAST_DELIVERY, IN_SEND, MOMENTS } moment;

static void close_inside_one(fixture *s, fixture_listener *listener, moment when) {
    fixture_link client;
    fixture_link server;
    fixture_link_init(&client, s, "client");
    fixture_link_init(&server, s, "server");
    client.on_connected = when == IN_CONNECT ? shut_here : NULL;
    client.on_bytes = when == IN_DELIVERY ? shut_inside_delivery : NULL;
    client.on_received_all = when == IN_LAST_DELIVERY ? shut_here : NULL;
    client.on_sent = when == IN_SEND ? shut_here : NULL;
    REQUIRE(fixture_connect(&client, &listener->address) == TP_OK);
    REQUIRE(fixture_attach(&server, fixture_listener_take(listener, NULL)) == TP_OK);
    if (when != IN_CONNECT) {
        FIXTURE_UNTIL(atomic_load(&client.connect_result) == TP_OK);
        fixture_run(&client, fixture_act_receive, NULL);
        fixture_run(&server, fixture_act_receive, NULL);
        fixture_run(&server, send_block, NULL);
        if (when == IN_SEND) {
            fixture_run(&client, send_block, NULL);
        }
        if (when == IN_LAST_DELIVERY) {
            fixture_shut(&server, false);
        }
    }
    FIXTURE_UNTIL(fixture_link_over(&client));
    fixture_unpair(&client, &server);
}

static void close_inside_each_done(void) {
    fixture s;
    fixture_listener listener;
    fixture_open(&s);
    fixture_listener_open(&listener, &s);
    for (int i = 0; i < 20; i++) {
        for (moment when = IN_CONNECT; when < MOMENTS; when++) {
            close_inside_one(&s, &listener, when);
        }
    }
    fixture_listener_close(&listener);
    fixture_close(&s);
}

static void shut_listener(fixture_link *link, const tp_completion *completion) {
    fixture_listener *listener = link->context;
    if (completion->handle != TP_NO_HANDLE) {
        atomic_fetch_add(&listener->count, 1);
        tp_handle_close(completion->handle, true);
    }
    shut_here(link, completion);
}

static void close_of_a_listener_inside_its_accept(void) {
    for (int i = 0; i < 20; i++) {
        fixture s;
        fixture_listener listener;
        fixture_link clients[4];
        tp_address where = fixture_loopback(0);
        fixture_open(&s);
        REQUIRE(fixture_listener_open_at(&listener, &s, &where, 16, false) == TP_OK);
        listener.link.on_accepted = shut_listener;
        for (unsigned c = 0; c < TP_COUNT_OF(clients); c++) {
            fixture_link_init(&clients[c], &s, "client");
            REQUIRE(fixture_connect(&clients[c], &listener.address) == TP_OK);
        }
        REQUIRE(fixture_accept(&listener.link) == TP_OK);
        FIXTURE_UNTIL(fixture_link_over(&listener.link));
        CHECK_GE(atomic_load(&listener.count), 1);
        for (unsigned c = 0; c < TP_COUNT_OF(clients); c++) {
            fixture_shut_and_wait(&clients[c], false);
        }
        tp_mutex_destroy(&listener.mutex);
        fixture_close(&s);
    }
}

/* ---- start and close at once ----------------------------------------------------------------- */

static void start_all_and_shut(tp_worker *worker, fixture_link *link, void *argument) {
    (void)argument;
    CHECK_EQ(fixture_receive(worker, link), TP_OK);
    CHECK_EQ(fixture_send(worker, link, &block_buffer, 1), TP_OK);
    fixture_shut(link, false);
}

static void close_right_after_the_starts(void) {
    fixture s;
    fixture_listener listener;
    fixture_open(&s);
    fixture_listener_open(&listener, &s);
    for (int i = 0; i < ROUNDS; i++) {
        fixture_link client;
        fixture_link server;
        fixture_link_init(&client, &s, "client");
        fixture_link_init(&server, &s, "server");
        server.none_late = s.workers == 1;
        fixture_pair(&listener, &client, &server);
        fixture_run(&client, send_block, NULL);
        fixture_run(&server, start_all_and_shut, NULL);
        FIXTURE_UNTIL(fixture_link_over(&server));
        check_ended(&server, "receive", atomic_load(&server.receive_result));
        check_ended(&server, "send", atomic_load(&server.send_result));
        fixture_unpair(&client, &server);
    }
    fixture_listener_close(&listener);
    fixture_close(&s);
}

/* ---- close at a random moment ---------------------------------------------------------------- */

static void send_on(fixture_link *link, const tp_completion *completion) {
    /* A send may be started on a closing socket. It may fail, but must not be lost. */
    if (completion->error == TP_OK) {
        tp_buffer *small = link->context;
        small->bytes = block;
        small->size = 3000;
        (void)fixture_send(completion->worker, link, small, 1);
    }
}

static void send_first(tp_worker *worker, fixture_link *link, void *argument) {
    const tp_completion start = {.worker = worker, .error = TP_OK};
    (void)argument;
    send_on(link, &start);
}

static void shut_act(tp_worker *worker, fixture_link *link, void *argument) {
    const bool *reset = argument;
    (void)worker;
    fixture_shut(link, *reset);
}

typedef struct closer {
    tp_thread thread;
    fixture_link *link;
    uint32_t wait;
    bool reset;
} closer;

static void closer_main(void *argument) {
    closer *me = argument;
    for (uint32_t i = 0; i < me->wait; i++) {
        tp_thread_yield();
    }
    fixture_shut(me->link, me->reset);
}

static void close_under_traffic(fixture *s, fixture_listener *listener, uint64_t *chance) {
    fixture_link client;
    fixture_link server;
    tp_buffer of_client;
    tp_buffer of_server;
    fixture_link_init(&client, s, "client");
    fixture_link_init(&server, s, "server");
    client.context = &of_client;
    server.context = &of_server;
    client.on_sent = send_on;
    server.on_sent = send_on;
    fixture_pair(listener, &client, &server);
    fixture_run(&client, fixture_act_receive, NULL);
    fixture_run(&server, fixture_act_receive, NULL);
    fixture_run(&client, send_first, NULL);
    fixture_run(&server, send_first, NULL);

    bool reset = fixture_chance(chance) % 2 == 0;
    uint32_t wait = fixture_chance(chance) % 50;
    closer by = {.link = &client, .wait = wait, .reset = reset};
    switch (fixture_chance(chance) % 3) {
    case 0: /* both sides at once, from two threads */
        REQUIRE(tp_thread_start(&by.thread, "closer", closer_main, &by) == TP_OK);
        for (uint32_t i = 0; i < wait; i++) {
            tp_thread_yield();
        }
        fixture_shut(&server, reset);
        tp_thread_join(&by.thread);
        break;
    case 1: /* on a worker */
        client.none_late = s->workers == 1;
        fixture_run(&client, shut_act, &reset);
        break;
    default: /* on the main thread */
        closer_main(&by);
        break;
    }
    FIXTURE_UNTIL(fixture_link_over(&client));
    fixture_unpair(&client, &server);
}

static void close_at_every_moment(void) {
    fixture s;
    fixture_listener listener;
    fixture_open(&s);
    fixture_listener_open(&listener, &s);
    uint64_t chance = s.workers;
    for (int i = 0; i < ROUNDS; i++) {
        close_under_traffic(&s, &listener, &chance);
    }
    fixture_listener_close(&listener);
    fixture_close(&s);
}

PORT_THEME(cancel, PORT_CASE(close_with_everything_in_progress, EACH_WORKERS),
    PORT_CASE(close_while_a_connect_is_in_progress, EACH_WORKERS),
    PORT_CASE(close_right_after_a_connect_was_started, EACH_WORKERS),
    PORT_CASE(close_inside_each_done, EACH_WORKERS),
    PORT_CASE(close_of_a_listener_inside_its_accept, EACH_WORKERS),
    PORT_CASE(close_right_after_the_starts, EACH_WORKERS),
    PORT_CASE(close_at_every_moment, EACH_WORKERS))
