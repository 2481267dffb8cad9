/* Tests of common/os/error.h: the part that is the same on every system. */
#include "check.h"

#include "os/error.h"
#include "os/thread.h"

enum { UNKNOWN_CODE = 123456 };

static void success_is_success(void) {
    CHECK_EQ(tp_os_translate(0), TP_OK);
}

static void an_unknown_code_is_kept(void) {
    CHECK_EQ(tp_os_translate(UNKNOWN_CODE), TP_ERR_OS);
    CHECK_EQ(tp_os_fail(UNKNOWN_CODE), TP_ERR_OS);
    CHECK_EQ(tp_os_error(), UNKNOWN_CODE);
    CHECK_EQ(tp_os_fail(0), TP_OK);
    CHECK_EQ(tp_os_error(), 0);
}

static void fail_differently(void *argument) {
    (void)argument;
    CHECK_EQ(tp_os_error(), 0);
    (void)tp_os_fail(UNKNOWN_CODE + 1);
    CHECK_EQ(tp_os_error(), UNKNOWN_CODE + 1);
}

static void codes_belong_to_threads(void) {
    tp_thread thread;
    (void)tp_os_fail(UNKNOWN_CODE);
    REQUIRE(tp_thread_start(&thread, "fail", fail_differently, NULL) == TP_OK);
    tp_thread_join(&thread);
    CHECK_EQ(tp_os_error(), UNKNOWN_CODE);
}

CHECK_MAIN(CASE(success_is_success), CASE(an_unknown_code_is_kept), CASE(codes_belong_to_threads))
