/*
 * Names and texts of the end reasons. Any thread.
 */
#include "os/compiler.h"
#include "twinport/session.h"

static const char *const names[] = {
#define TP_END_NAME(name, value, text) [value] = #name,
    TP_END_REASONS(TP_END_NAME)
#undef TP_END_NAME
};

static const char *const texts[] = {
#define TP_END_TEXT(name, value, text) [value] = text,
    TP_END_REASONS(TP_END_TEXT)
#undef TP_END_TEXT
};

static bool reason_is_known(tp_end_reason reason) {
    return (unsigned)reason < TP_COUNT_OF(names);
}

const char *tp_end_reason_name(tp_end_reason reason) {
    return reason_is_known(reason) ? names[reason] : "TP_END_UNKNOWN";
}

const char *tp_end_reason_text(tp_end_reason reason) {
    return reason_is_known(reason) ? texts[reason] : "unknown";
}
