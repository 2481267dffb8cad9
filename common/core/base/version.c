/*
 * The version that the library was compiled as. Any thread; constant.
 */
#include "twinport/version.h"

const char *tp_version(void) {
    return TP_VERSION_TEXT;
}
