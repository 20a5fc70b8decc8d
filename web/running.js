/**
 * The turns whose answers are arriving, so that a reloaded page goes on with them: one for each
 * session, `{session_id, turn_id, body}`, with the question as it was asked.
 *
 * Kept in sessionStorage like the token, and no longer than the turn.
 */

const KEY = "sluice.running";

export function runningTurns() {
    try {
        return JSON.parse(sessionStorage.getItem(KEY)) ?? [];
    } catch {
        return [];
    }
}

export function rememberTurn(turn) {
    store([...others(turn.session_id), turn]);
}

export function forgetTurn(sessionId) {
    store(others(sessionId));
}

export function forgetTurns() {
    sessionStorage.removeItem(KEY);
}

function others(sessionId) {
    return runningTurns().filter((turn) => turn.session_id !== sessionId);
}

function store(turns) {
    try {
        sessionStorage.setItem(KEY, JSON.stringify(turns));
    } catch {
        // full: a reload will show what is stored by then, and no more
    }
}
