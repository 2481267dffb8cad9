/*
 * The statistics of a WAN server. Any thread.
 */
#include <string.h>

#include "wanserver/wan.h"

void tp_wanserver_get_stats(const tp_server *server, tp_wanserver_stats *stats) {
    tp__wan *wan = tp__wan_of_server(server);
    if (!wan || stats->size != sizeof *stats) {
        return;
    }
    memset(stats, 0, sizeof *stats);
    stats->size = sizeof *stats;
    stats->overdue = tp__handshakes_overdue(wan->handshakes);
    stats->pending = tp__pending_count(&wan->pending);
#define TP__WAN_READ(name) stats->name = tp__count_read(&wan->name);
    TP__WAN_COUNTERS(TP__WAN_READ)
#undef TP__WAN_READ
    for (unsigned i = 0; i < tp__layer_server_options(server)->workers; i++) {
        stats->records_sealed += tp__count_read(&wan->workers[i].records_sealed);
        stats->records_opened += tp__count_read(&wan->workers[i].records_opened);
    }
}
