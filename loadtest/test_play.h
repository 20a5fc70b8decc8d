/**
 * One reply played into memory, for the tests of the player and of the dialects.
 *
 * Thread: the test's. Ownership: `play` is the one stage; play_setup clears it, play_teardown frees.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stub_player.h"

struct play {
    struct stub_player player;
    struct lt_buffer out; /* everything sent, head first */
};

extern struct play play;

int play_setup(void **state);
int play_teardown(void **state);

/** Starts the answer to `message`, to a client that asked for a usage chunk. */
void play_start(const struct stub_dialect *dialect, const char *message, bool stream,
                uint64_t now_us);

/** Plays on without pauses. */
enum stub_play play_all(uint64_t now_us);

/** The decoded body, NUL-terminated; `ret_whole` says whether the last chunk was there. */
struct lt_buffer play_body(bool *ret_whole);

/** The body is whole and exactly this. */
void play_assert_body(const char *expected);

/** Plays all of a stream: what is whole, has `present` in it and has not `absent`. */
void play_assert_stream(const struct stub_dialect *dialect, const char *message,
                        const char *present, const char *absent);
