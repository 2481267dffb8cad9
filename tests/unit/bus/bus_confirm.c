/*
 * Acknowledgements when memory runs out while the hub runs.
 *
 * tp_server_post() is the test's (wrapped.h): while `memory_is_out` is set, the hub's server
 * accepts a task only if its task table need not grow.
 */
#include "bus_fixture.h"
#include "core/engine/server_state.h"
#include "wrapped.h"

static atomic_bool memory_is_out;      /* a task is accepted only where the table has a free slot */
static tp_server *_Atomic poor_server; /* the hub's: its clients have memory */

static bool has_free_slot(tp__tasks *tasks) {
    tp_mutex_lock(&tasks->mutex);
    bool is_free = tasks->count < tasks->capacity;
    tp_mutex_unlock(&tasks->mutex);
    return is_free;
}

WRAPPED(tp_err, tp_server_post, tp_server *server, unsigned delay_ms, void (*task)(void *context),
    void *context);
tp_err __wrap_tp_server_post(
    tp_server *server, unsigned delay_ms, void (*task)(void *context), void *context) {
    bool is_poor = atomic_load(&memory_is_out) && server == atomic_load(&poor_server);
    bool accepted = !is_poor || has_free_slot(&server->tasks);
    return accepted ? __real_tp_server_post(server, delay_ms, task, context) : TP_ERR_NO_MEMORY;
}

/* A message that no other message follows is acknowledged by the hub's delayed task, which needs no
 * memory. */
static void a_message_is_acknowledged_when_memory_is_out(void) {
    tp__hub *hub = hub_open_default();
    party a;
    atomic_store(&poor_server, hub->server);
    atomic_store(&memory_is_out, true);
    party_join(&a, hub, "chat", "a");
    tp_lanclient_stats stats = {.size = sizeof stats};
    for (unsigned i = 1; i <= 3; i++) {
        CHECK_EQ(party_send(&a, party_id(&a), "the last word", NULL), TP_OK);
        AWAIT(a.messages == i);
        AWAIT((tp_lanclient_get_stats(a.client, &stats), stats.unconfirmed == 0));
        AWAIT(!atomic_load(&hub->sweep_armed));
    }
    atomic_store(&memory_is_out, false);
    party_leave(&a);
    hub_close(hub);
}

/* A hub that has no memory for its tasks does not start, because it could not acknowledge later. */
static void a_hub_without_memory_does_not_start(void) {
    tp__hub_options options;
    tp__hub *hub = NULL;
    party a;
    fixture_open();
    hub_options(&options);
    REQUIRE(tp__hub_create(&options, &hub) == TP_OK);
    atomic_store(&poor_server, hub->server);
    atomic_store(&memory_is_out, true);
    CHECK_EQ(tp__hub_start(hub), TP_ERR_NO_MEMORY);
    CHECK_EQ(tp__hub_wait(hub, 0), TP_ERR_STATE);
    atomic_store(&memory_is_out, false);
    REQUIRE(tp__hub_start(hub) == TP_OK);
    party_join(&a, hub, "chat", "a");
    party_leave(&a);
    hub_close(hub);
}

CHECK_MAIN(
    CASE(a_message_is_acknowledged_when_memory_is_out), CASE(a_hub_without_memory_does_not_start))
