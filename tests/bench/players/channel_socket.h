/* What the kinds of channels send and receive by. */
#ifndef TWINPORT_BENCH_CHANNEL_SOCKET_H
#define TWINPORT_BENCH_CHANNEL_SOCKET_H

#include <sys/types.h>

#include "channel.h"

/* Sends everything; waits for room if there is none. */
void socket_send(int fd, const unsigned char *bytes, size_t size);
/* Waits until the socket has room again; ends the program if that takes too long. */
void socket_wait_for_room(int fd);
/* What is there, 0 if nothing is, -1 if the stream has ended. */
ssize_t socket_receive(int fd, unsigned char *bytes, size_t size);

#endif
