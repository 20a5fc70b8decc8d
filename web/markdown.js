/**
 * The small part of Markdown that answers are shown with: text in, a tree out.
 *
 * Pure: knows nothing of the page (render.js builds the nodes), so it can be tested alone. Anything
 * it does not know - links, images, HTML, tables - stays the text it was. There is no way to make an
 * element or an attribute from an answer other than the kinds below.
 *
 * Blocks:  {kind: "paragraph" | "heading" (level) , inlines}
 *          {kind: "code", language, text}   {kind: "rule"}
 *          {kind: "list", ordered, first, items: [[block]]}
 * Inlines: {kind: "text" | "code", text}    {kind: "strong" | "em", inlines}
 *
 * Each top-level block also has `start` and `end`, offsets in the text. More text can only change the
 * last two blocks, which lets the caller parse a growing answer from the block before the last.
 */

const DEPTH_MAX = 6; // lists in lists; deeper ones stay text

// Written so that none can backtrack far: an answer may be one hostile line of a megabyte.
const BLANK = /^\s*$/;
const FENCE = /^ {0,3}(?:(`{3,})([^`]*)|(~{3,})(.*))$/s;
const HEADING = /^ {0,3}(#{1,6})[ \t](.*)$/s;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:([ \t]+)(.*))?$/s;

/** Parses `text` from offset `from`, which must be 0 or the `start` of a block found before. */
export function parseMarkdown(text, from = 0) {
    return parseBlocks(splitLines(text, from), 0);
}

function splitLines(text, from) {
    const lines = [];
    for (let start = from; start < text.length; ) {
        const newline = text.indexOf("\n", start);
        const end = newline < 0 ? text.length : newline;
        lines.push({ text: text.slice(start, end).replace(/\r$/, ""), start, end });
        start = end + 1;
    }
    return lines;
}

function parseBlocks(lines, depth) {
    const blocks = [];
    for (let at = 0; at < lines.length; ) {
        if (BLANK.test(lines[at].text)) {
            at += 1;
            continue;
        }
        const { block, next } = parseBlock(lines, at, depth);
        block.start = lines[at].start;
        block.end = lines[next - 1].end;
        blocks.push(block);
        at = next;
    }
    return blocks;
}

/** The block that begins at line `at`, and the line after it. */
function parseBlock(lines, at, depth) {
    const line = lines[at].text;
    const fence = FENCE.exec(line);
    if (fence) {
        return parseCode(lines, at, fence);
    }
    const heading = HEADING.exec(line);
    if (heading) {
        const inlines = parseInlines(headingText(heading[2].trim()));
        const block = { kind: "heading", level: heading[1].length, inlines };
        return { block, next: at + 1 };
    }
    if (RULE.test(line)) {
        return { block: { kind: "rule" }, next: at + 1 };
    }
    if (depth < DEPTH_MAX && ITEM.test(line)) {
        return parseList(lines, at, depth);
    }
    return parseParagraph(lines, at, depth);
}

/** `## Title ##` may be closed by a run of its own. */
function headingText(text) {
    let end = text.length;
    while (end > 0 && text[end - 1] === "#") {
        end -= 1;
    }
    return end === 0 || /\s/.test(text[end - 1]) ? text.slice(0, end).trim() : text;
}

/** A fence that nothing closes runs to the end: while an answer streams that is the usual case. */
function parseCode(lines, at, fence) {
    const marker = fence[1] ?? fence[3];
    const language = (fence[2] ?? fence[4]).trim().split(/\s/, 1)[0];
    const indent = indentOf(lines[at].text);
    const body = [];
    let next = at + 1;
    while (next < lines.length) {
        const line = lines[next].text;
        next += 1;
        if (closesFence(line, marker)) {
            break;
        }
        body.push(line.slice(Math.min(indent, indentOf(line))));
    }
    return { block: { kind: "code", language, text: body.join("\n") }, next };
}

function closesFence(line, marker) {
    const run = line.trim();
    return run.length >= marker.length && run === marker[0].repeat(run.length);
}

function parseParagraph(lines, at, depth) {
    let next = at + 1;
    while (next < lines.length && !endsParagraph(lines[next].text, depth)) {
        next += 1;
    }
    const text = lines.slice(at, next).map((line) => line.text.trim()).join("\n");
    return { block: { kind: "paragraph", inlines: parseInlines(text) }, next };
}

/** A list ends a paragraph only if it has text and counts from 1: "in\n2024. It was" is a sentence. */
function endsParagraph(line, depth) {
    if (BLANK.test(line) || FENCE.test(line) || HEADING.test(line) || RULE.test(line)) {
        return true;
    }
    const item = depth < DEPTH_MAX && ITEM.exec(line);
    return Boolean(item && item[4] && (!isOrdered(item[2]) || parseInt(item[2], 10) === 1));
}

function isOrdered(marker) {
    return marker.length > 1;
}

function indentOf(line) {
    return line.search(/[^ ]|$/);
}

/* ------------------------------------------------------------------ lists */

function parseList(lines, at, depth) {
    const marker = ITEM.exec(lines[at].text)[2];
    const ordered = isOrdered(marker);
    const list = { kind: "list", ordered, first: ordered ? parseInt(marker, 10) : 1, items: [] };
    let next = at;
    while (next < lines.length) {
        const item = !RULE.test(lines[next].text) && ITEM.exec(lines[next].text);
        if (!item || isOrdered(item[2]) !== ordered) {
            break;
        }
        const end = itemEnd(lines, next, item);
        list.items.push(parseBlocks(itemLines(lines, next, end, item), depth + 1));
        next = end;
        const more = skipBlank(lines, next);
        if (more < lines.length && ITEM.test(lines[more].text)) {
            next = more; // blank lines between items are part of the list
        }
    }
    return { block: list, next: trimBlank(lines, next) };
}

/** The line after the item: what is indented belongs to it, and lines that go on with its text. */
function itemEnd(lines, at, item) {
    // Two columns are enough to be inside, also behind "1. ": models indent so.
    const inside = item[1].length + 2;
    let end = at + 1;
    for (let next = at + 1; next < lines.length; next += 1) {
        const line = lines[next].text;
        if (BLANK.test(line)) {
            continue;
        }
        const goesOn = next === end && !endsParagraph(line, 0) && !ITEM.test(line);
        if (indentOf(line) < inside && !goesOn) {
            break;
        }
        end = next + 1;
    }
    return end;
}

/** The item's lines without marker and indent, as if they stood alone. */
function itemLines(lines, at, end, item) {
    const gap = item[3] ?? "";
    const width = item[1].length + item[2].length + (gap.length > 4 ? 1 : gap.length || 1);
    const first = lines[at].text.slice(width);
    return lines.slice(at, end).map((line, index) => ({
        text: index === 0 ? first : line.text.slice(Math.min(width, indentOf(line.text))),
        start: line.start,
        end: line.end,
    }));
}

function skipBlank(lines, at) {
    while (at < lines.length && BLANK.test(lines[at].text)) {
        at += 1;
    }
    return at;
}

function trimBlank(lines, end) {
    while (BLANK.test(lines[end - 1].text)) {
        end -= 1;
    }
    return end;
}

/* ------------------------------------------------------------------ inside a line */

/** Code spans win over emphasis; emphasis that nothing closes stays text. Linear in the text. */
export function parseInlines(text) {
    const root = { inlines: [] };
    const open = []; // at most one ** and one *, the inner one last
    for (const token of tokens(text)) {
        const parent = open.at(-1) ?? root;
        if (token.kind === "stars") {
            for (const length of pieces(token.text.length, open)) {
                star(token, length, open, root);
            }
        } else {
            addInline(parent, token);
        }
    }
    while (open.length > 0) {
        unwrap(open, root);
    }
    return root.inlines;
}

/** `***` is two markers; the one that was opened last closes first. */
function pieces(length, open) {
    if (length !== 3) {
        return [length];
    }
    return open.at(-1)?.length === 1 ? [1, 2] : [2, 1];
}

function star(token, length, open, root) {
    const index = open.findIndex((mark) => mark.length === length);
    const parent = open.at(-1) ?? root;
    if (length > 2) {
        addInline(parent, { kind: "text", text: "*".repeat(length) });
    } else if (index >= 0 && token.closes && !isEmpty(open[index])) {
        while (open.length > index + 1) {
            unwrap(open, root);
        }
        const { inlines } = open.pop();
        addInline(open.at(-1) ?? root, { kind: length === 2 ? "strong" : "em", inlines });
    } else if (index < 0 && token.opens) {
        open.push({ length, inlines: [] });
    } else {
        addInline(parent, { kind: "text", text: "*".repeat(length) });
    }
}

function isEmpty(mark) {
    return mark.inlines.length === 0;
}

/** The innermost open marker was no marker after all. */
function unwrap(open, root) {
    const mark = open.pop();
    const parent = open.at(-1) ?? root;
    addInline(parent, { kind: "text", text: "*".repeat(mark.length) });
    mark.inlines.forEach((inline) => addInline(parent, inline));
}

function addInline(parent, inline) {
    const last = parent.inlines.at(-1);
    if (inline.kind === "text" && last?.kind === "text") {
        last.text += inline.text;
    } else {
        parent.inlines.push(inline);
    }
}

/** Text, code spans and runs of stars, in order. */
function* tokens(text) {
    const last = new Map(); // where the last run of each number of backticks begins
    for (const { 0: run, index } of text.matchAll(/`+/g)) {
        last.set(run.length, index);
    }
    const special = /\\[\\*`_#]|`+|\*+/g;
    let from = 0;
    for (let found = special.exec(text); found; found = special.exec(text)) {
        const at = found.index;
        const run = found[0];
        const after = at + run.length;
        if (at > from) {
            yield { kind: "text", text: text.slice(from, at) };
        }
        from = after;
        if (run[0] === "\\") {
            yield { kind: "text", text: run[1] };
        } else if (run[0] === "*") {
            yield stars(run, text[at - 1] ?? " ", text[after] ?? " ");
        } else if ((last.get(run.length) ?? -1) >= after) {
            const close = closingRun(text, after, run.length);
            yield { kind: "code", text: codeText(text.slice(after, close)) };
            from = close + run.length;
            special.lastIndex = from;
        } else {
            yield { kind: "text", text: run };
        }
    }
    if (from < text.length) {
        yield { kind: "text", text: text.slice(from) };
    }
}

/** A single star inside a word or a product (2*3*4) is a star. */
function stars(run, before, after) {
    const single = run.length === 1;
    return {
        kind: "stars",
        text: run,
        opens: !/\s/.test(after) && !(single && /[\p{L}\p{N}]/u.test(before)),
        closes: !/\s/.test(before) && !(single && /[\p{L}\p{N}]/u.test(after)),
    };
}

/** The next run of exactly `length` backticks; there is one. */
function closingRun(text, from, length) {
    const runs = /`+/g;
    runs.lastIndex = from;
    let found = runs.exec(text);
    while (found[0].length !== length) {
        found = runs.exec(text);
    }
    return found.index;
}

/** One space on each side is there only to keep backticks apart. */
function codeText(text) {
    const inner = /^ (.*) $/s.exec(text);
    return inner && inner[1].trim() !== "" ? inner[1] : text;
}
