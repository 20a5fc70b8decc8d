// Asking, streaming, stopping, coming back, and what an answer may hold.

import assert from "node:assert/strict";

import {
    answers, ask, awaitEnd, awaitText, bodyOf, counted, field, lastAnswer, network, servers, sessionsOf, until, walk,
} from "./support.mjs";

// what Chromium itself says of a connection that breaks, and of the answer to the next try
const BROKEN = /net::ERR_(CONNECTION_|EMPTY_RESPONSE|INCOMPLETE_CHUNKED)|status of 410/;

const HELD_UP_MS = 500; // at once, on a busy machine; a quiet one measures 60

const MARKDOWN = "# Title\n\nSome **bold** and `code`.\n\n1. one\n2. two\n\n```js\nlet a = 1;\n```\n\n- - -\n\nThe end";

walk("an answer streams, is shown as Markdown, saved, timed and there after a reload", {}, async (page, user) => {
    assert.equal(new URL(page.url()).hash, "", "the token leaves the address");
    await page.getByText("What would you like to know?").waitFor();
    await ask(page, `[[stub gap=30 text=${MARKDOWN}]]`);
    await awaitText(page, "Title");
    assert.ok(!(await bodyOf(lastAnswer(page))).includes("The end"), "it is shown while it arrives");
    await page.getByRole("button", { name: "Stop the answer" }).waitFor();
    await awaitEnd(page);
    const answer = lastAnswer(page);
    assert.equal(await answer.locator("h3").innerText(), "Title");
    assert.equal(await answer.locator("strong").innerText(), "bold");
    assert.deepEqual(await answer.locator("ol > li").allInnerTexts(), ["one", "two"]);
    assert.equal(await answer.locator("pre code").innerText(), "let a = 1;");
    assert.equal(await page.locator(".question .tick").innerText(), "saved");
    assert.match(await answer.locator(".foot").innerText(),
        /saved.*First token [\d.]+.m?s \(gateway [\d.]+.m?s\).*Total [\d.]+.m?s \(gateway [\d.]+.m?s\)/s);
    await answer.locator("summary").click();
    await answer.getByText("Model’s first byte").waitFor();

    await until("the chat is listed", async () => (await sessionsOf(user)).length === 1);
    await page.reload();
    await awaitText(page, "The end");
    assert.equal(await page.locator(".question").count(), 1);
    assert.equal(await lastAnswer(page).locator("strong").innerText(), "bold");
});

walk("times as the page saw them are not before the gateway's", {}, async (page) => {
    await ask(page, "[[stub delay=200 tokens=3 gap=50]]");
    await awaitEnd(page);
    const milliseconds = (text) => parseFloat(text) * (text.endsWith("ms") ? 1 : 1000);
    for (const pair of await page.locator(".pair").all()) {
        const you = milliseconds(await pair.locator("b").innerText());
        const gateway = milliseconds(/gateway ([\d.]+.m?s)/.exec(await pair.innerText())[1]);
        assert.ok(gateway >= 200 && you >= gateway - 1, `${you} here, ${gateway} there`);
    }
});

walk("the stop button ends the answer and keeps what there is", {}, async (page) => {
    await ask(page, "[[stub tokens=1000 gap=30]]");
    await awaitText(page, "tok3");
    await page.getByRole("button", { name: "Stop the answer" }).click();
    await awaitEnd(page);
    await lastAnswer(page).getByText("Stopped. What had arrived is kept.").waitFor();
    assert.ok((await bodyOf(lastAnswer(page))).startsWith("tok0 tok1 tok2 tok3"));
    await page.getByRole("button", { name: "Send" }).waitFor();
    await ask(page, "[[stub tokens=2]]");
    await awaitEnd(page);
    assert.equal(await bodyOf(lastAnswer(page)), counted(2));
});

walk("a reload in the middle of an answer goes on with it", {}, async (page) => {
    await ask(page, "[[stub tokens=60 gap=40]]");
    await awaitText(page, "tok5");
    await page.reload();
    await awaitText(page, "tok5");
    assert.equal(await page.locator(".answer.streaming").count(), 1, "it goes on");
    await awaitEnd(page);
    assert.equal(await bodyOf(lastAnswer(page)), counted(60));
    assert.equal(await page.locator(".question").count(), 1);
    assert.equal(await answers(page).count(), 1);
});

