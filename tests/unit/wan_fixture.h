/*
 * The fixture of the WAN server's tests: that of server_fixture.h with a WAN server, its keys, and
 * logins for players. Limits per address and rates are off unless a test sets them.
 */
#ifndef TWINPORT_TESTS_WAN_FIXTURE_H
#define TWINPORT_TESTS_WAN_FIXTURE_H

#include "core/engine/server_state.h"
#include "core/memory/chunk.h"
#include "core/memory/memory.h"
#include "os/random.h"
#include "server_fixture.h"
#include "twinport/log.h"
#include "twinport/wanserver.h"
#include "wan_peer.h"

typedef struct wan_fixture {
    server_fixture base;          /* first: it is the server's context */
    tp_wanserver_options options; /* change before wan_fixture_open() */
    tp_key_pair key;
    tp_token_key ring[2];
} wan_fixture;

/* Live allocations without the chunks that packets are cut from: how many of those are in use
 * changes from moment to moment, and they stay. */
static inline uint64_t wan_live_but_chunks(void) {
    return tp__memory_live() - tp__chunk_count();
}

static inline void wan_fixture_init(wan_fixture *fixture, tp_auth auth) {
    server_fixture_init(&fixture->base);
    tp_wanserver_defaults(&fixture->options);
    REQUIRE(tp_key_pair_generate(&fixture->key) == TP_OK);
    for (unsigned i = 0; i < 2; i++) {
        fixture->ring[i].id = (uint8_t)(i + 1);
        tp_random_bytes(fixture->ring[i].key, TP_KEY_SIZE);
    }
    tp_wanserver_options *options = &fixture->options;
    options->server.workers = 1;
    options->server.context = &fixture->base;
    options->auth = auth;
    options->private_key = fixture->key.private_key;
    options->token_keys = fixture->ring;
    options->token_key_count = 2;
    options->handshake_timeout_ms = 600000;
    options->accept_rate = 0;
    options->connections_per_address = 0;
    options->message_rate = 0;
    options->byte_rate = 0;
}

static inline void wan_fixture_open(wan_fixture *fixture) {
    REQUIRE(tp_wanserver_create(
                &fixture->options, &fixture->base.handlers, &fixture->base.server) == TP_OK);
    REQUIRE(tp_server_start(fixture->base.server) == TP_OK);
}

static inline tp_wanserver_stats wan_stats(wan_fixture *fixture) {
    tp_wanserver_stats stats = {.size = sizeof stats};
    tp_wanserver_get_stats(fixture->base.server, &stats);
    return stats;
}

static inline void wan_fixture_close(wan_fixture *fixture) {
    tp_server_stop(fixture->base.server);
    CHECK_EQ(tp_server_wait(fixture->base.server, -1), TP_OK);
    CHECK_EQ(wan_stats(fixture).pending, 0);
    CHECK_EQ(atomic_load(&fixture->base.joins), atomic_load(&fixture->base.leaves));
    CHECK_EQ(tp_server_session_count(fixture->base.server), 0);
    tp_server_destroy(fixture->base.server);
}

/* The only pending connection, with a reference for the caller; NULL if there is none. */
static inline tp__session *wan_pending_one(wan_fixture *fixture) {
    tp_server *server = fixture->base.server;
    for (uint32_t index = 0; index < server->slots.count; index++) {
        uint64_t life = tp__life_read(&server->sessions[index].life);
        tp__session *session =
            tp__session_enter(server, (life & TP__LIFE_NUMBER) | index, TP__LIFE_CLOSING);
        if (session) {
            return session;
        }
    }
    return NULL;
}

/* A token for this account, valid for an hour. */
static inline wan_login wan_login_as(wan_fixture *fixture, tp_suite suite, uint64_t account) {
    wan_login login = {.suite = suite, .with_token = fixture->options.auth == TP_AUTH_TOKEN};
    memcpy(login.server_public, fixture->key.public_key, TP_KEY_SIZE);
    if (login.with_token) {
        tp_identity identity = {
            .size = sizeof identity, .account = account, .flags = (uint32_t)~account};
        memset(identity.user_data, (int)account, sizeof identity.user_data);
        REQUIRE(tp_token_mint(&fixture->ring[0], tp_clock_wall_ms() / 1000 + 3600,
                    fixture->key.public_key, &identity, login.token, login.secret) == TP_OK);
    }
    return login;
}

static inline wan_peer *wan_fixture_connect(wan_fixture *fixture, const wan_login *login) {
    tp_address address = tp_server_address(fixture->base.server);
    wan_peer *peer = wan_connect(&address, login);
    REQUIRE(peer != NULL);
    return peer;
}

static inline wan_peer *wan_fixture_join(wan_fixture *fixture, tp_suite suite, uint64_t account) {
    const wan_login login = wan_login_as(fixture, suite, account);
    tp_address address = tp_server_address(fixture->base.server);
    wan_peer *peer = wan_join(&address, &login);
    REQUIRE(peer != NULL);
    return peer;
}

/* Sends a message and receives it back. */
static inline void wan_check_echo(wan_peer *peer, const char *text) {
    char back[256];
    unsigned type = 99;
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, text, strlen(text)));
    CHECK_EQ(wan_receive_frame(peer, &type, back, sizeof back), strlen(text));
    CHECK_EQ(type, TP_FRAME_DATA);
    CHECK_MEM(back, text, strlen(text));
}

/* Whether a client with this login is admitted. If so it sends, receives its answer, and leaves. */
static inline bool wan_fixture_admits(wan_fixture *fixture, const wan_login *login) {
    tp_address address = tp_server_address(fixture->base.server);
    wan_peer *peer = wan_join(&address, login);
    if (!peer) {
        return false;
    }
    wan_check_echo(peer, "in");
    wan_leave(peer);
    return true;
}

#define WAN_SUITES                                                                                 \
    { TP_SUITE_AES_256_GCM, TP_SUITE_CHACHA20_POLY1305 }

#endif
