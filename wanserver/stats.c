/*
 * The statistics of a WAN server. Any thread.
 */
#include <string.h>

#include "core/base/stats_text.h"
#include "wanserver/wan.h"

struct wan_stats_listed {
    size_t size;
    TP__WAN_STATS(TP__STATS_FIELD, TP__STATS_FIELD, TP__STATS_FIELD, TP__STATS_FIELD)
};
#define TIE(name) TP__STATS_TIE_FIELD(struct wan_stats_listed, tp_wanserver_stats, name)
TP__STATS_TIE(struct wan_stats_listed, tp_wanserver_stats);
TP__WAN_STATS(TIE, TIE, TIE, TIE)
#undef TIE

void tp_wanserver_get_stats(const tp_server *server, tp_wanserver_stats *stats) {
    tp__wan *wan = tp__wan_of_server(server);
    if (!wan || stats->size != sizeof *stats) {
        return;
    }
    memset(stats, 0, sizeof *stats);
    stats->size = sizeof *stats;
    stats->overdue = tp__handshakes_overdue(wan->handshakes);
    stats->pending = tp__pending_count(&wan->pending);
#define READ(name) stats->name = tp__count_read(&wan->name);
    TP__WAN_STATS(TP__STATS_NONE, READ, TP__STATS_NONE, TP__STATS_NONE)
#undef READ
    for (unsigned i = 0; i < tp__layer_server_options(server)->workers; i++) {
#define ADD(name) stats->name += tp__count_read(&wan->workers[i].name);
        TP__WAN_STATS(TP__STATS_NONE, TP__STATS_NONE, TP__STATS_NONE, ADD)
#undef ADD
    }
}

size_t tp__wan_stats_text(const tp_server *server, char *text, size_t capacity) {
    tp_wanserver_stats wan = {.size = sizeof wan};
    tp_wanserver_get_stats(server, &wan);
    tp_server_stats core = {.size = sizeof core};
    tp_server_get_stats(server, &core);
    tp__stats_text out = tp__stats_text_in(text, capacity);
#define LINE(name) tp__stats_text_add(&out, #name, NULL, core.name);
    TP__WAN_SERVER_STATS(LINE)
#undef LINE
#define LINE(name) tp__stats_text_add(&out, #name, NULL, wan.name);
    TP__WAN_STATS(TP__STATS_NONE, LINE, LINE, LINE)
#undef LINE
    return out.size;
}
