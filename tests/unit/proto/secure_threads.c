/*
 * The cryptography under many threads: their first calls are at the same time, and logins use one
 * gateway's key. All logins succeed, and the count of Diffie-Hellman operations is exact.
 */
#include "os/thread.h"
#include "secure_fixture.h"

#define THREADS 6
#define LOGINS  20

static secure_fixture fixture;
static atomic_uint gathered;

/* No thread begins before all exist. */
static void gather(void) {
    atomic_fetch_add(&gathered, 1);
    while (atomic_load(&gathered) < THREADS) {
        tp_thread_yield();
    }
}

static void run_threads(void (*run)(void *)) {
    tp_thread threads[THREADS];
    atomic_store(&gathered, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "secure", run, NULL) == TP_OK);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
}

static void begin_the_library(void *argument) {
    tp_gateway_key gateway;
    (void)argument;
    gather();
    fixture_draw_gateway(&gateway); /* loads the algorithms, as any first call does */
    CHECK_EQ(tp_secure_init(), TP_OK);
}

/* The first case, before any other call. */
static void first_calls_may_be_at_the_same_time(void) {
    run_threads(begin_the_library);
}

static void log_in(tp_suite suite, tp_mode mode) {
    tp_noise noise;
    tp_session_keys keys;
    tp_reply reply;
    tp_record_direction sealing;
    tp_record_direction opening;
    uint8_t hello[TP_HELLO_MAX];
    uint8_t bytes[TP_REPLY_WELCOME];
    uint8_t record[TP_RECORD_OVERHEAD + 5] = {0, 0, 'R', 'E', 'A', 'D', 'Y'};
    fixture_hello(&fixture, suite, mode, &noise, hello);
    REQUIRE(fixture_serve(&fixture, mode, hello, bytes, &keys) == TP_OK);
    REQUIRE(tp_reply_read(&noise, bytes, sizeof bytes, &reply) == TP_OK);
    REQUIRE(tp_record_create_sealing(&sealing, suite, reply.keys.send) == TP_OK);
    REQUIRE(tp_record_create_opening(&opening, suite, keys.receive) == TP_OK);
    CHECK_EQ(tp_record_seal(&sealing, record, 5), TP_OK);
    CHECK_EQ(tp_record_open(&opening, record + 2, 5 + TP_SECRET_TAG, record + 2), TP_OK);
    CHECK_MEM(record + 2, "READY", 5);
    tp_record_destroy(&sealing);
    tp_record_destroy(&opening);
}

static void log_in_often(void *argument) {
    (void)argument;
    gather();
    for (unsigned i = 0; i < LOGINS; i++) {
        log_in(
            fixture_suites[i % FIXTURE_SUITES], fixture_modes[i / FIXTURE_SUITES % FIXTURE_MODES]);
    }
}

static void logins_may_be_at_the_same_time(void) {
    fixture_draw(&fixture);
    uint64_t before = tp_noise_diffie_hellman_count();
    run_threads(log_in_often);
    CHECK_EQ(tp_noise_diffie_hellman_count() - before, 4 * THREADS * LOGINS);
}

CHECK_MAIN(CASE(first_calls_may_be_at_the_same_time), CASE(logins_may_be_at_the_same_time))
