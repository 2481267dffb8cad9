/*
 * Theme `now`: sending without an operation, and taking a send back.
 *
 * Everything is sent by acts on a worker that serves the sender, while the receiver does not
 * receive. Then the receiver starts, and every byte must arrive once and in order.
 */
#include "fixture.h"

#include "cases.h"

#define PIECE     (64u << 10)
#define PIECES    8u
#define MAX_GIVEN (256u << 20) /* more than any system takes if nothing is read */
#define BIG       (64u << 20)
#define SEED      5

typedef struct both {
    fixture fixture;
    fixture_listener listener;
    fixture_link sender;
    fixture_link receiver;
    uint64_t given; /* bytes that the system has taken from the sender */
    uint64_t checked;
    tp_err error;
    bool taken_back;
    uint8_t *bytes;
    tp_buffer buffers[PIECES];
} both;

static void check_bytes(fixture_link *link, const tp_completion *completion) {
    both *b = link->context;
    if (!fixture_pattern_check(
            link->name, completion->bytes, completion->count, b->checked, SEED)) {
        CHECK(false);
    }
    b->checked += completion->count;
}

/* Opens the pair, with `size` bytes of the pattern to send. */
static void both_open(both *b, size_t size) {
    memset(b, 0, sizeof *b);
    b->bytes = malloc(size);
    REQUIRE(b->bytes != NULL);
    fixture_pattern_fill(b->bytes, size, 0, SEED);
    fixture_open(&b->fixture);
    fixture_listener_open(&b->listener, &b->fixture);
    fixture_link_init(&b->sender, &b->fixture, "sender");
    fixture_link_init(&b->receiver, &b->fixture, "receiver");
    b->sender.context = b;
    b->receiver.context = b;
    b->receiver.on_bytes = check_bytes;
    fixture_pair(&b->listener, &b->sender, &b->receiver);
}

static void both_close(both *b) {
    fixture_unpair(&b->sender, &b->receiver);
    fixture_listener_close(&b->listener);
    fixture_close(&b->fixture);
    free(b->bytes);
}

/* Fills the pieces with the bytes that come next in the pattern. */
static void fill_pieces(both *b) {
    for (unsigned i = 0; i < PIECES; i++) {
        uint8_t *piece = b->bytes + (size_t)i * PIECE;
        fixture_pattern_fill(piece, PIECE, b->given + (uint64_t)i * PIECE, SEED);
        b->buffers[i] = (tp_buffer){.bytes = piece, .size = PIECE};
    }
}

static void give_until_full(tp_worker *worker, fixture_link *link, void *argument) {
    both *b = link->context;
    size_t sent;
    (void)argument;
    do {
        fill_pieces(b);
        b->error = tp_socket_send_now(worker, &link->socket, b->buffers, PIECES, &sent);
        b->given += sent;
    } while (b->error == TP_OK && sent == (size_t)PIECES * PIECE && b->given < MAX_GIVEN);
}

/* Sends what comes next in the pattern by an ordinary send. */
static void send_pieces(tp_worker *worker, fixture_link *link, void *argument) {
    both *b = link->context;
    (void)argument;
    fill_pieces(b);
    CHECK_EQ(fixture_send(worker, link, b->buffers, PIECES), TP_OK);
    b->given += (uint64_t)PIECES * PIECE;
}

static void bytes_sent_now_arrive_before_a_later_send(void) {
    static both b;
    both_open(&b, (size_t)PIECES * PIECE);
    fixture_run(&b.sender, give_until_full, NULL);
    CHECK_EQ(b.error, TP_OK);
    CHECK_GT(b.given, 0);
    CHECK_LT(b.given, MAX_GIVEN); /* nothing is read, so at some point no more is taken */
    fixture_run(&b.sender, send_pieces, NULL);
    fixture_run(&b.receiver, fixture_act_receive, NULL);
    FIXTURE_UNTIL(atomic_load(&b.receiver.received) == b.given);
    FIXTURE_UNTIL(!fixture_op_in_progress(&b.sender.send));
    /* After everything was read, the system takes more. */
    uint64_t before = b.given;
    fixture_run(&b.sender, give_until_full, NULL);
    CHECK_GT(b.given, before);
    FIXTURE_UNTIL(atomic_load(&b.receiver.received) == b.given);
    both_close(&b);
}

static void send_big(tp_worker *worker, fixture_link *link, void *argument) {
    both *b = link->context;
    (void)argument;
    CHECK_EQ(fixture_send_bytes(worker, link, &b->buffers[0], b->bytes, BIG), TP_OK);
}

