/*
 * Theme `ends`: how connections fail to begin, and how they end.
 *
 * The main thread controls both sides by posting to them.
 */
#include "fixture.h"

#include "cases.h"

#define LOAD (1u << 20)

static uint8_t load[LOAD];

typedef struct pair {
    fixture fixture;
    fixture_listener listener;
    fixture_link client;
    fixture_link server;
    uint64_t client_checked;
    uint64_t server_checked;
} pair;

static void check_load(fixture_link *link, const tp_completion *completion) {
    uint64_t *checked = link->context;
    (void)fixture_pattern_check(link->name, completion->bytes, completion->count, *checked, 5);
    *checked += completion->count;
}

static void pair_open(pair *p) {
    fixture_open(&p->fixture);
    fixture_listener_open(&p->listener, &p->fixture);
    fixture_link_init(&p->client, &p->fixture, "client");
    fixture_link_init(&p->server, &p->fixture, "server");
    p->client_checked = 0;
    p->server_checked = 0;
    p->client.context = &p->client_checked;
    p->server.context = &p->server_checked;
    p->client.on_bytes = check_load;
    p->server.on_bytes = check_load;
    fixture_pattern_fill(load, LOAD, 0, 5);
    fixture_pair(&p->listener, &p->client, &p->server);
}

static void pair_close(pair *p) {
    fixture_unpair(&p->client, &p->server);
    fixture_listener_close(&p->listener);
    fixture_close(&p->fixture);
}

static void send_load(tp_worker *worker, fixture_link *link, void *argument) {
    CHECK_EQ(fixture_send_bytes(worker, link, argument, load, LOAD), TP_OK);
}

/* Sends the load and waits until the kernel has it. */
static void send_load_and_wait(fixture_link *link) {
    tp_buffer buffer;
    atomic_store(&link->send_result, FIXTURE_PENDING);
    fixture_run(link, send_load, &buffer);
    FIXTURE_UNTIL(atomic_load(&link->send_result) != FIXTURE_PENDING);
    CHECK_EQ(atomic_load(&link->send_result), TP_OK);
}

static void wait_end(fixture_link *link, int result) {
    FIXTURE_UNTIL(atomic_load(&link->receive_result) != FIXTURE_PENDING);
    int seen = atomic_load(&link->receive_result);
    if (seen != result) {
        fixture_fault("the receive of %s ended with %s, not with %s", link->name,
            fixture_error_name(seen), fixture_error_name(result));
    }
}

/* The port where nothing listens is the local port of another connection. A free port could be
 * given to the very socket that connects to it, which would then, by TCP's simultaneous open, be
 * connected to itself. */
static void a_refused_connect_is_reported(void) {
    static pair p;
    pair_open(&p);
    tp_address no_listener = p.listener.peers[0]; /* the client's local address */
    for (int i = 0; i < 20; i++) {
        fixture_link client;
        fixture_link_init(&client, &p.fixture, "client");
        REQUIRE(fixture_connect(&client, &no_listener) == TP_OK);
        FIXTURE_UNTIL(atomic_load(&client.connect_result) != FIXTURE_PENDING);
        CHECK_EQ(atomic_load(&client.connect_result), TP_ERR_REFUSED);
        fixture_shut_and_wait(&client, false);
    }
    pair_close(&p);
}

static void an_orderly_end_comes_behind_the_bytes(void) {
    static pair p;
    pair_open(&p);
    fixture_run(&p.server, fixture_act_receive, NULL);
    fixture_run(&p.client, fixture_act_receive, NULL);
    send_load_and_wait(&p.client);
    fixture_shut_and_wait(&p.client, false);
    CHECK_EQ(atomic_load(&p.client.receive_result), TP_ERR_CANCELLED);
    wait_end(&p.server, TP_ERR_CLOSED);
    CHECK_EQ(atomic_load(&p.server.received), LOAD);
    pair_close(&p);
}

static void act_nothing(tp_worker *worker, fixture_link *link, void *argument) {
    (void)worker;
    (void)link;
    (void)argument;
}

static int end_by_reset(void) {
    static pair p;
    pair_open(&p);
    fixture_run(&p.server, fixture_act_receive, NULL);
    send_load_and_wait(&p.client);
    FIXTURE_UNTIL(atomic_load(&p.server.received) == LOAD);
    fixture_run(
        &p.server, act_nothing, NULL); /* with one worker the next receive has started by now */
    fixture_shut_and_wait(&p.client, true);
    FIXTURE_UNTIL(atomic_load(&p.server.receive_result) != FIXTURE_PENDING);
    int result = atomic_load(&p.server.receive_result);
    pair_close(&p);
    return result;
}

