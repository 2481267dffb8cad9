/* SipHash-2-4 against its authors' vectors, and the size of hash tables. */
#include "check.h"

#include "wanserver/guard/siphash.h"

/* Key and message are 00 01 02 ...; one result for each message length. */
static void the_hash_is_siphash_2_4(void) {
    static const struct {
        size_t size;
        uint64_t hash;
    } vectors[] = {
        {0, 0x726fdb47dd0e0e31U},
        {1, 0x74f839c593dc67fdU},
        {7, 0xab0200f58b01d137U},
        {8, 0x93f5f5799a932462U},
        {15, 0xa129ca6149be45e5U},
    };
    const tp__hash_seed seed = {{0x0706050403020100U, 0x0f0e0d0c0b0a0908U}};
    uint8_t message[16];
    for (uint8_t i = 0; i < sizeof message; i++) {
        message[i] = i;
    }
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        CHECK_EQ(tp__hash(&seed, message, vectors[i].size), vectors[i].hash);
    }
}

static void every_bit_of_key_seed_and_size_counts(void) {
    uint8_t key[17] = {0};
    tp__hash_seed seed = {{0, 0}};
    uint64_t hash = tp__hash(&seed, key, sizeof key);
    CHECK_NE(tp__hash(&seed, key, sizeof key - 1), hash);
    for (unsigned bit = 0; bit < sizeof key * 8; bit++) {
        key[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_NE(tp__hash(&seed, key, sizeof key), hash);
        key[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (unsigned bit = 0; bit < 128; bit++) {
        seed.words[bit / 64] ^= (uint64_t)1 << bit % 64;
        CHECK_NE(tp__hash(&seed, key, sizeof key), hash);
        seed.words[bit / 64] ^= (uint64_t)1 << bit % 64;
    }
    CHECK_EQ(tp__hash(&seed, key, sizeof key), hash);
}

static void tables_have_a_power_of_two_of_chains(void) {
    CHECK_EQ(tp__hash_chains(1), 1);
    CHECK_EQ(tp__hash_chains(2), 2);
    CHECK_EQ(tp__hash_chains(3), 4);
    CHECK_EQ(tp__hash_chains(65536), 65536);
    CHECK_EQ(tp__hash_chains(65537), 131072);
    CHECK_EQ(tp__hash_chains((uint32_t)1 << 31), (uint32_t)1 << 31);
}

CHECK_MAIN(CASE(the_hash_is_siphash_2_4), CASE(every_bit_of_key_seed_and_size_counts),
    CASE(tables_have_a_power_of_two_of_chains))
