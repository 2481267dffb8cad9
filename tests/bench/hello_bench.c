/*
 * bench-hello: the cost of the cheap checks of a HELLO (tp_hello_check, mode token), for each way
 * in which a HELLO can be wrong; and that of a genuine one, checked and answered.
 *
 *     bench-hello SECONDS      for each kind; prints one JSON object
 *
 * The figure is the calling thread's processor time, so other programs hardly matter. If a HELLO
 * has another result than its kind's, or a forged one led to a Diffie-Hellman operation, the
 * program ends with 1. One thread.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/handshake.h"

enum { variants = 64, mac_at = TP_HELLO_TOKEN - TP_HELLO_MAC, box_at = TP_HELLO_FIXED + 28 };

static tp_gateway_key gateway;
static tp_token_key ring[2]; /* the server's key, and one that it does not have */
static uint64_t now;
static uint8_t hellos[variants][TP_HELLO_TOKEN];

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "bench-hello: %s\n", what);
    exit(1);
}

static void draw_keys(void) {
    tp_key_pair pair;
    tp_key_pair other;
    if (tp_key_pair_generate(&pair) != TP_OK || tp_key_pair_generate(&other) != TP_OK ||
        tp_gateway_key_from_private(pair.private_key, &gateway) != TP_OK) {
        fail("no keys");
    }
    ring[0].id = 1;
    memcpy(ring[0].key, other.private_key, sizeof ring[0].key);
    ring[1].id = 2;
    memcpy(ring[1].key, other.public_key, sizeof ring[1].key);
    now = (uint64_t)time(NULL);
}

/* As a client with a token of the login service writes it. */
static void write_hello(const tp_token_key *key, uint64_t expiry, uint8_t *hello) {
    const tp_identity identity = {.size = sizeof identity, .account = 1};
    uint8_t token[TP_TOKEN_SIZE];
    uint8_t secret[TP_KEY_SIZE];
    uint8_t bytes[TP_HELLO_MAX];
    size_t size;
    tp_noise noise;
    const tp_client_hello options = {
        .size = sizeof options,
        .suite = TP_SUITE_AES_256_GCM,
        .server_public = gateway.pair.public_key,
        .token = token,
        .secret = secret,
    };
    if (tp_token_mint(key, expiry, gateway.pair.public_key, &identity, token, secret) != TP_OK ||
        tp_hello_write(&options, &noise, bytes, &size) != TP_OK || size != TP_HELLO_TOKEN) {
        fail("no HELLO");
    }
    memcpy(hello, bytes, size);
}

/* ---- the kinds ------------------------------------------------------------------------------- */

static void spoil_magic(uint8_t *hello) {
    hello[0] ^= 1;
}

static void spoil_box(uint8_t *hello) {
    hello[box_at] ^= 1;
}

static void spoil_mac(uint8_t *hello) {
    hello[mac_at] ^= 1;
}

static const struct kind {
    const char *name;
    tp_err judged;
    unsigned key; /* index into `ring` */
    bool too_old;
    bool answered; /* also answered, with the Diffie-Hellman operations */
    void (*spoil)(uint8_t *hello);
} kinds[] = {
    {"foreign", TP_ERR_PROTOCOL, 0, false, false, spoil_magic},
    {"expired", TP_ERR_EXPIRED, 0, true, false, NULL},
    {"unknown_key", TP_ERR_NO_KEY, 1, false, false, NULL},
    {"forged_box", TP_ERR_AUTH, 0, false, false, spoil_box},
    {"forged_mac", TP_ERR_AUTH, 0, false, false, spoil_mac},
    {"genuine", TP_OK, 0, false, false, NULL},
    {"genuine_answered", TP_OK, 0, false, true, NULL},
};

static uint64_t cpu_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void check_and_answer(const struct kind *kind, const uint8_t *hello) {
    tp_hello read;
    if (tp_hello_check(hello, TP_MODE_TOKEN, &gateway, ring, 1, now, &read) != kind->judged) {
        fail(kind->name);
    }
    if (kind->answered) {
        const tp_reply_terms terms = {.max_payload = 65536};
        uint8_t reply[TP_REPLY_WELCOME];
        tp_session_keys keys;
        if (tp_hello_answer(&read, &gateway, &terms, reply, &keys) != TP_OK) {
            fail(kind->name);
        }
    }
}

/* Nanoseconds per HELLO. */
static double measure(const struct kind *kind, double seconds) {
    for (unsigned i = 0; i < variants; i++) {
        write_hello(&ring[kind->key], kind->too_old ? now - 1 : now + 3600, hellos[i]);
        if (kind->spoil != NULL) {
            kind->spoil(hellos[i]);
        }
    }
    uint64_t computed = tp_noise_diffie_hellman_count();
    uint64_t begin = cpu_ns();
    uint64_t end = begin;
    uint64_t count = 0;
    while (end - begin < (uint64_t)(seconds * 1e9)) {
        for (unsigned i = 0; i < variants; i++) {
            check_and_answer(kind, hellos[i]);
        }
        count += variants;
        end = cpu_ns();
    }
    if (!kind->answered && tp_noise_diffie_hellman_count() != computed) {
        fail("a cheap check that computed Diffie-Hellman");
    }
    return (double)(end - begin) / (double)count;
}

int main(int argc, char **argv) {
    double seconds = argc == 2 ? strtod(argv[1], NULL) : 0;
    if (!(seconds > 0)) {
        fprintf(stderr, "usage: %s SECONDS\n", argv[0]);
        return 2;
    }
    draw_keys();
    printf("{");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        printf("%s\"%s\": %.1f", i > 0 ? ", " : "", kinds[i].name, measure(&kinds[i], seconds));
    }
    printf("}\n");
    return 0;
}
