/*
 * Theme `cancel`: close at every moment.
 *
 * Threads: closes come from the main thread, from a closer thread, from workers and from inside
 * every kind of `done`. The stage checks that all that was started comes back, once, before the
 * close.
 */
#include "stage.h"

#include "cases.h"

#define BLOCK  (16u << 20) /* more than two kernels hold between them */
#define ROUNDS 150

static uint8_t block[BLOCK];
static tp_buffer block_buffer = {.bytes = block, .size = BLOCK};

static void send_block(tp_worker *worker, stage_link *link, void *argument) {
    (void)argument;
    CHECK_EQ(stage_send(worker, link, &block_buffer, 1), TP_OK);
}

static void check_ended(const stage_link *link, const char *what, int result) {
    if (result == STAGE_PENDING) {
        stage_fault("the %s of %s has not come back", what, link->name);
    }
}

static void close_with_everything_in_progress(void) {
    for (int reset = 0; reset < 2; reset++) {
        stage s;
        stage_listener listener;
        stage_link client;
        stage_link server;
        stage_open(&s);
        stage_listener_open(&listener, &s);
        stage_link_init(&client, &s, "client");
        stage_link_init(&server, &s, "server");
        stage_pair(&listener, &client, &server);
        /* Nobody reads at the server, so the client's send cannot end. */
        stage_run(&client, stage_act_receive, NULL);
        stage_run(&client, send_block, NULL);
        stage_run(&server, send_block, NULL);
        STAGE_UNTIL(atomic_load(&client.received) > 0);
        stage_shut(&client, reset == 1);
        stage_shut(&server, reset == 1);
        stage_shut(&listener.link, false);
        STAGE_UNTIL(stage_link_over(&client) && stage_link_over(&server));
        STAGE_UNTIL(stage_link_over(&listener.link));
        check_ended(&client, "receive", atomic_load(&client.receive_result));
        check_ended(&client, "send", atomic_load(&client.send_result));
        check_ended(&server, "send", atomic_load(&server.send_result));
        CHECK_EQ(atomic_load(&listener.link.accept_result), TP_ERR_CANCELLED);
        tp_mutex_destroy(&listener.mutex);
        stage_close(&s);
    }
}

/* A backlog of one that nobody empties: connects beyond it stay on their way. */
static void close_while_a_connect_is_on_its_way(void) {
    enum { CLIENTS = 8 };
    stage s;
    stage_listener listener;
    stage_link clients[CLIENTS];
    tp_address where = stage_loopback(0);
    stage_open(&s);
    REQUIRE(stage_listener_open_at(&listener, &s, &where, 1, false) == TP_OK);
    for (unsigned i = 0; i < CLIENTS; i++) {
        stage_link_init(&clients[i], &s, "client");
        REQUIRE(stage_connect(&clients[i], &listener.address) == TP_OK);
    }
    STAGE_UNTIL(atomic_load(&clients[0].connect_result) == TP_OK);
    unsigned on_their_way = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        on_their_way += stage_op_in_progress(&clients[i].connect);
    }
    printf("    %u of %u connects on their way\n", on_their_way, (unsigned)CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        stage_shut(&clients[i], false);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        STAGE_UNTIL(stage_link_over(&clients[i]));
        check_ended(&clients[i], "connect", atomic_load(&clients[i].connect_result));
    }
    stage_shut_and_wait(&listener.link, false);
    tp_mutex_destroy(&listener.mutex);
    stage_close(&s);
}

static void close_right_after_a_connect_was_started(void) {
    stage s;
    stage_listener listener;
    uint64_t chance = 5;
    stage_open(&s);
    stage_listener_open(&listener, &s);
    for (int i = 0; i < ROUNDS; i++) {
        stage_link client;
        stage_link_init(&client, &s, "client");
        REQUIRE(stage_connect(&client, &listener.address) == TP_OK);
        for (uint32_t wait = stage_chance(&chance) % 20; wait > 0; wait--) {
            tp_thread_yield();
        }
        stage_shut_and_wait(&client, i % 2 == 0);
        int result = atomic_load(&client.connect_result);
        if (result != TP_OK && result != TP_ERR_CANCELLED) {
            stage_fault("the connect came back with %s", stage_error_name(result));
        }
    }
    stage_listener_close(&listener);
    stage_close(&s);
}

