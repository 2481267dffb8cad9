/*
 * The hub's table of services: lookup by name and hash, members, the choice of a member by key or
 * by turn, and readers that need no lock.
 */
#include "check.h"
#include "core/memory/memory.h"
#include "lanserver/bus/services.h"
#include "os/thread.h"

static tp__service *open_service(tp__services *services, const char *name, tp_bus_reason *why) {
    *why = TP_BUS_DELIVERED;
    return tp__services_open(services, name, strlen(name), why);
}

static void names_are_found_by_hash(void) {
    tp__services services;
    tp_bus_reason why;
    REQUIRE(tp__services_create(&services, 3) == TP_OK);
    tp__service *chat = open_service(&services, "chat", &why);
    REQUIRE(chat != NULL);
    CHECK(open_service(&services, "chat", &why) == chat);
    CHECK(tp__services_find(&services, tp_bus_service_hash("chat", 4)) == chat);
    CHECK(tp__services_find(&services, tp_bus_service_hash("db", 2)) == NULL);
    CHECK(open_service(&services, "costarring", &why) != NULL);
    /* "costarring" and "liquid" have the same hash */
    CHECK(open_service(&services, "liquid", &why) == NULL);
    CHECK_EQ(why, TP_BUS_NAME_COLLISION);
    CHECK(open_service(&services, "third", &why) != NULL);
    CHECK(open_service(&services, "fourth", &why) == NULL);
    CHECK_EQ(why, TP_BUS_HUB_FULL);
    CHECK(open_service(&services, "third", &why) != NULL);
    tp__services_destroy(&services);
}

static void searches_in_a_full_table_end(void) {
    tp__services services;
    tp_bus_reason why;
    REQUIRE(tp__services_create(&services, 1000) == TP_OK);
    char name[16];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "s%u", i);
        REQUIRE(open_service(&services, name, &why) != NULL);
    }
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "s%u", i);
        tp__service *found = tp__services_find(&services, tp_bus_service_hash(name, strlen(name)));
        CHECK((found != NULL) == (i < 1000));
    }
    tp__services_destroy(&services);
}

static void members_come_and_go(void) {
    tp__services services;
    tp_bus_reason why;
    REQUIRE(tp__services_create(&services, 1) == TP_OK);
    tp__service *service = open_service(&services, "db", &why);
    CHECK_EQ(tp__service_count(service), 0);
    for (uint32_t id = 1; id <= 100; id++) {
        CHECK(tp__service_add(service, tp__member_make(id, id * 7)));
    }
    tp__service_remove(service, 1000);
    CHECK_EQ(tp__service_count(service), 100);
    for (uint32_t id = 1; id <= 100; id += 2) {
        tp__service_remove(service, id);
    }
    CHECK_EQ(tp__service_count(service), 50);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 50; i++) {
        uint32_t id = tp__member_id(tp__service_member(service, i));
        CHECK_EQ(id % 2, 0);
        sum += id;
    }
    CHECK_EQ(sum, 2550);
    tp__services_destroy(&services);
}

enum { MEMBERS = 10, KEYS = 65536 };

static uint32_t chosen(const tp__service *service, unsigned key) {
    tp__rank rank;
    return tp__service_choose(service, (uint16_t)key, NULL, &rank);
}

static void keys_are_spread_and_only_a_lost_members_keys_move(void) {
    static uint32_t before[KEYS];
    tp__services services;
    tp_bus_reason why;
    REQUIRE(tp__services_create(&services, 1) == TP_OK);
    tp__service *service = open_service(&services, "db", &why);
    CHECK_EQ(chosen(service, 5), 0);
    unsigned share[MEMBERS + 1] = {0};
    for (uint32_t id = 1; id <= MEMBERS; id++) {
        char name[16];
        snprintf(name, sizeof name, "db-%u", (unsigned)id);
        tp__service_add(service, tp__member_make(id, tp_bus_service_hash(name, strlen(name))));
    }
    for (unsigned key = 0; key < KEYS; key++) {
        before[key] = chosen(service, key);
        REQUIRE(before[key] >= 1 && before[key] <= MEMBERS);
        share[before[key]]++;
    }
    for (unsigned id = 1; id <= MEMBERS; id++) {
        CHECK_GT(share[id], KEYS / MEMBERS * 9 / 10);
        CHECK_LT(share[id], KEYS / MEMBERS * 11 / 10);
    }
    tp__service_remove(service, 4);
    unsigned wrong = 0;
    for (unsigned key = 0; key < KEYS; key++) {
        uint32_t now = chosen(service, key);
        wrong += before[key] == 4 ? now == 4 : now != before[key];
    }
    CHECK_EQ(wrong, 0);
    /* The instance returns with another id and gets its keys back. */
    tp__service_add(service, tp__member_make(99, tp_bus_service_hash("db-4", 4)));
    wrong = 0;
    for (unsigned key = 0; key < KEYS; key++) {
        uint32_t now = chosen(service, key);
        wrong += now != (before[key] == 4 ? 99 : before[key]);
    }
    CHECK_EQ(wrong, 0);
    tp__services_destroy(&services);
}

