/**
 * The bearer token: from the address (`/#token=...`), from an earlier page of this tab, or pasted.
 *
 * Kept in sessionStorage, so it ends with the tab, and taken out of the address bar at once, so it
 * gets into no history, bookmark or screenshot. It is only ever sent to the gateway's own API.
 */

const KEY = "sluice.token";

/** Moves a token from the address into the store. True if there was one. */
export function takeTokenFromAddress() {
    const token = tokenIn(location.hash);
    if (token === "") {
        return false;
    }
    history.replaceState(null, "", location.pathname + location.search);
    sessionStorage.setItem(KEY, token);
    return true;
}

export function storedToken() {
    return sessionStorage.getItem(KEY) ?? "";
}

/** Accepts the bare token or the whole address that `./dev run` prints. False if it is neither. */
export function storeToken(pasted) {
    const text = pasted.trim();
    const token = tokenIn(text) || text;
    // Anything else could not be sent in a header.
    if (!/^[\w.~+/=-]+$/.test(token)) {
        return false;
    }
    sessionStorage.setItem(KEY, token);
    return true;
}

export function forgetToken() {
    sessionStorage.removeItem(KEY);
}

/** Whose token it is, for display only: the gateway alone decides what it is worth. */
export function tokenSubject() {
    try {
        const payload = storedToken().split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
        const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
        return String(JSON.parse(new TextDecoder().decode(bytes)).sub ?? "");
    } catch {
        return "";
    }
}

function tokenIn(text) {
    return /[#&]token=([^&\s]+)/.exec(text)?.[1] ?? "";
}
