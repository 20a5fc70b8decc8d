/**
 * One conversation: its nodes, its session id and the turn under way in it.
 *
 * A conversation goes on while another one is shown: its answer keeps arriving in its own node.
 * `page` is what it tells and asks the rest of the page, see app.js.
 */

import { Answer, Question } from "./exchange.js";
import { element } from "./dom.js";

export class Conversation {
    #api;
    #page;
    #stopper = null; // the AbortController of the turn under way
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
        return this.#stopper !== null;
    }

    get empty() {
        return this.sessionId === "" && this.node.childElementCount === 0;
    }

    /* -------------------------------------------------------------- asking */

    /** Asks `message`. The caller has made sure that this is possible (page.mayAsk). */
    ask(message) {
        const question = new Question(message);
        const answer = new Answer(() => this.#page.grown(this));
        this.node.append(question.node, answer.node);
        this.firstMessage ||= message;
        // The key makes a second try safe: the gateway then shows the turn it has instead of asking again.
        const body = { message, client_message_id: randomId() };
        if (this.sessionId) {
            body.session_id = this.sessionId;
        }
        this.#run({ question, answer, body });
    }

    /** Closes the connection; the gateway ends the turn when nobody has come back for it. */
    stop() {
        this.#stopper?.abort();
    }

    async #run(exchange) {
        this.#stopper = new AbortController();
        this.#page.busyChanged(this);
        exchange.answer.start(performance.now());
        this.#page.grown(this, { jump: true });
        try {
            for await (const event of this.#api.streamTurn(exchange.body, this.#stopper.signal)) {
                this.#show(event, exchange);
            }
        } catch (error) {
            this.#showFailure(error, exchange);
        }
        this.#stopper = null;
        this.#page.busyChanged(this);
        this.#page.grown(this);
        this.#page.turnEnded(this);
    }

    /** One event of the turn. Types this page does not know are for other readers. */
    #show(event, { question, answer, body }) {
        const now = performance.now();
        switch (event.type) {
        case "session_id": {
            const before = this.sessionId;
            this.sessionId = event.session_id;
            this.#page.sessionKnown(this, before);
            break;
        }
        case "accepted":
            question.markSaved();
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

    /** The gateway has ended the turn: asking once more is a new turn. */
    #showErrorEvent(event, answer, message) {
        const retry = event.retryable && {
            label: "Ask again",
            onclick: () => this.#page.mayAsk(this) && this.ask(message),
        };
        answer.failed({ title: "No complete answer", detail: event.message, saved: event.saved }, retry);
    }

    /** No `done` and no `error`: what the gateway knows is still to be learned, with the same key. */
    #showFailure(error, exchange) {
        if (error.kind === "aborted") {
            exchange.answer.stopped();
            return;
        }
        if (error.status === 401) {
            this.#page.unauthorized();
        }
        const retry = {
            label: "Try again",
            onclick: () => this.#page.mayAsk(this) && this.#run(exchange),
        };
        exchange.answer.failed(failureText(error), retry);
    }

    /* -------------------------------------------------------------- stored messages */

    /** Shows the newest stored messages. Never rejects: a failure is shown in their place. */
    async load() {
        const note = element("p", { class: "loading", role: "status" }, "Loading…");
        this.node.replaceChildren(note);
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
        const nodes = rows.toReversed().map(messageNode);
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
        problem: error.status === 401 ? "Not signed in" : "Not accepted",
    };
    return { title: titles[error.kind], detail: detail.join(" ") };
}

/** crypto.randomUUID exists only on https and on this machine itself. */
function randomId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
