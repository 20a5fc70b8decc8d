/**
 * The chat page: which conversation is shown, the message field, the side bar, signing in.
 *
 * Start -> token -> list of chats -> ask -> the conversation (conversation.js) shows the turn.
 * The field is never locked: while an answer arrives the next message can be written, and other
 * chats can be read and asked in.
 */

import { createApi } from "./client.js";
import { Conversation } from "./conversation.js";
import { forgetTurns, runningTurns } from "./running.js";
import { SessionList } from "./sessions.js";
import { forgetToken, storeToken, storedToken, takeTokenFromAddress, tokenSubject } from "./token.js";

const SESSION_KEY = "sluice.session"; // the chat to show again after a reload
const RAG_KEY = "sluice.use_rag"; // there: the switch is on
const TITLE_CHARS = 60;
const NAMING_DELAYS_MS = [0, 1000, 3000]; // the database may learn of a new chat a moment later
const BOTTOM_SLACK_PX = 64; // so near to the end a reader wants to follow

const byId = (id) => document.getElementById(id);
const field = byId("message");
const useRag = byId("use-rag");
const scroller = byId("scroller");

const api = createApi(storedToken);
const conversations = new Map(); // by session id; a new chat joins when it has one
const removing = new Set(); // ids of sessions that are being deleted
let shown = null;
let following = true; // the reader wants to stay at the end of the answer
let lastTop = 0; // where the scroller stood when that was last looked at

const sessions = new SessionList(byId("sessions"), api, {
    open: openSession,
    rename: renameSession,
    remove: removeSession,
    unauthorized,
});

/** What a conversation tells the page, and asks it. */
const page = {
    /** `before` is the id it had; a second try of a first message may end up in another session. */
    sessionKnown(conversation, before) {
        if (before && before !== conversation.sessionId) {
            sessions.setBusy(before, false);
            conversations.delete(before);
        }
        conversations.set(conversation.sessionId, conversation);
        sessions.begin(conversation.sessionId, titleFrom(conversation.firstMessage));
        sessions.setBusy(conversation.sessionId, true);
        if (conversation === shown) {
            rememberShown();
            showState();
        }
    },
    busyChanged(conversation) {
        if (conversation.sessionId) {
            sessions.setBusy(conversation.sessionId, conversation.busy);
        }
        showState();
    },
    async turnEnded(conversation) {
        if (removing.has(conversation.sessionId)) {
            return; // a title would come after the deletion
        }
        await sessions.refresh();
        await giveTitle(conversation);
    },
    unauthorized,
    grown(conversation, { jump = false } = {}) {
        if (conversation === shown) {
            noticeReader();
            if (jump || following) {
                follow();
            }
        }
    },
    mayAsk,
    usesRag: () => useRag.checked,
    /** For screen readers: an answer as a whole, instead of every word of it as it arrives. */
    announce(conversation, text) {
        if (conversation === shown) {
            byId("announcer").textContent = text;
        }
    },
};

/* ------------------------------------------------------------------ start */

function start() {
    connectComposer();
    connectSideBar();
    connectSignIn();
    scroller.addEventListener("scroll", noticeReader, { passive: true });
    addEventListener("hashchange", () => {
        if (takeTokenFromAddress()) {
            leave();
            begin();
        }
    });
    if (takeTokenFromAddress()) {
        forgetTurns(); // they may be another user's
    }
    begin();
}

/**
 * With a token: the list, the answers that were arriving before a reload, and the chat that was
 * shown. Without: the way to get one.
 */
function begin() {
    const before = sessionStorage.getItem(SESSION_KEY);
    byId("sign-in").close();
    showNewChat();
    showSubject();
    if (storedToken() === "") {
        signIn("");
        return;
    }
    sessions.refresh().then(showState);
    for (const turn of runningTurns()) {
        conversationOf(turn.session_id).resume(turn);
    }
    if (before) {
        openSession(before);
    }
}

/* ------------------------------------------------------------------ what is shown */

function show(conversation) {
    if (shown) {
        shown.draft = field.value;
        shown.node.remove();
    }
    shown = conversation;
    byId("conversations").append(conversation.node);
    field.value = conversation.draft;
    fitField();
    rememberShown();
    showState();
    closeSideBar();
    follow();
    if (matchMedia("(pointer: fine)").matches) { // elsewhere it would open the keyboard
        field.focus({ preventScroll: true });
    }
}

