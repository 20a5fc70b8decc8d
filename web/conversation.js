/**
 * One conversation: its nodes, its session id and the turn under way in it.
 *
 * A conversation goes on while another one is shown: its answer keeps arriving in its own node.
 * `page` is what it tells and asks the rest of the page, see app.js.
 *
 * A question has a `client_message_id`: the gateway answers it once, and shows that one turn to
 * whoever asks with the same id again. So the page may repeat a question as it was, and must, as long
 * as it does not know how the turn ended:
 *   no answer, a lost connection    perhaps the turn is there: "Try again" has the same id
 *   refused (429, 503, no token)    there is no turn yet, the id is unused: "Try again", the same id
 *   the `error` event               the turn has ended, and its id would show that error again:
 *                                   "Ask again" is a new question with a new id
 *   gone (204, 410)                 the turn has ended: what is stored of it; failing that, "Ask again"
 *   unknown (404)                   the same, but perhaps there is no turn: failing that, "Try again"
 */

import { Answer, Question } from "./exchange.js";
import { element } from "./dom.js";
import { Follower } from "./follow.js";
import { forgetTurn, rememberTurn } from "./running.js";

export class Conversation {
    #api;
    #page;
    #follower = null; // of the turn under way
    #ended = Promise.resolve(); // when the turn under way has
    #left = false; // nobody wants to hear of this conversation any more
    #live = new Set(); // ids of the turns shown as they happened: not to be shown as stored, too
    #loading = null; // the note in the place of the stored messages
    #earlier = ""; // cursor of the messages before the first one shown

    constructor(api, page, sessionId = "") {
        this.#api = api;
        this.#page = page;
        this.sessionId = sessionId;
        this.firstMessage = "";
        this.draft = "";
        this.loadFailed = false;
        this.node = element("div", { class: "conversation" });
    }

    get busy() {
        return this.#follower !== null;
    }

    get empty() {
        return this.sessionId === "" && this.node.childElementCount === 0;
    }

    /* -------------------------------------------------------------- asking */

    /** Asks `message`. The caller has made sure that this is possible (page.mayAsk). */
    ask(message) {
        // A reload or a lost connection is no reason to end the answer; the stop button is.
        const body = { message, client_message_id: randomId(), on_disconnect: "continue" };
        if (this.sessionId) {
            body.session_id = this.sessionId;
        }
        if (this.#page.usesRag()) {
            body.use_rag = true;
        }
        this.#run(this.#exchange(body), performance.now());
    }

    /** Goes on with a turn that was under way when the page was reloaded (running.js). */
    resume({ turn_id: turnId, body }) {
        this.#live.add(turnId);
        this.#run(this.#exchange(body, turnId), Number.NaN);
    }

    /** Has the gateway end the turn under way. Resolves when it has ended, after seconds at most. */
    stop() {
        this.#follower?.stop();
        return this.#ended;
    }

    /** For a page that turns to another user. The turn under way goes on without it. */
    leave() {
        this.#left = true;
        this.#follower?.leave();
    }

    #exchange(body, turnId = "") {
        const question = new Question(body.message);
        const answer = new Answer(() => this.#page.grown(this));
        const onConnection = (connected) => answer.connected(connected);
        const follower = new Follower(this.#api, { body, turnId, onConnection });
        this.node.append(question.node, answer.node);
        this.firstMessage ||= body.message;
        return { question, answer, body, turnId, follower };
    }

    #run(exchange, askedAt) {
        this.#follower = exchange.follower;
        this.#ended = this.#follow(exchange, askedAt);
    }

