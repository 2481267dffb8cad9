/*
 * Theme `churn`: thousands of connections, after which nothing is left.
 *
 * Workers attach, answer and close; the main thread starts connections and reuses the memory of
 * those that are over.
 */
#include "fixture.h"

#include "cases.h"
#include "os/clock.h"

/* As many as the time allows, but enough that a leak of one connection in fifty shows. */
#define MIN_CYCLES  1000
#define MAX_CYCLES  20000
#define TIME_MS     5000
#define WARM_CYCLES 200
#define CLIENTS     16
#define SERVERS     64

/* What a side does; each side chooses at random. */
typedef enum way {
    ENDS_AT_ONCE,
    RESETS_AT_ONCE,
    TALKS, /* client: sends a byte and waits for the answer or the end; server: answers */
    WAYS
} way;

typedef struct endpoint {
    fixture_link link;
    tp_buffer buffer;
    uint8_t byte;
    bool busy; /* guarded by churn.mutex */
    way way;
} endpoint;

static struct {
    fixture fixture;
    fixture_link listener;
    tp_address address;
    tp_mutex mutex;
    endpoint clients[CLIENTS]; /* on the main thread */
    endpoint servers[SERVERS]; /* taken by workers */
    uint64_t client_chance;    /* main thread */
    uint64_t server_chance;    /* guarded by the mutex */
    atomic_uint resets;        /* by the server */
    atomic_uint lost;          /* reset by the server before the client had connected */
} churn;

static void churn_end(fixture_link *link, const tp_completion *completion) {
    endpoint *me = link->context;
    (void)completion;
    fixture_shut_once(link, me->way == RESETS_AT_ONCE);
}

static void churn_send(tp_worker *worker, fixture_link *link) {
    endpoint *me = link->context;
    (void)fixture_send_bytes(worker, link, &me->buffer, &me->byte, 1);
}

/* The receive comes last, because its deliveries end the connection, perhaps at once on another
 * worker. */
static void client_task(fixture_op *op, const tp_completion *completion) {
    churn_send(completion->worker, op->link);
    (void)fixture_receive(completion->worker, op->link);
}

static void client_connected(fixture_link *link, const tp_completion *completion) {
    endpoint *me = link->context;
    if (completion->error == TP_ERR_OS || completion->error == TP_ERR_RESET) {
        atomic_fetch_add(&churn.lost, 1);
        churn_end(link, completion);
    } else if (completion->error != TP_OK) {
        fixture_fault("connect failed with %s (%d)", fixture_error_name((int)completion->error),
            completion->os_error);
        churn_end(link, completion);
    } else if (me->way != TALKS) {
        churn_end(link, completion);
    } else {
        REQUIRE(fixture_post(churn.fixture.port, &link->socket, &link->task) == TP_OK);
    }
}

static void server_answer(fixture_link *link, const tp_completion *completion) {
    churn_send(completion->worker, link);
}

static void server_task(fixture_op *op, const tp_completion *completion) {
    endpoint *me = op->link->context;
    if (me->way == RESETS_AT_ONCE) {
        atomic_fetch_add(&churn.resets, 1);
    }
    if (me->way != TALKS) {
        churn_end(op->link, completion);
    } else {
        (void)fixture_receive(completion->worker, op->link);
    }
}

static endpoint *take_free_server(void) {
    endpoint *found = NULL;
    tp_mutex_lock(&churn.mutex);
    for (unsigned i = 0; i < SERVERS && found == NULL; i++) {
        if (!churn.servers[i].busy) {
            found = &churn.servers[i];
            found->busy = true;
            found->way = (way)(fixture_chance(&churn.server_chance) % WAYS);
            /* Before the unlock, because the state of the link's last use means that it is over. */
            fixture_link_init(&found->link, &churn.fixture, "server");
        }
    }
    tp_mutex_unlock(&churn.mutex);
    return found;
}

static void churn_accepted(fixture_link *link, const tp_completion *completion) {
    (void)link;
    if (completion->handle == TP_NO_HANDLE) {
        return; /* closed before it was accepted, or the listener's end */
    }
    endpoint *mine = take_free_server();
    if (mine == NULL) {
        atomic_fetch_add(&churn.resets, 1);
        tp_handle_close(completion->handle, true);
        return;
    }
    mine->link.context = mine;
    mine->link.on_bytes = server_answer;
    mine->link.on_received_all = churn_end;
    mine->link.task.done = server_task;
    if (fixture_attach(&mine->link, completion->handle) != TP_OK) {
        fixture_fault("attach failed: system's code %d", tp_os_error());
        tp_handle_close(completion->handle, true);
        tp_mutex_lock(&churn.mutex);
        mine->busy = false;
        tp_mutex_unlock(&churn.mutex);
        return;
    }
    REQUIRE(fixture_post(churn.fixture.port, &mine->link.socket, &mine->link.task) == TP_OK);
}

