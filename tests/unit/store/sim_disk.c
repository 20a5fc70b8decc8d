/*
 * A simulated disk.
 *
 * Happy path: a file has two contents, `now` (what reads see) and `durable`, and the list of writes
 * between them; the folder has two tables of names and the list of changes between them. A sync
 * plays the list. Failure modes: the planned ones. Thread, ownership: see the header.
 */
#include "sim_disk.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sluice/op.h"

enum { FILES = 1024, NAME = 64, SECTOR = 512, CHANGES = 4096 };

struct write_made {
    uint64_t offset;
    size_t len; /* 0: only the size changed */
    uint8_t *bytes;
    struct write_made *next;
};

struct content {
    uint8_t *bytes;
    size_t len;
};

struct file {
    struct content now, durable;
    struct write_made *first, **tail;
};

struct name {
    char text[NAME];
    int file; /* negative: no such name */
};

struct change {
    char from[NAME], to[NAME]; /* empty: none */
    int file;
};

struct sim_disk {
    pthread_mutex_t mutex;
    uint64_t seed, calls, fault_at, limit;
    enum sim_fault fault;
    bool from_there_on, crashed, locked;
    struct file files[FILES];
    int file_count;
    struct name now[FILES], durable[FILES];
    struct change changes[CHANGES];
    size_t change_count;
};

struct attachment {
    struct store_disk disk;
    struct sim_disk *sim;
    bool has_lock;
};

enum verdict { GO_ON, FAIL, HALF, THEN_CRASH };

