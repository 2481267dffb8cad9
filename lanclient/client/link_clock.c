/*
 * See link_clock.h. The client's fields `link_worker` and `clock_ahead_ms` belong to this file,
 * under the client's mutex.
 */
#include "lanclient/client/link_clock.h"

#include "core/engine/server_state.h"
#include "lanclient/client/client.h"
#include "os/clock.h"

uint64_t tp__lanclient_now_locked(const tp_lanclient *client) {
    TP_ASSERT_LOCKED(&client->mutex);
    return client->clock_ahead_ms +
           tp__server_served_ms(client->network, client->link_worker, tp_clock_ms());
}

uint64_t tp__lanclient_now_ms(tp_lanclient *client) {
    tp_mutex_lock(&client->mutex);
    uint64_t now = tp__lanclient_now_locked(client);
    tp_mutex_unlock(&client->mutex);
    return now;
}

void tp__link_clock_reset(tp_lanclient *client) {
    TP_ASSERT_LOCKED(&client->mutex);
    client->link_worker = TP__ANY_WORKER;
    client->clock_ahead_ms = 0;
}

/* Both clocks are read at the same moment; the difference keeps the link clock continuous. */
void tp__link_clock_follow(tp_lanclient *client) {
    TP_ASSERT_LOCKED(&client->mutex);
    uint64_t now_ms = tp_clock_ms();
    unsigned worker = tp__server_worker_here(client->network);
    client->clock_ahead_ms += tp__server_served_ms(client->network, client->link_worker, now_ms) -
                              tp__server_served_ms(client->network, worker, now_ms);
    client->link_worker = worker;
}
