/**
 * Shows Markdown while it grows: the tree of markdown.js as nodes, at most once per frame, and with
 * rests so long that the page stays free for its reader however long one paragraph becomes.
 *
 * Only the last two blocks can change when text is added, so only those are parsed and built again:
 * a long answer costs as much per token at its end as at its start, and text that a reader has
 * selected further up stays selected.
 */

import { element, icon } from "./dom.js";
import { parseMarkdown } from "./markdown.js";

const RESTS = 3; // times as long as showing took
const REST_MIN_MS = 5; // shorter ones are not worth a timer

export class MarkdownView {
    #root;
    #text = "";
    #blocks = [];
    #timer = 0;
    #frame = 0;
    #rest = 0; // ms, before the next frame
    #onRendered;

    /** `onRendered` is called after each change of what is shown. */
    constructor(root, onRendered = () => {}) {
        this.#root = root;
        this.#onRendered = onRendered;
    }

    append(text) {
        this.#text += text;
        if (this.#timer !== 0 || this.#frame !== 0) {
            return;
        }
        if (this.#rest < REST_MIN_MS) {
            this.#askForFrame();
        } else {
            this.#timer = setTimeout(() => this.#askForFrame(), this.#rest);
        }
    }

    /** Shows what is there now; a page in the background gets no frames. */
    flush() {
        this.#unschedule();
        const began = performance.now();
        const kept = Math.max(0, this.#blocks.length - 2);
        const tail = parseMarkdown(this.#text, this.#blocks[kept]?.start ?? 0);
        tail.forEach((block, index) => this.#show(kept + index, block));
        while (this.#root.childNodes.length > kept + tail.length) {
            this.#root.lastChild.remove();
        }
        this.#blocks = [...this.#blocks.slice(0, kept), ...tail];
        this.#onRendered(); // which looks at the page's height, so that layout counts too
        this.#rest = RESTS * (performance.now() - began);
    }

    clear() {
        this.#unschedule();
        this.#text = "";
        this.#blocks = [];
        this.#root.replaceChildren();
    }

    #askForFrame() {
        this.#timer = 0;
        this.#frame = requestAnimationFrame(() => this.flush());
    }

    #unschedule() {
        clearTimeout(this.#timer);
        cancelAnimationFrame(this.#frame);
        this.#timer = 0;
        this.#frame = 0;
    }

    #show(index, block) {
        const shown = this.#blocks[index];
        const node = this.#root.childNodes[index];
        if (shown?.kind === block.kind && shown.start === block.start) {
            if (shown.end === block.end) {
                return; // the same lines
            }
            if (block.kind === "code" && shown.language === block.language) {
                node.querySelector("code").textContent = block.text; // keeps its scroll position
                return;
            }
        }
        if (node) {
            node.replaceWith(blockNode(block));
        } else {
            this.#root.append(blockNode(block));
        }
    }
}

function blockNode(block) {
    switch (block.kind) {
    case "heading":
        // The page's own headings are h1 and h2; an answer's begin below them.
        return element(`h${Math.min(block.level + 2, 6)}`, {}, inlineNodes(block.inlines));
    case "code":
        return codeNode(block);
    case "rule":
        return element("hr");
    case "list":
        return listNode(block);
    default:
        return element("p", {}, inlineNodes(block.inlines));
    }
}

function listNode(list) {
    const items = list.items.map((blocks) => element("li", {}, blocks.map(blockNode)));
    return list.ordered
        ? element("ol", { start: list.first }, items)
        : element("ul", {}, items);
}

function inlineNodes(inlines) {
    return inlines.map((inline) => {
        switch (inline.kind) {
        case "code":
            return element("code", {}, inline.text);
        case "strong":
        case "em":
            return element(inline.kind, {}, inlineNodes(inline.inlines));
        default:
            return document.createTextNode(inline.text);
        }
    });
}

function codeNode(block) {
    const code = element("code", {}, block.text);
    const head = element("div", { class: "code-head" }, element("span", {}, block.language || "code"));
    if (navigator.clipboard) { // only on https and on this machine itself
        head.append(copyButton(code));
    }
    // Wide code scrolls inside its box, and must do so from the keyboard too.
    const box = element("pre", { tabindex: "0", role: "region", "aria-label": "Code" }, code);
    return element("div", { class: "code" }, head, box);
}

function copyButton(code) {
    const label = element("span", { "aria-live": "polite" }, "Copy");
    const say = (text) => {
        label.textContent = text;
        setTimeout(() => { label.textContent = "Copy"; }, 1500);
    };
    const onclick = () => navigator.clipboard.writeText(code.textContent)
        .then(() => say("Copied"), () => say("Not copied"));
    return element("button", { type: "button", class: "quiet", onclick }, icon("copy"), label);
}