static void repeated_choices_visit_every_member_once(void) {
    tp__services services;
    tp_bus_reason why;
    REQUIRE(tp__services_create(&services, 1) == TP_OK);
    tp__service *service = open_service(&services, "db", &why);
    for (uint32_t id = 1; id <= MEMBERS; id++) {
        tp__service_add(service, tp__member_make(id, id / 3)); /* some have the same name */
    }
    bool seen[MEMBERS + 1] = {false};
    tp__rank rank;
    tp__rank below;
    unsigned count = 0;
    uint32_t id = tp__service_choose(service, 7, NULL, &rank);
    while (id) {
        CHECK(!seen[id]);
        seen[id] = true;
        count++;
        below = rank;
        id = tp__service_choose(service, 7, &below, &rank);
    }
    CHECK_EQ(count, MEMBERS);
    tp__services_destroy(&services);
}

static void without_memory_the_table_stays_unchanged(void) {
    tp__services services;
    tp_bus_reason why;
    tp__memory_fail_after(1);
    CHECK_EQ(tp__services_create(&services, 4), TP_ERR_NO_MEMORY);
    REQUIRE(tp__services_create(&services, 4) == TP_OK);
    for (long n = 1; n <= 2; n++) {
        tp__memory_fail_after(n);
        CHECK(open_service(&services, "db", &why) == NULL);
        CHECK_EQ(why, TP_BUS_NO_MEMORY);
    }
    tp__service *service = open_service(&services, "db", &why);
    REQUIRE(service != NULL);
    for (uint32_t id = 1; id <= 4; id++) {
        CHECK(tp__service_add(service, tp__member_make(id, id)));
    }
    tp__memory_fail_after(1);
    CHECK(!tp__service_add(service, tp__member_make(5, 5)));
    CHECK_EQ(tp__service_count(service), 4);
    CHECK(tp__service_add(service, tp__member_make(5, 5)));
    tp__services_destroy(&services);
}

/* Threads choose members while others are added and removed: each member they get was one at some
 * time. */
static atomic_bool ended;

static void choose_until_ended(void *context) {
    tp__service *service = context;
    while (!atomic_load(&ended)) {
        tp__rank rank;
        uint32_t keyed = tp__service_choose(service, (uint16_t)rand(), NULL, &rank);
        CHECK_LE(keyed, 200);
        uint32_t count = tp__service_count(service);
        if (count > 0) {
            uint32_t id =
                tp__member_id(tp__service_member(service, tp__service_turn(service) % count));
            CHECK(id >= 1 && id <= 200);
        }
    }
}

static void members_may_be_chosen_while_others_change_them(void) {
    tp__services services;
    tp_bus_reason why;
    REQUIRE(tp__services_create(&services, 1) == TP_OK);
    tp__service *service = open_service(&services, "db", &why);
    tp_thread readers[2];
    atomic_store(&ended, false);
    for (unsigned i = 0; i < 2; i++) {
        REQUIRE(tp_thread_start(&readers[i], "reader", choose_until_ended, service) == TP_OK);
    }
    for (unsigned round = 0; round < 300; round++) {
        for (uint32_t id = 1; id <= 200; id++) {
            REQUIRE(tp__service_add(service, tp__member_make(id, id)));
        }
        for (uint32_t id = 1; id <= 200; id++) {
            tp__service_remove(service, id);
        }
    }
    atomic_store(&ended, true);
    for (unsigned i = 0; i < 2; i++) {
        tp_thread_join(&readers[i]);
    }
    CHECK_EQ(tp__service_count(service), 0);
    tp__services_destroy(&services);
}

CHECK_MAIN(CASE(names_are_found_by_hash), CASE(searches_in_a_full_table_end),
    CASE(members_come_and_go), CASE(keys_are_spread_and_only_a_lost_members_keys_move),
    CASE(repeated_choices_visit_every_member_once), CASE(without_memory_the_table_stays_unchanged),
    CASE(members_may_be_chosen_while_others_change_them))
