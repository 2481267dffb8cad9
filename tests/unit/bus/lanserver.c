/* lanserver's options profile, and the rules for its address and for the networks that it
 * admits. */
#include "twinport/lanserver.h"
#include "check.h"
#include "twinport/log.h"

static const tp_handlers no_handlers = {.size = sizeof no_handlers};

static tp_err create_at(const char *address, bool allow_public_bind) {
    tp_server_options options;
    tp_lanserver_defaults(&options);
    options.workers = 1;
    options.allow_public_bind = allow_public_bind;
    REQUIRE(tp_address_parse(address, &options.address) == TP_OK);
    tp_server *server = (tp_server *)&options; /* must be set to NULL */
    tp_err error = tp_lanserver_create(&options, &no_handlers, &server);
    CHECK_EQ(error == TP_OK, server != NULL);
    CHECK(server != (tp_server *)&options);
    tp_server_destroy(server);
    return error;
}

static void the_defaults_are_those_of_a_lan(void) {
    tp_server_options options;
    tp_lanserver_defaults(&options);
    CHECK_EQ(options.size, sizeof options);
    CHECK(options.listen);
    CHECK(options.low_latency);
    CHECK(options.nodelay);
    CHECK(!options.allow_public_bind);
    CHECK_EQ(options.max_sessions, 1024);
    CHECK_EQ(options.max_frame, 1u << 20);
    CHECK_EQ(options.address.port, 0);
    CHECK(tp_address_is_private(&options.address));

    static const struct {
        const char *address;
        bool admitted;
    } peers[] = {{"127.0.0.1", true}, {"::1", true}, {"10.1.2.3", true}, {"192.168.0.9", true},
        {"172.31.0.1", true}, {"172.32.0.1", false}, {"8.8.8.8", false}, {"2001:db8::1", false}};
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++) {
        tp_address address;
        REQUIRE(tp_address_parse(peers[i].address, &address) == TP_OK);
        if (tp_access_admits(&options.access, &address) != peers[i].admitted) {
            FAIL(peers[i].address);
        }
    }
}

static void a_public_address_needs_permission(void) {
    tp_log_set_level(TP_LOG_OFF); /* each refusal is logged */
    static const char *const open[] = {"0.0.0.0:0", "[::]:0", "8.8.8.8:0", "[2001:db8::1]:0"};
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        CHECK_EQ(create_at(open[i], false), TP_ERR_PUBLIC_BIND);
        CHECK_EQ(create_at(open[i], true), TP_OK);
    }
    static const char *const inner[] = {"127.0.0.1:0", "[::1]:0", "10.0.0.1:0", "192.168.1.1:0"};
    for (size_t i = 0; i < sizeof inner / sizeof inner[0]; i++) {
        CHECK_EQ(create_at(inner[i], false), TP_OK);
    }
}

static void a_lanserver_must_listen(void) {
    tp_log_set_level(TP_LOG_OFF);
    tp_server_options options;
    tp_lanserver_defaults(&options);
    options.listen = false;
    tp_server *server = (tp_server *)&options;
    CHECK_EQ(tp_lanserver_create(&options, &no_handlers, &server), TP_ERR_INVALID);
    CHECK(server == NULL);
}

static void the_core_checks_the_other_options(void) {
    tp_log_set_level(TP_LOG_OFF);
    tp_server_options options;
    tp_lanserver_defaults(&options);
    options.max_sessions = 0;
    tp_server *server = (tp_server *)&options;
    CHECK_EQ(tp_lanserver_create(&options, &no_handlers, &server), TP_ERR_INVALID);
    CHECK(server == NULL);
}

CHECK_MAIN(CASE(the_defaults_are_those_of_a_lan), CASE(a_public_address_needs_permission),
    CASE(a_lanserver_must_listen), CASE(the_core_checks_the_other_options))
