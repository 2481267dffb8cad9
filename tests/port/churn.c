/*
 * Theme `churn`: connections by the thousand, and nothing left of them.
 *
 * Threads: workers attach, answer and close; the main thread starts connections and takes back the
 * memory of those that are over.
 */
#include "stage.h"

#include "cases.h"
#include "os/clock.h"

/* As many as there is time for, but enough to tell: a leak of one connection in fifty shows. */
#define LEAST_CYCLES 1000
#define MOST_CYCLES  20000
#define TIME_MS      5000
#define WARM_CYCLES  200
#define LANES        16
#define SEATS        64

/* What each side does, decided by chance for itself. */
typedef enum way {
    ENDS_AT_ONCE,
    RESETS_AT_ONCE,
    TALKS, /* client: says a byte and waits for the answer or the end; server: answers */
    WAYS
} way;

typedef struct seat {
    stage_link link;
    tp_buffer buffer;
    uint8_t byte;
    bool busy; /* guarded by churn.mutex */
    way way;
} seat;

static struct {
    stage stage;
    stage_link listener;
    tp_address address;
    tp_mutex mutex;
    seat lanes[LANES];    /* clients */
    seat seats[SEATS];    /* servers */
    uint64_t lane_chance; /* main thread */
    uint64_t seat_chance; /* guarded by the mutex */
    atomic_uint resets;   /* by the server */
    atomic_uint lost;     /* reset by the server before the client saw them connected */
} churn;

static void churn_end(stage_link *link, const tp_completion *completion) {
    seat *me = link->context;
    (void)completion;
    stage_shut_once(link, me->way == RESETS_AT_ONCE);
}

static void churn_say(tp_worker *worker, stage_link *link) {
    seat *me = link->context;
    (void)stage_send_bytes(worker, link, &me->buffer, &me->byte, 1);
}

/* The receive last: its deliveries, which may run elsewhere at once, end the connection. */
static void client_task(stage_op *op, const tp_completion *completion) {
    churn_say(completion->worker, op->link);
    (void)stage_receive(completion->worker, op->link);
}

static void client_connected(stage_link *link, const tp_completion *completion) {
    seat *me = link->context;
    if (completion->error == TP_ERR_OS || completion->error == TP_ERR_RESET) {
        atomic_fetch_add(&churn.lost, 1);
        churn_end(link, completion);
    } else if (completion->error != TP_OK) {
        stage_fault("connect failed with %s (%d)", stage_error_name((int)completion->error),
            completion->os_error);
        churn_end(link, completion);
    } else if (me->way != TALKS) {
        churn_end(link, completion);
    } else {
        REQUIRE(stage_post(churn.stage.port, &link->socket, &link->task) == TP_OK);
    }
}

static void server_answer(stage_link *link, const tp_completion *completion) {
    churn_say(completion->worker, link);
}

static void server_task(stage_op *op, const tp_completion *completion) {
    seat *me = op->link->context;
    if (me->way == RESETS_AT_ONCE) {
        atomic_fetch_add(&churn.resets, 1);
    }
    if (me->way != TALKS) {
        churn_end(op->link, completion);
    } else {
        (void)stage_receive(completion->worker, op->link);
    }
}

static seat *free_seat(void) {
    seat *found = NULL;
    tp_mutex_lock(&churn.mutex);
    for (unsigned i = 0; i < SEATS && found == NULL; i++) {
        if (!churn.seats[i].busy) {
            found = &churn.seats[i];
            found->busy = true;
            found->way = (way)(stage_chance(&churn.seat_chance) % WAYS);
            /* Before the mutex is given back: a used link looks as if this use were over too. */
            stage_link_init(&found->link, &churn.stage, "server");
        }
    }
    tp_mutex_unlock(&churn.mutex);
    return found;
}

static void churn_accepted(stage_link *link, const tp_completion *completion) {
    (void)link;
    if (completion->handle == TP_NO_HANDLE) {
        return; /* gone before it was taken, or the listener's end */
    }
    seat *mine = free_seat();
    if (mine == NULL) {
        atomic_fetch_add(&churn.resets, 1);
        tp_handle_close(completion->handle, true);
        return;
    }
    mine->link.context = mine;
    mine->link.on_bytes = server_answer;
    mine->link.on_received_all = churn_end;
    mine->link.task.done = server_task;
    if (stage_attach(&mine->link, completion->handle) != TP_OK) {
        stage_fault("attach failed: system's code %d", tp_os_error());
        tp_handle_close(completion->handle, true);
        tp_mutex_lock(&churn.mutex);
        mine->busy = false;
        tp_mutex_unlock(&churn.mutex);
        return;
    }
    REQUIRE(stage_post(churn.stage.port, &mine->link.socket, &mine->link.task) == TP_OK);
}

