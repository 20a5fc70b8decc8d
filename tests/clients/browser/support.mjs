// What every walk through the page stands on: the servers, one Chromium, and a watch over each page.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac, randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

// ./dev installs the packages below build/, not into the tree
const require = createRequire(new URL("../../../build/clients/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const TEST_TIMEOUT_MS = 20_000;
export const WAIT_MS = 8_000; // for anything that should be there soon

/* ------------------------------------------------------------------ servers */

class Servers {
    #process;
    #answers;

    async start() {
        const script = fileURLToPath(new URL("servers.py", import.meta.url));
        this.#process = spawn("/usr/bin/python3", [script], { stdio: ["pipe", "pipe", "inherit"] });
        this.#answers = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
        Object.assign(this, await this.#answer()); // address, secret
        return this;
    }

    /** "restart", "kill" or "start": the gateway. */
    async command(line) {
        this.#process.stdin.write(`${line}\n`);
        await this.#answer();
    }

    /** Ends them all; the gateway must have been in good order. */
    async end() {
        const exit = new Promise((resolve) => { this.#process.once("exit", resolve); });
        this.#process.stdin.end();
        assert.equal(await exit, 0, "the servers ended in good order");
    }

    async #answer() {
        const { value, done } = await this.#answers.next();
        assert.ok(!done, "the servers ended");
        return JSON.parse(value);
    }
}

/** What lies between the browser and the gateway, and may be cut. */
class Network {
    #sockets = new Set();
    #up = true;
    #server;

    async start(address) {
        const [host, port] = address.split(":");
        this.#server = createServer((client) => {
            const gateway = this.#up ? connect({ host, port }) : client;
            for (const [socket, other] of [[client, gateway], [gateway, client]]) {
                this.#sockets.add(socket);
                socket.on("error", () => {}).on("close", () => {
                    this.#sockets.delete(socket);
                    other.destroy();
                });
            }
            if (this.#up) {
                client.pipe(gateway).pipe(client);
            } else {
                client.destroy();
            }
        });
        await new Promise((resolve) => { this.#server.listen(0, "127.0.0.1", resolve); });
        this.url = `http://127.0.0.1:${this.#server.address().port}`;
        return this;
    }

    /** Every connection breaks, and none comes about until mend(). */
    cut() {
        this.#up = false;
        this.#sockets.forEach((socket) => socket.destroy());
    }

    mend() {
        this.#up = true;
    }

    end() {
        this.cut();
        this.#server.close();
    }
}

export const servers = await new Servers().start();
export const network = await new Network().start(servers.address);
export const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium" });

after(async () => {
    await browser.close();
    network.end();
    await servers.end();
});

/* ------------------------------------------------------------------ users */

export const newUser = () => `user-${randomUUID().slice(0, 8)}`;

export function tokenOf(user) {
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const exp = Math.floor(Date.now() / 1000) + 3600;
    const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, exp })}`;
    return `${signed}.${createHmac("sha256", servers.secret).update(signed).digest("base64url")}`;
}

/** One request to the API, past the page. */
export async function call(user, method, path, body) {
    const headers = { authorization: `Bearer ${tokenOf(user)}`, "content-type": "application/json" };
    const response = await fetch(`http://${servers.address}/api/v1${path}`, { method, headers, body: JSON.stringify(body) });
    assert.ok(response.ok, `${method} ${path}: ${response.status}`);
    return response.status === 204 ? null : response.json();
}

/** A whole turn in a session of its own, past the page. Returns its session's id. */
export async function chatOf(user, message) {
    return (await call(user, "POST", "/chat/message/stream", { message, stream: false })).session_id;
}

export const sessionsOf = async (user) => (await call(user, "GET", "/chat/sessions?limit=200")).sessions;

/* ------------------------------------------------------------------ pages */

/**
 * A test with a page of its own, signed in as a user of its own. It fails, too, if anything was
 * written to the console as an error, thrown, refused by the policy, opened as a dialog or asked of
 * another host. `expected` (RegExp): what the browser itself may say, such as of a status 410.
 * `prepare(user)` comes before the page is opened; the rest of the options go to the browser's context.
 */
export function walk(name, options, steps) {
    const { expected, prepare, address, ...settings } = options;
    test(name, { timeout: TEST_TIMEOUT_MS }, async () => {
        const user = newUser();
        const context = await browser.newContext({
            baseURL: network.url,
            viewport: { width: 1200, height: 800 },
            locale: "en-GB",
            ...settings,
        });
        context.setDefaultTimeout(WAIT_MS);
        const faults = [];
        try {
            const page = await context.newPage();
            await watch(page, faults, expected);
            await prepare?.(user);
            await page.goto(address ?? `/#token=${tokenOf(user)}`);
            await steps(page, user);
            assert.deepEqual(faults, []);
        } finally {
            network.mend();
            await context.close();
        }
    });
}

async function watch(page, faults, expected = /(?!)/) {
    const fault = (text) => expected.test(text) || faults.push(text);
    await page.exposeFunction("reportFault", (text) => { faults.push(text); });
    await page.addInitScript(() => {
        addEventListener("securitypolicyviolation", (event) => {
            window.reportFault(`policy: ${event.violatedDirective} ${event.blockedURI}`);
        });
    });
    page.on("console", (message) => {
        if (message.type() === "error" || message.type() === "warning") {
            fault(`console: ${message.text()}`);
        }
    });
    page.on("pageerror", (error) => fault(`thrown: ${error.stack}`));
    page.on("dialog", (dialog) => {
        faults.push(`dialog: ${dialog.message()}`);
        dialog.dismiss();
    });
    page.on("request", (request) => {
        if (!request.url().startsWith(network.url) && !request.url().startsWith("data:")) {
            faults.push(`asked of another host: ${request.url()}`);
        }
    });
    page.on("popup", (popup) => faults.push(`opened: ${popup.url()}`));
}

/* ------------------------------------------------------------------ on the page */

export const field = (page) => page.getByLabel("Message", { exact: true });
export const answers = (page) => page.getByRole("article", { name: "Answer" });
export const lastAnswer = (page) => answers(page).last();

export async function ask(page, message) {
    await field(page).fill(message);
    await field(page).press("Enter");
}

/** Until `condition()` holds: for what no locator can wait for. */
export async function until(what, condition) {
    const deadline = Date.now() + WAIT_MS;
    for (let value = await condition(); !value; value = await condition()) {
        assert.ok(Date.now() < deadline, `waited for: ${what}`);
        await new Promise((resolve) => { setTimeout(resolve, 20); });
    }
}

/** The newest answer has these words somewhere, perhaps with more to come. */
export const awaitText = (page, text) => lastAnswer(page).filter({ hasText: text }).waitFor();

/** The newest answer has ended. */
export const awaitEnd = (page) => page.locator(".answer:last-child:not(.streaming)").last().waitFor();

/** What the stub says to `tokens=N`. */
export const counted = (count) => Array.from({ length: count }, (_, index) => `tok${index}`).join(" ");

/** The text of an answer alone, without times and notes. */
export const bodyOf = (answer) => answer.locator(".markdown").innerText();
