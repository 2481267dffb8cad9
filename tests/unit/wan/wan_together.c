/*
 * Handshake jobs delivered in one batch, for sessions of different workers: a busy worker delays
 * only its own. tp__handshakes_offer() is the test's (wrapped.h), which keeps the jobs.
 */
#include "check.h"
#include "wan_fixture.h"
#include "wanserver/handshake/handshakes.h"
#include "wanserver/wan.h"
#include "wrapped.h"

#define PEERS 8

static wan_fixture fixture;

/* In place of the product's: keeps the job while `keeps` is set. */
WRAPPED(bool, tp__handshakes_offer, tp__handshakes *handshakes, void *job);

static atomic_bool keeps;
static void *_Atomic kept;

bool __wrap_tp__handshakes_offer(tp__handshakes *handshakes, void *job) {
    if (!atomic_load(&keeps)) {
        return __real_tp__handshakes_offer(handshakes, job);
    }
    atomic_store(&kept, job);
    return true;
}

/* The worker that serves the session opened last. */
static tp__worker *owner_of_newest(void) {
    tp_server *server = fixture.base.server;
    uint64_t newest = 0;
    tp__worker *owner = NULL;
    for (uint32_t i = 0; i < server->slots.count; i++) {
        uint64_t number = tp__life_read(&server->sessions[i].life) & TP__LIFE_NUMBER;
        if (number > newest) {
            newest = number;
            owner = atomic_load(&server->sessions[i].owner);
        }
    }
    return owner;
}

typedef struct connection {
    wan_peer *peer;
    void *job; /* its handshake job, kept */
    tp__worker *owner;
} connection;

static connection connect_and_keep(const wan_login *login) {
    connection made = {.peer = wan_fixture_connect(&fixture, login)};
    REQUIRE(wan_send_hello(made.peer));
    FIXTURE_WAIT((made.job = atomic_exchange(&kept, NULL)) != NULL);
    made.owner = owner_of_newest();
    tp__handshake_job_run(made.job);
    return made;
}

/* The index of a connection that this worker serves, or (`same` false) another one. */
static unsigned find_connection(const connection *connections, const tp__worker *owner, bool same) {
    for (unsigned i = 0; i < PEERS; i++) {
        if ((connections[i].owner == owner) == same) {
            return i;
        }
    }
    FAIL("one worker serves all connections");
    return 0;
}

/* The session whose worker is in a handler comes first in the batch. */
static void a_busy_worker_delays_only_its_own_sessions(void) {
    connection connections[PEERS];
    void *jobs[PEERS];
    wan_fixture_init(&fixture, TP_AUTH_OPEN);
    fixture.options.server.workers = 2;
    fixture.base.on_message = fixture_block_on_b;
    wan_fixture_open(&fixture);
    wan_peer *blocking = wan_fixture_join(&fixture, TP_SUITE_AES_256_GCM, 0);
    FIXTURE_WAIT(atomic_load(&fixture.base.joins) == 1);
    tp__worker *busy = owner_of_newest();
    if (busy == NULL) {
        wan_leave(blocking);
        wan_fixture_close(&fixture);
        SKIP("sessions have no owner here");
    }
    const wan_login login = wan_login_as(&fixture, TP_SUITE_AES_256_GCM, 1);
    atomic_store(&keeps, true);
    for (unsigned i = 0; i < PEERS; i++) {
        connections[i] = connect_and_keep(&login);
    }
    atomic_store(&keeps, false);
    unsigned first = find_connection(connections, busy, true);
    for (unsigned i = 0; i < PEERS; i++) {
        jobs[i] = connections[(first + i) % PEERS].job;
    }
    CHECK(wan_send_frame(blocking, TP_FRAME_DATA, "b", 1));
    FIXTURE_WAIT(atomic_load(&fixture.base.blocked));

    tp__handshake_job_deliver(jobs, PEERS);
    unsigned other = find_connection(connections, busy, false);
    CHECK(wan_take_reply(connections[other].peer));
    atomic_store(&fixture.base.unblock, true);
    for (unsigned i = 0; i < PEERS; i++) {
        CHECK(i == other || wan_take_reply(connections[i].peer));
        wan_close(connections[i].peer, true);
    }
    wan_leave(blocking);
    wan_fixture_close(&fixture);
}

CHECK_MAIN(CASE(a_busy_worker_delays_only_its_own_sessions))
