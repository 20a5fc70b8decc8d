// web/follow.js: a turn's events come out once and in order over connections that break anywhere.
// Run: node --test tests/clients/test_follow.mjs

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { loadWebModule } from "./web_module.mjs";

const { createApi } = await loadWebModule("client.js");
const { Follower } = await loadWebModule("follow.js");

const TURN = "0193-turn";
const BODY = { message: "Hi", client_message_id: "key-1", on_disconnect: "continue" };

const TURN_EVENTS = [
    { type: "session_id", session_id: "0193-session", turn_id: TURN },
    { type: "accepted", message_id: "0193-message" },
    { type: "token", content: "Grüße" },
    { type: "token", content: ", " },
    { type: "token", content: "世界 🌍" },
    { type: "done", message_id: "0193-answer", finish_reason: "stop" },
].map((event, index) => ({ ...event, seq: index + 1 }));

const SEQS = TURN_EVENTS.map((event) => event.seq);
const HEARTBEAT = ": hb\n\n";

const bytesOf = (text) => new TextEncoder().encode(text);
const spell = (event) => `data: ${JSON.stringify(event)}\n\n`;

/** Time passes when a test says so, and while no connection is open: then up to the next timer. */
class FakeClock {
    #now = 1000;
    #timers = new Set();
    waits = []; // in ms, of the timers that ended while no connection was open
    randomValue = 1;
    isIdle = () => true;

    now = () => this.#now;
    random = () => this.randomValue;

    after = (ms, callback) => {
        const timer = { ms, due: this.#now + ms, callback };
        this.#timers.add(timer);
        setImmediate(() => this.#skip());
        return () => this.#timers.delete(timer);
    };

    pass(ms) {
        const end = this.#now + ms;
        for (let next = this.#next(); next?.due <= end; next = this.#next()) {
            this.#fire(next);
        }
        this.#now = end;
    }

    #skip() {
        const next = this.#next();
        if (next && this.isIdle()) {
            this.waits.push(next.ms);
            this.#fire(next);
        }
    }

    #next() {
        return [...this.#timers].sort((a, b) => a.due - b.due)[0];
    }

    #fire(timer) {
        this.#timers.delete(timer);
        this.#now = timer.due;
        timer.callback();
    }
}

/**
 * A gateway with one turn of TURN_EVENTS. `plan` has one entry for each stream that is opened, and
 * none means that all goes well:
 *   {unreachable}                            no answer
 *   {status, headers}                        an answer without a stream
 *   {bytes | events | parts, then}           a stream with so many of the bytes or events, or with
 *                                            these parts: texts, or functions to be called
 * where `then` is "end" (a clean one), "cut" or "hang".
 */
class FakeGateway {
    plan = [];
    requests = []; // "POST key-1", "GET 3", "STOP"
    turnKeys = new Set();
    open = 0;
    stopAnswer = () => new Response(null, { status: 202 });

    fetch = async (url, { method = "GET", headers, body, signal }) => {
        assert.equal(headers.authorization, "Bearer secret");
        if (url === `/api/v1/chat/turns/${TURN}/stop`) {
            assert.equal(method, "POST");
            this.requests.push("STOP");
            return this.stopAnswer();
        }
        const after = method === "POST" ? this.#ask(url, JSON.parse(body)) : this.#reopen(url);
        const plan = this.plan.shift() ?? {};
        if (plan.unreachable || signal.aborted) {
            throw new TypeError("fetch failed");
        }
        if (plan.status) {
            const text = plan.status === 204 ? null : JSON.stringify({ detail: "No." });
            return new Response(text, { status: plan.status, headers: plan.headers });
        }
        return new Response(this.#stream(this.#parts(plan, after), plan.then ?? "end", signal));
    };

    #ask(url, body) {
        assert.equal(url, "/api/v1/chat/message/stream");
        assert.deepEqual(body, BODY);
        this.requests.push(`POST ${body.client_message_id}`);
        this.turnKeys.add(body.client_message_id);
        return 0;
    }

    #reopen(url) {
        const [, after] = new RegExp(`^/api/v1/chat/turns/${TURN}/stream\\?after=(\\d+)$`).exec(url);
        this.requests.push(`GET ${after}`);
        return Number(after);
    }

    #parts(plan, after) {
        const events = TURN_EVENTS.slice(after, after + (plan.events ?? TURN_EVENTS.length)).map(spell);
        return plan.bytes === undefined
            ? plan.parts ?? events
            : [bytesOf(events.join("")).subarray(0, plan.bytes)];
    }

    #stream(parts, then, signal) {
        this.open += 1;
        let controller;
        const finish = (end) => {
            if (controller) {
                end(controller);
                controller = null;
                this.open -= 1;
            }
        };
        const rest = [...parts];
        signal.addEventListener("abort", () => finish((stream) => stream.error(new TypeError("aborted"))));
        const pull = async () => {
            const part = rest.shift();
            if (typeof part === "function") {
                await part();
                return controller && pull();
            }
            if (part !== undefined) {
                controller.enqueue(typeof part === "string" ? bytesOf(part) : part);
            } else if (then !== "hang") {
                finish((stream) => then === "cut" ? stream.error(new TypeError("reset")) : stream.close());
            }
        };
        const start = (stream) => { controller = stream; };
        return new ReadableStream({ start, pull }, { highWaterMark: 0 }); // pulls only what is read
    }
}

