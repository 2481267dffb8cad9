/*
 * Errors: one list, 0 is success.
 *
 * Every function that can fail returns a `tp_err`. If the operating system reported the failure,
 * its own code is kept as well: see tp_os_error().
 */
#ifndef TWINPORT_ERROR_H
#define TWINPORT_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* X(code name, value, text). Values are stable: they appear in logs and never change meaning. */
#define TP_ERRORS(X)                                                                               \
    X(TP_OK, 0, "success")                                                                         \
    X(TP_ERR_INVALID, 1, "an argument or option is out of range")                                  \
    X(TP_ERR_NO_MEMORY, 2, "memory could not be allocated")                                        \
    X(TP_ERR_TIMED_OUT, 3, "timed out")                                                            \
    X(TP_ERR_CANCELLED, 4, "cancelled before it could complete")                                   \
    X(TP_ERR_CLOSED, 5, "the peer has closed the connection")                                      \
    X(TP_ERR_RESET, 6, "the connection was reset")                                                 \
    X(TP_ERR_REFUSED, 7, "the connection was refused")                                             \
    X(TP_ERR_UNREACHABLE, 8, "the network or host cannot be reached")                              \
    X(TP_ERR_ADDRESS_IN_USE, 9, "the address and port are in use")                                 \
    X(TP_ERR_ADDRESS, 10, "the address is malformed or does not belong to this machine")           \
    X(TP_ERR_ACCESS, 11, "permission denied by the system")                                        \
    X(TP_ERR_NO_DESCRIPTORS, 12, "no file descriptors or handles are left")                        \
    X(TP_ERR_NO_BUFFERS, 13, "the system is out of buffers")                                       \
    X(TP_ERR_UNSUPPORTED, 14, "not supported by this system or back end")                          \
    X(TP_ERR_OS, 15, "the system reported an error")                                               \
    X(TP_ERR_NO_SESSION, 16, "no such session (stale or wrong id)")                                \
    X(TP_ERR_FULL, 17, "a limit is reached")                                                       \
    X(TP_ERR_TOO_LARGE, 18, "larger than the limit allows")                                        \
    X(TP_ERR_SEALED, 19, "the packet has been sent and cannot be changed")                         \
    X(TP_ERR_SHORT, 20, "the packet ends before the requested value")                              \
    X(TP_ERR_STATE, 21, "not possible in this state")                                              \
    X(TP_ERR_WRONG_THREAD, 22, "would wait for itself: called from a worker thread")               \
    X(TP_ERR_PROTOCOL, 23, "the peer broke the protocol")                                          \
    X(TP_ERR_CONFIG, 24, "the configuration is wrong")                                             \
    X(TP_ERR_PUBLIC_BIND, 25, "the address is public and allow_public_bind is not set")            \
    X(TP_ERR_NOT_CONNECTED, 26, "not connected")                                                   \
    X(TP_ERR_NO_ROUTE, 27, "no receiver to deliver to")                                            \
    X(TP_ERR_PEER_LOST, 28,                                                                        \
        "the peer was lost before it acknowledged the message, which may have been processed")     \
    X(TP_ERR_NO_FILE, 29, "the file cannot be opened")                                             \
    X(TP_ERR_AUTH, 30, "not authentic: forged, changed, or made for another receiver")             \
    X(TP_ERR_EXPIRED, 31, "expired")                                                               \
    X(TP_ERR_NO_KEY, 32, "no such key")                                                            \
    X(TP_ERR_KEY_LIMIT, 33, "the key has reached its limit of uses")                               \
    X(TP_ERR_CRYPTO, 34, "the cryptographic library reported an error")

typedef enum tp_err {
#define TP_ERROR_ENUM(name, value, text) name = value,
    TP_ERRORS(TP_ERROR_ENUM)
#undef TP_ERROR_ENUM
} tp_err;

/* The name of the code ("TP_ERR_FULL"). Any thread; an unknown value gives "TP_ERR_UNKNOWN". */
const char *tp_err_name(tp_err error);

/* A sentence without a full stop ("a limit is reached"). Any thread; never NULL. */
const char *tp_err_text(tp_err error);

/*
 * The operating system's code for the last tp_err that a call returned on this thread: errno on
 * Linux, GetLastError or WSAGetLastError on Windows; 0 if the system did not report that error.
 * Meaningful only directly after a call that failed.
 */
int tp_os_error(void);

#ifdef __cplusplus
}
#endif
#endif
