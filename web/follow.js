/**
 * One turn, followed to its end over as many connections as that takes.
 *
 *   asking (POST) --> reading --> `done` or `error`: the end
 *                     ^     | cut, silent for too long, a hole in the numbers
 *   following (GET) --+     v
 *          ^----------- waiting, longer each time; after two minutes without success: given up
 *
 * Every event comes out once and in order, whatever the network does: each has a number, and a
 * connection is opened behind the last one that was given out. Once the turn's id is known it is
 * only ever followed. Before that the question is sent again as it was: its `client_message_id`
 * makes the gateway show the turn it has, if the first try did reach it, instead of a second one.
 *
 * Knows the routes and a clock, nothing of the page, so that a test can play network and time.
 */

import { ApiError } from "./client.js";
import { SseDecoder } from "./sse.js";

const SILENCE_MAX_MS = 30_000; // the gateway sends a heartbeat every 10 s: three missed is dead
const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 8_000;
const RETRY_AFTER_MAX_MS = 30_000;
const GIVE_UP_MS = 120_000;
const STOP_MAX_MS = 5_000; // so long may a stopped turn take to say so itself

const BROWSER_CLOCK = {
    now: () => performance.now(),
    random: () => Math.random(),
    /** Calls `callback` in `ms`; returns a function that takes it back. */
    after(ms, callback) {
        const timer = setTimeout(callback, ms);
        return () => clearTimeout(timer);
    },
};

export class Follower {
    #api;
    #clock;
    #body;
    #turnId;
    #onConnection;
    #last = 0; // the number of the last event given out
    #connected = false;
    #connection = null; // the AbortController of the connection under way
    #endPause = () => {};
    #endLimit = () => {}; // of a stop
    #tries = 0; // since the connection was last good
    #lostAt = 0; // when it was first lost since then
    #stopping = false;
    #left = false;

    /**
     * `body` is the question; one without `turnId` has not been asked yet. `onConnection(boolean)` is
     * told when the connection is lost and when it is back.
     */
    constructor(api, { body, turnId = "", onConnection = () => {}, clock = BROWSER_CLOCK }) {
        this.#api = api;
        this.#body = body;
        this.#turnId = turnId;
        this.#onConnection = onConnection;
        this.#clock = clock;
    }

    /** Events have been given out, and the next ones go on behind them. */
    get begun() {
        return this.#last > 0;
    }

    /**
     * Yields the turn's events up to and with `done` or `error`. Throws an ApiError when there will be
     * none; calling it again then goes on behind the last event.
     */
    async *events() {
        this.#stopping = false;
        this.#left = false;
        this.#tries = 0;
        try {
            for (;;) {
                let wait;
                try {
                    yield* this.#read();
                    return;
                } catch (error) {
                    wait = this.#waitAfter(error);
                }
                await this.#pause(wait);
                if (this.#left) {
                    throw new ApiError("aborted", "Stopped.");
                }
            }
        } finally {
            this.#endLimit();
        }
    }

    /**
     * Has the gateway end the turn, which its `done` then tells. Where that cannot be heard, or not
     * soon, events() throws "aborted" instead.
     */
    stop() {
        if (this.#stopping) {
            return;
        }
        this.#stopping = true;
        if (this.#turnId) {
            this.#api.stopTurn(this.#turnId).catch(() => this.leave());
        }
        if (this.#turnId && this.#connected) {
            this.#endLimit = this.#clock.after(STOP_MAX_MS, () => this.leave());
        } else {
            this.leave();
        }
    }

    /** Ends following, not the turn: events() throws "aborted". */
    leave() {
        this.#left = true;
        this.#connection?.abort();
        this.#endPause();
    }

    /* -------------------------------------------------------------- one connection */

    async *#read() {
        const connection = new AbortController();
        const silence = new Alarm(this.#clock, SILENCE_MAX_MS, () => connection.abort());
        this.#connection = connection;
        try {
            const response = await this.#open(connection.signal);
            const openedAt = this.#clock.now();
            this.#setConnected(true);
            const decoder = new SseDecoder();
            const reader = response.body.getReader();
            for (;;) {
                const { done, value } = await reader.read();
                if (done) {
                    throw new ApiError("cut", "The connection was cut before the answer ended.");
                }
                silence.restart();
                if (this.#clock.now() - openedAt > BACKOFF_MAX_MS) {
                    this.#tries = 0; // it lives, though the model may be silent
                }
                for (const { data } of decoder.push(value)) {
                    const event = JSON.parse(data);
                    if (this.#isNext(event)) {
                        yield event;
                        if (event.type === "done" || event.type === "error") {
                            return;
                        }
                    }
                }
            }
        } catch (error) {
            throw this.#asApiError(error, silence.rang);
        } finally {
            silence.stop();
            connection.abort(); // what follows the last event does not matter
            this.#connected = false;
        }
    }

