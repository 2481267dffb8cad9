/*
 * A player's connection as the bench's loads have it: a stream of bytes over a cipher or none. The
 * loads are the same program whatever the cipher, so that a server is compared under a load of the
 * same shape, the same number of system calls and the same pace:
 *
 *     plain  nothing at all
 *     tls    TLS 1.3 by OpenSSL; the server's certificate is not looked up anywhere
 *     wan    twinport's protocol for players, by proto/
 *
 * One thread, one epoll set for all channels of the process. What goes wrong with the load's own
 * machinery ends the program; what a server does is told to the load.
 */
#ifndef TWINPORT_BENCH_CHANNEL_H
#define TWINPORT_BENCH_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct channel {
    int fd;       /* -1: closed */
    bool ready;   /* what is written now reaches the server's content */
    void *secure; /* the cipher's own */
} channel;

/* What a load is told. None of them closes the channel it is called for. */
typedef struct channel_events {
    void (*ready)(channel *c);
    void (*bytes)(channel *c, const unsigned char *bytes, size_t size);
} channel_events;

typedef struct channel_kind {
    const char *name;
    void (*prepare)(void);     /* once, before the first channel */
    void (*make)(channel *c);  /* before it connects: whatever needs no answer of the server's */
    void (*begin)(channel *c); /* connected: says the first word */
    bool (*readable)(channel *c, const channel_events *events); /* false: the stream has ended */
    void (*write)(channel *c, const unsigned char *bytes, size_t size);
    void (*end)(channel *c); /* forgets `secure` */
} channel_kind;

extern const channel_kind channel_plain, channel_tls, channel_wan;

/* The part of a load's command line that is about its channels:
 *     --connect 127.0.0.1:PORT --over plain|tls|wan [--server-key HEX --suite aes|chacha]
 *     [--sources N]: connect from N addresses, 127.1.0.1 and so on, in turn */
typedef struct channel_options {
    const channel_kind *kind;
    uint16_t port;
    unsigned sources;
    const char *server_key;
    const char *suite;
} channel_options;

extern channel_options channels;

/* Takes one option with its value; false if it is none of the channels'. Exits with 2 if it is
 * wrong. */
bool channels_option(const char *name, const char *value);
/* After the command line; exits with 2 if something is missing. */
void channels_prepare(const channel_events *events);

/* Connects and begins. `ready` may be called before it returns. */
void channel_open(channel *c);
/* Everything at once; waits for room if there is none. */
void channel_write(channel *c, const void *bytes, size_t size);
/* At once, by a reset, so that no port stays in TIME_WAIT. */
void channel_close(channel *c);

/* Waits at most `timeout_ms` (-1: for ever) and serves what has come: first `events`, then `served`
 * once for each channel that was readable, with false if its stream has ended (it is not closed by
 * then). Returns how many were served; -1 if `also` (a descriptor, or -1) is readable. */
int channels_serve(int timeout_ms, int also, void (*served)(channel *c, bool there));

uint64_t clock_ns(void);
/* How long anything may take before it counts as never: a minute, times TWINPORT_TIME_FACTOR. */
uint64_t patience_ns(void);
_Noreturn void fail(const char *what);
_Noreturn void usage(const char *what);

#endif
