/* The socket calls that all channels use. */
#ifndef TWINPORT_BENCH_CHANNEL_SOCKET_H
#define TWINPORT_BENCH_CHANNEL_SOCKET_H

#include <sys/types.h>

#include "channel.h"

/* Sends everything; waits while the socket is full. */
void socket_send(int fd, const unsigned char *bytes, size_t size);
/* Waits until the socket is writable; ends the program if that takes too long. */
void socket_wait_for_room(int fd);
/* Receives what has come: 0 if nothing has, -1 if the stream has ended. */
ssize_t socket_receive(int fd, unsigned char *bytes, size_t size);

#endif
