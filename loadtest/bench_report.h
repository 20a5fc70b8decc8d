/**
 * Results as a table for people and as JSON for scripts.
 *
 * Thread: main. Ownership: keeps nothing.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "bench_load.h"

/** Failed turns of all kinds. */
uint64_t bench_report_failures(const struct bench_results *results);

void bench_report_print(FILE *file, const struct bench_options *options,
                        const struct bench_results *results, double client_cpu_s);

/** Writes `path` by rename. 0, or -1 with a message on stderr. No message, no token goes in. */
int bench_report_write_json(const char *path, const struct bench_options *options,
                            const struct bench_results *results, double client_cpu_s);