/* ---- close inside each `done` ---------------------------------------------------------------- */

static void shut_here(stage_link *link, const tp_completion *completion) {
    (void)completion;
    stage_shut_once(link, false);
}

static void shut_inside_delivery(stage_link *link, const tp_completion *completion) {
    link->none_late = true;
    shut_here(link, completion);
}

typedef enum moment { IN_CONNECT, IN_DELIVERY, IN_LAST_DELIVERY, IN_SEND, MOMENTS } moment;

static void close_inside_one(stage *s, stage_listener *listener, moment when) {
    stage_link client;
    stage_link server;
    stage_link_init(&client, s, "client");
    stage_link_init(&server, s, "server");
    client.on_connected = when == IN_CONNECT ? shut_here : NULL;
    client.on_bytes = when == IN_DELIVERY ? shut_inside_delivery : NULL;
    client.on_received_all = when == IN_LAST_DELIVERY ? shut_here : NULL;
    client.on_sent = when == IN_SEND ? shut_here : NULL;
    REQUIRE(stage_connect(&client, &listener->address) == TP_OK);
    REQUIRE(stage_attach(&server, stage_listener_take(listener, NULL)) == TP_OK);
    if (when != IN_CONNECT) {
        STAGE_UNTIL(atomic_load(&client.connect_result) == TP_OK);
        stage_run(&client, stage_act_receive, NULL);
        stage_run(&server, stage_act_receive, NULL);
        stage_run(&server, send_block, NULL);
        if (when == IN_SEND) {
            stage_run(&client, send_block, NULL);
        }
        if (when == IN_LAST_DELIVERY) {
            stage_shut(&server, false);
        }
    }
    STAGE_UNTIL(stage_link_over(&client));
    stage_unpair(&client, &server);
}

static void close_inside_each_done(void) {
    stage s;
    stage_listener listener;
    stage_open(&s);
    stage_listener_open(&listener, &s);
    for (int i = 0; i < 20; i++) {
        for (moment when = IN_CONNECT; when < MOMENTS; when++) {
            close_inside_one(&s, &listener, when);
        }
    }
    stage_listener_close(&listener);
    stage_close(&s);
}

static void shut_listener(stage_link *link, const tp_completion *completion) {
    stage_listener *listener = link->context;
    if (completion->handle != TP_NO_HANDLE) {
        atomic_fetch_add(&listener->count, 1);
        tp_handle_close(completion->handle, true);
    }
    shut_here(link, completion);
}

static void close_of_a_listener_inside_its_accept(void) {
    for (int i = 0; i < 20; i++) {
        stage s;
        stage_listener listener;
        stage_link clients[4];
        tp_address where = stage_loopback(0);
        stage_open(&s);
        REQUIRE(stage_listener_open_at(&listener, &s, &where, 16, false) == TP_OK);
        listener.link.on_accepted = shut_listener;
        for (unsigned c = 0; c < TP_COUNT_OF(clients); c++) {
            stage_link_init(&clients[c], &s, "client");
            REQUIRE(stage_connect(&clients[c], &listener.address) == TP_OK);
        }
        REQUIRE(stage_accept(&listener.link) == TP_OK);
        STAGE_UNTIL(stage_link_over(&listener.link));
        CHECK_GE(atomic_load(&listener.count), 1);
        for (unsigned c = 0; c < TP_COUNT_OF(clients); c++) {
            stage_shut_and_wait(&clients[c], false);
        }
        tp_mutex_destroy(&listener.mutex);
        stage_close(&s);
    }
}

/* ---- start and close without a breath between ------------------------------------------------ */

static void start_all_and_shut(tp_worker *worker, stage_link *link, void *argument) {
    (void)argument;
    CHECK_EQ(stage_receive(worker, link), TP_OK);
    CHECK_EQ(stage_send(worker, link, &block_buffer, 1), TP_OK);
    stage_shut(link, false);
}

