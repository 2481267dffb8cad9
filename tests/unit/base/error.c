/* The list of errors, and the version's numbers and text. */
#include <string.h>

#include "check.h"
#include "twinport/error.h"
#include "twinport/version.h"

static const struct {
    tp_err error;
    const char *name;
} errors[] = {
#define ROW(name, value, text) {name, #name},
    TP_ERRORS(ROW)
#undef ROW
};

static void every_error_has_a_name_and_a_text(void) {
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        CHECK_STR(tp_err_name(errors[i].error), errors[i].name);
        const char *text = tp_err_text(errors[i].error);
        CHECK(strlen(text) > 3);
        CHECK(text[strlen(text) - 1] != '.');
    }
    CHECK_STR(tp_err_text(TP_ERR_FULL), "a limit is reached");
}

static void success_is_zero_and_values_are_unique(void) {
    CHECK_EQ(TP_OK, 0);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        for (size_t k = 0; k < i; k++) {
            CHECK_NE(errors[i].error, errors[k].error);
        }
    }
}

static void unknown_errors_have_a_text(void) {
    CHECK_STR(tp_err_name((tp_err)100), "TP_ERR_UNKNOWN");
    CHECK_STR(tp_err_text((tp_err)100), "an unknown error");
}

static void the_version_text_matches_its_numbers(void) {
    char text[32];
    (void)snprintf(
        text, sizeof text, "%d.%d.%d", TP_VERSION_MAJOR, TP_VERSION_MINOR, TP_VERSION_PATCH);
    CHECK_STR(tp_version(), text);
    CHECK_STR(TP_VERSION_TEXT, text);
}

CHECK_MAIN(CASE(every_error_has_a_name_and_a_text), CASE(success_is_zero_and_values_are_unique),
    CASE(unknown_errors_have_a_text), CASE(the_version_text_matches_its_numbers))
