/*
 * Log lines about refused connections. Any thread; no state.
 */
#include "core/log/refusal.h"

void tp__log_refusal(tp_log_site *site, tp_log_level level, const char *by,
    const tp_address *remote, const char *reason) {
    if (level >= tp_log_get_level()) {
        char text[TP_ADDRESS_TEXT];
        tp_log_say(site, level, "%s: refused %s: %s", by, tp_address_format(remote, text), reason);
    }
}
