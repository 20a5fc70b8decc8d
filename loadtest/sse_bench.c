/*
 * sse_bench: a load generator for chat streams that checks every event it measures.
 *
 * Happy path: options -> run the load -> table on stdout, JSON in a file -> exit code.
 * How turns are started: bench_load.c. What is checked: bench_stream.c.
 * Failure: exit code 1 when a turn failed (or the run could not start), 2 for wrong options.
 * Thread: one. Ownership: main owns options and results.
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "bench_load.h"
#include "bench_report.h"

static const char USAGE[] =
    "usage: sse_bench [options]\n"
    "  --url http://HOST:PORT[/PATH]  the gateway (http://127.0.0.1:8080); PATH replaces the "
    "route\n"
    "  --direct          speak to a model server's /v1/chat/completions instead\n"
    "  --token JWT       bearer token; --token-file FILE: one per line, users take turns\n"
    "  --concurrency N   users, each with one connection (64; open loop 256)\n"
    "  --rate R          open loop: R turns per second at random times (default: closed loop)\n"
    "  --turns N         stop after N turns; --seconds S: after S seconds (10)\n"
    "  --message TEXT    what each user says\n"
    "  --session MODE    fixed: one session per user; new: a new one per turn (new)\n"
    "  --warmup N        turns of each user before the measurement (0)\n"
    "  --timeout S       per turn (60)\n"
    "  --abort-after K[,K...]  leave after K tokens, 0: after the head; every second time by RST\n"
    "  --json FILE       results for scripts\n"
    "  --seed N          of the arrival times (1)\n";

enum { TOKENS_MAX = 100 * 1000, TOKEN_MAX_BYTES = 16 * 1024 };

struct request {
    struct bench_options options;
    const char *token_file;
    const char *json;
};

static bool read_decimal(const char *text, double max, double *ret_number)
{
    char *end;
    errno = 0;
    double number = strtod(text, &end);
    if (*text == 0 || *end != 0 || errno != 0 || !(number >= 0 && number <= max)) {
        return false;
    }
    *ret_number = number;
    return true;
}

static bool read_whole(const char *text, double max, uint64_t *ret_number)
{
    double number;
    if (!read_decimal(text, max, &number)) {
        return false;
    }
    *ret_number = (uint64_t)number;
    return true;
}

/** "0,1,5": turn by turn the next one. */
static bool read_aborts(const char *list, struct bench_options *options)
{
    char *end;
    for (options->abort_count = 0; options->abort_count < BENCH_ABORTS_MAX; list = end + 1) {
        options->abort_after[options->abort_count++] = strtoull(list, &end, 10);
        if (!isdigit((unsigned char)*list) || (*end != ',' && *end != 0)) {
            return false;
        }
        if (*end == 0) {
            return true;
        }
    }
    return false;
}

static bool read_session(const char *text, bool *ret_fixed)
{
    *ret_fixed = strcmp(text, "fixed") == 0;
    return *ret_fixed || strcmp(text, "new") == 0;
}

static bool add_token(struct bench_options *options, const char *token)
{
    options->tokens = reallocarray(options->tokens, options->token_count + 1, sizeof(char *));
    if (options->tokens == NULL) {
        return false;
    }
    options->tokens[options->token_count] = strdup(token);
    return options->tokens[options->token_count++] != NULL;
}

static int read_token_file(struct bench_options *options, const char *path)
{
    static char line[TOKEN_MAX_BYTES];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    bool ok = true;
    while (ok && options->token_count < TOKENS_MAX && fgets(line, sizeof(line), file) != NULL) {
        size_t len = strcspn(line, " \t\r\n");
        line[len] = 0;
        ok = len == 0 || add_token(options, line);
    }
    fclose(file);
    if (!ok || options->token_count == 0) {
        fprintf(stderr, "%s: no token in it\n", path);
        return -1;
    }
    return 0;
}

/** http://host:port[/path] -> host, address, path. */
static int read_url(struct bench_options *options)
{
    static const char scheme[] = "http://";
    const char *host = options->url + strlen(scheme);
    if (strncmp(options->url, scheme, strlen(scheme)) != 0) {
        fprintf(stderr, "%s: only http:// is spoken\n", options->url);
        return -1;
    }
    size_t host_len = strcspn(host, "/");
    const char *path = host + host_len;
    if (host_len == 0 || host_len + 4 > sizeof(options->host) ||
        strlen(path) >= sizeof(options->path)) {
        fprintf(stderr, "%s: not a usable URL\n", options->url);
        return -1;
    }
    memcpy(options->host, host, host_len);
    options->host[host_len] = 0;
    const char *colon = strrchr(options->host, ':');
    if (colon == NULL || !isdigit((unsigned char)colon[1])) {
        strcat(options->host, ":80");
    }
    const char *route =
        options->protocol == BENCH_NATIVE ? "/api/v1/chat/message/stream" : "/v1/chat/completions";
    strcpy(options->path, path[0] != 0 && path[1] != 0 ? path : route);
    return lt_net_resolve(options->host, &options->address);
}

