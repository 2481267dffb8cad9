/*
 * The identity of a session's player. The writers are the workers of a session, one after another;
 * any thread reads.
 */
#include "wanserver/handshake/identity.h"

#include <assert.h>
#include <string.h>

#include "wanserver/wan.h"

void tp__identity_fill(tp__identity_cell *cell, const tp_identity *identity) {
    uint64_t words[TP__IDENTITY_WORDS] = {identity->account, identity->flags};
    memcpy(&words[2], identity->user_data, sizeof identity->user_data);
    for (unsigned i = 0; i < TP__IDENTITY_WORDS; i++) {
        atomic_store_explicit(&cell->words[i], words[i], memory_order_release);
    }
    tp_secure_wipe(words, sizeof words);
}

void tp__identity_publish(tp__identity_cell *cell, tp_session_id session) {
    assert(session != 0);
    atomic_store_explicit(&cell->session, session, memory_order_release);
}

void tp__identity_clear(tp__identity_cell *cell) {
    atomic_store_explicit(&cell->session, 0, memory_order_release);
    for (unsigned i = 0; i < TP__IDENTITY_WORDS; i++) {
        atomic_store_explicit(&cell->words[i], 0, memory_order_release);
    }
}

bool tp__identity_read(
    const tp__identity_cell *cell, tp_session_id session, tp_identity *identity) {
    uint64_t words[TP__IDENTITY_WORDS];
    if (session == TP_NO_SESSION ||
        atomic_load_explicit(&cell->session, memory_order_acquire) != session) {
        return false;
    }
    for (unsigned i = 0; i < TP__IDENTITY_WORDS; i++) {
        words[i] = atomic_load_explicit(&cell->words[i], memory_order_acquire);
    }
    if (atomic_load_explicit(&cell->session, memory_order_acquire) != session) {
        return false;
    }
    identity->account = words[0];
    identity->flags = (uint32_t)words[1];
    identity->reserved = 0;
    memcpy(identity->user_data, &words[2], sizeof identity->user_data);
    return true;
}

bool tp_session_identity(tp_server *server, tp_session_id session, tp_identity *identity) {
    const tp__wan *wan = tp__wan_of_server(server);
    if (!wan || identity->size != sizeof *identity) {
        return false;
    }
    const tp__connection *connection = tp__layer_state_at(server, tp_session_slot(session));
    return connection && tp__identity_read(&connection->identity, session, identity);
}
