/*
 * A small file, read whole into memory, of which no copy is left there: for keys and files in the
 * same format. One thread.
 */
#ifndef TWINPORT_WANSERVER_FILES_TEXT_FILE_H
#define TWINPORT_WANSERVER_FILES_TEXT_FILE_H

#include <stddef.h>

#include "core/config/config_report.h"

typedef struct tp__text_file {
    char *text; /* `size` bytes are in use, of `capacity` */
    size_t size;
    size_t capacity;
} tp__text_file;

/* Reads a file. TP_ERR_NO_FILE, TP_ERR_TOO_LARGE (more than `most` bytes), TP_ERR_NO_MEMORY; each
 * with an error in `report`, and then there is nothing to free. */
tp_err tp__text_file_load(const char *path, size_t most, tp__text_file *file, tp__report *report);

/* Wipes and frees the text. */
void tp__text_file_free(tp__text_file *file);

#endif
