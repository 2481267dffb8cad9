/*
 * A player's connection in the benchmark's loads: a stream of bytes over a cipher or none. The
 * loads are the same program for every cipher, so that servers are compared under a load of the
 * same shape, the same number of system calls and the same pace:
 *
 *     plain  no cipher
 *     tls    TLS 1.3 by OpenSSL; the server's certificate is not verified
 *     wan    twinport's protocol for players, by proto/
 *
 * One thread, one epoll set for all channels of the process. An error of the load itself ends the
 * program; what a server does is passed to the load.
 */
#ifndef TWINPORT_BENCH_CHANNEL_H
#define TWINPORT_BENCH_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct channel {
    int fd;       /* -1: closed */
    bool ready;   /* what is written now reaches the server's application */
    void *secure; /* the cipher's state */
} channel;

/* Called by a channel. None of them may close the channel it is called for. */
typedef struct channel_events {
    void (*ready)(channel *c);
    void (*bytes)(channel *c, const unsigned char *bytes, size_t size);
} channel_events;

typedef struct channel_kind {
    const char *name;
    void (*prepare)(void); /* once, before the first channel */
    /* Before it connects: everything that needs no answer of the server. */
    void (*make)(channel *c);
    void (*begin)(channel *c); /* connected: sends the first bytes */
    bool (*readable)(channel *c, const channel_events *events); /* false: the stream has ended */
    void (*write)(channel *c, const unsigned char *bytes, size_t size);
    void (*end)(channel *c); /* frees `secure` */
} channel_kind;

extern const channel_kind channel_plain, channel_tls, channel_wan;

/*
 * The options of a load that concern its channels:
 *
 *     --connect 127.0.0.1:PORT --over plain|tls|wan [--server-key HEX --suite aes|chacha]
 *     [--sources N]: connect from N addresses, 127.1.0.1 and so on, in turn
 */
typedef struct channel_options {
    const channel_kind *kind;
    uint16_t port;
    unsigned sources;
    const char *server_key;
    const char *suite;
} channel_options;

extern channel_options channels;

/* Takes one option with its value; false if it is not one of the channels'. Exits with 2 if it is
 * wrong. */
bool channels_option(const char *name, const char *value);
/* After the command line; exits with 2 if something is missing. */
void channels_prepare(const channel_events *events);

/* Connects and begins. `ready` may be called before it returns. */
void channel_open(channel *c);
/* Writes everything; waits while the socket is full. */
void channel_write(channel *c, const void *bytes, size_t size);
/* Closes by a reset, so that no port stays in TIME_WAIT. */
void channel_close(channel *c);

/* Waits at most `timeout_ms` (-1: no limit) and serves what has come: first calls `events`, then
 * `served` once for each channel that was readable, with false if its stream has ended (it is not
 * closed by then). Returns how many were served; -1 if `also` (a descriptor, or -1) is readable. */
int channels_serve(int timeout_ms, int also, void (*served)(channel *c, bool there));

uint64_t clock_ns(void);
/* The time-out of everything: a minute, multiplied by TWINPORT_TIME_FACTOR. */
uint64_t patience_ns(void);
_Noreturn void fail(const char *what);
_Noreturn void usage(const char *what);

#endif
