/*
 * The LAN's defaults and rules. Any thread; no state.
 */
#include "twinport/lanserver.h"

#include "twinport/log.h"

void tp_lanserver_defaults(tp_server_options *options) {
    tp_server_defaults(options);
    options->name = "lan";
    options->listen = true;
    (void)tp_address_parse("127.0.0.1:0", &options->address); /* a valid constant */
    options->access.size = sizeof options->access;
    options->access.allow = tp_private_networks(&options->access.allow_count);
    options->max_sessions = 1024;
    options->max_frame = 1u << 20;
    options->low_latency = true;
    options->nodelay = true;
    options->reserve_bytes = (size_t)4 << 20;
}

tp_err tp_lanserver_create(
    const tp_server_options *options, const tp_handlers *handlers, tp_server **server) {
    *server = NULL;
    if (!options->listen) {
        TP_LOG(TP_LOG_ERROR, "lanserver: listen is not set");
        return TP_ERR_INVALID;
    }
    bool reachable =
        tp_address_is_wildcard(&options->address) || !tp_address_is_private(&options->address);
    if (reachable && !options->allow_public_bind) {
        char text[TP_ADDRESS_TEXT];
        TP_LOG(TP_LOG_ERROR,
            "lanserver: %s can be reached from outside the LAN; not without allow_public_bind",
            tp_address_format(&options->address, text));
        return TP_ERR_PUBLIC_BIND;
    }
    return tp_server_create(options, handlers, server);
}
