/*
 * The connector thread: everything that blocks while a connection is made.
 *
 * Happy path: a loop queues a job with a copy of its input; the thread takes the first job, resolves
 * or connects, and posts the job to the loop; there the result moves into the operation, which is
 * finished.
 *
 * A job has its own memory, so its operation can go away at any moment (store_connector_forget):
 * a job that is then still queued, under way or lying in the loop's mailbox has lost its loop, and
 * whoever holds it next frees it and closes its connection.
 *
 * Failure modes: an attempt that fails gives the operation's error; the peer's text is dropped.
 * Thread: `run_on_connector_thread` and what it calls; everything else on the job's loop. The mutex
 * guards the lists and each job's `loop`. Ownership: jobs are the connector's.
 */
#include "connector.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "connector_forget.h"
#include "pg_connect.h"

struct job {
    struct sl_message message;
    struct store_connector *connector;
    struct job *next;
    struct sl_loop *loop;          /* NULL: forgotten */
    struct store_resolve *resolve; /* one of the two is set */
    struct store_dial *dial;
    char *input;
    char address[INET6_ADDRSTRLEN];
    PGconn *connection;
    int status;
};

struct store_connector {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct job *queue;     /* in order */
    struct job *under_way; /* at most one */
    struct job *posted;    /* on their way to a loop, in no order */
    bool stop;
};

static int queue_job(struct store_connector *connector, struct sl_loop *loop,
                     struct store_resolve *resolve, struct store_dial *dial, const char *input);
static void *run_on_connector_thread(void *argument);
static void resolve_on_connector_thread(struct job *job);
static void dial_on_connector_thread(struct job *job);
static void receive(struct sl_message *message);
static void unlink_job(struct job **list, struct job *job);
static void free_job(struct job *job);
static void free_list(struct job *list);

int store_connector_create(struct store_connector **ret_connector)
{
    struct store_connector *connector = calloc(1, sizeof(*connector));

    if (connector == NULL) {
        return SL_E_NO_MEMORY;
    }
    (void)pthread_mutex_init(&connector->mutex, NULL);
    (void)pthread_cond_init(&connector->changed, NULL);
    if (pthread_create(&connector->thread, NULL, run_on_connector_thread, connector) != 0) {
        (void)pthread_cond_destroy(&connector->changed);
        (void)pthread_mutex_destroy(&connector->mutex);
        free(connector);
        return SL_E_NO_MEMORY;
    }
    *ret_connector = connector;
    return 0;
}

int store_connector_resolve(struct store_connector *connector, struct sl_loop *loop,
                            struct store_resolve *resolve)
{
    int err = queue_job(connector, loop, resolve, NULL, resolve->host);

    if (err == 0) {
        sl_op_start(&resolve->op);
    }
    return err;
}

int store_connector_dial(struct store_connector *connector, struct sl_loop *loop,
                         struct store_dial *dial)
{
    int err = queue_job(connector, loop, NULL, dial, dial->conninfo);

    if (err == 0) {
        sl_op_start(&dial->op);
    }
    return err;
}

static int queue_job(struct store_connector *connector, struct sl_loop *loop,
                     struct store_resolve *resolve, struct store_dial *dial, const char *input)
{
    struct job *job = calloc(1, sizeof(*job));

    if (job == NULL) {
        return SL_E_NO_MEMORY;
    }
    job->input = strdup(input);
    if (job->input == NULL) {
        free(job);
        return SL_E_NO_MEMORY;
    }
    job->message.receive = receive;
    job->connector = connector;
    job->loop = loop;
    job->resolve = resolve;
    job->dial = dial;
    (void)pthread_mutex_lock(&connector->mutex);
    struct job **tail = &connector->queue;
    while (*tail != NULL) {
        tail = &(*tail)->next;
    }
    *tail = job;
    (void)pthread_cond_signal(&connector->changed);
    (void)pthread_mutex_unlock(&connector->mutex);
    return 0;
}

/* ---- the thread ---- */

