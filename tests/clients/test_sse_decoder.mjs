// web/sse.js: what the decoder makes of every legal spelling of a stream, split at every byte.
// Run: node --test tests/clients/test_sse_decoder.mjs

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

// A data: URL makes it a module whatever the Node version thinks of a .js file.
const source = readFileSync(new URL("../../web/sse.js", import.meta.url), "base64");
const { SseDecoder, EVENT_MAX_CHARS } = await import(`data:text/javascript;base64,${source}`);

const bytesOf = (text) => new TextEncoder().encode(text);

function decode(bytes, chunk = bytes.length) {
    const decoder = new SseDecoder();
    const events = [];
    for (let at = 0; at < bytes.length; at += chunk) {
        events.push(...decoder.push(bytes.subarray(at, at + chunk)));
    }
    return events;
}

/** Decodes whole, byte by byte and in two parts at every place; all must agree. */
function decodeEveryWay(input) {
    const bytes = typeof input === "string" ? bytesOf(input) : input;
    const whole = decode(bytes);
    for (const chunk of [1, 2, 3, 7]) {
        assert.deepEqual(decode(bytes, chunk), whole, `in chunks of ${chunk}`);
    }
    for (let cut = 0; cut <= bytes.length; cut += 1) {
        const decoder = new SseDecoder();
        const parts = [bytes.subarray(0, cut), new Uint8Array(0), bytes.subarray(cut)];
        const events = parts.flatMap((part) => decoder.push(part));
        assert.deepEqual(events, whole, `cut at byte ${cut}`);
    }
    return whole;
}

const dataOf = (input) => decodeEveryWay(input).map((event) => event.data);

const TURN =
    'data: {"type":"session_id","seq":1,"session_id":"0193"}\n\n' +
    'data: {"type":"token","seq":2,"content":"Grüße, 世界 🌍"}\n\n' +
    'data: {"type":"done","seq":3}\n\n';

test("a turn, with characters of two, three and four bytes", () => {
    const events = dataOf(TURN).map((text) => JSON.parse(text));
    assert.deepEqual(events.map((event) => event.type), ["session_id", "token", "done"]);
    assert.equal(events[1].content, "Grüße, 世界 🌍");
});

test("LF, CRLF and CR end a line, also mixed", () => {
    const expected = dataOf(TURN);
    assert.deepEqual(dataOf(TURN.replaceAll("\n", "\r\n")), expected);
    assert.deepEqual(dataOf(TURN.replaceAll("\n", "\r")), expected);
    assert.deepEqual(dataOf("data: a\r\ndata: b\r\rdata: c\n\r\n"), ["a\nb", "c"]);
});

test("a heartbeat changes nothing, with a blank line behind it or not", () => {
    assert.deepEqual(dataOf(": hb\n\ndata: a\n\n: hb\n\n: hb\n\ndata: b\n\n"), ["a", "b"]);
    assert.deepEqual(dataOf("data: a\n\n: hb\n: hb\ndata: b\n\n"), ["a", "b"]);
    const events = decodeEveryWay("id: t.1\ndata: a\n\n: hb\nid: t.2\ndata: b\n\n");
    assert.deepEqual(events.map((event) => event.id), ["t.1", "t.2"]);
});

test("fields: one space goes, data lines are joined, an event name and an id count", () => {
    assert.deepEqual(decodeEveryWay("event: x\nid: 7\ndata:a\ndata:  b\ndata\n\ndata: c\n\n"), [
        { type: "x", data: "a\n b\n", id: "7" },
        { type: "message", data: "c", id: "7" },
    ]);
});

test("no data, no event; the id is kept, one with NUL is not, an empty one resets", () => {
    assert.deepEqual(decodeEveryWay("id: 1\n\nid: 2\0\ndata: a\n\nid\ndata: b\n\n"), [
        { type: "message", data: "a", id: "1" },
        { type: "message", data: "b", id: "" },
    ]);
    assert.deepEqual(dataOf("event: x\n\n\n\nretry: 10\nunknown: y\n\n"), []);
    assert.deepEqual(dataOf("data:\n\n"), [""]);
});

test("one byte order mark is dropped, only at the start", () => {
    assert.deepEqual(dataOf("\uFEFFdata: a\n\n"), ["a"]);
    assert.deepEqual(dataOf("\uFEFF\uFEFFdata: a\n\ndata: b\n\n"), ["b"]);
});

test("what the end of the stream cut off is no event", () => {
    assert.deepEqual(dataOf("data: a\n\ndata: b\n"), ["a"]);
    assert.deepEqual(dataOf("data: a\n\ndata: b"), ["a"]);
});

test("bad UTF-8 becomes U+FFFD and harms nothing else", () => {
    const bytes = new Uint8Array([...bytesOf("data: a"), 0xff, 0xe4, 0xb8, ...bytesOf("b\n\n")]);
    assert.deepEqual(dataOf(bytes), ["a\uFFFD\uFFFDb"]);
});

test("an event that never ends is refused, in one line or in many", () => {
    const endless = new SseDecoder();
    const many = new SseDecoder();
    const part = bytesOf("x".repeat(64 * 1024));
    const line = bytesOf(`data: ${"x".repeat(64 * 1024)}\n`);
    const pushAll = (decoder, bytes) => {
        for (let sent = 0; sent <= EVENT_MAX_CHARS; sent += bytes.length) {
            decoder.push(bytes);
        }
    };
    assert.throws(() => pushAll(endless, part), RangeError);
    assert.throws(() => pushAll(many, line), RangeError);
});

test("many large events are fine", () => {
    const decoder = new SseDecoder();
    const event = bytesOf(`data: ${"x".repeat(EVENT_MAX_CHARS / 2)}\n\n`);
    for (let count = 0; count < 4; count += 1) {
        assert.equal(decoder.push(event).length, 1);
    }
});