function showNewChat() {
    show(new Conversation(api, page));
}

function openSession(id) {
    show(conversationOf(id));
}

function conversationOf(id) {
    let conversation = conversations.get(id);
    if (!conversation) {
        conversation = new Conversation(api, page, id);
        conversations.set(id, conversation);
        conversation.load();
    }
    return conversation;
}

function rememberShown() {
    sessions.setCurrent(shown.sessionId);
    if (shown.sessionId) {
        sessionStorage.setItem(SESSION_KEY, shown.sessionId);
    } else {
        sessionStorage.removeItem(SESSION_KEY);
    }
}

/** Everything that depends on which chat is shown and whether its answer is arriving. */
function showState() {
    const name = shown.sessionId ? sessions.nameOf(shown.sessionId) : "New chat";
    byId("title").textContent = name;
    document.title = shown.sessionId ? `${name} – Sluice` : "Sluice";
    byId("welcome").hidden = !shown.empty;
    byId("send").hidden = shown.busy;
    byId("stop").hidden = !shown.busy;
    byId("send").disabled = field.value.trim() === "";
    byId("hint").textContent = shown.busy
        ? "Escape stops the answer"
        : "Enter sends, Shift + Enter starts a new line";
    if (!shown.busy) {
        say("");
    }
}

/** Under the field, in the place of the hint. */
function say(text) {
    byId("notice").textContent = text;
}

/* ------------------------------------------------------------------ asking */

function connectComposer() {
    byId("composer").addEventListener("submit", (event) => {
        event.preventDefault();
        sendField();
    });
    field.addEventListener("keydown", (event) => {
        // While an input method composes a word, Enter belongs to it.
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            sendField();
        }
    });
    field.addEventListener("input", () => {
        fitField();
        byId("send").disabled = field.value.trim() === "";
    });
    byId("stop").addEventListener("click", () => {
        shown.stop();
        field.focus();
    });
    document.addEventListener("keydown", (event) => {
        // Dialogs, the drawer and a name that is being edited have an Escape of their own.
        if (event.key === "Escape" && !event.isComposing && !document.querySelector("dialog[open]")) {
            shown.stop();
        }
    });
    useRag.checked = localStorage.getItem(RAG_KEY) !== null;
    useRag.addEventListener("change", () => {
        if (useRag.checked) {
            localStorage.setItem(RAG_KEY, "on");
        } else {
            localStorage.removeItem(RAG_KEY);
        }
    });
    byId("welcome").addEventListener("click", (event) => {
        const example = event.target.closest("button");
        if (example) {
            field.value = example.textContent;
            sendField();
        }
    });
}

function sendField() {
    const message = field.value.trim();
    if (message !== "" && mayAsk(shown)) {
        field.value = "";
        fitField();
        shown.ask(message);
    }
}

/** False, with the reason on the page, when nothing can be asked now. */
function mayAsk(conversation) {
    if (storedToken() === "") {
        signIn("");
        return false;
    }
    if (conversation.busy) {
        say("Your message waits here until the answer has ended.");
        return false;
    }
    return true;
}

/** Grows with its text; the style sheet sets the limit. */
function fitField() {
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
}

/* ------------------------------------------------------------------ scrolling */

/**
 * Moving up, however little, ends following; moving down to the end begins it. Asked also before each
 * growth, since the event of a scroll may come after the next token.
 */
function noticeReader() {
    const top = scroller.scrollTop;
    const below = scroller.scrollHeight - top - scroller.clientHeight;
    if (top < lastTop - 1 && below > 1) {
        following = false;
    } else if (top > lastTop + 1 && below < BOTTOM_SLACK_PX) {
        following = true;
    }
    lastTop = top;
}

function follow() {
    following = true;
    scroller.scrollTop = scroller.scrollHeight;
    lastTop = scroller.scrollTop;
}

/* ------------------------------------------------------------------ chats */

/** A chat that began here and has no title yet is called after its first message. */
async function giveTitle({ sessionId, firstMessage }) {
    for (const delay of firstMessage && sessionId ? NAMING_DELAYS_MS : []) {
        await new Promise((resolve) => { setTimeout(resolve, delay); });
        if (delay > 0) {
            await sessions.refresh();
        }
        const title = sessions.titleOf(sessionId);
        if (title === "") {
            await renameSession(sessionId, titleFrom(firstMessage)).catch(() => {});
        }
        if (title !== undefined) {
            break;
        }
    }
    showState();
}

