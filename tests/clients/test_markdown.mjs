// web/markdown.js: the tree that answers are shown from. No page needed.
// Run: node --test tests/clients/test_markdown.mjs

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

// A data: URL makes it a module whatever the Node version thinks of a .js file.
const source = readFileSync(new URL("../../web/markdown.js", import.meta.url), "base64");
const { parseMarkdown, parseInlines } = await import(`data:text/javascript;base64,${source}`);

/** A short spelling of a tree, so that a test can be read: p(...) ul(li(...)) code[sh](...) */
function spell(blocks) {
    return blocks.map(spellBlock).join(" ");
}

function spellBlock(block) {
    switch (block.kind) {
    case "paragraph":
        return `p(${spellInlines(block.inlines)})`;
    case "heading":
        return `h${block.level}(${spellInlines(block.inlines)})`;
    case "code":
        return `code[${block.language}](${block.text})`;
    case "rule":
        return "hr";
    case "list": {
        const items = block.items.map((item) => `li(${spell(item)})`).join(" ");
        return `${block.ordered ? `ol${block.first}` : "ul"}(${items})`;
    }
    }
    throw new Error(`unknown block ${block.kind}`);
}

function spellInlines(inlines) {
    return inlines
        .map((inline) => {
            const { kind, text } = inline;
            return kind === "text" ? text : `<${kind}:${text ?? spellInlines(inline.inlines)}>`;
        })
        .join("");
}

const blocks = (text) => spell(parseMarkdown(text));
const inlines = (text) => spellInlines(parseInlines(text));

test("paragraphs keep their lines", () => {
    assert.equal(blocks("one\ntwo\n\n\nthree\n"), "p(one\ntwo) p(three)");
    assert.equal(blocks("one\r\ntwo\r\n\r\nthree"), "p(one\ntwo) p(three)");
    assert.equal(blocks(""), "");
    assert.equal(blocks(" \n\t\n"), "");
});

test("headings and rules", () => {
    assert.equal(blocks("# A\n### B ###\ntext\n---\n#no"), "h1(A) h3(B) p(text) hr p(#no)");
    assert.equal(blocks("# C#\n## **x**"), "h1(C#) h2(<strong:x>)");
});

test("code fences: language, blank lines, other fences inside, none at the end", () => {
    assert.equal(blocks("```py\na\n\n  b\n```\nafter"), "code[py](a\n\n  b) p(after)");
    assert.equal(blocks("````\n```\nx\n```\n````"), "code[](```\nx\n```)");
    assert.equal(blocks("~~~\n```\n~~~"), "code[](```)");
    assert.equal(blocks("text\n```c\nint x"), "p(text) code[c](int x)");
    assert.equal(blocks("```\n**no** <b>\n```"), "code[](**no** <b>)");
    assert.equal(blocks("``` one `` two"), "p(``` one `` two)");
});

test("lists: bullets, numbers, loose, nested, with text and code inside", () => {
    assert.equal(blocks("- a\n- b\n* c"), "ul(li(p(a)) li(p(b)) li(p(c)))");
    assert.equal(blocks("3. a\n4. b"), "ol3(li(p(a)) li(p(b)))");
    assert.equal(blocks("1. a\n\n2. b\n\nend"), "ol1(li(p(a)) li(p(b))) p(end)");
    assert.equal(blocks("- a\n  - b\n    - c\n- d"), "ul(li(p(a) ul(li(p(b) ul(li(p(c)))))) li(p(d)))");
    assert.equal(blocks("1. a\n  - b\n2. c"), "ol1(li(p(a) ul(li(p(b)))) li(p(c)))");
    assert.equal(blocks("1. a\n   ```sh\n   ls\n   ```\n2. b"), "ol1(li(p(a) code[sh](ls)) li(p(b)))");
    assert.equal(blocks("- a\ngoes on\n\nnot"), "ul(li(p(a\ngoes on))) p(not)");
    assert.equal(blocks("- a\n\n1. b"), "ul(li(p(a))) ol1(li(p(b)))");
    assert.equal(blocks("Steps:\n1. a"), "p(Steps:) ol1(li(p(a)))");
});

test("what only looks like a list is text", () => {
    assert.equal(blocks("It was in\n2024. Then"), "p(It was in\n2024. Then)");
    assert.equal(blocks("-5 degrees"), "p(-5 degrees)");
    assert.equal(blocks("1.5 litres"), "p(1.5 litres)");
    assert.equal(blocks("**bold** first"), "p(<strong:bold> first)");
    assert.equal(blocks("a line\n-"), "p(a line\n-)");
});

test("a block's start and end are its own lines", () => {
    const text = "one\n\n- a\n\n- b\n\n1. c\n\n```\nd\n```\n\nend";
    const spans = parseMarkdown(text).map((block) => text.slice(block.start, block.end));
    assert.deepEqual(spans, ["one", "- a\n\n- b", "1. c", "```\nd\n```", "end"]);
});

