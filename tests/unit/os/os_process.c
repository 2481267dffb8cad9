/* Tests of common/os/process.h. The cases about stopping run in the given order, because a request
 * is never taken back. */
#include "check.h"

#include "os/clock.h"
#include "os/process.h"
#include "os/thread.h"

static void the_process_has_a_number(void) {
    CHECK_NE(tp_process_id(), 0);
    CHECK_EQ(tp_process_id(), tp_process_id());
}

static void the_descriptor_limit_rises_once(void) {
    uint64_t limit = tp_process_raise_descriptor_limit();
    CHECK_GE(limit, 20);
    CHECK_EQ(tp_process_raise_descriptor_limit(), limit);
}

static void open_descriptors_are_counted(void) {
    enum { FILES = 5 };
    FILE *files[FILES];
    long before = tp_process_open_descriptors();
    if (before < 0) {
        SKIP("this system does not provide the number of open descriptors");
    }
    for (unsigned i = 0; i < FILES; i++) {
        files[i] = tmpfile();
        if (files[i] == NULL) {
            while (i > 0) {
                (void)fclose(files[--i]);
            }
            SKIP("no temporary file can be made here");
        }
    }
    CHECK_GE(tp_process_open_descriptors(), before + FILES);
    for (unsigned i = 0; i < FILES; i++) {
        (void)fclose(files[i]);
    }
    CHECK_LT(tp_process_open_descriptors(), before + FILES);
}

static void processor_time_grows_with_work(void) {
    uint64_t begin = tp_clock_ns();
    uint64_t used = tp_process_cpu_ns();
    volatile uint64_t work = 0;
    uint64_t now = used;
    /* 50 ms of work; on a busy machine that may take long. */
    while (now - used < UINT64_C(50000000) && tp_clock_ns() - begin < UINT64_C(60000000000)) {
        for (unsigned i = 0; i < 100000; i++) {
            work = work + i;
        }
        now = tp_process_cpu_ns();
        CHECK_GE(now, used);
    }
    CHECK_GE(now - used, UINT64_C(50000000));
    /* One thread uses no more than the time that has passed (plus a system's tick of 16 ms). */
    CHECK_LE(now - used, tp_clock_ns() - begin + UINT64_C(32000000));
}

static void waiting_for_a_stop_times_out(void) {
    REQUIRE(tp_process_catch_stop() == TP_OK);
    CHECK(!tp_process_wait_stop(0));
    uint64_t begin = tp_clock_ns();
    uint64_t used = tp_process_cpu_ns();
    CHECK(!tp_process_wait_stop(100));
    CHECK_GE(tp_clock_ns() - begin, UINT64_C(99000000));
    /* Waiting uses no processor time. */
    CHECK_LT(tp_process_cpu_ns() - used, UINT64_C(50000000));
}

static void wait_for_stop(void *argument) {
    CHECK(tp_process_wait_stop(-1));
    atomic_fetch_add((atomic_uint *)argument, 1);
}

static void a_request_reaches_every_wait_then_and_later(void) {
    enum { THREADS = 4 };
    tp_thread threads[THREADS];
    atomic_uint woken;
    atomic_init(&woken, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(tp_thread_start(&threads[i], "wait", wait_for_stop, &woken) == TP_OK);
    }
    CHECK_EQ(atomic_load(&woken), 0);
    tp_process_request_stop();
    for (unsigned i = 0; i < THREADS; i++) {
        tp_thread_join(&threads[i]);
    }
    CHECK(tp_process_wait_stop(0));
    CHECK(tp_process_wait_stop(10));
    CHECK(tp_process_wait_stop(-1));
    tp_process_request_stop();
    CHECK(tp_process_wait_stop(0));
}

CHECK_MAIN(CASE(the_process_has_a_number), CASE(the_descriptor_limit_rises_once),
    CASE(open_descriptors_are_counted), CASE(processor_time_grows_with_work),
    CASE(waiting_for_a_stop_times_out), CASE(a_request_reaches_every_wait_then_and_later))