    async #follow(exchange, askedAt) {
        const { answer, follower } = exchange;
        this.#page.busyChanged(this);
        if (follower.begun) {
            answer.resume();
        } else {
            answer.start(askedAt);
        }
        this.#page.grown(this, { jump: true });
        this.#page.announce(this, "The answer is arriving.");
        try {
            for await (const event of follower.events()) {
                this.#show(event, exchange);
            }
            forgetTurn(this.sessionId);
        } catch (error) {
            await this.#showFailure(error, exchange);
        }
        this.#follower = null;
        this.#page.busyChanged(this);
        if (this.#left) {
            return;
        }
        this.#page.grown(this);
        this.#page.announce(this, answer.spoken);
        this.#page.turnEnded(this);
    }

    /** One event of the turn. Types this page does not know are for other readers. */
    #show(event, exchange) {
        const { question, answer, body } = exchange;
        const now = performance.now();
        switch (event.type) {
        case "session_id": {
            const before = this.sessionId;
            this.sessionId = event.session_id;
            exchange.turnId = event.turn_id;
            this.#live.add(event.turn_id);
            rememberTurn({ session_id: event.session_id, turn_id: event.turn_id, body });
            this.#page.sessionKnown(this, before);
            break;
        }
        case "accepted":
            question.markSaved();
            break;
        case "sources":
            answer.sources(event);
            break;
        case "warning":
            answer.warning(event);
            break;
        case "reasoning":
            answer.reasoning(event, now);
            break;
        case "token":
            answer.token(event, now);
            break;
        case "done":
            answer.done(event, now);
            break;
        case "error":
            this.#showErrorEvent(event, answer, body.message);
            break;
        }
        this.#page.grown(this);
    }

    #showErrorEvent(event, answer, message) {
        const failure = { title: "No complete answer", detail: event.message, saved: event.saved };
        answer.failed(failure, event.retryable && this.#askAgain(message));
    }

    /** No `done` and no `error`. */
    async #showFailure(error, exchange) {
        if (this.#left) {
            return;
        }
        if (error.kind === "aborted") {
            forgetTurn(this.sessionId);
            exchange.answer.stopped();
        } else if (error.kind === "over") {
            await this.#showStored(error, exchange);
        } else {
            this.#showTryAgain(error, exchange);
        }
    }

    /** The turn cannot be followed any more. Its answer may be among the stored messages. */
    async #showStored(over, exchange) {
        const isIt = (row) => row.turn_id === exchange.turnId && row.role === "assistant";
        let stored;
        try {
            stored = (await this.#api.listMessages(this.sessionId, "")).rows.find(isIt);
        } catch (error) {
            this.#showTryAgain(error, exchange);
            return;
        }
        forgetTurn(this.sessionId);
        if (stored) {
            exchange.question.markSaved();
            exchange.answer.show(stored);
        } else if (over.status === 404) { // the gateway has never heard of it, or so it says
            this.#showTryAgain(over, exchange);
        } else {
            exchange.answer.failed(failureText(over), this.#askAgain(exchange.body.message));
        }
    }

    #showTryAgain(error, exchange) {
        if (error.status === 401) {
            this.#page.unauthorized();
        }
        const onclick = () => this.#page.mayAsk(this) && this.#run(exchange, performance.now());
        exchange.answer.failed(failureText(error), { label: "Try again", onclick });
    }

    #askAgain(message) {
        return { label: "Ask again", onclick: () => this.#page.mayAsk(this) && this.ask(message) };
    }

    /* -------------------------------------------------------------- stored messages */

    /** Shows the newest stored messages. Never rejects: a failure is shown in their place. */
    async load() {
        const note = element("p", { class: "loading", role: "status" }, "Loading…");
        this.#loading?.remove();
        this.#loading = note;
        this.node.prepend(note);
        this.loadFailed = false;
        try {
            const page = await this.#api.listMessages(this.sessionId, "");
            note.remove();
            this.#prepend(page);
            this.#page.grown(this, { jump: true });
        } catch (error) {
            this.loadFailed = true;
            if (error.status === 401) {
                this.#page.unauthorized();
            }
            const onclick = () => this.load();
            const again = element("button", { type: "button", class: "quiet", onclick }, "Try again");
            note.replaceChildren(`The messages are not available. ${error.message} `, again);
        }
    }

    #prepend({ rows, next }) {
        this.#earlier = next;
        const stored = rows.filter((row) => !this.#live.has(row.turn_id));
        const nodes = stored.toReversed().map(messageNode);
        if (next) {
            const button = element("button", { type: "button", class: "quiet earlier" }, "Earlier messages");
            button.addEventListener("click", () => this.#loadEarlier(button));
            nodes.unshift(button);
        }
        this.node.prepend(...nodes);
    }

    async #loadEarlier(button) {
        button.disabled = true;
        try {
            const page = await this.#api.listMessages(this.sessionId, this.#earlier);
            button.remove();
            this.#prepend(page);
        } catch (error) {
            button.disabled = false;
            button.textContent = `Earlier messages: try again. ${error.message}`;
        }
    }
}

function messageNode(message) {
    if (message.role === "user") {
        return new Question(message.content).node;
    }
    const answer = new Answer();
    answer.show(message);
    return answer.node;
}

function failureText(error) {
    const detail = [error.message];
    if (error.retryAfter > 0) {
        detail.push(`Try again in ${error.retryAfter} s.`);
    }
    if (error.requestId) {
        detail.push(`(Request ${error.requestId})`);
    }
    const titles = {
        unreachable: "No connection",
        cut: "Connection lost",
        over: "No complete answer",
        problem: error.status === 401 ? "Not signed in" : "Not accepted",
    };
    return { title: titles[error.kind], detail: detail.join(" ") };
}

/** crypto.randomUUID exists only on https and on this machine itself. */
function randomId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
