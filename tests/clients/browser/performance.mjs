// The performance page while turns run: what it shows, in curves and in tables, and what it says without a gateway.

import assert from "node:assert/strict";

import { chatOf, network, newUser, walk } from "./support.mjs";

const USERS = 12;

// what Chromium itself says of polls that reach nobody
const UNREACHED = /net::ERR_(CONNECTION_|EMPTY_RESPONSE|NETWORK_)/;

/** Turns of many users at once, one after another, until `steps` is through. */
async function underLoad(message, steps) {
    let running = true;
    const users = Array.from({ length: USERS }, async () => {
        while (running) {
            await chatOf(newUser(), message);
        }
    });
    try {
        await steps();
    } finally {
        running = false;
        await Promise.all(users);
    }
}

/** What the curves of a card say to a screen reader. */
const nowOf = (page, title) => page.getByRole("region", { name: title }).getByRole("img");

walk("the performance page follows the load", { address: "/performance" }, async (page) => {
    await underLoad("[[stub tokens=5 gap=20]]", async () => {
        await nowOf(page, "Time to first token").and(page.locator("[aria-label*='p50 ']:not([aria-label*='p50 none'])")).waitFor();
        await nowOf(page, "Turns per second").and(page.locator("[aria-label*='complete ']:not([aria-label*='complete 0,'])")).waitFor();
        assert.notEqual(await page.locator("#headline").innerText(), "No connection");
        assert.ok(await page.locator("#lanes li").count() >= 1, "each model server has its line");
        await page.getByRole("button", { name: "Tables" }).click();
        const table = page.getByRole("table", { name: "Time to first token" });
        assert.ok(await table.locator("tbody tr").count() >= 1, "the same in figures");
    });
});

walk("the performance page says when nobody answers, and goes on", {
    address: "/performance", expected: UNREACHED,
}, async (page) => {
    await page.locator("#status:not([data-level=wait])").waitFor();
    network.cut();
    await page.getByText("No connection").waitFor();
    network.mend();
    await page.locator("#headline").filter({ hasNotText: "No connection" }).waitFor();
});

walk("the performance page on a phone, dark", {
    address: "/performance", viewport: { width: 390, height: 800 }, colorScheme: "dark",
}, async (page) => {
    await page.locator("#status:not([data-level=wait])").waitFor();
    const { content, shown } = await page.evaluate(() => ({
        content: document.documentElement.scrollWidth, shown: document.documentElement.clientWidth,
    }));
    assert.ok(content <= shown, `${content} wide on ${shown}`);
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const [red, green, blue] = background.match(/\d+/g).map(Number);
    assert.ok(red + green + blue < 3 * 80, `dark: ${background}`);
});
