/*
 * peer-tls: an echo over OpenSSL's TLS 1.3 on epoll, one thread, level-triggered.
 *
 *     peer-tls --port N --certificate FILE [--answer read|message] [--read-ahead yes|no]
 *         [--buffers keep|release]
 *
 * --answer read (default) writes back what one SSL_read returned, with one SSL_write, and never
 * looks at it: the least that a server over TLS can do. --answer message writes each frame with an
 * SSL_write of its own, as a server does whose application answers each message.
 *
 * Each of the other options reduces work, and the benchmark names the one it measures:
 *   --read-ahead yes   one receive fetches all there is, not first a header and then a record
 *   --buffers release  an idle connection has no buffers, which must be allocated again
 *
 * TLS 1.3 alone, AES-256-GCM, X25519; no tickets and no sessions: every handshake is a full one.
 * FILE has the certificate and its key, as PEM.
 *
 * A connection is identified by its descriptor. While it has unsent bytes it is watched for writing
 * only, so that at most one read's worth is kept.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { events_per_wait = 1024, bytes_per_read = 16 * 1024 };

/* Bytes that wait: to be written, or for the rest of their frame. */
struct rest {
    size_t at, size;
    unsigned char bytes[];
};

struct client {
    SSL *ssl;
    struct rest *unsent;
    struct rest *part; /* --answer message: an incomplete frame */
};

static struct client *clients; /* by descriptor */
static size_t descriptors;
static int queue;
static SSL_CTX *context;
static bool each_message;
static unsigned char bytes[peer_frame_header + peer_largest_payload + bytes_per_read];

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "peer-tls: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static int watch(int operation, int fd, uint32_t interest) {
    struct epoll_event event = {.events = interest, .data.fd = fd};
    return epoll_ctl(queue, operation, fd, &event);
}

static void drop(int fd) {
    struct client *client = &clients[fd];
    SSL_free(client->ssl);
    free(client->unsent);
    free(client->part);
    *client = (struct client){0};
    close(fd);
}

static struct rest *rest_of(const unsigned char *from, size_t size) {
    struct rest *rest = malloc(sizeof *rest + size);
    if (rest == NULL) {
        fail("no memory");
    }
    rest->at = 0;
    rest->size = size;
    memcpy(rest->bytes, from, size);
    return rest;
}

/* True: TLS has to wait for the socket. False: the connection has ended. Clears the thread's
 * errors. */
