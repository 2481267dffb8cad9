/*
 * Theme `now`: sending without an operation, and taking a send back.
 *
 * Everything is sent by acts on a worker that serves the sender, while the receiver does not
 * receive; then it does, and every byte must be there once and in order.
 */
#include "stage.h"

#include "cases.h"

#define PIECE  (64u << 10)
#define PIECES 8u
#define MOST   (256u << 20) /* more than any system takes without a reader */
#define BIG    (64u << 20)
#define SEED   5

typedef struct both {
    stage stage;
    stage_listener listener;
    stage_link sender;
    stage_link receiver;
    uint64_t given; /* bytes that the system has taken from the sender */
    uint64_t checked;
    tp_err error;
    bool taken_back;
    uint8_t *bytes;
    tp_buffer buffers[PIECES];
} both;

static void check_bytes(stage_link *link, const tp_completion *completion) {
    both *b = link->context;
    if (!stage_pattern_check(link->name, completion->bytes, completion->count, b->checked, SEED)) {
        CHECK(false);
    }
    b->checked += completion->count;
}

/* With so many bytes of the pattern to send. */
static void both_open(both *b, size_t size) {
    memset(b, 0, sizeof *b);
    b->bytes = malloc(size);
    REQUIRE(b->bytes != NULL);
    stage_pattern_fill(b->bytes, size, 0, SEED);
    stage_open(&b->stage);
    stage_listener_open(&b->listener, &b->stage);
    stage_link_init(&b->sender, &b->stage, "sender");
    stage_link_init(&b->receiver, &b->stage, "receiver");
    b->sender.context = b;
    b->receiver.context = b;
    b->receiver.on_bytes = check_bytes;
    stage_pair(&b->listener, &b->sender, &b->receiver);
}

static void both_close(both *b) {
    stage_unpair(&b->sender, &b->receiver);
    stage_listener_close(&b->listener);
    stage_close(&b->stage);
    free(b->bytes);
}

/* The pieces that come next in the pattern. */
static void fill_pieces(both *b) {
    for (unsigned i = 0; i < PIECES; i++) {
        uint8_t *piece = b->bytes + (size_t)i * PIECE;
        stage_pattern_fill(piece, PIECE, b->given + (uint64_t)i * PIECE, SEED);
        b->buffers[i] = (tp_buffer){.bytes = piece, .size = PIECE};
    }
}

static void give_until_full(tp_worker *worker, stage_link *link, void *argument) {
    both *b = link->context;
    size_t sent;
    (void)argument;
    do {
        fill_pieces(b);
        b->error = tp_socket_send_now(worker, &link->socket, b->buffers, PIECES, &sent);
        b->given += sent;
    } while (b->error == TP_OK && sent == (size_t)PIECES * PIECE && b->given < MOST);
}

/* What follows in the pattern, as an ordinary send. */
static void send_pieces(tp_worker *worker, stage_link *link, void *argument) {
    both *b = link->context;
    (void)argument;
    fill_pieces(b);
    CHECK_EQ(stage_send(worker, link, b->buffers, PIECES), TP_OK);
    b->given += (uint64_t)PIECES * PIECE;
}

static void what_is_given_arrives_before_what_is_sent(void) {
    static both b;
    both_open(&b, (size_t)PIECES * PIECE);
    stage_run(&b.sender, give_until_full, NULL);
    CHECK_EQ(b.error, TP_OK);
    CHECK_GT(b.given, 0);
    CHECK_LT(b.given, MOST); /* nobody reads: at some point it takes no more */
    stage_run(&b.sender, send_pieces, NULL);
    stage_run(&b.receiver, stage_act_receive, NULL);
    STAGE_UNTIL(atomic_load(&b.receiver.received) == b.given);
    STAGE_UNTIL(!stage_op_in_progress(&b.sender.send));
    /* And when there is room again it takes again. */
    uint64_t before = b.given;
    stage_run(&b.sender, give_until_full, NULL);
    CHECK_GT(b.given, before);
    STAGE_UNTIL(atomic_load(&b.receiver.received) == b.given);
    both_close(&b);
}

static void send_big(tp_worker *worker, stage_link *link, void *argument) {
    both *b = link->context;
    (void)argument;
    CHECK_EQ(stage_send_bytes(worker, link, &b->buffers[0], b->bytes, BIG), TP_OK);
}

