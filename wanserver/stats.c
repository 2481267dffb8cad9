/*
 * What a WAN server has counted. Any thread.
 */
#include <string.h>

#include "wanserver/wan.h"

static uint64_t read_number(const _Atomic uint64_t *number) {
    return atomic_load_explicit(number, memory_order_relaxed);
}

void tp_wanserver_get_stats(const tp_server *server, tp_wanserver_stats *stats) {
    tp__wan *wan = tp__wan_of_server(server);
    if (!wan || stats->size != sizeof *stats) {
        return;
    }
    memset(stats, 0, sizeof *stats);
    stats->size = sizeof *stats;
    stats->overdue = tp__handshakes_overdue(wan->handshakes);
    stats->pending = tp__pending_count(&wan->pending);
#define TP__WAN_READ(name) stats->name = read_number(&wan->name);
    TP__WAN_COUNTERS(TP__WAN_READ)
#undef TP__WAN_READ
    for (unsigned i = 0; i < server->options.workers; i++) {
        stats->records_sealed += read_number(&wan->workers[i].records_sealed);
        stats->records_opened += read_number(&wan->workers[i].records_opened);
    }
}
