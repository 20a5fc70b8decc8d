/** What the tests of asking share: a world with upstreams, and turns that have come as far as asking them. */
#pragma once

#include "world.h"

enum { USUAL_US = 100000 }; /* a first token's time that is nothing special */

/** A world with one to three upstreams; limits like the defaults, but a retry's pause is exact: none. */
void asking_open(unsigned upstreams);

/** Makes hedges possible: its first tokens usually take `usual_us`. Returns after how long one is late. */
uint64_t asking_know_usual_time(unsigned upstream, uint64_t usual_us);

/** Starts a turn, which then has just asked. */
void asking_start(void);

/** Moves the clock and runs what becomes due. */
void asking_advance_us(uint64_t us);

/** This call, which must be to that upstream, answers, and the turn ends well. */
void asking_expect_answer(unsigned which, unsigned upstream);

/** No call is under way any more, and the turn ends with this error. */
void asking_expect_error(int error);

/** This call fails with an HTTP status; `retry_after_s` 0: it says nothing about when to come back. */
void asking_refuse(unsigned which, int http_status, uint64_t retry_after_s);
