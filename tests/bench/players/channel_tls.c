/*
 * A channel over TLS 1.3. Reads ahead, so that a whole record costs one receive, as over the
 * others. Nothing is verified beyond the handshake itself.
 */
#define _GNU_SOURCE
#include "channel_socket.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>

enum { room = 16 * 1024 };

static SSL_CTX *context;

static _Noreturn void tls_fail(const char *what) {
    ERR_print_errors_fp(stderr);
    fail(what);
}

static void tls_prepare(void) {
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") != 1 ||
        SSL_CTX_set1_groups_list(context, "X25519") != 1) {
        tls_fail("no TLS");
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
}

/* True: all of it. False: not now. */
static bool succeeded(SSL *ssl, int result) {
    if (result == 1) {
        return true;
    }
    int error = SSL_get_error(ssl, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        tls_fail("no handshake");
    }
    return false;
}

static void tls_make(channel *c) {
    SSL *ssl = SSL_new(context);
    if (ssl == NULL || SSL_set_fd(ssl, c->fd) != 1) {
        tls_fail("no memory");
    }
    SSL_set_connect_state(ssl);
    c->secure = ssl;
}

static void tls_begin(channel *c) {
    SSL *ssl = c->secure;
    c->ready = succeeded(ssl, SSL_do_handshake(ssl)); /* complete if the server is that fast */
}

static bool tls_readable(channel *c, const channel_events *events) {
    static unsigned char bytes[room];
    SSL *ssl = c->secure;
    if (!c->ready) {
        if (!succeeded(ssl, SSL_do_handshake(ssl))) {
            return true;
        }
        c->ready = true;
        events->ready(c);
        if (SSL_has_pending(ssl) == 0) {
            return true;
        }
    }
    do {
        int received = SSL_read(ssl, bytes, sizeof bytes);
        if (received <= 0) {
            int error = SSL_get_error(ssl, received);
            ERR_clear_error();
            return error == SSL_ERROR_WANT_READ;
        }
        events->bytes(c, bytes, (size_t)received);
    } while (SSL_has_pending(ssl) != 0);
    return true;
}

static void tls_write(channel *c, const unsigned char *bytes, size_t size) {
    for (;;) {
        int sent = SSL_write(c->secure, bytes, (int)size);
        if (sent == (int)size) {
            return;
        }
        int error = SSL_get_error(c->secure, sent);
        ERR_clear_error();
        if (error != SSL_ERROR_WANT_WRITE) {
            return; /* the next read reports it */
        }
        socket_wait_for_room(c->fd);
    }
}

static void tls_end(channel *c) {
    SSL_free(c->secure);
    c->secure = NULL;
}

const channel_kind channel_tls = {
    .name = "tls",
    .prepare = tls_prepare,
    .make = tls_make,
    .begin = tls_begin,
    .readable = tls_readable,
    .write = tls_write,
    .end = tls_end,
};
