/**
 * One question and its answer on the page, either as the events of a turn arrive or as stored.
 *
 * A question and an answer are each an object with a `node`; the caller puts the nodes somewhere.
 * Times are milliseconds; the ones called "you" were taken by this page, from the moment it asked.
 */

import { element, icon } from "./dom.js";
import { MarkdownView } from "./render.js";

/** Rows of the breakdown, in the order in which things happen. */
const STAGES = [
    ["profile_ms", "Profile loaded"],
    ["history_ms", "History loaded"],
    ["rag_ms", "Documents searched"],
    ["context_ms", "Context ready"],
    ["connect_ms", "Connected to the model"],
    ["upstream_first_byte_ms", "Model’s first byte"],
    ["saved_ms", "Answer on disk"],
];

const SPOKEN_MAX_CHARS = 2000; // a longer answer is announced, not read out

/** Why an answer that ended in good order is not a whole one. */
const FINISH_NOTES = {
    length: "The answer reached its length limit.",
    content_filter: "The model’s provider cut the answer off.",
    stopped: "Stopped. What had arrived is kept.",
};

/** Why a stored answer is not a whole one. */
const STATUS_NOTES = {
    stopped: FINISH_NOTES.stopped,
    cancelled: "Ended when the page went away. What had arrived is kept.",
    interrupted: "Cut short by a restart of the gateway. What had arrived is kept.",
    failed: "The model failed. What had arrived is kept.",
};

export class Question {
    #tick = element("span", { class: "tick" });

    constructor(text) {
        const bubble = element("div", { class: "bubble" }, text);
        this.node = element("article", { class: "question", "aria-label": "You" }, bubble, this.#tick);
    }

    markSaved() {
        this.#tick.replaceChildren(icon("tick"), "saved");
        this.#tick.title = "The gateway has this message on disk";
    }
}

export class Answer {
    #askedAt = 0; // NaN: not by this page
    #firstTokenAt = 0;
    #thinking = null; // the folded part, once there is reasoning
    #failure = null; // the box of the last failure
    #body = element("div", { class: "markdown" });
    #sources = element("div", { class: "sources" });
    #notes = element("div", { class: "notes" });
    #foot = element("div", { class: "foot" });
    #lost = element("span", { class: "lost", role: "status" });
    #text;

    constructor(onRendered) {
        this.#text = new MarkdownView(this.#body, onRendered);
        const attributes = { class: "answer", "aria-label": "Answer" };
        this.node = element("article", attributes, this.#body, this.#sources, this.#notes, this.#foot);
    }

    /** Begins anew, also when an earlier try has left something. `askedAt`: NaN before a reload. */
    start(askedAt) {
        this.#askedAt = askedAt;
        this.#clear();
        this.resume();
    }

    /** Goes on behind what is there. */
    resume() {
        this.#failure?.remove();
        this.#lost.textContent = "";
        this.#foot.replaceChildren(this.#lost);
        this.node.classList.toggle("waiting", this.#firstTokenAt === 0 && this.#thinking === null);
        this.node.classList.add("streaming");
        this.node.setAttribute("aria-busy", "true");
    }

    /** Whether the answer can arrive at the moment. */
    connected(connected) {
        this.#lost.textContent = connected ? "" : "Reconnecting…";
    }

    /** The answer as it is read out once it has ended; "" when there is none. */
    get spoken() {
        const text = Array.from(this.#body.children, (block) => block.textContent).join("\n");
        return text.length <= SPOKEN_MAX_CHARS ? text : "The answer is complete.";
    }

    /* -------------------------------------------------------------- events, in order */

    sources({ sources }) {
        const items = sources.map((source) => element("li", {}, sourceNode(source)));
        this.#sources.replaceChildren(element("h3", {}, "Sources"), element("ol", {}, items));
    }

    warning({ code, message }) {
        this.#notes.append(element("p", { class: "note", title: code }, icon("info"), message || code));
    }

    reasoning({ content }, now) {
        this.#thinking ??= this.#openThinking(now);
        this.#thinking.text.append(content);
        this.node.classList.remove("waiting");
    }

    token({ content }, now) {
        if (this.#firstTokenAt === 0) {
            this.#firstTokenAt = now;
            this.#closeThinking(now);
            this.node.classList.remove("waiting");
        }
        this.#text.append(content);
    }

    done(event, now) {
        this.#end();
        if (Object.hasOwn(FINISH_NOTES, event.finish_reason)) {
            this.#note(FINISH_NOTES[event.finish_reason]);
        }
        const timings = event.timings ?? {};
        const you = { total: now - this.#askedAt };
        if (this.#firstTokenAt > 0) {
            you.ttft = this.#firstTokenAt - this.#askedAt;
        }
        this.#foot.replaceChildren(savedTick(), timingsNode(you, timings, event.usage));
    }

    /** `retry`, where there is one: {label, onclick}. */
    failed({ title, detail, saved }, retry) {
        this.#end();
        const box = element("div", { class: "error", role: "alert" }, icon("alert"));
        const text = element("div", {}, element("strong", {}, title));
        if (detail) {
            text.append(element("p", {}, detail));
        }
        if (saved) {
            text.append(element("p", {}, "What had arrived is kept."));
        }
        box.append(text);
        this.#failure = box;
        if (retry) {
            const button = element("button", { type: "button", class: "quiet" }, icon("again"), retry.label);
            button.addEventListener("click", retry.onclick);
            box.append(button);
        }
        this.#notes.append(box);
    }

    stopped() {
        this.#end();
        this.#note("Stopped.");
    }

    /** A message that the gateway has stored; that it is saved goes without saying. */
    show(message) {
        this.#clear();
        this.#text.append(message.content ?? "");
        this.#end();
        const note = STATUS_NOTES[message.status];
        if (note) {
            this.#note(note);
        }
        if (typeof message.ttft_ms === "number") {
            const text = `First token ${milliseconds(message.ttft_ms)}`;
            this.#foot.append(element("span", { title: "As the gateway measured it" }, text));
        }
    }

    /* -------------------------------------------------------------- parts */

    #clear() {
        this.#firstTokenAt = 0;
        this.#thinking?.node.remove();
        this.#thinking = null;
        this.#text.clear();
        this.#sources.replaceChildren();
        this.#notes.replaceChildren();
        this.#foot.replaceChildren();
    }

    #end() {
        this.#text.flush();
        this.#closeThinking(performance.now());
        this.#lost.remove();
        this.node.classList.remove("waiting", "streaming");
        this.node.removeAttribute("aria-busy");
    }

    #note(text) {
        this.#notes.append(element("p", { class: "note" }, icon("info"), text));
    }

    #openThinking(now) {
        const label = element("span", {}, "Thinking…");
        const text = document.createTextNode("");
        const body = element("div", { class: "thinking-text" }, text);
        const node = element("details", { class: "thinking" }, element("summary", {}, label), body);
        this.node.prepend(node);
        return { node, label, since: now, ended: false, text: { append: (more) => text.appendData(more) } };
    }