static void client_start(endpoint *client) {
    fixture_link_init(&client->link, &churn.fixture, "client");
    client->link.context = client;
    client->link.on_connected = client_connected;
    client->link.on_bytes = churn_end;
    client->link.on_received_all = churn_end;
    client->link.task.done = client_task;
    tp_mutex_lock(&churn.mutex);
    client->way = (way)(fixture_chance(&churn.client_chance) % WAYS);
    tp_mutex_unlock(&churn.mutex);
    client->busy = true;
    REQUIRE(fixture_connect(&client->link, &churn.address) == TP_OK);
}

/* True if it is closed and its task, if it was posted, has run. */
static bool endpoint_over(const endpoint *s) {
    return fixture_link_over(&s->link) && !fixture_op_in_progress(&s->link.task);
}

/* Frees the servers that are over. True if all are free now. */
static bool free_closed_servers(void) {
    bool all_free = true;
    tp_mutex_lock(&churn.mutex);
    for (unsigned i = 0; i < SERVERS; i++) {
        if (churn.servers[i].busy && endpoint_over(&churn.servers[i])) {
            churn.servers[i].busy = false;
        }
        all_free = all_free && !churn.servers[i].busy;
    }
    tp_mutex_unlock(&churn.mutex);
    return all_free;
}

static bool all_over(void) {
    bool over = free_closed_servers();
    for (unsigned i = 0; i < CLIENTS; i++) {
        over = over && endpoint_over(&churn.clients[i]);
    }
    return over;
}

/* Makes at least `least` connections, then more until there were `most` or the time is over.
 * Returns their number. */
static unsigned churn_cycles(unsigned least, unsigned most, unsigned time_ms) {
    unsigned started = 0;
    uint64_t enough = tp_clock_ms() + time_ms;
    fixture_patience patience = fixture_patience_begin();
    for (unsigned i = 0; i < CLIENTS; i++, started++) {
        client_start(&churn.clients[i]);
    }
    while (started < least || (started < most && tp_clock_ms() < enough)) {
        for (unsigned i = 0; i < CLIENTS; i++) {
            if (endpoint_over(&churn.clients[i])) {
                client_start(&churn.clients[i]);
                started++;
            }
        }
        (void)free_closed_servers();
        if (!fixture_wait(&patience)) {
            printf("    %u connections started\n", started);
            fixture_give_up("the end of the churn", __FILE__, __LINE__);
        }
    }
    FIXTURE_UNTIL(all_over());
    return started;
}

/* With a listener of its own, so that nothing that a listener keeps open is counted afterwards. */
static unsigned churn_run(unsigned least, unsigned most, unsigned time_ms) {
    tp_address where = fixture_loopback(0);
    fixture_link_init(&churn.listener, &churn.fixture, "listener");
    churn.listener.on_accepted = churn_accepted;
    REQUIRE(fixture_listen(&churn.listener, &where, 512, &churn.address) == TP_OK);
    REQUIRE(fixture_accept(&churn.listener) == TP_OK);
    unsigned started = churn_cycles(least, most, time_ms);
    fixture_shut_and_wait(&churn.listener, false);
    return started;
}

static void thousands_of_connections_leave_nothing_behind(void) {
    memset(&churn, 0, sizeof churn);
    churn.server_chance = 1;
    tp_mutex_init(&churn.mutex);
    fixture_open(&churn.fixture);
    (void)churn_run(WARM_CYCLES, WARM_CYCLES, 0); /* what is created once and kept */
    long before = tp_process_open_descriptors();
    atomic_store(&churn.resets, 0);
    atomic_store(&churn.lost, 0);
    uint64_t begin = tp_clock_ms();
    unsigned cycles = churn_run(MIN_CYCLES, MAX_CYCLES, TIME_MS);
    printf("    %u connections in %" PRIu64
           " ms, %u reset by the server, %u before they were connected\n",
        cycles, tp_clock_ms() - begin, atomic_load(&churn.resets), atomic_load(&churn.lost));
    CHECK_LE(atomic_load(&churn.lost), atomic_load(&churn.resets));
    printf("    descriptors before %ld, after %ld\n", before, tp_process_open_descriptors());
    FIXTURE_UNTIL_DESCRIPTORS(&churn.fixture, before);
    fixture_close(&churn.fixture);
    tp_mutex_destroy(&churn.mutex);
}

PORT_THEME(churn, PORT_CASE(thousands_of_connections_leave_nothing_behind, EACH_WORKERS))