static void lane_start(seat *lane) {
    stage_link_init(&lane->link, &churn.stage, "client");
    lane->link.context = lane;
    lane->link.on_connected = client_connected;
    lane->link.on_bytes = churn_end;
    lane->link.on_received_all = churn_end;
    lane->link.task.done = client_task;
    tp_mutex_lock(&churn.mutex);
    lane->way = (way)(stage_chance(&churn.lane_chance) % WAYS);
    tp_mutex_unlock(&churn.mutex);
    lane->busy = true;
    REQUIRE(stage_connect(&lane->link, &churn.address) == TP_OK);
}

/* Over: closed, and whatever was posted to it has run. */
static bool seat_over(const seat *s) {
    return stage_link_over(&s->link) && !stage_op_in_progress(&s->link.task);
}

/* True if all seats are free now. */
static bool clear_seats(void) {
    bool all_free = true;
    tp_mutex_lock(&churn.mutex);
    for (unsigned i = 0; i < SEATS; i++) {
        if (churn.seats[i].busy && seat_over(&churn.seats[i])) {
            churn.seats[i].busy = false;
        }
        all_free = all_free && !churn.seats[i].busy;
    }
    tp_mutex_unlock(&churn.mutex);
    return all_free;
}

static bool all_over(void) {
    bool over = clear_seats();
    for (unsigned i = 0; i < LANES; i++) {
        over = over && seat_over(&churn.lanes[i]);
    }
    return over;
}

/* At least so many, and then until there were the most or the time is over; how many there were. */
static unsigned churn_cycles(unsigned least, unsigned most, unsigned time_ms) {
    unsigned begun = 0;
    uint64_t enough = tp_clock_ms() + time_ms;
    stage_patience patience = stage_patience_begin();
    for (unsigned i = 0; i < LANES; i++, begun++) {
        lane_start(&churn.lanes[i]);
    }
    while (begun < least || (begun < most && tp_clock_ms() < enough)) {
        for (unsigned i = 0; i < LANES; i++) {
            if (seat_over(&churn.lanes[i])) {
                lane_start(&churn.lanes[i]);
                begun++;
            }
        }
        (void)clear_seats();
        if (!stage_wait(&patience)) {
            printf("    %u connections begun\n", begun);
            stage_give_up("the end of the churn", __FILE__, __LINE__);
        }
    }
    STAGE_UNTIL(all_over());
    return begun;
}

/* From listening to the end of that, so that nothing a listener keeps ready is counted. */
static unsigned churn_run(unsigned least, unsigned most, unsigned time_ms) {
    tp_address where = stage_loopback(0);
    stage_link_init(&churn.listener, &churn.stage, "listener");
    churn.listener.on_accepted = churn_accepted;
    REQUIRE(stage_listen(&churn.listener, &where, 512, &churn.address) == TP_OK);
    REQUIRE(stage_accept(&churn.listener) == TP_OK);
    unsigned begun = churn_cycles(least, most, time_ms);
    stage_shut_and_wait(&churn.listener, false);
    return begun;
}

static void thousands_of_connections_leave_nothing(void) {
    memset(&churn, 0, sizeof churn);
    churn.seat_chance = 1;
    tp_mutex_init(&churn.mutex);
    stage_open(&churn.stage);
    (void)churn_run(WARM_CYCLES, WARM_CYCLES, 0); /* what is made once and kept, is made now */
    long before = tp_process_open_descriptors();
    atomic_store(&churn.resets, 0);
    atomic_store(&churn.lost, 0);
    uint64_t begin = tp_clock_ms();
    unsigned cycles = churn_run(LEAST_CYCLES, MOST_CYCLES, TIME_MS);
    printf("    %u connections in %" PRIu64
           " ms, %u reset by the server, %u before they were seen\n",
        cycles, tp_clock_ms() - begin, atomic_load(&churn.resets), atomic_load(&churn.lost));
    CHECK_LE(atomic_load(&churn.lost), atomic_load(&churn.resets));
    printf("    descriptors before %ld, after %ld\n", before, tp_process_open_descriptors());
    STAGE_UNTIL_DESCRIPTORS(&churn.stage, before);
    stage_close(&churn.stage);
    tp_mutex_destroy(&churn.mutex);
}

PORT_THEME(churn, PORT_CASE(thousands_of_connections_leave_nothing, EACH_WORKERS))