static bool has_to_wait(SSL *ssl, int result) {
    int error = SSL_get_error(ssl, result);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

/* True: written, or kept until the socket is writable. False: the connection has ended and is
 * closed. */
static bool answer(int fd, const unsigned char *from, size_t size) {
    struct client *client = &clients[fd];
    int sent = client->unsent == NULL ? SSL_write(client->ssl, from, (int)size) : 0;
    if (sent == (int)size) {
        return true;
    }
    if (client->unsent != NULL) { /* an earlier frame of the same read waits already */
        struct rest *waiting = client->unsent;
        waiting = realloc(waiting, sizeof *waiting + waiting->size + size);
        if (waiting == NULL) {
            fail("no memory");
        }
        memcpy(waiting->bytes + waiting->size, from, size);
        waiting->size += size;
        client->unsent = waiting;
        return true;
    }
    if (!has_to_wait(client->ssl, sent) || watch(EPOLL_CTL_MOD, fd, EPOLLOUT) != 0) {
        drop(fd);
        return false;
    }
    client->unsent = rest_of(from, size);
    return true;
}

static void send_unsent(int fd) {
    struct client *client = &clients[fd];
    struct rest *rest = client->unsent;
    int sent = SSL_write(client->ssl, rest->bytes + rest->at, (int)(rest->size - rest->at));
    if (sent <= 0) {
        if (!has_to_wait(client->ssl, sent)) {
            drop(fd);
        }
        return;
    }
    rest->at += (size_t)sent;
    if (rest->at == rest->size) {
        free(rest);
        client->unsent = NULL;
        if (watch(EPOLL_CTL_MOD, fd, EPOLLIN) != 0) {
            drop(fd);
        }
    }
}

/* Answers the whole frames among the `have` bytes at `bytes` and keeps the rest. */
static bool answer_messages(int fd, size_t have) {
    size_t at = 0;
    while (have - at >= peer_frame_header) {
        size_t size = peer_frame_size(bytes + at);
        if (size == 0) {
            drop(fd);
            return false;
        }
        if (have - at < size) {
            break;
        }
        if (!answer(fd, bytes + at, size)) {
            return false;
        }
        at += size;
    }
    if (have > at) {
        clients[fd].part = rest_of(bytes + at, have - at);
    }
    return true;
}

/* Copies what the last read has left to the front; returns its size. */
static size_t take_part(struct client *client) {
    struct rest *part = client->part;
    if (part == NULL) {
        return 0;
    }
    size_t size = part->size;
    memcpy(bytes, part->bytes, size);
    free(part);
    client->part = NULL;
    return size;
}

static void echo(int fd) {
    struct client *client = &clients[fd];
    do {
        size_t have = take_part(client);
        int received = SSL_read(client->ssl, bytes + have, bytes_per_read);
        if (received <= 0) {
            if (have > 0) {
                client->part = rest_of(bytes, have);
            }
            if (!has_to_wait(client->ssl, received)) {
                drop(fd);
            }
            return;
        }
        have += (size_t)received;
        if (each_message ? !answer_messages(fd, have) : !answer(fd, bytes, have)) {
            return;
        }
    } while (SSL_has_pending(client->ssl) != 0 && client->unsent == NULL);
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        SSL *ssl = (size_t)fd < descriptors ? SSL_new(context) : NULL;
        if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 || watch(EPOLL_CTL_ADD, fd, EPOLLIN) != 0) {
            fail("cannot take a connection");
        }
        SSL_set_accept_state(ssl); /* SSL_read does the handshake */
        clients[fd].ssl = ssl;
    }
}

static void prepare(const char *certificate, bool read_ahead, bool release) {
    context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") != 1 ||
        SSL_CTX_set1_groups_list(context, "X25519") != 1 ||
        SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, certificate, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set_num_tickets(context, 0) != 1) {
        fail("no TLS, or no certificate");
    }
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  (release ? SSL_MODE_RELEASE_BUFFERS : 0));
    SSL_CTX_set_read_ahead(context, read_ahead);
}

static uint16_t start(int argc, char **argv) {
    const char *certificate = NULL;
    bool read_ahead = true;
    bool release = false;
    char *basic[] = {argv[0], NULL, NULL, NULL};
    for (int i = 1; i + 1 < argc; i += 2) {
        char *value = argv[i + 1];
        if (strcmp(argv[i], "--certificate") == 0) {
            certificate = value;
        } else if (strcmp(argv[i], "--answer") == 0) {
            each_message = strcmp(value, "message") == 0;
        } else if (strcmp(argv[i], "--read-ahead") == 0) {
            read_ahead = strcmp(value, "yes") == 0;
        } else if (strcmp(argv[i], "--buffers") == 0) {
            release = strcmp(value, "release") == 0;
        } else {
            basic[1] = argv[i];
            basic[2] = value;
        }
    }
    uint16_t port = peer_start(basic[1] != NULL ? 3 : 1, basic);
    if (certificate == NULL) {
        fail("--certificate FILE is missing");
    }
    prepare(certificate, read_ahead, release);
    return port;
}

int main(int argc, char **argv) {
    uint16_t port = start(argc, argv);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 1;
    }
    descriptors = (size_t)limit.rlim_cur;
    clients = calloc(descriptors, sizeof *clients);
    queue = epoll_create1(EPOLL_CLOEXEC);
    if (clients == NULL || queue < 0) {
        fail("no memory or no epoll");
    }
    int listener = peer_listen(port);
    if (watch(EPOLL_CTL_ADD, listener, EPOLLIN) != 0) {
        fail("cannot watch");
    }
    static struct epoll_event events[events_per_wait];
    for (;;) {
        int count = epoll_wait(queue, events, events_per_wait, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(listener);
            } else if (clients[fd].unsent != NULL) {
                send_unsent(fd);
            } else {
                echo(fd);
            }
        }
    }
}