static void a_reset_differs_from_an_orderly_end(void) {
    int result = end_by_reset();
    /* Wine reports a reset between two receives as an orderly end, so it gets more tries. */
    for (int i = 0; i < 100 && fixture_backend_is("iocp") && result == TP_ERR_CLOSED; i++) {
        result = end_by_reset();
    }
    CHECK_EQ(result, TP_ERR_RESET);
}

static void a_handle_that_was_never_attached_can_be_closed_both_ways(void) {
    for (int reset = 0; reset < 2; reset++) {
        fixture s;
        fixture_listener listener;
        fixture_link client;
        fixture_open(&s);
        fixture_listener_open(&listener, &s);
        fixture_link_init(&client, &s, "client");
        REQUIRE(fixture_connect(&client, &listener.address) == TP_OK);
        tp_handle handle = fixture_listener_take(&listener, NULL);
        FIXTURE_UNTIL(atomic_load(&client.connect_result) == TP_OK);
        fixture_run(&client, fixture_act_receive, NULL);
        tp_handle_close(handle, reset == 1);
        wait_end(&client, reset == 1 ? TP_ERR_RESET : TP_ERR_CLOSED);
        fixture_shut_and_wait(&client, false);
        fixture_listener_close(&listener);
        fixture_close(&s);
    }
}

/* The client sends everything and finishes; the server answers after it has seen the end. */
static void a_half_close_keeps_the_other_direction(void) {
    static pair p;
    pair_open(&p);
    fixture_run(&p.client, fixture_act_receive, NULL);
    fixture_run(&p.server, fixture_act_receive, NULL);
    send_load_and_wait(&p.client);
    fixture_run(&p.client, fixture_act_finish, NULL);
    wait_end(&p.server, TP_ERR_CLOSED);
    CHECK_EQ(atomic_load(&p.server.received), LOAD);
    CHECK_EQ(atomic_load(&p.client.receive_result), FIXTURE_PENDING);
    send_load_and_wait(&p.server);
    FIXTURE_UNTIL(atomic_load(&p.client.received) == LOAD);
    CHECK_EQ(atomic_load(&p.client.receive_result), FIXTURE_PENDING);
    fixture_run(&p.server, fixture_act_finish, NULL);
    wait_end(&p.client, TP_ERR_CLOSED);
    pair_close(&p);
}

#define WORD 100 /* bytes; any kernel takes as many if nothing is read */

static void send_word(tp_worker *worker, fixture_link *link, void *argument) {
    CHECK_EQ(fixture_send_bytes(worker, link, argument, load, WORD), TP_OK);
}

static void bytes_of_a_peer_that_closed_before_the_attach_arrive(void) {
    fixture s;
    fixture_listener listener;
    fixture_link client;
    fixture_link server;
    uint64_t checked = 0;
    tp_buffer buffer;
    fixture_open(&s);
    fixture_pattern_fill(load, LOAD, 0, 5);
    fixture_listener_open(&listener, &s);
    fixture_link_init(&client, &s, "client");
    fixture_link_init(&server, &s, "server");
    server.context = &checked;
    server.on_bytes = check_load;
    REQUIRE(fixture_connect(&client, &listener.address) == TP_OK);
    FIXTURE_UNTIL(atomic_load(&client.connect_result) == TP_OK);
    tp_handle handle = fixture_listener_take(&listener, NULL);
    fixture_run(&client, send_word, &buffer);
    FIXTURE_UNTIL(atomic_load(&client.send_result) == TP_OK);
    fixture_shut_and_wait(&client, false);
    REQUIRE(fixture_attach(&server, handle) == TP_OK);
    fixture_run(&server, fixture_act_receive, NULL);
    wait_end(&server, TP_ERR_CLOSED);
    CHECK_EQ(checked, WORD);
    fixture_shut_and_wait(&server, false);
    fixture_listener_close(&listener);
    fixture_close(&s);
}

/* Sends until a send reports that the connection is lost. */
static void send_again(fixture_link *link, const tp_completion *completion) {
    if (completion->error == TP_OK) {
        tp_err error = fixture_send_bytes(completion->worker, link, link->context, load, LOAD);
        CHECK_EQ(error, TP_OK);
    }
}

static void a_send_to_a_peer_that_left_fails(void) {
    for (int reset = 0; reset < 2; reset++) {
        static pair p;
        tp_buffer buffer;
        pair_open(&p);
        p.server.context = &buffer;
        p.server.on_sent = send_again;
        fixture_run(&p.server, send_load, &buffer);
        fixture_shut_and_wait(&p.client, reset == 1);
        FIXTURE_UNTIL(atomic_load(&p.server.send_result) > TP_OK);
        int result = atomic_load(&p.server.send_result);
        if (result != TP_ERR_RESET && result != TP_ERR_CLOSED) {
            fixture_fault("the send ended with %s", fixture_error_name(result));
        }
        pair_close(&p);
    }
}