function titleFrom(message) {
    const line = message.trim().split("\n", 1)[0];
    const characters = Array.from(line); // not to cut an emoji in two
    return characters.length <= TITLE_CHARS ? line : `${characters.slice(0, TITLE_CHARS - 1).join("")}…`;
}

async function renameSession(id, title) {
    try {
        await api.renameSession(id, title);
        sessions.setTitle(id, title);
        showState();
    } catch (error) {
        say(`The chat was not renamed. ${error.message}`);
        throw error;
    }
}

async function removeSession(id) {
    if (!await confirmDelete(sessions.nameOf(id))) {
        return;
    }
    removing.add(id);
    try {
        await conversations.get(id)?.stop(); // or its answer would be stored after the chat is gone
        await api.deleteSession(id);
    } catch (error) {
        if (error.status !== 404) {
            say(`The chat was not deleted. ${error.message}`);
            return;
        }
    } finally {
        removing.delete(id);
    }
    conversations.delete(id);
    sessions.forget(id);
    if (shown.sessionId === id) {
        showNewChat();
    }
    if (document.activeElement === document.body) { // the button that was pressed is gone
        byId("side").querySelector("button").focus();
    }
}

function confirmDelete(name) {
    const dialog = byId("delete");
    byId("delete-name").textContent = name;
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
        dialog.addEventListener("close", () => resolve(dialog.returnValue === "delete"), { once: true });
    });
}

/* ------------------------------------------------------------------ side bar */

function connectSideBar() {
    byId("menu").addEventListener("click", openSideBar);
    byId("scrim").addEventListener("click", closeSideBar);
    for (const button of document.querySelectorAll(".new-chat")) {
        button.addEventListener("click", showNewChat);
    }
    byId("side").addEventListener("keydown", (event) => {
        if (event.key === "Escape" && document.body.classList.contains("side-open")) {
            event.stopPropagation(); // it closes the drawer, it does not stop the answer
            closeSideBar();
            byId("menu").focus();
        }
    });
    matchMedia("(max-width: 48rem)").addEventListener("change", closeSideBar); // as in app.css
    for (const dialog of document.querySelectorAll("dialog")) {
        for (const button of dialog.querySelectorAll("button[value]")) {
            button.addEventListener("click", () => dialog.close(button.value));
        }
    }
}

function openSideBar() {
    document.body.classList.add("side-open");
    document.querySelector("main").inert = true; // the keyboard stays in the drawer
    byId("menu").setAttribute("aria-expanded", "true");
    byId("side").querySelector("button").focus();
}

function closeSideBar() {
    document.body.classList.remove("side-open");
    document.querySelector("main").inert = false;
    byId("menu").setAttribute("aria-expanded", "false");
}

/* ------------------------------------------------------------------ signing in */

function connectSignIn() {
    byId("sign-in-form").addEventListener("submit", (event) => {
        event.preventDefault();
        if (!storeToken(byId("token").value)) {
            signIn("This is not a token.");
            return;
        }
        byId("token").value = "";
        byId("sign-in").close();
        showSubject();
        sessions.refresh().then(showState);
        if (shown.loadFailed) {
            shown.load();
        }
        field.focus();
    });
    byId("sign-out").addEventListener("click", () => {
        leave();
        forgetToken();
        begin();
    });
}

/** Nothing of one user may stay on the page for the next. */
function leave() {
    shown.leave(); // it may be too new to be in the map
    conversations.forEach((conversation) => conversation.leave());
    conversations.clear();
    forgetTurns();
    sessionStorage.removeItem(SESSION_KEY);
    sessions.clear();
    field.value = "";
}

function unauthorized() {
    signIn("The gateway did not accept the token. It may have expired.");
}

function signIn(reason) {
    byId("sign-in-reason").textContent = reason;
    byId("sign-in-reason").hidden = reason === "";
    if (!byId("sign-in").open) {
        byId("sign-in").showModal();
    }
    byId("token").focus();
}

function showSubject() {
    const subject = tokenSubject();
    byId("subject").textContent = subject ? `Signed in as ${subject}` : "Signed in";
    byId("account").hidden = storedToken() === "";
}

start();
