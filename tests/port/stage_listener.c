/*
 * The stage's listeners and pairs.
 *
 * Threads: accepted connections are put in by workers, possibly two at a time, and taken out by the
 * main thread. Who takes a handle owns it; those nobody took are closed with the listener.
 */
#include "stage.h"

static void keep(stage_link *link, const tp_completion *completion) {
    stage_listener *listener = link->context;
    if (completion->handle == TP_NO_HANDLE) {
        if (!completion->last) {
            atomic_store(&listener->failure, (int)completion->error);
            atomic_fetch_add(&listener->failures, 1);
        }
        return;
    }
    tp_mutex_lock(&listener->mutex);
    unsigned count = atomic_load(&listener->count);
    if (count - listener->taken == STAGE_ACCEPTED_MAX) {
        stage_fault("%s accepted more connections than the case takes", link->name);
        tp_handle_close(completion->handle, true);
    } else {
        listener->accepted[count % STAGE_ACCEPTED_MAX] = completion->handle;
        listener->peers[count % STAGE_ACCEPTED_MAX] = completion->address;
        atomic_store(&listener->count, count + 1);
    }
    tp_mutex_unlock(&listener->mutex);
}

tp_address stage_loopback(uint16_t port) {
    tp_address address = {.port = port};
    static const uint8_t ip[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
    memcpy(address.ip, ip, sizeof ip);
    return address;
}

tp_address stage_loopback6(uint16_t port) {
    tp_address address = {.port = port};
    address.ip[15] = 1;
    return address;
}

tp_err stage_listener_open_at(stage_listener *listener, stage *s, const tp_address *address,
    unsigned backlog, bool accepting) {
    memset(listener, 0, sizeof *listener);
    tp_mutex_init(&listener->mutex);
    stage_link_init(&listener->link, s, "listener");
    listener->link.context = listener;
    listener->link.on_accepted = keep;
    tp_err error = stage_listen(&listener->link, address, backlog, &listener->address);
    if (error == TP_OK && accepting) {
        REQUIRE(stage_accept(&listener->link) == TP_OK);
    }
    return error;
}

void stage_listener_open(stage_listener *listener, stage *s) {
    tp_address address = stage_loopback(0);
    REQUIRE(stage_listener_open_at(listener, s, &address, 512, true) == TP_OK);
    REQUIRE(listener->address.port != 0);
}

static tp_handle take(stage_listener *listener, tp_address *peer) {
    tp_handle handle = TP_NO_HANDLE;
    tp_mutex_lock(&listener->mutex);
    if (listener->taken != atomic_load(&listener->count)) {
        unsigned at = listener->taken++ % STAGE_ACCEPTED_MAX;
        handle = listener->accepted[at];
        if (peer != NULL) {
            *peer = listener->peers[at];
        }
    }
    tp_mutex_unlock(&listener->mutex);
    return handle;
}

tp_handle stage_listener_take(stage_listener *listener, tp_address *peer) {
    tp_handle handle = TP_NO_HANDLE;
    STAGE_UNTIL((handle = take(listener, peer)) != TP_NO_HANDLE);
    return handle;
}

void stage_listener_close(stage_listener *listener) {
    bool accepting = stage_op_in_progress(&listener->link.accept);
    stage_shut_and_wait(&listener->link, false);
    if (accepting) {
        CHECK_EQ(atomic_load(&listener->link.accept_result), TP_ERR_CANCELLED);
    }
    for (tp_handle left; (left = take(listener, NULL)) != TP_NO_HANDLE;) {
        tp_handle_close(left, false);
    }
    tp_mutex_destroy(&listener->mutex);
}

void stage_pair(stage_listener *listener, stage_link *client, stage_link *server) {
    REQUIRE(stage_connect(client, &listener->address) == TP_OK);
    STAGE_UNTIL(atomic_load(&client->connect_result) != STAGE_PENDING);
    REQUIRE(atomic_load(&client->connect_result) == TP_OK);
    REQUIRE(stage_attach(server, stage_listener_take(listener, NULL)) == TP_OK);
}

void stage_unpair(stage_link *client, stage_link *server) {
    if (!atomic_load(&client->closing)) {
        stage_shut(client, false);
    }
    if (!atomic_load(&server->closing)) {
        stage_shut(server, false);
    }
    STAGE_UNTIL(stage_link_over(client) && stage_link_over(server));
}
