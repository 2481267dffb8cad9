/*
 * Reads a file that may contain secrets: without the C library's buffer, and wiped before it is
 * freed. One thread.
 */
#include "wanserver/files/text_file.h"

#include <assert.h>
#include <stdio.h>

#include "core/memory/memory.h"
#include "os/error.h"
#include "os/file.h"
#include "proto/suite.h"

static tp_err text_file_fail(tp__report *report, const char *path, const char *what, tp_err error) {
    tp_err why = tp_os_fail_last();
    tp__report_error(report, "%s: cannot be %s: %s (system code %d)", path, what, tp_err_text(why),
        tp_os_error());
    return error;
}

static tp_err text_file_read(
    FILE *stream, const char *path, size_t most, tp__text_file *file, tp__report *report) {
    file->size = fread(file->text, 1, file->capacity, stream);
    assert(file->size <= file->capacity && file->capacity == most + 1);
    if (ferror(stream)) {
        return text_file_fail(report, path, "read", TP_ERR_NO_FILE);
    }
    if (file->size > most) {
        tp__report_error(
            report, "%s: is too large: expected at most %u bytes", path, (unsigned)most);
        return TP_ERR_TOO_LARGE;
    }
    return TP_OK;
}

tp_err tp__text_file_load(const char *path, size_t most, tp__text_file *file, tp__report *report) {
    *file = (tp__text_file){.capacity = most + 1};
    FILE *stream = tp_file_open(path);
    if (stream == NULL) {
        return text_file_fail(report, path, "opened", TP_ERR_NO_FILE);
    }
    (void)setvbuf(stream, NULL, _IONBF, 0);
    tp_err error = TP_ERR_NO_MEMORY;
    file->text = tp__allocate(file->capacity);
    if (file->text == NULL) {
        tp__report_error(report, "%s: cannot be read: %s", path, tp_err_text(error));
    } else {
        error = text_file_read(stream, path, most, file, report);
    }
    (void)fclose(stream);
    if (error) {
        tp__text_file_free(file);
    }
    return error;
}

void tp__text_file_free(tp__text_file *file) {
    tp_secure_wipe(file->text, file->text != NULL ? file->capacity : 0);
    tp__free(file->text);
    *file = (tp__text_file){.text = NULL};
}
