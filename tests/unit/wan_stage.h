/*
 * The stage of the WAN server's tests: that of server_stage.h, with a WAN server on it, its keys,
 * and logins for players. Limits per address and rates are off unless a test sets them.
 */
#ifndef TWINPORT_TESTS_WAN_STAGE_H
#define TWINPORT_TESTS_WAN_STAGE_H

#include "core/engine/server_state.h"
#include "core/memory/chunk.h"
#include "core/memory/memory.h"
#include "os/random.h"
#include "server_stage.h"
#include "twinport/log.h"
#include "twinport/wanserver.h"
#include "wan_peer.h"

typedef struct wan_stage {
    server_stage base;            /* first: it is the server's context */
    tp_wanserver_options options; /* change before wan_stage_open() */
    tp_key_pair key;
    tp_token_key ring[2];
} wan_stage;

/* Allocations alive, but for the chunks that packets are cut from: how many of those are in use at
 * once differs from moment to moment, and they stay. */
static inline uint64_t wan_live_but_chunks(void) {
    return tp__memory_live() - tp__chunk_count();
}

static inline void wan_stage_init(wan_stage *stage, tp_auth auth) {
    server_stage_init(&stage->base);
    tp_wanserver_defaults(&stage->options);
    REQUIRE(tp_key_pair_generate(&stage->key) == TP_OK);
    for (unsigned i = 0; i < 2; i++) {
        stage->ring[i].id = (uint8_t)(i + 1);
        tp_random_bytes(stage->ring[i].key, TP_KEY_SIZE);
    }
    tp_wanserver_options *options = &stage->options;
    options->server.workers = 1;
    options->server.context = &stage->base;
    options->auth = auth;
    options->private_key = stage->key.private_key;
    options->token_keys = stage->ring;
    options->token_key_count = 2;
    options->handshake_timeout_ms = 600000;
    options->accept_rate = 0;
    options->connections_per_address = 0;
    options->message_rate = 0;
    options->byte_rate = 0;
}

static inline void wan_stage_open(wan_stage *stage) {
    REQUIRE(
        tp_wanserver_create(&stage->options, &stage->base.handlers, &stage->base.server) == TP_OK);
    REQUIRE(tp_server_start(stage->base.server) == TP_OK);
}

static inline tp_wanserver_stats wan_stats(wan_stage *stage) {
    tp_wanserver_stats stats = {.size = sizeof stats};
    tp_wanserver_get_stats(stage->base.server, &stats);
    return stats;
}

static inline void wan_stage_close(wan_stage *stage) {
    tp_server_stop(stage->base.server);
    CHECK_EQ(tp_server_wait(stage->base.server, -1), TP_OK);
    CHECK_EQ(wan_stats(stage).pending, 0);
    CHECK_EQ(atomic_load(&stage->base.joins), atomic_load(&stage->base.leaves));
    CHECK_EQ(tp_server_session_count(stage->base.server), 0);
    tp_server_destroy(stage->base.server);
}

/* The one connection that there is, held by the caller; NULL if there is none. */
static inline tp__session *wan_pending_one(wan_stage *stage) {
    tp_server *server = stage->base.server;
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
static inline wan_login wan_login_as(wan_stage *stage, tp_suite suite, uint64_t account) {
    wan_login login = {.suite = suite, .with_token = stage->options.auth == TP_AUTH_TOKEN};
    memcpy(login.server_public, stage->key.public_key, TP_KEY_SIZE);
    if (login.with_token) {
        tp_identity identity = {
            .size = sizeof identity, .account = account, .flags = (uint32_t)~account};
        memset(identity.user_data, (int)account, sizeof identity.user_data);
        REQUIRE(tp_token_mint(&stage->ring[0], tp_clock_wall_ms() / 1000 + 3600,
                    stage->key.public_key, &identity, login.token, login.secret) == TP_OK);
    }
    return login;
}

static inline wan_peer *wan_stage_connect(wan_stage *stage, const wan_login *login) {
    tp_address address = tp_server_address(stage->base.server);
    wan_peer *peer = wan_connect(&address, login);
    REQUIRE(peer != NULL);
    return peer;
}

static inline wan_peer *wan_stage_join(wan_stage *stage, tp_suite suite, uint64_t account) {
    const wan_login login = wan_login_as(stage, suite, account);
    tp_address address = tp_server_address(stage->base.server);
    wan_peer *peer = wan_join(&address, &login);
    REQUIRE(peer != NULL);
    return peer;
}

/* A message there and back. */
static inline void wan_check_echo(wan_peer *peer, const char *text) {
    char back[256];
    unsigned type = 99;
    CHECK(wan_send_frame(peer, TP_FRAME_DATA, text, strlen(text)));
    CHECK_EQ(wan_receive_frame(peer, &type, back, sizeof back), strlen(text));
    CHECK_EQ(type, TP_FRAME_DATA);
    CHECK_MEM(back, text, strlen(text));
}

/* Whether a client with this login is welcome; if so it is answered, and leaves again. */
static inline bool wan_stage_lets_in(wan_stage *stage, const wan_login *login) {
    tp_address address = tp_server_address(stage->base.server);
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
