/*
 * lanserver: a server for a trusted network: TCP, and frames of a 4-byte header and a payload. No
 * encryption.
 *
 *     #include <stdio.h>
 *     #include <twinport/lanserver.h>
 *
 *     static void on_recv(tp_server *server, tp_session_id session, tp_packet *packet) {
 *         tp_server_send(server, session, packet); // echo: sends the packet back
 *     }
 *
 *     int main(void) {
 *         tp_server_options options;
 *         tp_lanserver_defaults(&options);
 *         tp_address_parse("127.0.0.1:7000", &options.address);
 *
 *         tp_handlers handlers = {.size = sizeof handlers, .on_recv = on_recv};
 *         tp_server *server = NULL;
 *         tp_err error = tp_lanserver_create(&options, &handlers, &server);
 *         if (!error) error = tp_server_start(server);
 *         if (error) {
 *             fprintf(stderr, "cannot start: %s\n", tp_err_text(error));
 *         } else {
 *             getchar();
 *             tp_server_stop(server);
 *             tp_server_wait(server, -1);
 *         }
 *         tp_server_destroy(server);
 *         return error ? 1 : 0;
 *     }
 *
 * All other functions are in twinport/server.h. The program `lanserver`, the bus, is written on
 * these two headers.
 */
#ifndef TWINPORT_LANSERVER_H
#define TWINPORT_LANSERVER_H

#include "twinport/server.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fills `options` with the core's defaults, changed for a LAN: listen on 127.0.0.1 at a free port,
 * admit the private networks (tp_private_networks()), 1,024 sessions, 1 MiB frames, low latency,
 * Nagle off, 4 MiB of memory for packets allocated at start. The access list points to static
 * memory. Any thread. */
void tp_lanserver_defaults(tp_server_options *options);

/*
 * Creates a server, not started, as tp_server_create() does and with its errors. The LAN's rules
 * add:
 *
 *     TP_ERR_PUBLIC_BIND  `address` is a wildcard or not private, and allow_public_bind is not set
 *     TP_ERR_INVALID      `listen` is not set: only lanclient opens connections
 *
 * On error *server is NULL. Any thread.
 */
tp_err tp_lanserver_create(
    const tp_server_options *options, const tp_handlers *handlers, tp_server **server);

#ifdef __cplusplus
}
#endif
#endif
