/*
 * Networks, access lists and the private ranges. Any thread; no state.
 *
 * IPv4 addresses are kept in their IPv6-mapped form, so an IPv4 network of n bits is an IPv6
 * network of 96 + n bits: "::/0" contains every address of both families, "0.0.0.0/0" every IPv4
 * address.
 */
#include "core/base/access.h"

#include <assert.h>
#include <string.h>

#include "os/compiler.h"

bool tp__network_is_valid(const tp_network *network) {
    return network->bits <= 8 * sizeof network->ip;
}

bool tp_network_contains(const tp_network *network, const tp_address *address) {
    if (!tp__network_is_valid(network)) {
        return false;
    }
    unsigned whole = network->bits / 8;
    unsigned rest = network->bits % 8;
    if (memcmp(network->ip, address->ip, whole) != 0) {
        return false;
    }
    if (rest == 0) {
        return true;
    }
    assert(whole < sizeof network->ip);
    unsigned mask = 0xff00u >> rest & 0xffu;
    return ((unsigned)network->ip[whole] & mask) == ((unsigned)address->ip[whole] & mask);
}

static bool access_any_contains(
    const tp_network *networks, size_t count, const tp_address *address) {
    for (size_t i = 0; i < count; i++) {
        if (tp_network_contains(&networks[i], address)) {
            return true;
        }
    }
    return false;
}

bool tp_access_admits(const tp_access *access, const tp_address *address) {
    if (access_any_contains(access->deny, access->deny_count, address)) {
        return false;
    }
    return access->allow_count == 0 ||
           access_any_contains(access->allow, access->allow_count, address);
}

/* clang-format off */
#define IPV4(a, b, bits) {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, (a), (b), 0, 0}, 96 + (bits)}
static const tp_network private_networks[] = {
    IPV4(127, 0, 8),                                            /* loopback */
    IPV4(10, 0, 8),                                             /* RFC 1918 */
    IPV4(172, 16, 12),
    IPV4(192, 168, 16),
    IPV4(169, 254, 16),                                         /* link-local, RFC 3927 */
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128},    /* loopback */
    {{0xfc}, 7},                                                /* unique local, RFC 4193 */
    {{0xfe, 0x80}, 10},                                         /* link-local, RFC 4291 */
};
/* clang-format on */

const tp_network *tp_private_networks(size_t *count) {
    *count = TP_COUNT_OF(private_networks);
    return private_networks;
}

bool tp_address_is_private(const tp_address *address) {
    return access_any_contains(private_networks, TP_COUNT_OF(private_networks), address);
}
