/*
 * Loads a configuration file: reads all of it, up to a limit, and parses it. One thread, at start.
 * Its memory is freed before it returns.
 */
#include "core/config/config.h"

#include "core/config/config_report.h"
#include "core/memory/memory.h"
#include "os/error.h"
#include "os/file.h"

/* Reads up to `capacity` bytes. False: read error. */
static bool read_whole(FILE *file, char *text, size_t capacity, size_t *size) {
    *size = fread(text, 1, capacity, file);
    return ferror(file) == 0;
}

tp_err tp__config_load(const tp__setting *table, size_t count, const char *path, void *target,
    char *report, size_t report_size) {
    if (path[0] == '\0') {
        return tp__config_parse(table, count, path, "", 0, target, report, report_size);
    }
    tp__report wrong = tp__report_begin(report, report_size);
    FILE *file = tp_file_open(path);
    if (file == NULL) {
        tp_err why = tp_os_fail_last();
        tp__report_error(&wrong, "%s: cannot be opened: %s (system code %d)", path,
            tp_err_text(why), tp_os_error());
        return TP_ERR_NO_FILE;
    }
    size_t size = 0;
    tp_err error = TP_OK;
    char *text = tp__allocate(TP__CONFIG_MAX_FILE + 1);
    if (text == NULL) {
        error = TP_ERR_NO_MEMORY;
        tp__report_error(&wrong, "%s: cannot be read: %s", path, tp_err_text(error));
    } else if (!read_whole(file, text, TP__CONFIG_MAX_FILE + 1, &size)) {
        error = TP_ERR_NO_FILE;
        tp_err why = tp_os_fail_last();
        tp__report_error(&wrong, "%s: cannot be read: %s (system code %d)", path, tp_err_text(why),
            tp_os_error());
    } else if (size > TP__CONFIG_MAX_FILE) {
        error = TP_ERR_TOO_LARGE;
        tp__report_error(
            &wrong, "%s: is too large: expected at most %u bytes", path, TP__CONFIG_MAX_FILE);
    } else {
        error = tp__config_parse(table, count, path, text, size, target, report, report_size);
    }
    tp__free(text);
    (void)fclose(file);
    return error;
}
