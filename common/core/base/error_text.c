/*
 * Names and texts of the errors, generated from the list in twinport/error.h. Any thread; constant.
 */
#include "twinport/error.h"

const char *tp_err_name(tp_err error) {
    switch (error) {
#define NAME_CASE(name, value, text)                                                               \
    case name:                                                                                     \
        return #name;
        TP_ERRORS(NAME_CASE)
#undef NAME_CASE
    }
    return "TP_ERR_UNKNOWN";
}

const char *tp_err_text(tp_err error) {
    switch (error) {
#define TEXT_CASE(name, value, text)                                                               \
    case name:                                                                                     \
        return text;
        TP_ERRORS(TEXT_CASE)
#undef TEXT_CASE
    }
    return "an unknown error";
}
