/*
 * SipHash-2-4: the hash of every table here whose keys come from strangers. Each table draws a seed
 * of its own; without knowing it, an attacker cannot choose keys that fall into one chain. Any
 * thread; no state.
 */
#ifndef TWINPORT_WANSERVER_GUARD_SIPHASH_H
#define TWINPORT_WANSERVER_GUARD_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct tp__hash_seed {
    uint64_t words[2];
} tp__hash_seed;

static inline uint64_t tp__hash_rotate(uint64_t x, unsigned bits) {
    return x << bits | x >> (64 - bits);
}

static inline void tp__hash_round(uint64_t v[4]) {
    v[0] += v[1];
    v[2] += v[3];
    v[1] = tp__hash_rotate(v[1], 13) ^ v[0];
    v[3] = tp__hash_rotate(v[3], 16) ^ v[2];
    v[0] = tp__hash_rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = tp__hash_rotate(v[1], 17) ^ v[2];
    v[3] = tp__hash_rotate(v[3], 21) ^ v[0];
    v[2] = tp__hash_rotate(v[2], 32);
}

/* Up to eight bytes as a little-endian number. */
static inline uint64_t tp__hash_word(const uint8_t *bytes, size_t count) {
    uint64_t word = 0;
    for (size_t i = 0; i < count; i++) {
        word |= (uint64_t)bytes[i] << 8 * i;
    }
    return word;
}

static inline uint64_t tp__hash(const tp__hash_seed *seed, const void *data, size_t size) {
    const uint8_t *bytes = data;
    uint64_t v[4] = {
        seed->words[0] ^ 0x736f6d6570736575U,
        seed->words[1] ^ 0x646f72616e646f6dU,
        seed->words[0] ^ 0x6c7967656e657261U,
        seed->words[1] ^ 0x7465646279746573U,
    };
    size_t rest = size % 8;
    for (size_t at = 0; at <= size; at += 8) {
        /* The last word has the size in its highest byte. */
        uint64_t word = at + 8 <= size ? tp__hash_word(bytes + at, 8)
                                       : tp__hash_word(bytes + at, rest) | (uint64_t)size << 56;
        v[3] ^= word;
        tp__hash_round(v);
        tp__hash_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (unsigned i = 0; i < 4; i++) {
        tp__hash_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The number of chains for a table of `entries` (1..2^31): the least power of two that is not below
 * it. */
static inline uint32_t tp__hash_chains(uint32_t entries) {
    uint32_t chains = 1;
    while (chains < entries) {
        chains *= 2;
    }
    return chains;
}

#endif
