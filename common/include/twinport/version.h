/*
 * The version of the headers and of the library.
 */
#ifndef TWINPORT_VERSION_H
#define TWINPORT_VERSION_H

#ifdef __cplusplus
extern "C" {
#endif

#define TP_VERSION_MAJOR 0
#define TP_VERSION_MINOR 1
#define TP_VERSION_PATCH 0
#define TP_VERSION_TEXT  "0.1.0"

/* The version of the linked library, "major.minor.patch". Any thread. */
const char *tp_version(void);

#ifdef __cplusplus
}
#endif
#endif
