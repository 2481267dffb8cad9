/*
 * Theme `ends`: how connections fail to begin, and how they end.
 *
 * Threads: the main thread plays both sides by posting to them.
 */
#include "stage.h"

#include "cases.h"

#define LOAD (1u << 20)

static uint8_t load[LOAD];

typedef struct pair {
    stage stage;
    stage_listener listener;
    stage_link client;
    stage_link server;
    uint64_t client_checked;
    uint64_t server_checked;
} pair;

static void check_load(stage_link *link, const tp_completion *completion) {
    uint64_t *checked = link->context;
    (void)stage_pattern_check(link->name, completion->bytes, completion->count, *checked, 5);
    *checked += completion->count;
}

static void pair_open(pair *p) {
    stage_open(&p->stage);
    stage_listener_open(&p->listener, &p->stage);
    stage_link_init(&p->client, &p->stage, "client");
    stage_link_init(&p->server, &p->stage, "server");
    p->client_checked = 0;
    p->server_checked = 0;
    p->client.context = &p->client_checked;
    p->server.context = &p->server_checked;
    p->client.on_bytes = check_load;
    p->server.on_bytes = check_load;
    stage_pattern_fill(load, LOAD, 0, 5);
    stage_pair(&p->listener, &p->client, &p->server);
}

static void pair_close(pair *p) {
    stage_unpair(&p->client, &p->server);
    stage_listener_close(&p->listener);
    stage_close(&p->stage);
}

static void send_load(tp_worker *worker, stage_link *link, void *argument) {
    CHECK_EQ(stage_send_bytes(worker, link, argument, load, LOAD), TP_OK);
}

/* Sends the load and waits until it is with the kernel. */
static void say_load(stage_link *link) {
    tp_buffer buffer;
    atomic_store(&link->send_result, STAGE_PENDING);
    stage_run(link, send_load, &buffer);
    STAGE_UNTIL(atomic_load(&link->send_result) != STAGE_PENDING);
    CHECK_EQ(atomic_load(&link->send_result), TP_OK);
}

static void wait_end(stage_link *link, int result) {
    STAGE_UNTIL(atomic_load(&link->receive_result) != STAGE_PENDING);
    int seen = atomic_load(&link->receive_result);
    if (seen != result) {
        stage_fault("the receive of %s ended with %s and should with %s", link->name,
            stage_error_name(seen), stage_error_name(result));
    }
}

/* The port where nobody listens is one that a connection has for its own end: a free one could be
 * given to the very socket that connects to it, which then, by TCP's simultaneous open, would be
 * connected to itself. */
static void a_refused_connect_says_so(void) {
    static pair p;
    tp_address nobody;
    pair_open(&p);
    REQUIRE(tp_socket_local_address(&p.client.socket, &nobody) == TP_OK);
    for (int i = 0; i < 20; i++) {
        stage_link client;
        stage_link_init(&client, &p.stage, "client");
        REQUIRE(stage_connect(&client, &nobody) == TP_OK);
        STAGE_UNTIL(atomic_load(&client.connect_result) != STAGE_PENDING);
        CHECK_EQ(atomic_load(&client.connect_result), TP_ERR_REFUSED);
        stage_shut_and_wait(&client, false);
    }
    pair_close(&p);
}

static void an_orderly_end_comes_behind_the_bytes(void) {
    static pair p;
    pair_open(&p);
    stage_run(&p.server, stage_act_receive, NULL);
    stage_run(&p.client, stage_act_receive, NULL);
    say_load(&p.client);
    stage_shut_and_wait(&p.client, false);
    CHECK_EQ(atomic_load(&p.client.receive_result), TP_ERR_CANCELLED);
    wait_end(&p.server, TP_ERR_CLOSED);
    CHECK_EQ(atomic_load(&p.server.received), LOAD);
    pair_close(&p);
}

static void act_nothing(tp_worker *worker, stage_link *link, void *argument) {
    (void)worker;
    (void)link;
    (void)argument;
}

static int end_by_reset(void) {
    static pair p;
    pair_open(&p);
    stage_run(&p.server, stage_act_receive, NULL);
    say_load(&p.client);
    STAGE_UNTIL(atomic_load(&p.server.received) == LOAD);
    stage_run(&p.server, act_nothing, NULL); /* with one worker the next receive is there now */
    stage_shut_and_wait(&p.client, true);
    STAGE_UNTIL(atomic_load(&p.server.receive_result) != STAGE_PENDING);
    int result = atomic_load(&p.server.receive_result);
    pair_close(&p);
    return result;
}