static void close_in_the_same_breath_as_the_starts(void) {
    stage s;
    stage_listener listener;
    stage_open(&s);
    stage_listener_open(&listener, &s);
    for (int i = 0; i < ROUNDS; i++) {
        stage_link client;
        stage_link server;
        stage_link_init(&client, &s, "client");
        stage_link_init(&server, &s, "server");
        server.none_late = s.workers == 1;
        stage_pair(&listener, &client, &server);
        stage_run(&client, send_block, NULL);
        stage_run(&server, start_all_and_shut, NULL);
        STAGE_UNTIL(stage_link_over(&server));
        check_ended(&server, "receive", atomic_load(&server.receive_result));
        check_ended(&server, "send", atomic_load(&server.send_result));
        stage_unpair(&client, &server);
    }
    stage_listener_close(&listener);
    stage_close(&s);
}

/* ---- close at a moment that chance decides --------------------------------------------------- */

static void send_on(stage_link *link, const tp_completion *completion) {
    /* A send may be started on a closing socket: that it fails is allowed, that it is lost is
     * not. */
    if (completion->error == TP_OK) {
        tp_buffer *small = link->context;
        small->bytes = block;
        small->size = 3000;
        (void)stage_send(completion->worker, link, small, 1);
    }
}

static void send_first(tp_worker *worker, stage_link *link, void *argument) {
    const tp_completion start = {.worker = worker, .error = TP_OK};
    (void)argument;
    send_on(link, &start);
}

static void shut_act(tp_worker *worker, stage_link *link, void *argument) {
    const bool *reset = argument;
    (void)worker;
    stage_shut(link, *reset);
}

typedef struct closer {
    tp_thread thread;
    stage_link *link;
    uint32_t wait;
    bool reset;
} closer;

static void closer_main(void *argument) {
    closer *me = argument;
    for (uint32_t i = 0; i < me->wait; i++) {
        tp_thread_yield();
    }
    stage_shut(me->link, me->reset);
}

static void close_under_traffic(stage *s, stage_listener *listener, uint64_t *chance) {
    stage_link client;
    stage_link server;
    tp_buffer of_client;
    tp_buffer of_server;
    stage_link_init(&client, s, "client");
    stage_link_init(&server, s, "server");
    client.context = &of_client;
    server.context = &of_server;
    client.on_sent = send_on;
    server.on_sent = send_on;
    stage_pair(listener, &client, &server);
    stage_run(&client, stage_act_receive, NULL);
    stage_run(&server, stage_act_receive, NULL);
    stage_run(&client, send_first, NULL);
    stage_run(&server, send_first, NULL);

    bool reset = stage_chance(chance) % 2 == 0;
    uint32_t wait = stage_chance(chance) % 50;
    closer by = {.link = &client, .wait = wait, .reset = reset};
    switch (stage_chance(chance) % 3) {
    case 0: /* both sides at once, from two threads */
        REQUIRE(tp_thread_start(&by.thread, "closer", closer_main, &by) == TP_OK);
        for (uint32_t i = 0; i < wait; i++) {
            tp_thread_yield();
        }
        stage_shut(&server, reset);
        tp_thread_join(&by.thread);
        break;
    case 1: /* on a worker */
        client.none_late = s->workers == 1;
        stage_run(&client, shut_act, &reset);
        break;
    default: /* from outside */
        closer_main(&by);
        break;
    }
    STAGE_UNTIL(stage_link_over(&client));
    stage_unpair(&client, &server);
}

static void close_at_every_moment(void) {
    stage s;
    stage_listener listener;
    stage_open(&s);
    stage_listener_open(&listener, &s);
    uint64_t chance = s.workers;
    for (int i = 0; i < ROUNDS; i++) {
        close_under_traffic(&s, &listener, &chance);
    }
    stage_listener_close(&listener);
    stage_close(&s);
}

PORT_THEME(cancel, PORT_CASE(close_with_everything_in_progress, EACH_WORKERS),
    PORT_CASE(close_while_a_connect_is_on_its_way, EACH_WORKERS),
    PORT_CASE(close_right_after_a_connect_was_started, EACH_WORKERS),
    PORT_CASE(close_inside_each_done, EACH_WORKERS),
    PORT_CASE(close_of_a_listener_inside_its_accept, EACH_WORKERS),
    PORT_CASE(close_in_the_same_breath_as_the_starts, EACH_WORKERS),
    PORT_CASE(close_at_every_moment, EACH_WORKERS))