let clock;
let gateway;
let connections; // what onConnection was told

beforeEach(() => {
    clock = new FakeClock();
    gateway = new FakeGateway();
    connections = [];
    clock.isIdle = () => gateway.open === 0;
    globalThis.fetch = gateway.fetch;
});

function follower(turnId) {
    const onConnection = (connected) => connections.push(connected);
    return new Follower(createApi(() => "secret"), { body: BODY, turnId, onConnection, clock });
}

/** The events until the end, and the ApiError that was the end, if it was one. */
async function read(turn) {
    const events = [];
    try {
        for await (const event of turn.events()) {
            events.push(event);
        }
        return { events };
    } catch (error) {
        assert.ok(error.kind, error.stack);
        return { events, error };
    }
}

const seqsOf = ({ events }) => events.map((event) => event.seq);

/* ------------------------------------------------------------------ connections that break */

test("a turn over one connection", async () => {
    const { events } = await read(follower());
    assert.deepEqual(events, TURN_EVENTS);
    assert.deepEqual(gateway.requests, ["POST key-1"]);
    assert.deepEqual(connections, [true]);
});

test("broken at every byte: all events once, one turn", async () => {
    const sizes = TURN_EVENTS.map((event) => bytesOf(spell(event)).length);
    const total = sizes.reduce((sum, size) => sum + size, 0);
    for (const then of ["cut", "end"]) {
        for (let bytes = 0; bytes < total; bytes += 1) {
            gateway.requests = [];
            gateway.plan = [{ bytes, then }];
            const { events, error } = await read(follower());
            assert.equal(error, undefined);
            assert.deepEqual(events, TURN_EVENTS, `${then} after ${bytes} bytes`);
            let whole = 0;
            for (let sum = sizes[0]; sum <= bytes; sum += sizes[whole]) {
                whole += 1;
            }
            const second = whole === 0 ? ["POST key-1"] : whole < SEQS.length ? [`GET ${whole}`] : [];
            assert.deepEqual(gateway.requests, ["POST key-1", ...second], `${then} after ${bytes} bytes`);
        }
    }
    assert.equal(gateway.turnKeys.size, 1);
});

test("broken after every single event", async () => {
    gateway.plan = TURN_EVENTS.map(() => ({ events: 1, then: "cut" }));
    assert.deepEqual(seqsOf(await read(follower())), SEQS);
    assert.deepEqual(gateway.requests, ["POST key-1", "GET 1", "GET 2", "GET 3", "GET 4", "GET 5"]);
    assert.deepEqual(connections.slice(0, 3), [true, false, true]);
    assert.deepEqual(new Set(clock.waits), new Set([500]), "a good connection begins the waits anew");
});

test("followed from the start, as after a reload", async () => {
    assert.deepEqual(seqsOf(await read(follower(TURN))), SEQS);
    assert.deepEqual(gateway.requests, ["GET 0"]);
});

test("events that were seen before are not given out again", async () => {
    gateway.plan = [{ events: 3, then: "cut" }, { parts: TURN_EVENTS.map(spell) }];
    assert.deepEqual(seqsOf(await read(follower())), SEQS);
    assert.deepEqual(gateway.requests, ["POST key-1", "GET 3"]);
});

test("a hole: resumed behind the last good event", async () => {
    const holed = TURN_EVENTS.filter((event) => event.seq !== 3).map(spell);
    gateway.plan = [{ parts: holed }];
    assert.deepEqual(seqsOf(await read(follower())), SEQS);
    assert.deepEqual(gateway.requests, ["POST key-1", "GET 2"]);
});

test("an event that cannot be read: resumed behind the last good one", async () => {
    for (const garbled of ["data: {\n\n", "data: null\n\n", "data: {}\n\n"]) {
        gateway.requests = [];
        gateway.plan = [{ parts: [spell(TURN_EVENTS[0]), garbled] }];
        assert.deepEqual(seqsOf(await read(follower())), SEQS);
        assert.deepEqual(gateway.requests, ["POST key-1", "GET 1"]);
    }
});