walk("a connection that was lost is opened again behind the last event", {
    expected: BROKEN,
}, async (page) => {
    const follows = [];
    page.on("request", (request) => request.url().includes("/stream?after=") && follows.push(request.url()));
    await ask(page, "[[stub tokens=60 gap=40]]");
    await awaitText(page, "tok5");
    network.cut();
    await lastAnswer(page).getByText("Reconnecting…").waitFor();
    network.mend();
    await awaitEnd(page);
    assert.equal(await bodyOf(lastAnswer(page)), counted(60));
    assert.ok(Number(follows.at(-1).split("=")[1]) > 5, follows.at(-1));
});

walk("after kill -9 of the gateway the stored answer is shown", {
    expected: BROKEN,
}, async (page, user) => {
    const gone = [];
    page.on("response", (response) => response.status() === 410 && gone.push(response.url()));
    await ask(page, "[[stub tokens=30 gap=40]]");
    await awaitText(page, "tok5");
    network.cut(); // the rest arrives at the gateway alone
    await until("both messages are stored", async () => {
        const [session] = await sessionsOf(user);
        return session && session.updated_at !== session.created_at;
    });
    await servers.command("restart");
    network.mend();
    await awaitEnd(page);
    assert.equal(gone.length, 1);
    assert.equal(await bodyOf(lastAnswer(page)), counted(30));
    assert.equal(await page.getByRole("alert").count(), 0);
    await ask(page, "[[stub tokens=2]]");
    await awaitEnd(page);
    assert.equal(await bodyOf(lastAnswer(page)), counted(2));
});

walk("an answer that kill -9 cut short says so, and can be asked for again", {
    expected: BROKEN,
}, async (page) => {
    await ask(page, "[[stub tokens=40 gap=50]]");
    await awaitText(page, "tok5");
    await servers.command("kill");
    await lastAnswer(page).getByText("Reconnecting…").waitFor();
    await servers.command("start");
    await page.getByRole("alert").filter({ hasText: "No complete answer" }).waitFor();
    await page.getByRole("button", { name: "Ask again" }).click();
    await awaitText(page, "tok39");
    await awaitEnd(page);
    assert.equal(await bodyOf(lastAnswer(page)), counted(40));
});

walk("a model that breaks off is named, with what had arrived", {}, async (page) => {
    await ask(page, "[[stub tokens=9 error_after=3]]");
    const alert = page.getByRole("alert").filter({ hasText: "No complete answer" });
    await alert.getByText("What had arrived is kept.").waitFor();
    assert.equal(await bodyOf(lastAnswer(page)), counted(3));
});

walk("the next message can be written while an answer arrives, and is sent afterwards", {}, async (page) => {
    await ask(page, "[[stub tokens=30 gap=40]]");
    await awaitText(page, "tok2");
    await field(page).pressSequentially("and [[stub tokens=2]]");
    await field(page).press("Enter");
    await page.getByRole("status").filter({ hasText: "Your message waits here" }).waitFor();
    assert.equal(await field(page).inputValue(), "and [[stub tokens=2]]");
    await awaitEnd(page);
    assert.equal(await bodyOf(lastAnswer(page)), counted(30));
    await field(page).press("Enter");
    await until("a second answer", async () => await answers(page).count() === 2);
    await awaitEnd(page);
    assert.equal(await bodyOf(lastAnswer(page)), counted(2));
});

for (const [what, directive, length] of [
    ["5,000 tokens at once", "tokens=5000 gap=0", counted(5000).length],
    ["one paragraph of 400 kB", "long=400000 gap=0.2", 400_000],
]) {
    walk(`${what} do not hold the page up`, {}, async (page) => {
        await page.evaluate(() => {
            window.tasks = [];
            new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((entry) => entry.duration)))
                .observe({ type: "longtask" });
        });
        await ask(page, `[[stub ${directive}]]`);
        await field(page).pressSequentially("typed at the same time");
        assert.equal(await field(page).inputValue(), "typed at the same time");
        await awaitEnd(page);
        assert.equal((await lastAnswer(page).locator(".markdown").textContent()).length, length);
        const longest = Math.max(0, ...await page.evaluate(() => window.tasks));
        assert.ok(longest < HELD_UP_MS, `the page was held up for ${longest} ms`);
    });
}

/* ------------------------------------------------------------------ what the gateway tells of the documents */

const EVENTS = [
    { type: "session_id", session_id: "0193c0de-0000-7000-8000-000000000001", turn_id: "0193c0de-0000-7000-8000-000000000002" },
    { type: "accepted", message_id: "0193c0de-0000-7000-8000-000000000003" },
    {
        type: "sources",
        sources: [
            { id: "1", title: "Roth IRAs <b>explained</b>", url: "https://example.com/roth", score: 0.87 },
            { id: "2", title: "Trap", url: "javascript:window.hit=1", score: 0.5 },
            { id: "3", title: "", url: "http://example.org/x", score: 0.4 },
        ],
    },
    { type: "warning", code: "history_unavailable", message: "Earlier messages could not be read." },
    { type: "token", content: "From the documents." },
    { type: "done", message_id: "0193c0de-0000-7000-8000-000000000004", finish_reason: "stop", timings: { ttft_ms: 2.5, total_ms: 3.5, rag_ms: 1.25 } },
];

