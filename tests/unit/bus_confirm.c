/*
 * Confirmations when memory runs out once the hub runs.
 *
 * The hub's own acks.c and guests.c, which post its delayed tasks, call lean_server_post for
 * tp_server_post.
 */
#undef tp_server_post
#include "bus_stage.h"
#include "core/engine/server_state.h"

static atomic_bool memory_is_out; /* there is room for a task only where there was some before */

static bool has_room(tp__tasks *tasks) {
    tp_mutex_lock(&tasks->mutex);
    bool room = tasks->count < tasks->room;
    tp_mutex_unlock(&tasks->mutex);
    return room;
}

tp_err lean_server_post(
    tp_server *server, unsigned delay_ms, void (*task)(void *context), void *context);
tp_err lean_server_post(
    tp_server *server, unsigned delay_ms, void (*task)(void *context), void *context) {
    bool room = !atomic_load(&memory_is_out) || has_room(&server->tasks);
    return room ? tp_server_post(server, delay_ms, task, context) : TP_ERR_NO_MEMORY;
}

/* What is said once, and followed by nothing, is confirmed. */
static void a_message_is_confirmed_when_memory_is_out(void) {
    tp__hub *hub = hub_open_default();
    party a;
    atomic_store(&memory_is_out, true);
    party_join(&a, hub, "chat", "a");
    tp_lanclient_stats stats = {.size = sizeof stats};
    for (unsigned i = 1; i <= 3; i++) {
        CHECK_EQ(say(&a, self(&a), "the last word", NULL), TP_OK);
        AWAIT(a.messages == i);
        AWAIT((tp_lanclient_get_stats(a.client, &stats), stats.unconfirmed == 0));
        AWAIT(!atomic_load(&hub->sweep_armed));
    }
    atomic_store(&memory_is_out, false);
    party_leave(&a);
    hub_close(hub);
}

/* Rather than one that may leave its clients without word later. */
static void a_hub_without_memory_does_not_start(void) {
    tp__hub_options options;
    tp__hub *hub = NULL;
    party a;
    stage_open();
    hub_options(&options);
    REQUIRE(tp__hub_create(&options, &hub) == TP_OK);
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
    CASE(a_message_is_confirmed_when_memory_is_out), CASE(a_hub_without_memory_does_not_start))