test("an error event is an end like any other", async () => {
    const error = { type: "error", seq: 2, code: "upstream_truncated", retryable: true };
    gateway.plan = [{ parts: [spell(TURN_EVENTS[0]), spell(error)] }];
    assert.deepEqual((await read(follower())).events.at(-1), error);
    assert.equal(gateway.requests.length, 1);
});

test("what comes behind the last event does not matter", async () => {
    gateway.plan = [{ then: "hang" }];
    assert.deepEqual(seqsOf(await read(follower())), SEQS);
    assert.equal(gateway.open, 0, "the connection is closed");
});

/* ------------------------------------------------------------------ silence */

test("30 s without a byte: resumed", async () => {
    const silence = (ms) => () => clock.pass(ms);
    const [first, ...others] = TURN_EVENTS.map(spell);
    gateway.plan = [{ parts: [first, silence(29_999), HEARTBEAT, silence(29_999), ...others] }];
    assert.deepEqual(seqsOf(await read(follower())), SEQS);
    assert.deepEqual(gateway.requests, ["POST key-1"], "a heartbeat is a sign of life");

    gateway.requests = [];
    gateway.plan = [{ parts: [first, silence(30_000), ...others] }];
    assert.deepEqual(seqsOf(await read(follower())), SEQS);
    assert.deepEqual(gateway.requests, ["POST key-1", "GET 1"]);
});

test("a model that is silent for long, over connections that live for a minute", async () => {
    const minute = Array.from({ length: 6 }, () => [() => clock.pass(10_000), HEARTBEAT]).flat();
    gateway.plan = [{ events: 2, then: "cut" }];
    gateway.plan.push(...Array.from({ length: 10 }, () => ({ parts: minute, then: "cut" })));
    assert.deepEqual(seqsOf(await read(follower())), SEQS);
    assert.equal(gateway.requests.length, 12);
});

/* ------------------------------------------------------------------ waiting and giving up */

test("not reached: asked again with the same id, later each time", async () => {
    gateway.plan = Array.from({ length: 7 }, () => ({ unreachable: true }));
    assert.deepEqual(seqsOf(await read(follower())), SEQS);
    assert.deepEqual(gateway.requests, Array(8).fill("POST key-1"));
    assert.deepEqual(clock.waits, [500, 1000, 2000, 4000, 8000, 8000, 8000]);
    assert.deepEqual(connections, [...Array(7).fill(false), true]);
});

test("the waits differ from page to page", async () => {
    clock.randomValue = 0;
    gateway.plan = [{ unreachable: true }, { unreachable: true }];
    await read(follower());
    assert.deepEqual(clock.waits, [250, 500]);
});

test("given up after two minutes; the next try goes on behind the last event", async () => {
    const turn = follower();
    gateway.plan = [{ events: 3, then: "cut" }, ...Array(100).fill({ unreachable: true })];
    const start = clock.now();
    const first = await read(turn);
    assert.deepEqual(seqsOf(first), [1, 2, 3]);
    assert.equal(first.error.kind, "unreachable");
    const took = clock.now() - start;
    assert.ok(took >= 120_000 && took < 130_000, `${took} ms`);

    gateway.plan = [];
    gateway.requests = [];
    assert.ok(turn.begun);
    assert.deepEqual(seqsOf(await read(turn)), [4, 5, 6]);
    assert.deepEqual(gateway.requests, ["GET 3"]);
});

test("connections that bring nothing are given up, too", async () => {
    for (const plan of [{ parts: [], then: "end" }, { parts: [HEARTBEAT], then: "cut" }]) {
        gateway.plan = [{ events: 1, then: "cut" }, ...Array(100).fill(plan)];
        assert.equal((await read(follower())).error.kind, "cut");
    }
});

test("a refused question is not repeated", async () => {
    for (const status of [400, 401, 404, 422, 429, 500, 503]) {
        gateway.requests = [];
        gateway.plan = [{ status, headers: { "retry-after": "7" } }];
        const turn = follower();
        const { error } = await read(turn);
        assert.deepEqual([error.kind, error.status, error.retryAfter], ["problem", status, 7]);
        assert.deepEqual(seqsOf(await read(turn)), SEQS, "and can be asked again as it was");
        assert.deepEqual(gateway.requests, ["POST key-1", "POST key-1"]);
    }
});

test("in the middle of a turn an overloaded or absent gateway is waited for", async () => {
    gateway.plan = [
        { events: 2, then: "cut" },
        { status: 502 },
        { status: 503, headers: { "retry-after": "20" } },
        { status: 429, headers: { "retry-after": "86400" } },
    ];
    assert.deepEqual(seqsOf(await read(follower())), SEQS);
    assert.deepEqual(clock.waits, [500, 1000, 20_000, 30_000]);

    gateway.requests = [];
    gateway.plan = [{ unreachable: true }, { status: 502 }];
    assert.deepEqual(seqsOf(await read(follower())), SEQS, "also before the first event");
    assert.deepEqual(gateway.requests, Array(3).fill("POST key-1"));

    gateway.plan = [{ events: 2, then: "cut" }, { status: 401 }];
    assert.equal((await read(follower())).error.status, 401, "but not a token that has expired");
});

