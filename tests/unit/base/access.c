/*
 * Networks, access lists and the list of private networks: parsing, containment and the decision of
 * an access list, from tables of addresses.
 */
#include <string.h>

#include "check.h"
#include "twinport/address.h"

static tp_address address_of(const char *text) {
    tp_address address;
    if (tp_address_parse(text, &address) != TP_OK) {
        CHECK_STR("is not read", text);
        memset(&address, 0, sizeof address);
    }
    return address;
}

static tp_network network_of(const char *text) {
    tp_network network;
    if (tp_network_parse(text, &network) != TP_OK) {
        CHECK_STR("is not read", text);
        memset(&network, 0, sizeof network);
    }
    return network;
}

static const struct {
    const char *network;
    const char *inside;  /* NULL: the network contains every address */
    const char *outside; /* likewise */
} networks[] = {
    {"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
    {"10.0.0.0/8", "10.0.0.0", "9.255.255.255"},
    {"172.16.0.0/12", "172.31.255.255", "172.32.0.0"},
    {"192.168.1.0/25", "192.168.1.127", "192.168.1.128"},
    {"192.168.1.128/25", "192.168.1.128", "192.168.1.127"},
    {"192.0.2.7/32", "192.0.2.7", "192.0.2.6"},
    {"192.0.2.7", "192.0.2.7", "192.0.2.8"},
    {"192.0.2.6/31", "192.0.2.7", "192.0.2.8"},
    {"0.0.0.0/0", "255.255.255.255", "::1"},
    {"0.0.0.0/1", "127.255.255.255", "128.0.0.0"},
    {"::/0", "ffff::", NULL},
    {"::/0", "1.2.3.4", NULL},
    {"::1/128", "::1", "::2"},
    {"::1", "::1", "::"},
    {"2001:db8::/32", "2001:db8:ffff::", "2001:db9::"},
    {"fc00::/7", "fdff::", "fe00::"},
    {"fe80::/10", "febf::1%9", "fec0::"},
    {"::ffff:0:0/96", "1.2.3.4", "::fffe:1.2.3.4"},
    {"::ffff:10.0.0.0/104", "10.1.1.1", "11.0.0.0"},
};

static void a_network_contains_exactly_its_addresses(void) {
    for (size_t i = 0; i < sizeof networks / sizeof networks[0]; i++) {
        tp_network network = network_of(networks[i].network);
        tp_address inside = address_of(networks[i].inside);
        if (!tp_network_contains(&network, &inside)) {
            CHECK_STR(networks[i].network, networks[i].inside);
        }
        if (networks[i].outside != NULL) {
            tp_address outside = address_of(networks[i].outside);
            if (tp_network_contains(&network, &outside)) {
                CHECK_STR(networks[i].network, networks[i].outside);
            }
        }
    }
}

static void every_prefix_length_counts_every_bit(void) {
    tp_address address = address_of("a5a5:5a5a:a5a5:5a5a:a5a5:5a5a:a5a5:5a5a");
    for (unsigned bits = 0; bits <= 128; bits++) {
        tp_network network = {.bits = (uint8_t)bits};
        memcpy(network.ip, address.ip, bits / 8);
        if (bits % 8 != 0) {
            network.ip[bits / 8] = (uint8_t)(address.ip[bits / 8] & 0xff00u >> bits % 8);
        }
        CHECK(tp_network_contains(&network, &address));
        for (unsigned bit = 0; bit < 128; bit++) {
            tp_address other = address;
            other.ip[bit / 8] = (uint8_t)(other.ip[bit / 8] ^ 0x80u >> bit % 8);
            CHECK_EQ(tp_network_contains(&network, &other), bit >= bits);
        }
    }
}

static void bad_networks_are_refused(void) {
    static const char *const bad[] = {
        "",
        "/",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/08",
        "10.0.0.0/-1",
        "10.0.0.0/8 ",
        "10.0.0.0/8/8",
        "10.0.0.1/8",
        "10.0.0.1/31",
        "128.0.0.0/0",
        "10.0.0.0:80/8",
        "10.0.0/8",
        "::1/127",
        "::/129",
        "::/",
        "1::/1 ",
        "[::1]/128",
        "fe80::1%1/128",
        "fe80::/8",
        "::1%1",
        "::/1280",
        "any",
        "10.0.0.0/a",
        "::1/0",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        tp_network network;
        memset(&network, 0x5a, sizeof network);
        tp_network before = network;
        if (tp_network_parse(bad[i], &network) != TP_ERR_ADDRESS) {
            CHECK_STR("is read", bad[i]);
        }
        CHECK_MEM(&network, &before, sizeof network);
    }
    tp_network network;
    CHECK_EQ(tp_network_parse(NULL, &network), TP_ERR_ADDRESS);
    CHECK_EQ(tp_network_parse("::1", NULL), TP_ERR_ADDRESS);
}

static bool admits(const tp_access *access, const char *text) {
    tp_address address = address_of(text);
    return tp_access_admits(access, &address);
}

static void an_empty_list_admits_every_address(void) {
    tp_access access = {.size = sizeof access};
    CHECK(admits(&access, "8.8.8.8"));
    CHECK(admits(&access, "2001:db8::1"));
}

static void only_allowed_addresses_are_admitted(void) {
    tp_network allow[] = {network_of("10.0.0.0/8"), network_of("::1")};
    tp_access access = {.size = sizeof access, .allow = allow, .allow_count = 2};
    CHECK(admits(&access, "10.1.2.3:4000"));
    CHECK(admits(&access, "[::1]:4000"));
    CHECK(!admits(&access, "8.8.8.8"));
    CHECK(!admits(&access, "::2"));
}

static void a_denied_network_wins_over_an_allowed_one(void) {
    tp_network allow[] = {network_of("10.0.0.0/8")};
    tp_network deny[] = {network_of("10.6.0.0/16")};
    tp_access access = {
        .size = sizeof access, .allow = allow, .allow_count = 1, .deny = deny, .deny_count = 1};
    CHECK(admits(&access, "10.5.0.1"));
    CHECK(!admits(&access, "10.6.0.1"));
    CHECK(!admits(&access, "11.0.0.1"));
    access.allow_count = 0;
    CHECK(!admits(&access, "10.6.0.1"));
    CHECK(admits(&access, "11.0.0.1"));
}

static void private_and_public_addresses_are_distinguished(void) {
    static const char *const inside[] = {
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.9.9",
        "192.168.0.1",
        "169.254.1.1",
        "::1",
        "fd12::1",
        "fc00::1",
        "fe80::1%2",
        "::ffff:10.0.0.1",
    };
    static const char *const outside[] = {
        "0.0.0.0",
        "::",
        "8.8.8.8",
        "126.255.255.255",
        "128.0.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.167.1.1",
        "192.169.1.1",
        "169.253.1.1",
        "100.64.0.1",
        "::2",
        "::127.0.0.1",
        "2001:db8::1",
        "fec0::1",
        "ff02::1",
        "fe00::1",
        "224.0.0.1",
    };
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
        tp_address address = address_of(inside[i]);
        if (!tp_address_is_private(&address)) {
            CHECK_STR("is not private", inside[i]);
        }
    }
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        tp_address address = address_of(outside[i]);
        if (tp_address_is_private(&address)) {
            CHECK_STR("is private", outside[i]);
        }
    }
}

