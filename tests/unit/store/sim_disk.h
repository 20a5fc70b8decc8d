/**
 * A simulated disk: keeps what is synced apart from what is only written, and can stop or fail at any
 * call.
 *
 * A crash freezes it: every later call fails and changes nothing. sim_disk_restart then decides what
 * the power cut has left of the unsynced writes and of the unsynced names. A sync that fails behaves
 * like Linux: what was dirty counts as clean, stays readable and never gets to the disk.
 *
 * Thread: any (one mutex). Ownership: the disk outlives its attachments, which journals destroy.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "disk.h"

struct sim_disk;

enum sim_fault {
    SIM_FAULT_NONE,
    SIM_FAULT_CRASH_BEFORE,
    SIM_FAULT_CRASH_MIDDLE, /* half of the call happens */
    SIM_FAULT_CRASH_AFTER,
    SIM_FAULT_EIO,
    SIM_FAULT_ENOSPC, /* for calls that need space; others work */
    SIM_FAULT_SHORT_WRITE,
};

enum sim_loss {
    SIM_LOSS_NONE,   /* kill -9: the page cache lives on */
    SIM_LOSS_ALL,    /* nothing that was not synced */
    SIM_LOSS_RANDOM, /* any part of it: whole writes, sectors of them, names */
    SIM_LOSS_COUNT,
};

struct sim_disk *sim_disk_create(uint64_t seed);
void sim_disk_destroy(struct sim_disk *sim);

/** What a journal gets. */
struct store_disk *sim_disk_attach(struct sim_disk *sim);

/** The fault at call number `call` (from 1, counted from now on), or at all from there on. */
void sim_disk_plan(struct sim_disk *sim, enum sim_fault fault, uint64_t call, bool from_there_on);

/** Calls since the last plan. */
uint64_t sim_disk_calls(struct sim_disk *sim);
bool sim_disk_crashed(struct sim_disk *sim);

/** How many bytes files may take together; 0: no limit. */
void sim_disk_limit(struct sim_disk *sim, uint64_t bytes);

/** After a crash, or as if there was one now; the plan is forgotten, the lock released. */
void sim_disk_restart(struct sim_disk *sim, enum sim_loss loss);

/** A file's bytes as they are now, to look at and to damage; NULL: no such file. Single-threaded. */
uint8_t *sim_disk_file(struct sim_disk *sim, const char *name, size_t *ret_len);

/** Puts a file there, durable. */
void sim_disk_put(struct sim_disk *sim, const char *name, const void *bytes, size_t len);

/** The name number `index` that begins with `prefix`, in the order of names; NULL: none. */
const char *sim_disk_name(struct sim_disk *sim, const char *prefix, size_t index);
