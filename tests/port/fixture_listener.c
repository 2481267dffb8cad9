/*
 * The fixture's listeners and pairs.
 *
 * Workers put accepted connections in, possibly two at a time, and the main thread takes them out.
 * The taker of a handle owns it; handles that were not taken are closed with the listener.
 */
#include "fixture.h"

static void listener_keep(fixture_link *link, const tp_completion *completion) {
    fixture_listener *listener = link->context;
    if (completion->handle == TP_NO_HANDLE) {
        if (!completion->last) {
            atomic_store(&listener->failure, (int)completion->error);
            atomic_fetch_add(&listener->failures, 1);
        }
        return;
    }
    tp_mutex_lock(&listener->mutex);
    unsigned count = atomic_load(&listener->count);
    if (count - listener->taken == FIXTURE_ACCEPTED_MAX) {
        fixture_fault("%s accepted more connections than the case takes", link->name);
        tp_handle_close(completion->handle, true);
    } else {
        listener->accepted[count % FIXTURE_ACCEPTED_MAX] = completion->handle;
        listener->peers[count % FIXTURE_ACCEPTED_MAX] = completion->address;
        atomic_store(&listener->count, count + 1);
    }
    tp_mutex_unlock(&listener->mutex);
}

tp_address fixture_loopback(uint16_t port) {
    tp_address address = {.port = port};
    static const uint8_t ip[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
    memcpy(address.ip, ip, sizeof ip);
    return address;
}

tp_address fixture_loopback6(uint16_t port) {
    tp_address address = {.port = port};
    address.ip[15] = 1;
    return address;
}

tp_err fixture_listener_open_at(fixture_listener *listener, fixture *s, const tp_address *address,
    unsigned backlog, bool accepting) {
    memset(listener, 0, sizeof *listener);
    tp_mutex_init(&listener->mutex);
    fixture_link_init(&listener->link, s, "listener");
    listener->link.context = listener;
    listener->link.on_accepted = listener_keep;
    tp_err error = fixture_listen(&listener->link, address, backlog, &listener->address);
    if (error == TP_OK && accepting) {
        REQUIRE(fixture_accept(&listener->link) == TP_OK);
    }
    return error;
}

void fixture_listener_open(fixture_listener *listener, fixture *s) {
    tp_address address = fixture_loopback(0);
    REQUIRE(fixture_listener_open_at(listener, s, &address, 512, true) == TP_OK);
    REQUIRE(listener->address.port != 0);
}

static tp_handle listener_take(fixture_listener *listener, tp_address *peer) {
    tp_handle handle = TP_NO_HANDLE;
    tp_mutex_lock(&listener->mutex);
    if (listener->taken != atomic_load(&listener->count)) {
        unsigned at = listener->taken++ % FIXTURE_ACCEPTED_MAX;
        handle = listener->accepted[at];
        if (peer != NULL) {
            *peer = listener->peers[at];
        }
    }
    tp_mutex_unlock(&listener->mutex);
    return handle;
}

tp_handle fixture_listener_take(fixture_listener *listener, tp_address *peer) {
    tp_handle handle = TP_NO_HANDLE;
    FIXTURE_UNTIL((handle = listener_take(listener, peer)) != TP_NO_HANDLE);
    return handle;
}

void fixture_listener_close(fixture_listener *listener) {
    bool accepting = fixture_op_in_progress(&listener->link.accept);
    fixture_shut_and_wait(&listener->link, false);
    if (accepting) {
        CHECK_EQ(atomic_load(&listener->link.accept_result), TP_ERR_CANCELLED);
    }
    for (tp_handle left; (left = listener_take(listener, NULL)) != TP_NO_HANDLE;) {
        tp_handle_close(left, false);
    }
    tp_mutex_destroy(&listener->mutex);
}

void fixture_pair(fixture_listener *listener, fixture_link *client, fixture_link *server) {
    REQUIRE(fixture_connect(client, &listener->address) == TP_OK);
    FIXTURE_UNTIL(atomic_load(&client->connect_result) != FIXTURE_PENDING);
    REQUIRE(atomic_load(&client->connect_result) == TP_OK);
    REQUIRE(fixture_attach(server, fixture_listener_take(listener, NULL)) == TP_OK);
}

void fixture_unpair(fixture_link *client, fixture_link *server) {
    if (!atomic_load(&client->closing)) {
        fixture_shut(client, false);
    }
    if (!atomic_load(&server->closing)) {
        fixture_shut(server, false);
    }
    FIXTURE_UNTIL(fixture_link_over(client) && fixture_link_over(server));
}
