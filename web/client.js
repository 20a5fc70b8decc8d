/**
 * The gateway's HTTP routes as functions. Knows nothing of the page.
 *
 * Every failure is an ApiError whose `kind` says where it struck:
 *   problem      the gateway answered with an error instead of doing it
 *   unreachable  there was no answer at all
 * and, of a turn that is followed (follow.js):
 *   cut          the stream ended, or fell silent, before its last event
 *   over         the gateway has no more events of the turn; what it stored may be there
 *   aborted      the caller's own wish
 */

const BASE = "/api/v1";
const JSON_TIMEOUT_MS = 20_000;
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

        /** Asks; the Response streams the turn's events from the first on. For follow.js. */
        openTurn: (body, signal) => open("/chat/message/stream", {
            method: "POST",
            headers: { ...headers(), "content-type": "application/json" },
            body: JSON.stringify(body),
            signal,
        }),

        /** The events of a turn after the one numbered `after`; 204 without a body: there are none. */
        reopenTurn: (turn, after, signal) => open(`${turnPath(turn)}/stream?after=${after}`, {
            headers: headers(),
            cache: "no-store", // a browser's cache would make a second tab wait for the first
            signal,
        }),

        /** Ends a turn that is being answered; its stream then ends with `done`. */
        stopTurn: (turn) => call("POST", `${turnPath(turn)}/stop`),
    };
}

/** A Response whose body may take as long as it likes. */
async function open(path, init) {
    try {
        const response = await fetch(BASE + path, init);
        await checkOk(response);
        return response;
    } catch (error) {
        throw asApiError(error);
    }
}

/* ------------------------------------------------------------------ errors */

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

function turnPath(turn) {
    return `/chat/turns/${encodeURIComponent(turn)}`;
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
