/*
 * What the system says of the process, under the names that all Prometheus clients use.
 *
 * Asked at each scrape, of /proc, which blocks on nothing. What it does not say is left out: an alert on
 * a made-up number would be worse than none. Thread: any worker's.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "metrics_page.h"
#include "worker.h"

static uint64_t resident_bytes(void);
static uint64_t open_fds(void);
static uint64_t max_fds(void);

int gw_metrics_write_process(const struct gw_server *server, struct sl_buffer *page)
{
    const struct {
        const char *name, *help;
        uint64_t value; /* 0: not known */
    } rows[] = {
        {"process_resident_memory_bytes", "Resident memory.", resident_bytes()},
        {"process_open_fds", "Open file descriptors.", open_fds()},
        {"process_max_fds", "How many may be open.", max_fds()},
        {"process_start_time_seconds", "Unix time of the start.", server->started_unix_s},
    };
    int err = 0;

    for (size_t i = 0; err == 0 && i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].value == 0) {
            continue;
        }
        err = gw_metrics_write_head(page, rows[i].name, rows[i].help, "gauge");
        if (err == 0) {
            err = sl_buffer_appendf(page, "%s %" PRIu64 "\n", rows[i].name, rows[i].value);
        }
    }
    return err;
}

static uint64_t resident_bytes(void)
{
    char line[256] = "";
    FILE *file = fopen("/proc/self/statm", "re");

    if (file == NULL) {
        return 0;
    }
    char *all = fgets(line, sizeof(line), file);
    (void)fclose(file);
    char *resident =
        all != NULL ? strchr(all, ' ') : NULL; /* proc(5): the second number, in pages */
    return resident != NULL ? strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

/*
 * Linux 6.2 and newer says how many there are. Before, they have to be listed: milliseconds for 10,000, on a
 * loop that has other things to do, but at a scrape only. Besides `.` and `..` there is one name for each,
 * that of the folder itself included, which is left out.
 */
static uint64_t open_fds(void)
{
    struct stat about;
    uint64_t names = 0;

    if (stat("/proc/self/fd", &about) == 0 && about.st_size > 0) {
        return (uint64_t)about.st_size;
    }
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL) {
        return 0;
    }
    while (readdir(folder) != NULL) {
        names++;
    }
    (void)closedir(folder);
    return names > 3 ? names - 3 : 0;
}

static uint64_t max_fds(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}