static void take_back(tp_worker *worker, fixture_link *link, void *argument) {
    both *b = link->context;
    size_t sent = 0;
    (void)argument;
    b->taken_back = tp_socket_send_take_back(worker, &link->socket, &link->send.op, &sent);
    if (b->taken_back) {
        atomic_fetch_add(
            &link->send.ended, 1); /* its `done` must not run; it would be counted too */
        b->given = sent;
    }
}

static void send_the_rest(tp_worker *worker, fixture_link *link, void *argument) {
    both *b = link->context;
    (void)argument;
    CHECK_EQ(fixture_send_bytes(
                 worker, link, &b->buffers[0], b->bytes + b->given, (size_t)(BIG - b->given)),
        TP_OK);
}

/* A back end that cannot take the send back returns false, and the send continues. */
static void a_waiting_send_is_taken_back_in_part(void) {
    static both b;
    both_open(&b, BIG);
    fixture_run(&b.sender, send_big, NULL);
    fixture_run(&b.sender, take_back, NULL);
    CHECK_EQ(b.taken_back, tp_port_binds(b.fixture.port));
    if (b.taken_back) {
        CHECK_GT(b.given, 0);
        CHECK_LT(b.given, BIG);
        CHECK_EQ(atomic_load(&b.sender.send_result), FIXTURE_PENDING);
        fixture_run(&b.sender, send_the_rest, NULL);
    }
    fixture_run(&b.receiver, fixture_act_receive, NULL);
    FIXTURE_UNTIL(atomic_load(&b.receiver.received) == BIG);
    FIXTURE_UNTIL(!fixture_op_in_progress(&b.sender.send));
    CHECK_EQ(atomic_load(&b.sender.send.started), atomic_load(&b.sender.send.ended));
    both_close(&b);
}

static void send_small_and_take_back(tp_worker *worker, fixture_link *link, void *argument) {
    both *b = link->context;
    CHECK_EQ(fixture_send_bytes(worker, link, &b->buffers[0], b->bytes, PIECE), TP_OK);
    take_back(worker, link, argument);
}

/* Its result exists already, but is not delivered yet. */
static void a_finished_send_is_taken_back_whole(void) {
    static both b;
    both_open(&b, PIECE);
    fixture_run(&b.sender, send_small_and_take_back, NULL);
    if (b.taken_back) {
        CHECK_EQ(b.given, PIECE);
        CHECK_EQ(atomic_load(&b.sender.send_result), FIXTURE_PENDING);
    }
    fixture_run(&b.receiver, fixture_act_receive, NULL);
    FIXTURE_UNTIL(atomic_load(&b.receiver.received) == PIECE);
    FIXTURE_UNTIL(!fixture_op_in_progress(&b.sender.send));
    both_close(&b);
}

static void give_and_close(tp_worker *worker, fixture_link *link, void *argument) {
    both *b = link->context;
    size_t sent = 1;
    (void)argument;
    fixture_shut(link, false);
    b->error = tp_socket_send_now(worker, &link->socket, b->buffers, PIECES, &sent);
    CHECK_EQ(sent, 0);
}

static void nothing_is_sent_on_a_closing_socket(void) {
    static both b;
    both_open(&b, (size_t)PIECES * PIECE);
    fill_pieces(&b);
    fixture_run(&b.sender, give_and_close, NULL);
    CHECK_EQ(b.error, TP_ERR_CANCELLED);
    FIXTURE_UNTIL(fixture_link_over(&b.sender));
    fixture_shut_and_wait(&b.receiver, false);
    fixture_listener_close(&b.listener);
    fixture_close(&b.fixture);
    free(b.bytes);
}

static bool give_fails(both *b) {
    fixture_run(&b->sender, give_until_full, NULL);
    return b->error != TP_OK;
}

static void a_reset_is_reported(void) {
    static both b;
    both_open(&b, (size_t)PIECES * PIECE);
    fixture_shut_and_wait(&b.receiver, true);
    FIXTURE_UNTIL(give_fails(&b));
    CHECK(b.error == TP_ERR_RESET || b.error == TP_ERR_CLOSED);
    fixture_shut_and_wait(&b.sender, false);
    fixture_listener_close(&b.listener);
    fixture_close(&b.fixture);
    free(b.bytes);
}

PORT_THEME(now, PORT_CASE(bytes_sent_now_arrive_before_a_later_send, EACH_WORKERS),
    PORT_CASE(a_waiting_send_is_taken_back_in_part, EACH_WORKERS),
    PORT_CASE(a_finished_send_is_taken_back_whole, EACH_WORKERS),
    PORT_CASE(nothing_is_sent_on_a_closing_socket, EACH_WORKERS),
    PORT_CASE(a_reset_is_reported, EACH_WORKERS))
