/*
 * Any text as an address and as a network: a text that is accepted is printed in a form that is
 * read as the same value.
 */
#include "fuzz.h"

#include <string.h>

#include "twinport/address.h"

static void check_address(const char *text) {
    tp_address first;
    tp_address second;
    char written[TP_ADDRESS_TEXT];
    char again[TP_ADDRESS_TEXT];
    if (tp_address_parse(text, &first) != TP_OK) {
        return;
    }
    REQUIRE(tp_address_parse(tp_address_format(&first, written), &second) == TP_OK);
    REQUIRE(tp_address_equal(&first, &second));
    REQUIRE(strcmp(tp_address_format(&second, again), written) == 0);
    second.port = 0;
    REQUIRE(tp_address_parse(tp_address_format_ip(&second, written), &first) == TP_OK);
    REQUIRE(tp_address_equal(&first, &second));
    (void)tp_address_is_private(&first);
    (void)tp_address_is_wildcard(&first);
}

static void check_network(const char *text) {
    tp_network network;
    if (tp_network_parse(text, &network) != TP_OK) {
        return;
    }
    REQUIRE(network.bits <= 128);
    tp_address address = {.port = 0};
    memcpy(address.ip, network.ip, sizeof address.ip);
    REQUIRE(tp_network_contains(&network, &address));
    if (network.bits > 0) {
        unsigned last = network.bits - 1u;
        address.ip[last / 8] = (uint8_t)(address.ip[last / 8] ^ 0x80u >> last % 8);
        REQUIRE(!tp_network_contains(&network, &address));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* Of exact size, so that the sanitizer reports a read behind it. */
    char *text = malloc(size + 1);
    REQUIRE(text != NULL);
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    check_address(text);
    check_network(text);
    free(text);
    return 0;
}