static uint64_t next_random(struct sim_disk *sim)
{
    sim->seed += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = sim->seed;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* ---- names and contents ---- */

static struct name *find(struct name *table, const char *text)
{
    for (size_t i = 0; i < FILES; i++) {
        if (table[i].text[0] != '\0' && strcmp(table[i].text, text) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

static void set_name(struct name *table, const char *text, int file)
{
    struct name *at = find(table, text);

    for (size_t i = 0; at == NULL && i < FILES; i++) {
        at = table[i].text[0] == '\0' ? &table[i] : NULL;
    }
    if (at == NULL || strlen(text) >= NAME) {
        abort();
    }
    if (file < 0) {
        at->text[0] = '\0';
    } else {
        memcpy(at->text, text, strlen(text) + 1);
        at->file = file;
    }
}

static void play_change(struct name *table, const struct change *change)
{
    if (change->from[0] != '\0') {
        set_name(table, change->from, -1);
    }
    if (change->to[0] != '\0') {
        set_name(table, change->to, change->file);
    }
}

static void make_change(struct sim_disk *sim, const char *from, const char *to, int file)
{
    struct change *change = &sim->changes[sim->change_count];

    if (sim->change_count++ >= CHANGES) {
        abort();
    }
    *change = (struct change){.file = file};
    (void)snprintf(change->from, NAME, "%s", from);
    (void)snprintf(change->to, NAME, "%s", to);
    play_change(sim->now, change);
}

static void grow(struct content *content, size_t len)
{
    if (len > content->len) {
        content->bytes = realloc(content->bytes, len);
        if (content->bytes == NULL) {
            abort();
        }
        memset(content->bytes + content->len, 0, len - content->len);
        content->len = len;
    }
}

static void apply(struct content *content, const struct write_made *made)
{
    grow(content, made->offset + made->len);
    if (made->len > 0) {
        memcpy(content->bytes + made->offset, made->bytes, made->len);
    }
}

static void make_write(struct file *file, uint64_t offset, const void *bytes, size_t len)
{
    struct write_made *made = calloc(1, sizeof(*made));

    if (made == NULL || (len > 0 && (made->bytes = malloc(len)) == NULL)) {
        abort();
    }
    made->offset = offset;
    made->len = len;
    if (len > 0) {
        memcpy(made->bytes, bytes, len);
    }
    *file->tail = made;
    file->tail = &made->next;
    apply(&file->now, made);
}

/* the first `count` unsynced writes get to the disk (if `keep`) and are forgotten */
static void settle(struct file *file, size_t count, bool keep)
{
    while (file->first != NULL && count-- > 0) {
        struct write_made *made = file->first;
        if (keep) {
            apply(&file->durable, made);
        }
        file->first = made->next;
        free(made->bytes);
        free(made);
    }
    if (file->first == NULL) {
        file->tail = &file->first;
    }
}

static size_t unsettled(const struct file *file)
{
    size_t count = 0;

    for (const struct write_made *made = file->first; made != NULL; made = made->next) {
        count++;
    }
    return count;
}

static uint64_t used(struct sim_disk *sim)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < FILES; i++) {
        if (sim->now[i].text[0] != '\0') {
            bytes += sim->files[sim->now[i].file].now.len;
        }
    }
    return bytes;
}

/* ---- what a call is to do ---- */

static enum verdict begin(struct sim_disk *sim, bool needs_space, int *err)
{
    (void)pthread_mutex_lock(&sim->mutex);
    uint64_t call = ++sim->calls;
    bool hit = sim->fault != SIM_FAULT_NONE &&
               (call == sim->fault_at || (sim->from_there_on && call > sim->fault_at));

    *err = -EIO;
    if (sim->crashed) {
        return FAIL;
    }
    if (!hit || sim->fault == SIM_FAULT_SHORT_WRITE) {
        return hit ? HALF : GO_ON;
    }
    if (sim->fault == SIM_FAULT_EIO) {
        return FAIL;
    }
    if (sim->fault == SIM_FAULT_ENOSPC) {
        *err = -ENOSPC;
        return needs_space ? FAIL : GO_ON;
    }
    sim->crashed = sim->fault != SIM_FAULT_CRASH_AFTER;
    return sim->fault == SIM_FAULT_CRASH_BEFORE   ? FAIL
           : sim->fault == SIM_FAULT_CRASH_MIDDLE ? HALF
                                                  : THEN_CRASH;
}

static int end(struct sim_disk *sim, enum verdict verdict, int result)
{
    if (verdict == THEN_CRASH) {
        sim->crashed = true;
    }
    if (sim->crashed && (verdict == HALF || verdict == THEN_CRASH)) {
        result = -EIO; /* nobody is there any more to see it */
    }
    (void)pthread_mutex_unlock(&sim->mutex);
    return result;
}

static struct sim_disk *sim_of(struct store_disk *disk)
{
    return SL_CONTAINER_OF(disk, struct attachment, disk)->sim;
}

/* ---- the calls ---- */

static int sim_open(struct store_disk *disk, const char *name, enum store_disk_mode mode)
{
    struct sim_disk *sim = sim_of(disk);
    int result;
    enum verdict verdict = begin(sim, mode == STORE_DISK_CREATE, &result);

    if (verdict != FAIL) {
        struct name *there = find(sim->now, name);
        if (mode != STORE_DISK_CREATE) {
            result = there != NULL ? there->file : -ENOENT;
        } else if (there != NULL) {
            result = -EEXIST;
        } else {
            result = sim->file_count++;
            if (result >= FILES) {
                abort();
            }
            sim->files[result].tail = &sim->files[result].first;
            make_change(sim, "", name, result);
        }
    }
    return end(sim, verdict, result);
}

static void sim_close(struct store_disk *disk, int handle)
{
    (void)disk;
    (void)handle; /* closing syncs nothing */
}

static ssize_t sim_read(struct store_disk *disk, int handle, void *to, size_t len, uint64_t offset)
{
    struct sim_disk *sim = sim_of(disk);
    int result;
    enum verdict verdict = begin(sim, false, &result);

    if (verdict != FAIL) {
        const struct content *now = &sim->files[handle].now;
        size_t left = offset < now->len ? now->len - (size_t)offset : 0;
        len = len < left ? len : left;
        if (len > 0) {
            memcpy(to, now->bytes + offset, len);
        }
        result = (int)len;
    }
    return end(sim, verdict, result);
}

static ssize_t sim_write(struct store_disk *disk, int handle, const void *from, size_t len,
                         uint64_t offset)
{
    struct sim_disk *sim = sim_of(disk);
    int result;
    enum verdict verdict = begin(sim, true, &result);
    struct file *file = &sim->files[handle];

    if (verdict != FAIL) {
        if (verdict == HALF) {
            len = len > 1 ? len / 2 : len;
        }
        uint64_t more = offset + len > file->now.len ? offset + len - file->now.len : 0;
        if (sim->limit != 0 && more > 0 && used(sim) + more > sim->limit) {
            result = -ENOSPC;
        } else {
            make_write(file, offset, from, len);
            result = (int)len;
        }
    }
    return end(sim, verdict, result);
}

static int sim_preallocate(struct store_disk *disk, int handle, uint64_t size)
{
    struct sim_disk *sim = sim_of(disk);
    int result;
    enum verdict verdict = begin(sim, true, &result);
    struct file *file = &sim->files[handle];

    if (verdict != FAIL) {
        uint64_t want = verdict == HALF && sim->crashed ? size / 2 : size;
        uint64_t more = want > file->now.len ? want - file->now.len : 0;
        if (sim->limit != 0 && used(sim) + more > sim->limit) {
            result = -ENOSPC;
        } else {
            if (more > 0) {
                make_write(file, want, NULL, 0);
            }
            result = 0;
        }
    }
    return end(sim, verdict, result);
}

static int sim_sync(struct store_disk *disk, int handle)
{
    struct sim_disk *sim = sim_of(disk);
    int result;
    enum verdict verdict = begin(sim, true, &result);
    struct file *file = &sim->files[handle];

    if (verdict == FAIL && !sim->crashed) {
        settle(file, SIZE_MAX, false); /* clean, and never on the disk */
    } else if (verdict != FAIL) {
        settle(file, verdict == HALF && sim->crashed ? unsettled(file) / 2 : SIZE_MAX, true);
        result = 0;
    }
    return end(sim, verdict, result);
}

static int sim_sync_folder(struct store_disk *disk)
{
    struct sim_disk *sim = sim_of(disk);
    int result;
    enum verdict verdict = begin(sim, false, &result);

    if (verdict != FAIL) {
        size_t count = verdict == HALF && sim->crashed ? sim->change_count / 2 : sim->change_count;
        for (size_t i = 0; i < count; i++) {
            play_change(sim->durable, &sim->changes[i]);
        }
        sim->change_count -= count;
        memmove(sim->changes, sim->changes + count, sim->change_count * sizeof(sim->changes[0]));
        result = 0;
    }
    return end(sim, verdict, result);
}

static int sim_rename(struct store_disk *disk, const char *from, const char *to)
{
    struct sim_disk *sim = sim_of(disk);
    int result;
    enum verdict verdict = begin(sim, false, &result);

    if (verdict != FAIL) {
        struct name *there = find(sim->now, from);
        result = there != NULL ? 0 : -ENOENT;
        if (there != NULL) {
            make_change(sim, from, to, there->file);
        }
    }
    return end(sim, verdict, result);
}

static int sim_unlink(struct store_disk *disk, const char *name)
{
    struct sim_disk *sim = sim_of(disk);
    int result;
    enum verdict verdict = begin(sim, false, &result);

    if (verdict != FAIL) {
        result = find(sim->now, name) != NULL ? 0 : -ENOENT;
        if (result == 0) {
            make_change(sim, name, "", -1);
        }
    }
    return end(sim, verdict, result);
}

static int sim_stat(struct store_disk *disk, const char *name, uint64_t *ret_size,
                    int64_t *ret_changed_unix_s)
{
    struct sim_disk *sim = sim_of(disk);
    int result;
    enum verdict verdict = begin(sim, false, &result);

    if (verdict != FAIL) {
        struct name *there = find(sim->now, name);
        result = there != NULL ? 0 : -ENOENT;
        if (there != NULL) {
            *ret_size = sim->files[there->file].now.len;
            *ret_changed_unix_s = INT64_C(4000000000); /* always just now */
        }
    }
    return end(sim, verdict, result);
}

static int sim_list(struct store_disk *disk, void (*each)(void *context, const char *name),
                    void *context)
{
    struct sim_disk *sim = sim_of(disk);
    int result;
    enum verdict verdict = begin(sim, false, &result);

    for (size_t i = 0; verdict != FAIL && i < FILES; i++) {
        if (sim->now[i].text[0] != '\0') {
            each(context, sim->now[i].text);
        }
        result = 0;
    }
    return end(sim, verdict, result);
}

static int sim_lock(struct store_disk *disk)
{
    struct attachment *attachment = SL_CONTAINER_OF(disk, struct attachment, disk);
    struct sim_disk *sim = attachment->sim;
    int result;
    enum verdict verdict = begin(sim, false, &result);

    if (verdict != FAIL) {
        result = sim->locked ? -EWOULDBLOCK : 0;
        attachment->has_lock = result == 0;
        sim->locked = true;
    }
    return end(sim, verdict, result);
}

static void sim_detach(struct store_disk *disk)
{
    struct attachment *attachment = SL_CONTAINER_OF(disk, struct attachment, disk);

    (void)pthread_mutex_lock(&attachment->sim->mutex);
    if (attachment->has_lock) {
        attachment->sim->locked = false;
    }
    (void)pthread_mutex_unlock(&attachment->sim->mutex);
    free(attachment);
}

static const struct store_disk_ops sim_ops = {
    .open = sim_open,
    .close = sim_close,
    .read = sim_read,
    .write = sim_write,
    .preallocate = sim_preallocate,
    .sync = sim_sync,
    .sync_folder = sim_sync_folder,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .stat = sim_stat,
    .list = sim_list,
    .lock = sim_lock,
    .destroy = sim_detach,
};

/* ---- for the test ---- */

struct sim_disk *sim_disk_create(uint64_t seed)
{
    struct sim_disk *sim = calloc(1, sizeof(*sim));

    if (sim == NULL) {
        abort();
    }
    sim->seed = seed;
    (void)pthread_mutex_init(&sim->mutex, NULL);
    return sim;
}

struct store_disk *sim_disk_attach(struct sim_disk *sim)
{
    struct attachment *attachment = calloc(1, sizeof(*attachment));

    if (attachment == NULL) {
        abort();
    }
    attachment->disk.ops = &sim_ops;
    attachment->sim = sim;
    return &attachment->disk;
}

void sim_disk_plan(struct sim_disk *sim, enum sim_fault fault, uint64_t call, bool from_there_on)
{
    (void)pthread_mutex_lock(&sim->mutex);
    sim->fault = fault;
    sim->fault_at = call;
    sim->from_there_on = from_there_on;
    sim->calls = 0;
    (void)pthread_mutex_unlock(&sim->mutex);
}

uint64_t sim_disk_calls(struct sim_disk *sim)
{
    (void)pthread_mutex_lock(&sim->mutex);
    uint64_t calls = sim->calls;
    (void)pthread_mutex_unlock(&sim->mutex);
    return calls;
}

bool sim_disk_crashed(struct sim_disk *sim)
{
    (void)pthread_mutex_lock(&sim->mutex);
    bool crashed = sim->crashed;
    (void)pthread_mutex_unlock(&sim->mutex);
    return crashed;
}

void sim_disk_limit(struct sim_disk *sim, uint64_t bytes)
{
    (void)pthread_mutex_lock(&sim->mutex);
    sim->limit = bytes;
    (void)pthread_mutex_unlock(&sim->mutex);
}

/* any sectors of any of the unsynced writes */
static void lose_some(struct sim_disk *sim, struct file *file)
{
    for (struct write_made *made = file->first; made != NULL; made = made->next) {
        uint64_t how = next_random(sim) % 3;
        if (how == 0) {
            continue; /* all of it is lost */
        }
        grow(&file->durable, made->offset + made->len);
        for (size_t at = 0; at < made->len;) {
            size_t len = SECTOR - (size_t)((made->offset + at) % SECTOR);
            len = len < made->len - at ? len : made->len - at;
            if (how == 1 || next_random(sim) % 2 == 0) {
                memcpy(file->durable.bytes + made->offset + at, made->bytes + at, len);
            }
            at += len;
        }
    }
}

void sim_disk_restart(struct sim_disk *sim, enum sim_loss loss)
{
    for (size_t i = 0; i < sim->change_count && loss != SIM_LOSS_NONE; i++) {
        if (loss == SIM_LOSS_RANDOM && next_random(sim) % 2 == 0) {
            play_change(sim->durable, &sim->changes[i]);
        }
    }
    if (loss == SIM_LOSS_NONE) {
        memcpy(sim->durable, sim->now, sizeof(sim->durable));
    }
    memcpy(sim->now, sim->durable, sizeof(sim->now));
    sim->change_count = 0;
    for (int i = 0; i < sim->file_count; i++) {
        struct file *file = &sim->files[i];
        if (loss == SIM_LOSS_NONE) {
            continue; /* still dirty: a later power cut may take it */
        }
        if (loss == SIM_LOSS_RANDOM) {
            lose_some(sim, file);
        }
        settle(file, SIZE_MAX, false);
        free(file->now.bytes);
        file->now = (struct content){.bytes = NULL};
        grow(&file->now, file->durable.len);
        if (file->durable.len > 0) {
            memcpy(file->now.bytes, file->durable.bytes, file->durable.len);
        }
    }
    sim->fault = SIM_FAULT_NONE;
    sim->crashed = sim->locked = false;
    sim->calls = 0;
}

uint8_t *sim_disk_file(struct sim_disk *sim, const char *name, size_t *ret_len)
{
    struct name *there = find(sim->now, name);

    if (there == NULL) {
        return NULL;
    }
    *ret_len = sim->files[there->file].now.len;
    return sim->files[there->file].now.bytes;
}

void sim_disk_put(struct sim_disk *sim, const char *name, const void *bytes, size_t len)
{
    struct name *there = find(sim->now, name);
    int number = there != NULL ? there->file : sim->file_count++;
    struct file *file = &sim->files[number];

    if (number >= FILES) {
        abort();
    }
    settle(file, SIZE_MAX, false);
    free(file->now.bytes);
    free(file->durable.bytes);
    file->now = file->durable = (struct content){.bytes = NULL};
    file->tail = &file->first;
    make_write(file, 0, bytes, len);
    settle(file, SIZE_MAX, true);
    set_name(sim->now, name, number);
    set_name(sim->durable, name, number);
}

const char *sim_disk_name(struct sim_disk *sim, const char *prefix, size_t index)
{
    const char *previous = "", *best;

    (void)pthread_mutex_lock(&sim->mutex); /* a checkpoint may just be renamed */
    for (;;) {
        best = NULL;
        for (size_t i = 0; i < FILES; i++) {
            const char *text = sim->now[i].text;
            if (text[0] != '\0' && strncmp(text, prefix, strlen(prefix)) == 0 &&
                strcmp(text, previous) > 0 && (best == NULL || strcmp(text, best) < 0)) {
                best = text;
            }
        }
        if (best == NULL || index-- == 0) {
            break;
        }
        previous = best;
    }
    (void)pthread_mutex_unlock(&sim->mutex);
    return best;
}

void sim_disk_destroy(struct sim_disk *sim)
{
    for (int i = 0; i < sim->file_count; i++) {
        settle(&sim->files[i], SIZE_MAX, false);
        free(sim->files[i].now.bytes);
        free(sim->files[i].durable.bytes);
    }
    (void)pthread_mutex_destroy(&sim->mutex);
    free(sim);
}