static void a_port_in_use_is_reported(void) {
    fixture s;
    fixture_listener first;
    fixture_link second;
    tp_address where = fixture_loopback(0);
    fixture_open(&s);
    /* Without accepting, because what a back end opens for that would be counted too. */
    REQUIRE(fixture_listener_open_at(&first, &s, &where, 16, false) == TP_OK);
    fixture_link_init(&second, &s, "second listener");
    CHECK_EQ(fixture_listen(&second, &first.address, 16, NULL), TP_ERR_ADDRESS_IN_USE);
    long before = tp_process_open_descriptors();
    for (int i = 0; i < 100; i++) {
        fixture_link_init(&second, &s, "second listener");
        CHECK_EQ(fixture_listen(&second, &first.address, 16, NULL), TP_ERR_ADDRESS_IN_USE);
    }
    CHECK_LT(tp_process_open_descriptors() - before, 50); /* the worker may open some itself */
    /* The port is free again as soon as the first listener is closed. */
    fixture_listener_close(&first);
    fixture_link_init(&second, &s, "second listener");
    CHECK_EQ(fixture_listen(&second, &first.address, 16, NULL), TP_OK);
    fixture_shut_and_wait(&second, false);
    fixture_close(&s);
}

static void an_address_of_another_machine_is_reported(void) {
    fixture s;
    fixture_link listener;
    tp_address foreign = fixture_loopback(0);
    foreign.ip[12] = 192; /* 192.0.2.1: reserved for documentation, so no machine has it */
    foreign.ip[13] = 0;
    foreign.ip[14] = 2;
    fixture_open(&s);
    fixture_link_init(&listener, &s, "listener");
    CHECK_EQ(fixture_listen(&listener, &foreign, 16, NULL), TP_ERR_ADDRESS);
    fixture_close(&s);
}

static void accept_sees(const tp_address *where, fixture *s, fixture_listener *listener) {
    fixture_link client;
    fixture_link server;
    tp_address peer;
    fixture_link_init(&client, s, "client");
    fixture_link_init(&server, s, "server");
    REQUIRE(fixture_connect(&client, &listener->address) == TP_OK);
    tp_handle handle = fixture_listener_take(listener, &peer);
    FIXTURE_UNTIL(atomic_load(&client.connect_result) == TP_OK);
    REQUIRE(fixture_attach(&server, handle) == TP_OK);
    CHECK_MEM(listener->address.ip, where->ip, sizeof where->ip);
    CHECK_MEM(peer.ip, where->ip, sizeof where->ip);
    CHECK(peer.port != 0 && peer.port != listener->address.port);
    fixture_unpair(&client, &server);
}

static void accept_reports_the_remote_address(void) {
    fixture s;
    fixture_listener listener;
    tp_address where = fixture_loopback(0);
    fixture_open(&s);
    fixture_listener_open(&listener, &s);
    accept_sees(&where, &s, &listener);
    fixture_listener_close(&listener);
    fixture_close(&s);
}

static void ipv6_works_as_well(void) {
    fixture s;
    fixture_listener listener;
    tp_address where = fixture_loopback6(0);
    fixture_open(&s);
    if (fixture_listener_open_at(&listener, &s, &where, 16, true) != TP_OK) {
        fixture_close(&s);
        SKIP("this machine has no [::1]");
    }
    accept_sees(&where, &s, &listener);
    fixture_listener_close(&listener);
    fixture_close(&s);
}

PORT_THEME(ends, PORT_CASE(a_refused_connect_is_reported, EACH_WORKERS),
    PORT_CASE(an_orderly_end_comes_behind_the_bytes, EACH_WORKERS),
    PORT_CASE(a_reset_differs_from_an_orderly_end, EACH_WORKERS),
    PORT_CASE(a_handle_that_was_never_attached_can_be_closed_both_ways, EACH_WORKERS),
    PORT_CASE(a_half_close_keeps_the_other_direction, EACH_WORKERS),
    PORT_CASE(bytes_of_a_peer_that_closed_before_the_attach_arrive, EACH_WORKERS),
    PORT_CASE(a_send_to_a_peer_that_left_fails, EACH_WORKERS),
    PORT_CASE(a_port_in_use_is_reported, ONCE),
    PORT_CASE(an_address_of_another_machine_is_reported, ONCE),
    PORT_CASE(accept_reports_the_remote_address, EACH_WORKERS), PORT_CASE(ipv6_works_as_well, ONCE))