static void a_reset_is_told_from_an_orderly_end(void) {
    int result = end_by_reset();
    /* Wine tells a reset that comes between two receives as an orderly end: give it more tries. */
    for (int i = 0; i < 100 && stage_backend_is("iocp") && result == TP_ERR_CLOSED; i++) {
        result = end_by_reset();
    }
    CHECK_EQ(result, TP_ERR_RESET);
}

static void a_handle_never_attached_is_closed_either_way(void) {
    for (int reset = 0; reset < 2; reset++) {
        stage s;
        stage_listener listener;
        stage_link client;
        stage_open(&s);
        stage_listener_open(&listener, &s);
        stage_link_init(&client, &s, "client");
        REQUIRE(stage_connect(&client, &listener.address) == TP_OK);
        tp_handle handle = stage_listener_take(&listener, NULL);
        STAGE_UNTIL(atomic_load(&client.connect_result) == TP_OK);
        stage_run(&client, stage_act_receive, NULL);
        tp_handle_close(handle, reset == 1);
        wait_end(&client, reset == 1 ? TP_ERR_RESET : TP_ERR_CLOSED);
        stage_shut_and_wait(&client, false);
        stage_listener_close(&listener);
        stage_close(&s);
    }
}

/* The client says all it has and finishes; the server answers after it has seen the end. */
static void a_half_close_leaves_the_other_half(void) {
    static pair p;
    pair_open(&p);
    stage_run(&p.client, stage_act_receive, NULL);
    stage_run(&p.server, stage_act_receive, NULL);
    say_load(&p.client);
    stage_run(&p.client, stage_act_finish, NULL);
    wait_end(&p.server, TP_ERR_CLOSED);
    CHECK_EQ(atomic_load(&p.server.received), LOAD);
    CHECK_EQ(atomic_load(&p.client.receive_result), STAGE_PENDING);
    say_load(&p.server);
    STAGE_UNTIL(atomic_load(&p.client.received) == LOAD);
    CHECK_EQ(atomic_load(&p.client.receive_result), STAGE_PENDING);
    stage_run(&p.server, stage_act_finish, NULL);
    wait_end(&p.client, TP_ERR_CLOSED);
    pair_close(&p);
}

#define WORD 100 /* bytes that any kernel takes without a reader */

static void send_word(tp_worker *worker, stage_link *link, void *argument) {
    CHECK_EQ(stage_send_bytes(worker, link, argument, load, WORD), TP_OK);
}

static void a_peer_gone_before_the_attach_has_still_spoken(void) {
    stage s;
    stage_listener listener;
    stage_link client;
    stage_link server;
    uint64_t checked = 0;
    tp_buffer buffer;
    stage_open(&s);
    stage_pattern_fill(load, LOAD, 0, 5);
    stage_listener_open(&listener, &s);
    stage_link_init(&client, &s, "client");
    stage_link_init(&server, &s, "server");
    server.context = &checked;
    server.on_bytes = check_load;
    REQUIRE(stage_connect(&client, &listener.address) == TP_OK);
    STAGE_UNTIL(atomic_load(&client.connect_result) == TP_OK);
    tp_handle handle = stage_listener_take(&listener, NULL);
    stage_run(&client, send_word, &buffer);
    STAGE_UNTIL(atomic_load(&client.send_result) == TP_OK);
    stage_shut_and_wait(&client, false);
    REQUIRE(stage_attach(&server, handle) == TP_OK);
    stage_run(&server, stage_act_receive, NULL);
    wait_end(&server, TP_ERR_CLOSED);
    CHECK_EQ(checked, WORD);
    stage_shut_and_wait(&server, false);
    stage_listener_close(&listener);
    stage_close(&s);
}

/* Sends until the connection is known to be lost. */
static void send_again(stage_link *link, const tp_completion *completion) {
    if (completion->error == TP_OK) {
        tp_err error = stage_send_bytes(completion->worker, link, link->context, load, LOAD);
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
        stage_run(&p.server, send_load, &buffer);
        stage_shut_and_wait(&p.client, reset == 1);
        STAGE_UNTIL(atomic_load(&p.server.send_result) > TP_OK);
        int result = atomic_load(&p.server.send_result);
        if (result != TP_ERR_RESET && result != TP_ERR_CLOSED) {
            stage_fault("the send ended with %s", stage_error_name(result));
        }
        pair_close(&p);
    }
}

