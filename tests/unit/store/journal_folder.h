/** Folders for the journals of one test program; all are removed when it exits. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

static char journal_folders[64]; /* the program's own folder */
static char journal_folder[96];  /* the newest in it */
static unsigned journal_folder_count;

static inline void journal_folders_remove(void)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", journal_folders);
    if (system(command) != 0) {
        (void)fprintf(stderr, "%s is left\n", journal_folders);
    }
}

/** A fresh one; the string is valid until the next call. */
static inline const char *journal_folder_make(void)
{
    if (journal_folder_count == 0) {
        (void)snprintf(journal_folders, sizeof(journal_folders), "/tmp/sluice-journals-XXXXXX");
        if (mkdtemp(journal_folders) == NULL || atexit(journal_folders_remove) != 0) {
            abort();
        }
    }
    (void)snprintf(journal_folder, sizeof(journal_folder), "%s/%u", journal_folders,
                   ++journal_folder_count);
    return journal_folder;
}
