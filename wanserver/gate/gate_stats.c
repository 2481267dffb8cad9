/*
 * What became of the players and of what they said and were told. Any thread.
 */
#include <inttypes.h>
#include <stdio.h>

#include "wanserver/gate/gate_internal.h"

static uint64_t read(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void count_peers(const tp__gate *gate, tp__gate_account *account) {
    account->services = gate->service_count;
    account->peers = 0;
    for (unsigned i = 0; i < gate->service_count; i++) {
        for (tp__gate_peer *peer = gate->services[i].peers; peer; peer = peer->next) {
            account->peers++;
        }
    }
}

void tp__gate_get_account(tp__gate *gate, tp__gate_account *account) {
    tp_mutex_lock(&gate->mutex);
    *account = gate->account;
    account->players = gate->players;
    account->kept = gate->kept;
    account->waiting = gate->room.list.count;
    account->visits = gate->visit_count;
    count_peers(gate, account);
    tp_mutex_unlock(&gate->mutex);
    account->from_players = read(&gate->from_players);
    account->forwarded = read(&gate->forwarded);
    account->returned = read(&gate->returned);
    account->to_players = read(&gate->to_players);
    account->sent = read(&gate->sent);
    account->malformed = read(&gate->malformed);
    for (unsigned i = 0; i < TP__GATE_DROP_COUNT; i++) {
        account->dropped[i] = read(&gate->dropped[i]);
    }
    for (unsigned i = 0; i < TP__GATE_REFUSAL_COUNT; i++) {
        account->refused[i] = read(&gate->refused[i]);
    }
}

void tp__gate_each_visit(tp__gate *gate,
    void (*visit)(void *context, tp_peer_id peer, tp_session_id session), void *context) {
    tp_mutex_lock(&gate->mutex);
    for (unsigned i = 0; i < gate->service_count; i++) {
        for (tp__gate_peer *peer = gate->services[i].peers; peer; peer = peer->next) {
            for (tp__gate_visit *at = peer->visits; at; at = at->later) {
                visit(context, peer->id, at->session);
            }
        }
    }
    tp_mutex_unlock(&gate->mutex);
}

/* ---- as text --------------------------------------------------------------------------------- */

typedef struct page {
    char *text;
    size_t room;
    size_t size;
} page;

static void write_line(page *to, const char *name, const char *part, uint64_t value) {
    int size = snprintf(to->text + to->size, to->room - to->size, "%s%s%s=%" PRIu64 "\n", name,
        part ? "." : "", part ? part : "", value);
    bool fits = size > 0 && (size_t)size < to->room - to->size;
    to->size += fits ? (size_t)size : 0; /* a line that does not fit is left out */
    to->text[to->size] = '\0';
}

size_t tp__gate_report(tp__gate *gate, char *text, size_t room) {
    static const char *const drops[] = {
#define WORD(name, word) word,
        TP__GATE_DROPS(WORD)};
    static const char *const refusals[] = {TP__GATE_REFUSALS(WORD)};
#undef WORD
    tp__gate_account now;
    page to = {.text = text, .room = room};
    if (room == 0) {
        return 0;
    }
    tp__gate_get_account(gate, &now);
#define LINE(member) write_line(&to, #member, NULL, now.member);
    LINE(players)
    LINE(kept)
    LINE(waiting)
    LINE(services)
    LINE(peers)
    LINE(visits)
    LINE(arrived)
    LINE(left)
    LINE(waited)
    LINE(admitted)
    LINE(gave_up)
    LINE(turned_away)
    LINE(joined)
    LINE(returns)
    LINE(confirmed_leaves)
    LINE(lost_visits)
    LINE(retries)
    LINE(refused_joins)
    LINE(kept_total)
    LINE(lost_closed)
    LINE(kicked)
    LINE(moved)
    LINE(not_moved)
    LINE(from_players)
    LINE(forwarded)
    LINE(returned)
    for (unsigned i = 0; i < TP__GATE_DROP_COUNT; i++) {
        write_line(&to, "dropped", drops[i], now.dropped[i]);
    }
    LINE(to_players)
    LINE(sent)
    for (unsigned i = 0; i < TP__GATE_REFUSAL_COUNT; i++) {
        write_line(&to, "refused", refusals[i], now.refused[i]);
    }
    LINE(malformed)
#undef LINE
    return to.size;
}
