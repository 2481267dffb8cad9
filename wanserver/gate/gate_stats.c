/*
 * The gate's statistics, as numbers and as text. Any thread. What joining and leaving change is
 * counted under the mutex, messages by relaxed atomic additions.
 */
#include "core/base/counter.h"
#include "core/base/stats_text.h"
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
#define READ(name) stats->name = tp__count_read(&gate->name);
#define READ_PARTS(name, count)                                                                    \
    for (unsigned i = 0; i < (count); i++) {                                                       \
        stats->name[i] = tp__count_read(&gate->name[i]);                                           \
    }
    TP__GATE_STATS(TP__STATS_NONE, TP__STATS_NONE, READ, READ_PARTS)
#undef READ
#undef READ_PARTS
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

size_t tp__gate_stats_text(tp__gate *gate, char *text, size_t capacity) {
#define WORD(name, word) word,
    static const char *const words_of_dropped[] = {TP__GATE_DROPS(WORD)};
    static const char *const words_of_refused[] = {TP__GATE_REFUSALS(WORD)};
#undef WORD
    tp__gate_stats now;
    tp__gate_get_stats(gate, &now);
    tp__stats_text out = tp__stats_text_in(text, capacity);
#define LINE(name) tp__stats_text_add(&out, #name, NULL, now.name);
#define LINES(name, count)                                                                         \
    for (unsigned i = 0; i < (count); i++) {                                                       \
        tp__stats_text_add(&out, #name, words_of_##name[i], now.name[i]);                          \
    }
    TP__GATE_STATS(LINE, LINE, LINE, LINES)
#undef LINE
#undef LINES
    return out.size;
}