/* An address is 128 bits. A prefix length above that matches nothing, whatever bytes follow the
 * address in memory. */
static void a_prefix_longer_than_an_address_matches_nothing(void) {
    tp_address address = address_of("[::1]:128");
    tp_network network = {.bits = 128};
    memcpy(network.ip, address.ip, sizeof network.ip);
    CHECK(tp_network_contains(&network, &address));
    for (unsigned bits = 129; bits <= UINT8_MAX; bits++) {
        network.bits = (uint8_t)bits;
        address.port = (uint16_t)bits; /* the same bits that follow the network's address */
        CHECK(!tp_network_contains(&network, &address));
    }
}

static void the_private_networks_work_as_an_allow_list(void) {
    tp_access access = {.size = sizeof access};
    access.allow = tp_private_networks(&access.allow_count);
    CHECK_EQ(access.allow_count, 8);
    CHECK(admits(&access, "192.168.3.4:5"));
    CHECK(!admits(&access, "8.8.8.8:53"));
}

CHECK_MAIN(CASE(a_network_contains_exactly_its_addresses),
    CASE(every_prefix_length_counts_every_bit), CASE(bad_networks_are_refused),
    CASE(an_empty_list_admits_every_address), CASE(only_allowed_addresses_are_admitted),
    CASE(a_denied_network_wins_over_an_allowed_one),
    CASE(private_and_public_addresses_are_distinguished),
    CASE(a_prefix_longer_than_an_address_matches_nothing),
    CASE(the_private_networks_work_as_an_allow_list))