static void take_back(tp_worker *worker, stage_link *link, void *argument) {
    both *b = link->context;
    size_t sent = 0;
    (void)argument;
    b->taken_back = tp_socket_send_take_back(worker, &link->socket, &link->send.op, &sent);
    if (b->taken_back) {
        atomic_fetch_add(&link->send.ended, 1); /* its `done` must not run: one more would show */
        b->given = sent;
    }
}

static void send_the_rest(tp_worker *worker, stage_link *link, void *argument) {
    both *b = link->context;
    (void)argument;
    CHECK_EQ(stage_send_bytes(
                 worker, link, &b->buffers[0], b->bytes + b->given, (size_t)(BIG - b->given)),
        TP_OK);
}

/* A back end that cannot take it back says so, and the send goes on. */
static void a_send_that_waits_is_taken_back_where_it_is(void) {
    static both b;
    both_open(&b, BIG);
    stage_run(&b.sender, send_big, NULL);
    stage_run(&b.sender, take_back, NULL);
    CHECK_EQ(b.taken_back, tp_port_binds(b.stage.port));
    if (b.taken_back) {
        CHECK_GT(b.given, 0);
        CHECK_LT(b.given, BIG);
        CHECK_EQ(atomic_load(&b.sender.send_result), STAGE_PENDING);
        stage_run(&b.sender, send_the_rest, NULL);
    }
    stage_run(&b.receiver, stage_act_receive, NULL);
    STAGE_UNTIL(atomic_load(&b.receiver.received) == BIG);
    STAGE_UNTIL(!stage_op_in_progress(&b.sender.send));
    CHECK_EQ(atomic_load(&b.sender.send.started), atomic_load(&b.sender.send.ended));
    both_close(&b);
}

static void send_small_and_take_back(tp_worker *worker, stage_link *link, void *argument) {
    both *b = link->context;
    CHECK_EQ(stage_send_bytes(worker, link, &b->buffers[0], b->bytes, PIECE), TP_OK);
    take_back(worker, link, argument);
}

/* Its result is there already, and has not been delivered. */
static void a_send_that_is_done_is_taken_back_whole(void) {
    static both b;
    both_open(&b, PIECE);
    stage_run(&b.sender, send_small_and_take_back, NULL);
    if (b.taken_back) {
        CHECK_EQ(b.given, PIECE);
        CHECK_EQ(atomic_load(&b.sender.send_result), STAGE_PENDING);
    }
    stage_run(&b.receiver, stage_act_receive, NULL);
    STAGE_UNTIL(atomic_load(&b.receiver.received) == PIECE);
    STAGE_UNTIL(!stage_op_in_progress(&b.sender.send));
    both_close(&b);
}

static void give_and_close(tp_worker *worker, stage_link *link, void *argument) {
    both *b = link->context;
    size_t sent = 1;
    (void)argument;
    stage_shut(link, false);
    b->error = tp_socket_send_now(worker, &link->socket, b->buffers, PIECES, &sent);
    CHECK_EQ(sent, 0);
}

static void nothing_is_given_to_a_closing_socket(void) {
    static both b;
    both_open(&b, (size_t)PIECES * PIECE);
    fill_pieces(&b);
    stage_run(&b.sender, give_and_close, NULL);
    CHECK_EQ(b.error, TP_ERR_CANCELLED);
    STAGE_UNTIL(stage_link_over(&b.sender));
    stage_shut_and_wait(&b.receiver, false);
    stage_listener_close(&b.listener);
    stage_close(&b.stage);
    free(b.bytes);
}

static bool given_to_nobody(both *b) {
    stage_run(&b->sender, give_until_full, NULL);
    return b->error != TP_OK;
}

static void a_reset_is_told(void) {
    static both b;
    both_open(&b, (size_t)PIECES * PIECE);
    stage_shut_and_wait(&b.receiver, true);
    STAGE_UNTIL(given_to_nobody(&b));
    CHECK(b.error == TP_ERR_RESET || b.error == TP_ERR_CLOSED);
    stage_shut_and_wait(&b.sender, false);
    stage_listener_close(&b.listener);
    stage_close(&b.stage);
    free(b.bytes);
}

PORT_THEME(now, PORT_CASE(what_is_given_arrives_before_what_is_sent, EACH_WORKERS),
    PORT_CASE(a_send_that_waits_is_taken_back_where_it_is, EACH_WORKERS),
    PORT_CASE(a_send_that_is_done_is_taken_back_whole, EACH_WORKERS),
    PORT_CASE(nothing_is_given_to_a_closing_socket, EACH_WORKERS),
    PORT_CASE(a_reset_is_told, EACH_WORKERS))
