/**
 * The gateway's HTTP routes as functions. Knows nothing of the page.
 *
 * Every failure is an ApiError whose `kind` says where it struck:
 *   problem      the gateway answered with an error instead of doing it
 *   unreachable  there was no answer at all
 *   cut          a stream ended, or fell silent, before its last event
 *   aborted      the caller's own signal
 */

import { SseDecoder } from "./sse.js";

const BASE = "/api/v1";
const JSON_TIMEOUT_MS = 20_000;
const SILENCE_MAX_MS = 35_000; // the gateway sends a heartbeat every 10 s: three missed is dead
const PAGE_ROWS = 50;

export class ApiError extends Error {
    constructor(kind, message, details = {}) {
        super(message);
        this.kind = kind;
        this.status = details.status ?? 0;
        this.retryAfter = details.retryAfter ?? 0; // seconds; 0: the gateway named none
        this.requestId = details.requestId ?? "";
    }
}

/** `tokenOf` returns the bearer token at the time of the call. */
export function createApi(tokenOf) {
    const headers = () => ({ authorization: `Bearer ${tokenOf()}` });

    async function call(method, path, body) {
        const init = { method, headers: headers(), signal: AbortSignal.timeout(JSON_TIMEOUT_MS) };
        if (body !== undefined) {
            init.headers["content-type"] = "application/json";
            init.body = JSON.stringify(body);
        }
        try {
            const response = await fetch(BASE + path, init);
            await checkOk(response);
            const text = await response.text();
            return text === "" ? null : JSON.parse(text);
        } catch (error) {
            throw asApiError(error);
        }
    }

    return {
        /** The newest sessions: `{rows: [{id, title, created_at, updated_at}], next}`. */
        async listSessions(cursor) {
            return rowsOf(await call("GET", `/chat/sessions${query(cursor)}`), "sessions");
        },

        /** A session's newest messages, newest first: `{rows: [{role, content, ...}], next}`. */
        async listMessages(session, cursor) {
            const path = `${sessionPath(session)}/messages${query(cursor)}`;
            return rowsOf(await call("GET", path), "messages");
        },

        renameSession: (session, title) => call("PATCH", sessionPath(session), { title }),
        deleteSession: (session) => call("DELETE", sessionPath(session)),

        /** Asks, and yields the turn's events as they arrive, up to and with `done` or `error`. */
        streamTurn: (body, signal) => streamTurn(headers(), body, signal),
    };
}

async function* streamTurn(headers, body, signal) {
    const watch = new SilenceWatch(SILENCE_MAX_MS);
    let ended = false;
    try {
        const response = await fetch(`${BASE}/chat/message/stream`, {
            method: "POST",
            headers: { ...headers, "content-type": "application/json" },
            body: JSON.stringify(body),
            signal: anySignal([signal, watch.signal]),
        });
        await checkOk(response);
        const decoder = new SseDecoder();
        const reader = response.body.getReader();
        let seq = 0;
        for (;;) {
            const { done, value } = await reader.read();
            if (done) {
                break;
            }
            watch.restart();
            for (const { data } of decoder.push(value)) {
                const event = JSON.parse(data);
                seq += 1;
                if (event.seq !== seq) {
                    throw new ApiError("cut", "A part of the answer did not arrive.");
                }
                ended ||= event.type === "done" || event.type === "error";
                yield event;
            }
        }
    } catch (error) {
        if (ended) {
            return; // everything was said; how the connection closes no longer matters
        }
        throw signal.aborted ? new ApiError("aborted", "Stopped.") : streamError(error, watch);
    } finally {
        watch.stop();
    }
    if (!ended) {
        throw new ApiError("cut", "The connection was cut before the answer ended.");
    }
}

/** Aborts when nothing at all, not even a heartbeat, has come for a while. */
class SilenceWatch {
    #abort = new AbortController();
    #timer = 0;
    #limit;

    constructor(limitMs) {
        this.#limit = limitMs;
        this.heard = false; // something of the body has arrived
        this.#start();
    }

    get signal() {
        return this.#abort.signal;
    }

    restart() {
        this.heard = true;
        clearTimeout(this.#timer);
        this.#start();
    }

    stop() {
        clearTimeout(this.#timer);
    }

    #start() {
        this.#timer = setTimeout(() => this.#abort.abort(), this.#limit);
    }
}

/** AbortSignal.any, which browsers of 2023 do not have. */
function anySignal(signals) {
    const joined = new AbortController();
    for (const signal of signals) {
        if (signal.aborted) {
            joined.abort();
        }
        signal.addEventListener("abort", () => joined.abort(), { once: true });
    }
    return joined.signal;
}

/* ------------------------------------------------------------------ errors */

function streamError(error, watch) {
    if (error instanceof ApiError) {
        return error;
    }
    if (error instanceof SyntaxError || error instanceof RangeError) {
        return new ApiError("cut", "The answer was garbled on its way.");
    }
    if (watch.signal.aborted) {
        return new ApiError("cut", "The connection fell silent before the answer ended.");
    }
    return watch.heard
        ? new ApiError("cut", "The connection was cut before the answer ended.")
        : asApiError(error);
}

function asApiError(error) {
    if (error instanceof ApiError) {
        return error;
    }
    if (error.name === "TimeoutError") {
        return new ApiError("unreachable", "The gateway did not answer in time.");
    }
    if (error instanceof SyntaxError) {
        return new ApiError("problem", "The gateway's answer could not be read.");
    }
    return new ApiError("unreachable", "The gateway could not be reached.");
}

async function checkOk(response) {
    if (response.ok) {
        return;
    }
    let problem = {};
    try {
        problem = (await response.json()) ?? {};
    } catch {
        // not ours: a proxy in front answers in HTML
    }
    const text = problem.detail || problem.error?.message || problem.title;
    throw new ApiError("problem", text || `The gateway answered ${response.status}.`, {
        status: response.status,
        retryAfter: Number(response.headers.get("retry-after")) || 0,
        requestId: problem.request_id ?? response.headers.get("x-request-id"),
    });
}

/* ------------------------------------------------------------------ paths and pages */

function sessionPath(session) {
    return `/chat/sessions/${encodeURIComponent(session)}`;
}

function query(cursor) {
    const parameters = new URLSearchParams({ limit: PAGE_ROWS });
    if (cursor) {
        parameters.set("cursor", cursor);
    }
    return `?${parameters}`;
}

function rowsOf(answer, key) {
    if (!Array.isArray(answer?.[key])) {
        throw new ApiError("problem", "The gateway's answer could not be read.");
    }
    return { rows: answer[key], next: answer.next_cursor || "" };
}
