/*
 * The gate's statistics, as numbers and as text. Any thread. What joining and leaving change is
 * counted under the mutex, messages by relaxed atomic additions.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "wanserver/gate/gate_internal.h"

static void gate_stats_count_peers(const tp__gate *gate, tp__gate_stats *stats) {
    TP_ASSERT_LOCKED(&gate->mutex);
    stats->services = gate->service_count;
    stats->peers = 0;
    for (unsigned i = 0; i < gate->service_count; i++) {
        for (tp__gate_peer *peer = gate->services[i].peers; peer; peer = peer->next) {
            stats->peers++;
        }
    }
}

void tp__gate_get_stats(tp__gate *gate, tp__gate_stats *stats) {
    tp_mutex_lock(&gate->mutex);
    *stats = gate->stats;
    stats->players = gate->players;
    stats->kept = gate->kept;
    stats->waiting = gate->waiting_room.list.count;
    stats->visits = gate->assignments_announced;
    gate_stats_count_peers(gate, stats);
    tp_mutex_unlock(&gate->mutex);
    stats->from_players = tp__count_read(&gate->from_players);
    stats->forwarded = tp__count_read(&gate->forwarded);
    stats->returned = tp__count_read(&gate->returned);
    stats->to_players = tp__count_read(&gate->to_players);
    stats->sent = tp__count_read(&gate->sent);
    stats->malformed = tp__count_read(&gate->malformed);
    for (unsigned i = 0; i < TP__GATE_DROP_COUNT; i++) {
        stats->dropped[i] = tp__count_read(&gate->dropped[i]);
    }
    for (unsigned i = 0; i < TP__GATE_REFUSAL_COUNT; i++) {
        stats->refused[i] = tp__count_read(&gate->refused[i]);
    }
}

void tp__gate_each_assignment(tp__gate *gate,
    void (*call)(void *context, tp_peer_id peer, tp_session_id session), void *context) {
    tp_mutex_lock(&gate->mutex);
    for (unsigned i = 0; i < gate->service_count; i++) {
        for (tp__gate_peer *peer = gate->services[i].peers; peer; peer = peer->next) {
            for (const tp__link *at = peer->assignments.first; at; at = at->next) {
                call(context, peer->id, tp__assignment_of(at)->session);
            }
        }
    }
    tp_mutex_unlock(&gate->mutex);
}

/* ---- as text --------------------------------------------------------------------------------- */

typedef struct gate_stats_writer {
    char *text;
    size_t capacity;
    size_t size;
} gate_stats_writer;

static void gate_stats_write_line(
    gate_stats_writer *to, const char *name, const char *part, uint64_t value) {
    int size = snprintf(to->text + to->size, to->capacity - to->size, "%s%s%s=%" PRIu64 "\n", name,
        part ? "." : "", part ? part : "", value);
    bool fits = size > 0 && (size_t)size < to->capacity - to->size;
    assert(to->size < to->capacity);
    to->size += fits ? (size_t)size : 0; /* else the line is left out */
    to->text[to->size] = '\0';
}

size_t tp__gate_stats_text(tp__gate *gate, char *text, size_t capacity) {
    static const char *const drops[] = {
#define WORD(name, word) word,
        TP__GATE_DROPS(WORD)};
    static const char *const refusals[] = {TP__GATE_REFUSALS(WORD)};
#undef WORD
    tp__gate_stats now;
    gate_stats_writer to = {.text = text, .capacity = capacity};
    if (capacity == 0) {
        return 0;
    }
    tp__gate_get_stats(gate, &now);
#define LINE(member) gate_stats_write_line(&to, #member, NULL, now.member);
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
        gate_stats_write_line(&to, "dropped", drops[i], now.dropped[i]);
    }
    LINE(to_players)
    LINE(sent)
    for (unsigned i = 0; i < TP__GATE_REFUSAL_COUNT; i++) {
        gate_stats_write_line(&to, "refused", refusals[i], now.refused[i]);
    }
    LINE(malformed)
#undef LINE
    return to.size;
}
