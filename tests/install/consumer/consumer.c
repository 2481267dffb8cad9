/* Takes something from every library, and says which version it got. */
#include "everything.h"

#include <stdio.h>

int main(void) {
    tp_server_options server;
    tp_lanclient_options client;
    tp_lanserver_defaults(&server);
    tp_lanclient_defaults(&client);
    bool right = server.size == sizeof server && client.size == sizeof client;
    printf("%s\n", right ? tp_version() : "headers and libraries disagree");
    return 0;
}
