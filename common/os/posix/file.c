/*
 * Files: who may read them, and whether they could be written. Any thread; owns nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/error.h"
#include "os/file.h"
#include "os/stream.h"

/* Writes the bytes to the disk. 0, or the system's error. */
static int write_through(int descriptor, const void *bytes, size_t size) {
    tp_stream file = {.handle = descriptor};
    if (tp_stream_write(&file, bytes, size, -1, NULL)) {
        return tp_os_error();
    }
    return fsync(descriptor) == 0 ? 0 : errno;
}

tp_err tp_file_create_private(const char *path, const void *bytes, size_t size) {
    /* Private from the beginning; with O_EXCL, open() follows no link either. */
    int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (descriptor < 0) {
        bool exists = errno == EEXIST;
        tp_err error = tp_os_fail_last();
        return exists ? TP_ERR_STATE : error;
    }
    /* In case the umask has removed the owner's rights. */
    int error = fchmod(descriptor, S_IRUSR | S_IWUSR) == 0 ? 0 : errno;
    error = error ? error : write_through(descriptor, bytes, size);
    if (close(descriptor) != 0 && error == 0) {
        error = errno;
    }
    if (error != 0) {
        (void)unlink(path);
        return tp_os_fail(error);
    }
    return TP_OK;
}

bool tp_file_is_shared(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0 && (facts.st_mode & (S_IRWXG | S_IRWXO)) != 0;
}

/* O_NONBLOCK: fails for a pipe without a reader, as tp_stream_open() does. */
static int open_to_append(const char *path) {
    return open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

tp_err tp_file_try_append(const char *path) {
    bool made = false;
    int descriptor = open_to_append(path);
    if (descriptor < 0 && errno == ENOENT) {
        descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
        made = descriptor >= 0;
    }
    if (descriptor < 0) {
        return tp_os_fail_last();
    }
    (void)close(descriptor); /* nothing was written, so nothing can be lost */
    if (made) {
        (void)unlink(path);
    }
    return TP_OK;
}

FILE *tp_file_open(const char *path) {
    return fopen(path, "rbe");
}
