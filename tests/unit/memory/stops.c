/*
 * Faults that must stop the process. Each case commits one. ctest expects the message and not
 * "still alive" (twinport_stops() in CMakeLists.txt).
 */
#include "check.h"

#include <signal.h>

#include "core/engine/references.h"
#include "core/memory/block.h"
#include "core/packet/packet_internal.h"
#include "os/thread.h"

/* ctest calls every end by a signal a failure, so the abort becomes an exit. */
static void exit_on_abort(int signal_number) {
    (void)signal_number;
    _Exit(3);
}

static void await_stop(void) {
    (void)signal(SIGABRT, exit_on_abort);
}

static tp_pool *make(const char *name) {
    tp_pool *pool = NULL;
    tp_pool_options options = {.size = sizeof options, .name = name, .block_size = 64};
    REQUIRE(tp_pool_create(&options, &pool) == TP_OK);
    return pool;
}

static void still_alive(void) {
    printf("still alive\n");
    fflush(stdout);
}

static void double_free(void) {
    await_stop();
    tp_pool *pool = make("first");
    void *block = tp_pool_allocate(pool);
    tp_pool_free(pool, block);
    tp_pool_free(pool, block);
    still_alive();
}

static void *shared_block;

static void free_shared(void *argument) {
    tp_pool_free(argument, shared_block);
}

static void double_free_on_two_threads(void) {
    await_stop();
    tp_pool *pool = make("first");
    tp_thread thread;
    shared_block = tp_pool_allocate(pool);
    REQUIRE(tp_thread_start(&thread, "test", free_shared, pool) == TP_OK);
    tp_thread_join(&thread);
    tp_pool_free(pool, shared_block);
    still_alive();
}

/* The result of two frees at the same instant: one block in two magazines. */
static void double_free_in_two_magazines(void) {
    await_stop();
    tp_pool *pool = make("first");
    void *block = tp_pool_allocate(pool);
    tp_pool_free(pool, block);
    tp__magazine *other = tp__depot_get_empty(pool);
    REQUIRE(other != NULL);
    tp__magazine_put(pool, other, block);
    (void)tp_pool_allocate(pool);
    still_alive();
}

static void free_to_another_pool(void) {
    await_stop();
    tp_pool *first = make("first");
    tp_pool *second = make("second");
    tp_pool_free(second, tp_pool_allocate(first));
    still_alive();
}

static void free_of_foreign_memory(void) {
    await_stop();
    static uint64_t foreign[16];
    tp_pool *pool = make("first");
    tp_pool_free(pool, (void *)(((uintptr_t)&foreign[4] + 15) & ~(uintptr_t)15));
    still_alive();
}

static void free_of_the_middle(void) {
    await_stop();
    tp_pool *pool = make("first");
    uint8_t *block = tp_pool_allocate(pool);
    tp_pool_free(pool, block + 8);
    still_alive();
}

static void overwritten_header(void) {
    await_stop();
    tp_pool *pool = make("first");
    uint8_t *block = tp_pool_allocate(pool);
    memset(block - 16, 0x41, 16);
    tp_pool_free(pool, block);
    still_alive();
}

static void destroy_in_use(void) {
    await_stop();
    tp_pool *pool = make("first");
    REQUIRE(tp_pool_allocate(pool) != NULL);
    REQUIRE(tp_pool_allocate(pool) != NULL);
    tp_pool_destroy(pool);
    still_alive();
}

static void release_of_a_dead_packet(void) {
    await_stop();
    tp_packet *keeps_the_chunk = tp_packet_new(64);
    tp_packet *packet = tp_packet_new(64);
    tp_packet *newest = tp_packet_new(64);
    REQUIRE(keeps_the_chunk != NULL && packet != NULL && newest != NULL);
    tp_packet_release(packet);
    tp_packet_release(packet);
    still_alive();
}

static void release_of_a_dead_large_packet(void) {
    await_stop();
    tp_packet *packet = tp_packet_new(100000);
    REQUIRE(packet != NULL);
    tp_packet_release(packet);
    tp_packet_release(packet);
    still_alive();
}

/* Detected by the address sanitizer, so ctest runs it only there. */
static void read_after_release(void) {
    await_stop();
    tp_packet *packet = tp_packet_copy_of("secret", 6);
    REQUIRE(packet != NULL);
    const volatile uint8_t *bytes = tp_packet_bytes(packet);
    tp_packet_release(packet);
    CHECK_EQ(bytes[0], 's');
    still_alive();
}

/* The following cases only with assertions. */

static void lock_and_end(void *mutex) {
    tp_mutex_lock(mutex);
}

static void a_mutex_that_another_thread_has(void) {
    await_stop();
    tp_mutex mutex;
    tp_thread thread;
    tp_mutex_init(&mutex);
    REQUIRE(tp_thread_start(&thread, "test", lock_and_end, &mutex) == TP_OK);
    tp_thread_join(&thread);
    TP_ASSERT_LOCKED(&mutex);
    still_alive();
}

/* Not before the thread locks it, and not after it has unlocked it. */
static void an_assertion_of_a_lock(void) {
    tp_mutex mutex;
    tp_mutex_init(&mutex);
    for (unsigned i = 0; i < 3; i++) {
        tp_mutex_lock(&mutex);
        TP_ASSERT_LOCKED(&mutex); /* an abort here would fail the test: it is not awaited yet */
        tp_mutex_unlock(&mutex);
    }
    await_stop();
    TP_ASSERT_LOCKED(&mutex);
    still_alive();
}

static void a_broken_invariant(void) {
    await_stop();
    tp_pool *pool = make("first");
    tp_pool_free(pool, tp_pool_allocate(pool));
    atomic_fetch_add(&pool->blocks, 1);
    (void)tp_pool_trim(pool);
    still_alive();
}

static void a_reference_given_back_as_another_kind(void) {
    await_stop();
    tp__references references = {{0}};
    tp__references_add(&references, TP__REFERENCE_CALL);
    tp__references_subtract(&references, TP__REFERENCE_FLUSH);
    still_alive();
}

static void a_second_reference_of_a_kind_that_has_one(void) {
    await_stop();
    tp__references references = {{0}};
    tp__references_add(&references, TP__REFERENCE_SOCKET);
    tp__references_add(&references, TP__REFERENCE_SOCKET);
    still_alive();
}

CHECK_MAIN(CASE(double_free), CASE(double_free_on_two_threads), CASE(double_free_in_two_magazines),
    CASE(free_to_another_pool), CASE(free_of_foreign_memory), CASE(free_of_the_middle),
    CASE(overwritten_header), CASE(destroy_in_use), CASE(release_of_a_dead_packet),
    CASE(release_of_a_dead_large_packet), CASE(read_after_release),
    CASE(a_mutex_that_another_thread_has), CASE(an_assertion_of_a_lock), CASE(a_broken_invariant),
    CASE(a_reference_given_back_as_another_kind), CASE(a_second_reference_of_a_kind_that_has_one))