walk("the switch asks for documents; sources and warnings are shown", {}, async (page) => {
    const bodies = [];
    await page.route("**/chat/message/stream", (route) => {
        bodies.push(route.request().postDataJSON());
        const body = EVENTS.map((event, index) => `data: ${JSON.stringify({ ...event, seq: index + 1 })}\n\n`).join("");
        return route.fulfill({ contentType: "text/event-stream", body });
    });
    await ask(page, "without");
    await awaitText(page, "From the documents.");
    await page.getByRole("switch", { name: "Documents" }).click();
    await page.reload();
    assert.ok(await page.getByRole("switch", { name: "Documents" }).isChecked(), "the switch is remembered");
    await page.getByRole("button", { name: "New chat" }).first().click();
    await ask(page, "with");
    await awaitText(page, "From the documents.");
    assert.deepEqual(bodies.map((body) => body.use_rag), [undefined, true]);

    const answer = lastAnswer(page);
    assert.deepEqual(await answer.locator(".sources li").allInnerTexts(),
        ["Roth IRAs <b>explained</b> example.com", "Trap", "example.org example.org"]);
    const links = await answer.getByRole("link").evaluateAll((nodes) => nodes.map((node) => [node.href, node.rel]));
    assert.deepEqual(links, [
        ["https://example.com/roth", "noopener noreferrer"],
        ["http://example.org/x", "noopener noreferrer"],
    ]);
    await answer.getByText("Earlier messages could not be read.").waitFor();
});

walk("the real gateway's warning is shown", {}, async (page) => {
    await page.getByRole("switch", { name: "Documents" }).click();
    await ask(page, "[[stub tokens=2]]");
    await lastAnswer(page).locator(".note[title=rag_unavailable]").waitFor();
    await awaitEnd(page);
});

/* ------------------------------------------------------------------ hostile answers */

const HOSTILE = [
    "<script>window.hit=1;alert(1)</script>",
    "<img src=x onerror=\"window.hit=1\"> <svg onload=alert(1)><a href='javascript:alert(1)'>a</a>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe><style>body{display:none}</style>",
    "[link](javascript:alert(1)) ![image](x\" onerror=\"alert(1)) <javascript:alert(1)> [a]: javascript:alert(1)",
    "**<b onclick=alert(1)>bold</b>** `<script>alert(1)</script>` *<i>*",
    "# <script>alert(1)</script>",
    "- <details open ontoggle=alert(1)>",
    "```html\"><script>alert(1)</script>\n<script>alert(1)</script>\n```",
    "&lt;script&gt;alert(1)&lt;/script&gt; <base href=//evil.example/> <meta http-equiv=refresh content=0>",
    "<form action=//evil.example><input autofocus onfocus=alert(1)></form> {{constructor}} ${alert(1)}",
].join("\n\n");

walk("nothing in an answer, a question or a title is executed or becomes an element", {}, async (page, user) => {
    await ask(page, `<img src=x onerror=alert(1)> [[stub text=${HOSTILE}]]`);
    await awaitEnd(page);
    const check = async () => {
        const text = await bodyOf(lastAnswer(page));
        assert.ok(text.includes("<script>window.hit=1;alert(1)</script>"), text);
        assert.ok(text.includes("[link](javascript:alert(1))"), text);
        const tags = await lastAnswer(page).locator(".markdown *").evaluateAll((nodes) =>
            [...new Set(nodes.map((node) => node.localName))].sort());
        const known = ["button", "code", "div", "em", "h3", "li", "p", "pre", "span", "strong", "svg", "ul", "use"];
        assert.deepEqual(tags.filter((tag) => !known.includes(tag)), []);
        const handlers = await page.evaluate(() => [...document.querySelectorAll("*")].flatMap((node) =>
            [...node.attributes].filter(({ name, value }) => /^on|^srcdoc$/.test(name) || /^\s*javascript:/.test(value))
                .map(({ name }) => `${node.localName} ${name}`)));
        assert.deepEqual(handlers, []);
        assert.equal(await page.evaluate(() => window.hit), undefined);
    };
    await check();
    await until("the chat has its title", async () => (await sessionsOf(user))[0]?.title);
    await page.reload(); // as stored
    await awaitText(page, "window.hit");
    await check();
});