/* ------------------------------------------------------------------ turns that are over */

test("204 and 410: over, and the turn is not asked again", async () => {
    for (const status of [204, 410]) {
        const turn = follower();
        gateway.plan = [{ events: 3, then: "cut" }, { status }];
        const { events, error } = await read(turn);
        assert.equal(events.length, 3);
        assert.deepEqual([error.kind, error.status], ["over", status]);

        gateway.requests = [];
        gateway.plan = [{ status }];
        assert.equal((await read(turn)).error.kind, "over");
        assert.deepEqual(gateway.requests, ["GET 3"]);
    }
});

test("404: over; the next try asks with the same id and begins anew", async () => {
    const turn = follower();
    gateway.plan = [{ events: 3, then: "cut" }, { status: 404 }];
    const { error } = await read(turn);
    assert.deepEqual([error.kind, error.status], ["over", 404]);
    assert.ok(!turn.begun);

    gateway.requests = [];
    assert.deepEqual(seqsOf(await read(turn)), SEQS);
    assert.deepEqual(gateway.requests, ["POST key-1"]);
});

/* ------------------------------------------------------------------ stop */

const STOPPED = { type: "done", seq: 4, finish_reason: "stopped" };

/** Reads a turn whose first connection brings three events and then calls `step`. */
async function readAndAt(step, ...rest) {
    const turn = follower();
    const parts = [...TURN_EVENTS.slice(0, 3).map(spell), () => step(turn), ...rest];
    gateway.plan = [{ parts, then: "hang" }];
    return await read(turn);
}

test("stop: the stream ends by itself", async () => {
    const { events, error } = await readAndAt((turn) => turn.stop(), spell(STOPPED));
    assert.equal(error, undefined);
    assert.deepEqual(events.at(-1), STOPPED);
    assert.deepEqual(gateway.requests, ["POST key-1", "STOP"]);
});

test("stop, twice: asked once", async () => {
    await readAndAt((turn) => { turn.stop(); turn.stop(); }, spell(STOPPED));
    assert.deepEqual(gateway.requests, ["POST key-1", "STOP"]);
});

test("stop, and the gateway does not take it", async () => {
    for (const answer of [
        () => new Response("{}", { status: 404 }),
        () => { throw new TypeError("fetch failed"); },
    ]) {
        gateway.stopAnswer = answer;
        const { events, error } = await readAndAt((turn) => turn.stop());
        assert.equal(events.length, 3);
        assert.equal(error.kind, "aborted");
    }
});

test("stop, and no `done` comes", async () => {
    const waits = [() => clock.pass(4_999), HEARTBEAT, () => clock.pass(1)];
    const { error } = await readAndAt((turn) => turn.stop(), ...waits);
    assert.equal(error.kind, "aborted");
});

test("stop, and the stream breaks: not opened again", async () => {
    const turn = follower();
    gateway.plan = [{ parts: [spell(TURN_EVENTS[0]), () => turn.stop()], then: "cut" }];
    assert.equal((await read(turn)).error.kind, "aborted");
    assert.deepEqual(gateway.requests, ["POST key-1", "STOP"]);
});

test("stop between two connections", async () => {
    const turn = follower();
    gateway.plan = [{ events: 3, then: "cut" }];
    clock.isIdle = () => false; // it waits
    const reading = read(turn);
    while (connections.at(-1) !== false) {
        await new Promise((resolve) => { setImmediate(resolve); });
    }
    turn.stop();
    const { events, error } = await reading;
    assert.equal(events.length, 3);
    assert.equal(error.kind, "aborted");
    assert.deepEqual(gateway.requests, ["POST key-1", "STOP"]);
});

test("stop before the turn has an id: the question is taken back", async () => {
    const turn = follower();
    gateway.plan = [{ parts: [() => turn.stop()], then: "hang" }];
    assert.equal((await read(turn)).error.kind, "aborted");
    assert.deepEqual(gateway.requests, ["POST key-1"]);
    assert.equal(gateway.open, 0);
});

test("leave: the turn goes on without this page", async () => {
    const { events, error } = await readAndAt((turn) => turn.leave());
    assert.equal(events.length, 3);
    assert.equal(error.kind, "aborted");
    assert.deepEqual(gateway.requests, ["POST key-1"]);
    assert.equal(gateway.open, 0);
});