static bool read_option(int letter, struct request *request)
{
    struct bench_options *options = &request->options;
    uint64_t number;
    bool ok = true;
    switch (letter) {
    case 'u':
        options->url = optarg;
        break;
    case 'd':
        options->protocol = BENCH_DIRECT;
        break;
    case 't':
        ok = add_token(options, optarg);
        break;
    case 'f':
        request->token_file = optarg;
        break;
    case 'c':
        ok = read_whole(optarg, 1e6, &number) && number > 0;
        options->concurrency = ok ? (unsigned)number : 0;
        break;
    case 'r':
        ok = read_decimal(optarg, 1e6, &options->rate) && options->rate > 0;
        break;
    case 'n':
        ok = read_whole(optarg, 1e12, &options->turns) && options->turns > 0;
        break;
    case 's':
        ok = read_decimal(optarg, 1e6, &options->seconds) && options->seconds > 0;
        break;
    case 'm':
        options->message = optarg;
        break;
    case 'S':
        ok = read_session(optarg, &options->fixed_sessions);
        break;
    case 'w':
        ok = read_whole(optarg, 1e6, &number);
        options->warmup = ok ? (unsigned)number : 0;
        break;
    case 'T':
        ok = read_decimal(optarg, 1e6, &options->timeout_s) && options->timeout_s > 0;
        break;
    case 'a':
        ok = read_aborts(optarg, options);
        break;
    case 'j':
        request->json = optarg;
        break;
    case 'x':
        ok = read_whole(optarg, 1e15, &options->seed);
        break;
    case 'h':
        fputs(USAGE, stdout);
        exit(0);
    default:
        return false;
    }
    if (!ok) {
        fprintf(stderr, "sse_bench: wrong value '%s'\n", optarg);
    }
    return ok;
}

static int read_options(int argc, char **argv, struct request *request)
{
    static const struct option names[] = {
        {"url", required_argument, NULL, 'u'},
        {"direct", no_argument, NULL, 'd'},
        {"token", required_argument, NULL, 't'},
        {"token-file", required_argument, NULL, 'f'},
        {"rate", required_argument, NULL, 'r'},
        {"concurrency", required_argument, NULL, 'c'},
        {"turns", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 's'},
        {"message", required_argument, NULL, 'm'},
        {"session", required_argument, NULL, 'S'},
        {"warmup", required_argument, NULL, 'w'},
        {"timeout", required_argument, NULL, 'T'},
        {"json", required_argument, NULL, 'j'},
        {"seed", required_argument, NULL, 'x'},
        {"abort-after", required_argument, NULL, 'a'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct bench_options *options = &request->options;
    int letter;
    while ((letter = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (!read_option(letter, request)) {
            fputs(USAGE, stderr);
            return -1;
        }
    }
    if (optind != argc) {
        fputs(USAGE, stderr);
        return -1;
    }
    if (options->concurrency == 0) {
        options->concurrency = options->rate > 0 ? 256 : 64;
    }
    if (options->turns == 0 && options->seconds <= 0) {
        options->seconds = 10;
    }
    if (request->token_file != NULL && read_token_file(options, request->token_file) != 0) {
        return -1;
    }
    return read_url(options);
}

static double cpu_seconds(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) {
        return 0;
    }
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void free_tokens(struct bench_options *options)
{
    for (size_t i = 0; i < options->token_count; i++) {
        free(options->tokens[i]);
    }
    free(options->tokens);
}

int main(int argc, char **argv)
{
    static struct bench_results results;
    struct request request = {
        .options = {.url = "http://127.0.0.1:8080",
                    .message = "Please tell me something about rivers.",
                    .timeout_s = 60,
                    .seed = 1},
    };
    int code = 2;
    if (read_options(argc, argv, &request) == 0) {
        lt_net_raise_file_limit();
        (void)prctl(PR_SET_TIMERSLACK, 1UL); /* arrivals exact to the microsecond */
        code = 1;
        if (bench_load_run(&request.options, &results) == 0) {
            double cpu_s = cpu_seconds();
            bench_report_print(stdout, &request.options, &results, cpu_s);
            bool written =
                request.json == NULL ||
                bench_report_write_json(request.json, &request.options, &results, cpu_s) == 0;
            bool clean = bench_report_failures(&results) == 0 && results.warmup_failures == 0;
            code = written && clean ? 0 : 1;
        }
    }
    free_tokens(&request.options);
    return code;
}