test("bold, emphasis and code inside a line", () => {
    assert.equal(inlines("a **b** c *d* `e`"), "a <strong:b> c <em:d> <code:e>");
    assert.equal(inlines("**a *b* c**"), "<strong:a <em:b> c>");
    assert.equal(inlines("***a***"), "<strong:<em:a>>");
    assert.equal(inlines("***a* b**"), "<strong:<em:a> b>");
    assert.equal(inlines("**`x`** and **中文**字"), "<strong:<code:x>> and <strong:中文>字");
    assert.equal(inlines("`` a ` b ``"), "<code:a ` b>");
    assert.equal(inlines("`**a**` **b**"), "<code:**a**> <strong:b>");
});

test("marks without a partner stay as they are", () => {
    assert.equal(inlines("2 * 3 * 4, 2*3*4, a ** b"), "2 * 3 * 4, 2*3*4, a ** b");
    assert.equal(inlines("**open *and `more"), "**open *and `more");
    assert.equal(inlines("**a *b**"), "<strong:a *b>");
    assert.equal(inlines("snake_case_name __init__"), "snake_case_name __init__");
    assert.equal(inlines("****"), "****");
    assert.equal(inlines("\\*not\\* \\`x\\` \\(y\\)"), "*not* `x` \\(y\\)");
});

test("HTML, links and images are text and nothing else", () => {
    const hostile =
        '<img src=x onerror=alert(1)> <script>alert(1)</script> [x](javascript:alert(1)) ![y](http://e/z)';
    assert.equal(blocks(hostile), `p(${hostile})`);
});

const ANSWER = `# Title

A paragraph with **bold**, \`code\` and
a second line.

1. first

   more of it
2. second
   - inner *one*

     \`\`\`sh
     make -j2

     \`\`\`
   - inner two

3. third
---
* a
- b

2024. not a first item
\`\`\`
open fence
- no list
`;

test("an answer that grows by one character is parsed the same from the block before the last", () => {
    let known = [];
    for (let length = 0; length <= ANSWER.length; length += 1) {
        const text = ANSWER.slice(0, length);
        const kept = known.slice(0, -2);
        const from = known.at(-2)?.start ?? known.at(-1)?.start ?? 0;
        known = [...kept, ...parseMarkdown(text, from)];
        assert.deepEqual(known, parseMarkdown(text), `after ${length} characters`);
    }
});

test("random texts too", () => {
    let seed = 42;
    const random = (below) => {
        seed = (seed * 1103515245 + 12345) % 2147483648;
        return Math.floor((seed / 2147483648) * below);
    };
    const pieces = ["\n", "\n\n", " ", "  ", "   ", "- ", "* ", "1. ", "2.", "1", "-", "a", "b c", "#", "# ",
        "```", "`", "**", "*", "---", "\t", "\r\n", "~~~"];
    for (let round = 0; round < 2000; round += 1) {
        let text = "";
        let known = [];
        for (let step = 0; step < 25; step += 1) {
            text += pieces[random(pieces.length)];
            const from = known.at(-2)?.start ?? known.at(-1)?.start ?? 0;
            known = [...known.slice(0, -2), ...parseMarkdown(text, from)];
            assert.deepEqual(known, parseMarkdown(text), JSON.stringify(text));
        }
    }
});

test("no text is lost but marks", () => {
    const words = ANSWER.match(/[A-Za-z]{2,}/g).join(" ");
    const shown = JSON.stringify(parseMarkdown(ANSWER), (key, value) => (key === "kind" ? undefined : value));
    for (const word of new Set(words.split(" "))) {
        assert.ok(shown.includes(word), word);
    }
});

test("hostile input of a megabyte is parsed in time and without overflow", () => {
    const size = 1 << 20;
    const runs = Array.from({ length: 1400 }, (_, index) => "`".repeat(index + 1)).join(" ");
    const hostile = {
        backticks: runs,
        stars: "*a".repeat(size / 2),
        doubleStars: "**a ".repeat(size / 4),
        deepList: "- ".repeat(size / 2),
        heading: `# a${" ".repeat(size)}b`,
        hashes: `# ${"#".repeat(size)}a`,
        fence: `\`\`\`${"a ".repeat(size / 2)}\``,
        rule: `${"* ".repeat(size / 2)}x`,
        blanks: `- a${"\n".repeat(size)}b`,
        items: "- a\n\n".repeat(size / 5),
        spaces: " ".repeat(size),
    };
    for (const [name, text] of Object.entries(hostile)) {
        const started = performance.now();
        parseMarkdown(text);
        const took = performance.now() - started;
        // Linear work takes well under a second; a quadratic step would take hours.
        assert.ok(took < 10_000, `${name} took ${took.toFixed(0)} ms`);
    }
});
