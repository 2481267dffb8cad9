/*
 * Files: who may read them, and whether they could be written. Any thread; owns nothing.
 */
#include "os/file.h"

#include <fcntl.h>
#include <io.h>

#include "os/error.h"
#include "os/win32/system.h"

/* Writes the bytes to the disk. 0, or the system's error. */
static DWORD file_write_all(HANDLE file, const char *bytes, size_t size) {
    while (size > 0) {
        DWORD piece = size < (1u << 20) ? (DWORD)size : 1u << 20;
        DWORD written = 0;
        if (!WriteFile(file, bytes, piece, &written, NULL)) {
            return GetLastError();
        }
        bytes += written;
        size -= written;
    }
    return FlushFileBuffers(file) ? 0 : GetLastError();
}

tp_err tp_file_create_private(const char *path, const void *bytes, size_t size) {
    HANDLE file =
        CreateFileA(path, GENERIC_WRITE, 0, NULL, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE) {
        bool exists = GetLastError() == ERROR_FILE_EXISTS;
        tp_err error = tp_os_fail_last();
        return exists ? TP_ERR_STATE : error;
    }
    DWORD error = file_write_all(file, bytes, size);
    (void)CloseHandle(file);
    if (error != 0) {
        (void)DeleteFileA(path);
        return tp_os_fail((int)error);
    }
    return TP_OK;
}

bool tp_file_is_shared(const char *path) {
    (void)path;
    return false;
}

/* Other programs may have the file open at the same time, such as a running program its log. */
#define SHARE_ALL (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)

tp_err tp_file_try_append(const char *path) {
    HANDLE file = CreateFileA(
        path, FILE_APPEND_DATA, SHARE_ALL, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE && GetLastError() == ERROR_FILE_NOT_FOUND) {
        file = CreateFileA(path, FILE_APPEND_DATA | DELETE, SHARE_ALL, NULL, CREATE_NEW,
            FILE_ATTRIBUTE_NORMAL | FILE_FLAG_DELETE_ON_CLOSE, NULL);
    }
    if (file == INVALID_HANDLE_VALUE) {
        return tp_os_fail_last();
    }
    (void)CloseHandle(file);
    return TP_OK;
}

FILE *tp_file_open(const char *path) {
    int descriptor = _open(path, _O_RDONLY | _O_BINARY | _O_NOINHERIT);
    FILE *file = descriptor >= 0 ? _fdopen(descriptor, "rb") : NULL;
    if (descriptor >= 0 && file == NULL) {
        (void)_close(descriptor);
    }
    return file;
}
