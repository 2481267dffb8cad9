/*
 * The log's lines about connections that are turned away. Any thread; owns nothing.
 */
#include "core/log/refusal.h"

void tp__refusal_say(tp_log_place *place, tp_log_level level, const char *by,
    const tp_address *peer, const char *reason) {
    if (level >= tp_log_get_level()) {
        char text[TP_ADDRESS_TEXT];
        tp_log_say(place, level, "%s: refused %s: %s", by, tp_address_format(peer, text), reason);
    }
}