static void *run_on_connector_thread(void *argument)
{
    struct store_connector *connector = argument;
    sigset_t signals;

    /* signals are the main thread's business */
    (void)sigfillset(&signals);
    (void)pthread_sigmask(SIG_SETMASK, &signals, NULL);
    (void)pthread_mutex_lock(&connector->mutex);
    for (;;) {
        while (connector->queue == NULL && !connector->stop) {
            (void)pthread_cond_wait(&connector->changed, &connector->mutex);
        }
        if (connector->stop) {
            break;
        }
        struct job *job = connector->queue;
        connector->queue = job->next;
        job->next = NULL;
        connector->under_way = job;
        bool is_dial = job->dial != NULL; /* the operation itself may be gone from here on */
        (void)pthread_mutex_unlock(&connector->mutex);

        if (is_dial) {
            dial_on_connector_thread(job);
        } else {
            resolve_on_connector_thread(job);
        }

        (void)pthread_mutex_lock(&connector->mutex);
        connector->under_way = NULL;
        if (job->loop == NULL) {
            free_job(job);
        } else {
            job->next = connector->posted;
            connector->posted = job;
            sl_loop_post(job->loop, &job->message);
        }
    }
    (void)pthread_mutex_unlock(&connector->mutex);
    return NULL;
}

static void resolve_on_connector_thread(struct job *job)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const void *address = NULL;

    job->status = SL_E_REDIS_UNAVAILABLE;
    if (getaddrinfo(job->input, NULL, &hints, &found) != 0) {
        return;
    }
    if (found->ai_family == AF_INET) {
        address = &((struct sockaddr_in *)(void *)found->ai_addr)->sin_addr;
    } else if (found->ai_family == AF_INET6) {
        address = &((struct sockaddr_in6 *)(void *)found->ai_addr)->sin6_addr;
    }
    if (address != NULL &&
        inet_ntop(found->ai_family, address, job->address, sizeof(job->address)) != NULL) {
        job->status = 0;
    }
    freeaddrinfo(found);
}

static void dial_on_connector_thread(struct job *job)
{
    job->connection = store_pg_connect(job->input);
    if (PQstatus(job->connection) == CONNECTION_OK) {
        return;
    }
    PQfinish(job->connection);
    job->connection = NULL;
    job->status = SL_E_DATABASE_UNAVAILABLE;
}

/* ---- back on the loop ---- */

static void receive(struct sl_message *message)
{
    struct job *job = SL_CONTAINER_OF(message, struct job, message);
    struct store_connector *connector = job->connector;

    (void)pthread_mutex_lock(&connector->mutex);
    unlink_job(&connector->posted, job);
    bool forgotten = job->loop == NULL;
    (void)pthread_mutex_unlock(&connector->mutex);
    if (forgotten) {
        free_job(job);
        return;
    }
    struct sl_op *op;
    int status = job->status;
    if (job->dial != NULL) {
        job->dial->connection = job->connection;
        job->dial->status = status;
        job->connection = NULL;
        op = &job->dial->op;
    } else {
        memcpy(job->resolve->address, job->address, sizeof(job->address));
        job->resolve->status = status;
        op = &job->resolve->op;
    }
    free_job(job);
    sl_op_finish(op, status);
}

/* ---- teardown ---- */

void store_connector_forget(struct store_connector *connector, struct sl_loop *loop)
{
    struct job *dropped = NULL;

    (void)pthread_mutex_lock(&connector->mutex);
    for (struct job **at = &connector->queue; *at != NULL;) {
        struct job *job = *at;
        if (job->loop == loop) {
            *at = job->next;
            job->next = dropped;
            dropped = job;
        } else {
            at = &job->next;
        }
    }
    if (connector->under_way != NULL && connector->under_way->loop == loop) {
        connector->under_way->loop = NULL;
    }
    for (struct job *job = connector->posted; job != NULL; job = job->next) {
        if (job->loop == loop) {
            job->loop = NULL;
        }
    }
    (void)pthread_mutex_unlock(&connector->mutex);
    free_list(dropped);
}

void store_connector_destroy(struct store_connector *connector)
{
    if (connector == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&connector->mutex);
    connector->stop = true;
    (void)pthread_cond_signal(&connector->changed);
    (void)pthread_mutex_unlock(&connector->mutex);
    (void)pthread_join(connector->thread, NULL);
    free_list(connector->queue);
    free_list(connector->posted);
    (void)pthread_cond_destroy(&connector->changed);
    (void)pthread_mutex_destroy(&connector->mutex);
    free(connector);
}

static void unlink_job(struct job **list, struct job *job)
{
    while (*list != job) {
        list = &(*list)->next;
    }
    *list = job->next;
    job->next = NULL;
}

static void free_list(struct job *list)
{
    while (list != NULL) {
        struct job *next = list->next;
        free_job(list);
        list = next;
    }
}

static void free_job(struct job *job)
{
    PQfinish(job->connection); /* NULL is accepted */
    free(job->input);
    free(job);
}
