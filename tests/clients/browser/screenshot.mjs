// docs/chat.png: the real page with a real answer. Not a test:
//   ./dev test clients && node tests/clients/browser/screenshot.mjs docs/chat.png [dark|phone]

import assert from "node:assert/strict";
import { test } from "node:test";

import { ask, awaitEnd, browser, call, chatOf, network, newUser, sessionsOf, tokenOf, until } from "./support.mjs";

const [path = "docs/chat.png", look = "light"] = process.argv.slice(2);

const EARLIER = ["How do locks on a canal work?", "Explain compound interest to a ten year old", "Backdoor Roth: who needs it?"];
const QUESTION = "What is a Roth IRA, and what would 6,500 a year grow to?";
const ANSWER = `A **Roth IRA** is a retirement account that you fill with money you have *already* paid tax on:

- it grows tax-free, and so does everything it earns
- what you paid in can be taken out again at any time
- earnings are free after age 59½, once the account is five years old

## What it would grow to

At 7 % a year, \`6,500\` at the end of each year for thirty years becomes about **614,000**:

\`\`\`python
total = 0
for year in range(30):
    total = total * 1.07 + 6_500
print(f"{total:,.0f}")   # 613,995
\`\`\`

Paid in: 195,000. The rest is what the tax office does not see.`;

test("screenshot", async () => {
    const user = newUser();
    for (const title of EARLIER) {
        const id = await chatOf(user, "[[stub tokens=3]]");
        await until("it is listed", async () => (await sessionsOf(user)).some((session) => session.id === id));
        await call(user, "PATCH", `/chat/sessions/${id}`, { title });
    }
    const page = await browser.newPage({
        baseURL: network.url,
        locale: "en-GB",
        colorScheme: look === "dark" ? "dark" : "light",
        viewport: look === "phone" ? { width: 390, height: 800 } : { width: 1180, height: 860 },
    });
    // The stub takes its answer from the question; the page need not show that.
    await page.route("**/chat/message/stream", (route) => {
        const body = route.request().postDataJSON();
        const message = `${body.message} [[stub delay=150 gap=5 text=${ANSWER}]]`;
        return route.continue({ postData: JSON.stringify({ ...body, message }) });
    });
    await page.goto(`/#token=${tokenOf(user)}`);
    await page.getByText(EARLIER[0]).waitFor({ state: "attached" });
    await ask(page, QUESTION);
    await awaitEnd(page);
    await until("the chat has its title", async () => (await sessionsOf(user)).some(({ title }) => title?.startsWith("What is")));
    await page.evaluate(() => { document.getElementById("subject").textContent = "Signed in as demo"; });
    await page.mouse.move(700, 300);
    assert.ok(await page.screenshot({ path }));
});
