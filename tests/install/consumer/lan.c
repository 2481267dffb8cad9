/*
 * Uses a function of every library of the LAN half, which needs no OpenSSL, and prints their
 * version.
 */
#include <stdbool.h>
#include <stdio.h>

#include "proto/frame.h"
#include "twinport/lanclient.h"
#include "twinport/lanserver.h"
#include "twinport/version.h"

int main(void) {
    tp_server_options server;
    tp_lanclient_options client;
    tp_lanserver_defaults(&server);
    tp_lanclient_defaults(&client);
    bool right =
        server.size == sizeof server && client.size == sizeof client && TP_FRAME_HEADER == 4;
    printf("%s\n", right ? tp_version() : "headers and libraries disagree");
    return 0;
}