static void a_port_in_use_is_told(void) {
    stage s;
    stage_listener first;
    stage_link second;
    tp_address where = stage_loopback(0);
    stage_open(&s);
    /* It does not accept: what a back end makes ready for that would be counted too. */
    REQUIRE(stage_listener_open_at(&first, &s, &where, 16, false) == TP_OK);
    stage_link_init(&second, &s, "second listener");
    CHECK_EQ(stage_listen(&second, &first.address, 16, NULL), TP_ERR_ADDRESS_IN_USE);
    long before = tp_process_open_descriptors();
    for (int i = 0; i < 100; i++) {
        stage_link_init(&second, &s, "second listener");
        CHECK_EQ(stage_listen(&second, &first.address, 16, NULL), TP_ERR_ADDRESS_IN_USE);
    }
    CHECK_LT(tp_process_open_descriptors() - before, 50); /* the worker may open some of its own */
    /* And it is free again as soon as the first one is gone. */
    stage_listener_close(&first);
    stage_link_init(&second, &s, "second listener");
    CHECK_EQ(stage_listen(&second, &first.address, 16, NULL), TP_OK);
    stage_shut_and_wait(&second, false);
    stage_close(&s);
}

static void an_address_of_another_machine_is_told(void) {
    stage s;
    stage_link listener;
    tp_address foreign = stage_loopback(0);
    foreign.ip[12] = 192; /* 192.0.2.1: of the documentation's network, so nobody's */
    foreign.ip[13] = 0;
    foreign.ip[14] = 2;
    stage_open(&s);
    stage_link_init(&listener, &s, "listener");
    CHECK_EQ(stage_listen(&listener, &foreign, 16, NULL), TP_ERR_ADDRESS);
    stage_close(&s);
}

static void check_same_address(const char *what, const tp_address *a, const tp_address *b) {
    if (memcmp(a->ip, b->ip, sizeof a->ip) != 0 || a->port != b->port) {
        stage_fault("%s: ports %u and %u, last bytes %u and %u", what, a->port, b->port, a->ip[15],
            b->ip[15]);
    }
}

static void both_sides_see(const tp_address *where, stage *s, stage_listener *listener) {
    stage_link client;
    stage_link server;
    tp_address peer;
    tp_address of_client;
    tp_address of_server;
    stage_link_init(&client, s, "client");
    stage_link_init(&server, s, "server");
    REQUIRE(stage_connect(&client, &listener->address) == TP_OK);
    tp_handle handle = stage_listener_take(listener, &peer);
    STAGE_UNTIL(atomic_load(&client.connect_result) == TP_OK);
    REQUIRE(stage_attach(&server, handle) == TP_OK);
    CHECK_EQ(tp_socket_local_address(&client.socket, &of_client), TP_OK);
    CHECK_EQ(tp_socket_local_address(&server.socket, &of_server), TP_OK);
    check_same_address("the client, as it sees itself and as accept saw it", &of_client, &peer);
    check_same_address(
        "the server, as it sees itself and where it listens", &of_server, &listener->address);
    CHECK_MEM(of_client.ip, where->ip, sizeof where->ip);
    stage_unpair(&client, &server);
}

static void addresses_agree_on_both_sides(void) {
    stage s;
    stage_listener listener;
    tp_address where = stage_loopback(0);
    stage_open(&s);
    stage_listener_open(&listener, &s);
    both_sides_see(&where, &s, &listener);
    stage_listener_close(&listener);
    stage_close(&s);
}

static void ipv6_works_as_well(void) {
    stage s;
    stage_listener listener;
    tp_address where = stage_loopback6(0);
    stage_open(&s);
    if (stage_listener_open_at(&listener, &s, &where, 16, true) != TP_OK) {
        stage_close(&s);
        SKIP("this machine has no [::1]");
    }
    both_sides_see(&where, &s, &listener);
    stage_listener_close(&listener);
    stage_close(&s);
}

PORT_THEME(ends, PORT_CASE(a_refused_connect_says_so, EACH_WORKERS),
    PORT_CASE(an_orderly_end_comes_behind_the_bytes, EACH_WORKERS),
    PORT_CASE(a_reset_is_told_from_an_orderly_end, EACH_WORKERS),
    PORT_CASE(a_handle_never_attached_is_closed_either_way, EACH_WORKERS),
    PORT_CASE(a_half_close_leaves_the_other_half, EACH_WORKERS),
    PORT_CASE(a_peer_gone_before_the_attach_has_still_spoken, EACH_WORKERS),
    PORT_CASE(a_send_to_a_peer_that_left_fails, EACH_WORKERS),
    PORT_CASE(a_port_in_use_is_told, ONCE), PORT_CASE(an_address_of_another_machine_is_told, ONCE),
    PORT_CASE(addresses_agree_on_both_sides, EACH_WORKERS), PORT_CASE(ipv6_works_as_well, ONCE))
