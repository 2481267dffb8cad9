/* Uses a function of every library and prints their version. */
#include "everything.h"

#include <stdio.h>

int main(void) {
    tp_server_options server;
    tp_lanclient_options client;
    tp_wanserver_options players;
    tp_key_pair pair;
    tp_lanserver_defaults(&server);
    tp_lanclient_defaults(&client);
    tp_wanserver_defaults(&players);
    bool right = server.size == sizeof server && client.size == sizeof client &&
                 players.size == sizeof players && tp_key_pair_generate(&pair) == TP_OK;
    printf("%s\n", right ? tp_version() : "headers and libraries disagree");
    return 0;
}