    #closeThinking(now) {
        if (this.#thinking && !this.#thinking.ended) {
            this.#thinking.ended = true;
            this.#thinking.label.textContent = Number.isNaN(this.#askedAt)
                ? "Thought" // how long, another page has seen
                : `Thought for ${milliseconds(now - this.#thinking.since)}`;
        }
    }
}

/* ------------------------------------------------------------------ sources */

/** A link only where the document lies on the web: a document may say anything of itself. */
function sourceNode({ title, url, score }) {
    const place = webAddress(url);
    const name = title || place?.host || "Untitled document";
    const attributes = { title: typeof score === "number" ? `Score ${score.toFixed(2)}` : undefined };
    if (!place) {
        return element("span", attributes, name);
    }
    const link = { href: place.href, target: "_blank", rel: "noopener noreferrer" };
    return [
        element("a", { ...attributes, ...link }, name),
        element("span", { class: "host" }, ` ${place.host}`),
    ];
}

function webAddress(text) {
    try {
        const url = new URL(text);
        return url.protocol === "https:" || url.protocol === "http:" ? url : null;
    } catch {
        return null;
    }
}

/* ------------------------------------------------------------------ times */

function savedTick() {
    const title = "The gateway has this answer on disk";
    return element("span", { class: "tick", title }, icon("tick"), "saved");
}

/** `you` and the gateway side by side; the stages unfold. */
function timingsNode(you, timings, usage) {
    const head = element("summary", {},
        pair("First token", you.ttft, timings.ttft_ms),
        pair("Total", you.total, timings.total_ms));
    const rows = STAGES.filter(([key]) => typeof timings[key] === "number").map(([key, label]) =>
        row(label, milliseconds(timings[key])));
    if (usage) {
        rows.push(row("Tokens in", count(usage.prompt_tokens)));
        rows.push(row("Tokens out", count(usage.completion_tokens)));
    }
    return element("details", { class: "timings" }, head, element("dl", {}, ...rows));
}

function pair(label, you, gateway) {
    return element("span", { class: "pair" },
        `${label} `, element("b", { title: "As this page saw it" }, milliseconds(you)),
        element("span", { class: "gateway", title: "As the gateway measured it" },
            ` (gateway ${milliseconds(gateway)})`));
}

function row(label, value) {
    return element("div", {}, element("dt", {}, label), element("dd", {}, value));
}

function count(number) {
    return typeof number === "number" ? number.toLocaleString("en") : "–";
}

/** Three digits are enough: 0.42 ms, 83.1 ms, 216 ms, 1.84 s. */
export function milliseconds(value) {
    if (typeof value !== "number" || !(value >= 0)) {
        return "–";
    }
    const [number, unit] = value < 1000 ? [value, "ms"] : [value / 1000, "s"];
    const digits = number < 10 ? 2 : number < 100 ? 1 : 0;
    return `${number.toFixed(digits)}\u00a0${unit}`;
}