    async #open(signal) {
        if (!this.#turnId) {
            return this.#api.openTurn(this.#body, signal);
        }
        const response = await this.#api.reopenTurn(this.#turnId, this.#last, signal);
        if (response.status === 204) {
            throw new ApiError("over", "There is no more of this answer.", { status: 204 });
        }
        return response;
    }

    /** Takes the event if it is the next one; not if it was seen before. Throws at a hole. */
    #isNext(event) {
        if (event?.seq <= this.#last) {
            return false;
        }
        if (event?.seq !== this.#last + 1) {
            throw new ApiError("cut", "A part of the answer did not arrive.");
        }
        this.#last = event.seq;
        this.#tries = 0;
        if (event.type === "session_id") {
            this.#turnId = event.turn_id;
        }
        return true;
    }

    #asApiError(error, silent) {
        if (this.#left) {
            return new ApiError("aborted", "Stopped.");
        }
        if (silent) {
            return this.#connected
                ? new ApiError("cut", "The connection fell silent before the answer ended.")
                : new ApiError("unreachable", "The gateway did not answer in time.");
        }
        if (error instanceof ApiError) {
            return error;
        }
        return error instanceof SyntaxError || error instanceof RangeError
            ? new ApiError("cut", "The answer was garbled on its way.")
            : new ApiError("cut", "The connection was cut before the answer ended.");
    }

    #setConnected(connected) {
        this.#connected = connected;
        this.#onConnection(connected);
    }

    /* -------------------------------------------------------------- between connections */

    /** How long to wait before the next connection, in ms. Throws when there shall be none. */
    #waitAfter(error) {
        if (this.#left || error.kind === "over") {
            throw error;
        }
        if (this.#stopping) {
            throw new ApiError("aborted", "Stopped.");
        }
        if (error.kind === "problem") {
            this.#checkWorthWaiting(error);
        }
        const now = this.#clock.now();
        if (this.#tries === 0) {
            this.#lostAt = now;
        } else if (now - this.#lostAt >= GIVE_UP_MS) {
            throw error;
        }
        this.#setConnected(false);
        const backoff = Math.min(BACKOFF_MIN_MS * 2 ** this.#tries, BACKOFF_MAX_MS);
        const asked = Math.min(error.retryAfter * 1000, RETRY_AFTER_MAX_MS);
        this.#tries += 1;
        return Math.max(asked, backoff * (0.5 + this.#clock.random() / 2)); // not all pages at once
    }

    /**
     * A refused question is the gateway's answer to it. In the middle of a turn a gateway that is
     * overloaded or being restarted, or a proxy with nothing behind it, is worth waiting for.
     */
    #checkWorthWaiting(problem) {
        const { status } = problem;
        if (this.#turnId && (status === 404 || status === 410)) {
            if (status === 404) { // nothing left to follow: the next try asks
                this.#turnId = "";
                this.#last = 0;
            }
            throw new ApiError("over", "The gateway no longer has this answer at hand.", { status });
        }
        const inTheMiddle = this.#turnId !== "" || this.#tries > 0;
        if (!inTheMiddle || !(status >= 500 || status === 408 || status === 429)) {
            throw problem;
        }
    }

    #pause(ms) {
        return new Promise((resolve) => {
            const cancel = this.#clock.after(ms, resolve);
            this.#endPause = () => {
                cancel();
                resolve();
            };
        });
    }
}

/** Rings when it was not restarted for `ms`. */
class Alarm {
    #clock;
    #ms;
    #ring;
    #cancel;

    constructor(clock, ms, onRing) {
        this.#clock = clock;
        this.#ms = ms;
        this.rang = false;
        this.#ring = () => {
            this.rang = true;
            onRing();
        };
        this.#cancel = clock.after(ms, this.#ring);
    }

    restart() {
        this.#cancel();
        this.#cancel = this.#clock.after(this.#ms, this.#ring);
    }

    stop() {
        this.#cancel();
    }
}
