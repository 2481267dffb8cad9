/* Handshakes that are done together, for sessions that different workers serve. */
#undef tp__handshakes_offer
#include "check.h"
#include "wan_stage.h"
#include "wanserver/handshake/handshakes.h"
#include "wanserver/wan.h"

#define PEERS 8

static wan_stage stage;

/* The build has welcome.c leave its handshakes to this, which keeps them for the test. */
bool kept_offer(tp__handshakes *handshakes, void *job);

static atomic_bool keeps;
static void *_Atomic kept;

bool kept_offer(tp__handshakes *handshakes, void *job) {
    if (!atomic_load(&keeps)) {
        return tp__handshakes_offer(handshakes, job);
    }
    atomic_store(&kept, job);
    return true;
}

/* The worker that serves the session which was opened last. */
static tp__worker *home_of_newest(void) {
    tp_server *server = stage.base.server;
    uint64_t newest = 0;
    tp__worker *home = NULL;
    for (uint32_t i = 0; i < server->slots.count; i++) {
        uint64_t number = tp__life_read(&server->sessions[i].life) & TP__LIFE_NUMBER;
        if (number > newest) {
            newest = number;
            home = atomic_load(&server->sessions[i].home);
        }
    }
    return home;
}

typedef struct comer {
    wan_peer *peer;
    void *job; /* its handshake, kept */
    tp__worker *home;
} comer;

static comer come(const wan_login *login) {
    comer made = {.peer = wan_stage_connect(&stage, login)};
    REQUIRE(wan_send_hello(made.peer));
    STAGE_WAIT((made.job = atomic_exchange(&kept, NULL)) != NULL);
    made.home = home_of_newest();
    tp__welcome_run(made.job);
    return made;
}

/* The index of one that this worker serves, or that another one does. */
static unsigned find(const comer *comers, const tp__worker *home, bool same) {
    for (unsigned i = 0; i < PEERS; i++) {
        if ((comers[i].home == home) == same) {
            return i;
        }
    }
    FAIL("all are served by the same worker");
    return 0;
}

/* The one whose worker is in a handler is the first of the batch, which leads the others. */
static void a_busy_worker_keeps_only_its_own(void) {
    comer comers[PEERS];
    void *jobs[PEERS];
    wan_stage_init(&stage, TP_AUTH_OPEN);
    stage.options.server.workers = 2;
    stage.base.on_message = stage_block_on_b;
    wan_stage_open(&stage);
    wan_peer *blocking = wan_stage_join(&stage, TP_SUITE_AES_256_GCM, 0);
    STAGE_WAIT(atomic_load(&stage.base.joins) == 1);
    tp__worker *busy = home_of_newest();
    if (busy == NULL) {
        wan_leave(blocking);
        wan_stage_close(&stage);
        SKIP("here any worker that is free serves any session");
    }
    const wan_login login = wan_login_as(&stage, TP_SUITE_AES_256_GCM, 1);
    atomic_store(&keeps, true);
    for (unsigned i = 0; i < PEERS; i++) {
        comers[i] = come(&login);
    }
    atomic_store(&keeps, false);
    unsigned first = find(comers, busy, true);
    for (unsigned i = 0; i < PEERS; i++) {
        jobs[i] = comers[(first + i) % PEERS].job;
    }
    CHECK(wan_send_frame(blocking, TP_FRAME_DATA, "b", 1));
    STAGE_WAIT(atomic_load(&stage.base.blocked));

    tp__welcome_deliver(jobs, PEERS);
    unsigned other = find(comers, busy, false);
    CHECK(wan_take_reply(comers[other].peer));
    atomic_store(&stage.base.let_go, true);
    for (unsigned i = 0; i < PEERS; i++) {
        CHECK(i == other || wan_take_reply(comers[i].peer));
        wan_close(comers[i].peer, true);
    }
    wan_leave(blocking);
    wan_stage_close(&stage);
}

CHECK_MAIN(CASE(a_busy_worker_keeps_only_its_own))
