// The side bar: what chats are called, deleting them, older ones; signing in and out.

import assert from "node:assert/strict";

import {
    answers, ask, awaitEnd, awaitText, call, chatOf, lastAnswer, network, newUser, sessionsOf, tokenOf, until, walk,
} from "./support.mjs";

const rows = (page) => page.locator("#sessions .session");
const row = (page, name) => rows(page).filter({ hasText: name });
const namesOf = async (user) => (await sessionsOf(user)).map((session) => session.title).sort();

/** Two chats that the database has, called "Apples" and "Pears". */
async function twoChats(user) {
    const ids = [await chatOf(user, "[[stub text=Red ones]]"), await chatOf(user, "[[stub text=Green ones]]")];
    await until("both are listed", async () => (await sessionsOf(user)).length === 2);
    await call(user, "PATCH", `/chat/sessions/${ids[0]}`, { title: "Apples" });
    await call(user, "PATCH", `/chat/sessions/${ids[1]}`, { title: "Pears" });
}

walk("a chat is called after its first message, and can be opened again", {}, async (page, user) => {
    await ask(page, "What is a canal? [[stub tokens=2]]");
    await awaitEnd(page);
    await until("the title is stored", async () => (await namesOf(user))[0]?.startsWith("What is a canal?"));
    await page.getByRole("button", { name: "New chat" }).first().click();
    await page.getByText("What would you like to know?").waitFor();
    await row(page, "What is a canal?").getByRole("button").first().click();
    await awaitText(page, "tok1");
    assert.match(await page.title(), /^What is a canal/);
});

walk("renaming a chat", { prepare: twoChats }, async (page, user) => {
    await row(page, "Apples").hover();
    await page.getByRole("button", { name: "Rename “Apples”" }).click();
    const name = page.getByLabel("Name of the chat");
    await name.fill("<b>Cherries</b>");
    await name.press("Escape");
    await row(page, "Apples").waitFor();
    await page.getByRole("button", { name: "Rename “Apples”" }).click();
    await name.fill("<b>Cherries</b>");
    await name.press("Enter");
    await row(page, "<b>Cherries</b>").waitFor();
    await until("it is stored", async () => (await namesOf(user))[0] === "<b>Cherries</b>");
    await page.reload();
    await row(page, "<b>Cherries</b>").waitFor();
    assert.equal(await rows(page).count(), 2);
});

walk("deleting a chat, once it was confirmed", { prepare: twoChats }, async (page, user) => {
    await row(page, "Pears").getByRole("button").first().click();
    await awaitText(page, "Green ones");
    const remove = page.getByRole("button", { name: "Delete “Pears”" });
    const dialog = page.getByRole("dialog", { name: "Delete this chat?" });
    await remove.click();
    await dialog.getByRole("button", { name: "Keep it" }).click();
    await dialog.waitFor({ state: "hidden" });
    assert.deepEqual(await namesOf(user), ["Apples", "Pears"]);

    await remove.click();
    await dialog.getByText("“Pears” and all its messages").waitFor();
    await dialog.getByRole("button", { name: "Delete" }).click();
    await row(page, "Pears").waitFor({ state: "detached" });
    await page.getByText("What would you like to know?").waitFor(); // not the messages of what is gone
    assert.equal(await answers(page).count(), 0);
    assert.deepEqual(await namesOf(user), ["Apples"]);
    await page.reload();
    await row(page, "Apples").waitFor();
    assert.equal(await rows(page).count(), 1);
});

walk("deleting a chat whose answer is arriving ends the answer", {}, async (page, user) => {
    await ask(page, "[[stub tokens=500 gap=40]]");
    await awaitText(page, "tok2");
    await until("it is listed", async () => (await sessionsOf(user)).length === 1);
    await rows(page).first().hover();
    await page.getByRole("button", { name: /^Delete “/ }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await rows(page).waitFor({ state: "detached" });
    assert.deepEqual(await sessionsOf(user), []);
});

walk("older chats are loaded on demand", {
    async prepare(user) {
        for (let number = 0; number < 53; number += 1) {
            await chatOf(user, `${number} [[stub tokens=1]]`);
        }
        await until("all are listed", async () => (await sessionsOf(user)).length === 53);
    },
}, async (page) => {
    await rows(page).first().waitFor();
    assert.equal(await rows(page).count(), 50);
    const older = page.getByRole("button", { name: "Older chats" });
    await older.click();
    await older.waitFor({ state: "detached" });
    assert.equal(await rows(page).count(), 53);
    const ids = await rows(page).evaluateAll((nodes) => nodes.map((node) => node.dataset.session));
    assert.equal(new Set(ids).size, 53);
});

walk("earlier messages are loaded on demand", {
    async prepare(user) {
        const ask = (body) => call(user, "POST", "/chat/message/stream", { stream: false, ...body });
        const { session_id: id } = await ask({ message: "0 [[stub tokens=1]]" });
        for (let number = 1; number < 27; number += 1) {
            await ask({ session_id: id, message: `${number} [[stub tokens=1]]` });
        }
        const stored = async () => (await call(user, "GET", `/chat/sessions/${id}/messages?limit=200`)).messages;
        await until("all are stored", async () => (await stored()).length === 54);
    },
}, async (page) => {
    await rows(page).getByRole("button").first().click();
    await lastAnswer(page).waitFor();
    assert.equal(await answers(page).count(), 25);
    await page.getByRole("button", { name: "Earlier messages" }).click();
    await page.locator(".question").filter({ hasText: /^0 / }).waitFor();
    assert.equal(await answers(page).count(), 27);
});

walk("without a token it asks for one; a pasted link will do; signing out leaves nothing", {
    address: "/",
    prepare: twoChats,
    expected: /status of 401/,
}, async (page, user) => {
    const dialog = page.getByRole("dialog", { name: "Sign in" });
    const token = dialog.getByLabel("Token");
    const enter = () => dialog.getByRole("button", { name: "Sign in" }).click();
    await token.fill("not a token");
    await enter();
    await dialog.getByText("This is not a token.").waitFor();
    await token.fill("aa.bb.cc");
    await enter();
    await dialog.getByText("The gateway did not accept the token.").waitFor();
    await token.fill(`${network.url}/#token=${tokenOf(user)}`);
    await enter();
    await row(page, "Apples").waitFor();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText(`Signed in as ${user}`).waitFor();

    await row(page, "Apples").getByRole("button").first().click();
    await awaitText(page, "Red ones");
    await page.getByRole("button", { name: "Sign out" }).click();
    await dialog.waitFor();
    assert.equal(await rows(page).count(), 0);
    assert.equal(await answers(page).count(), 0);
    assert.deepEqual(await page.evaluate(() => Object.keys(sessionStorage)), []);
});

walk("another user's token in the address takes the page over", { prepare: twoChats }, async (page) => {
    await row(page, "Apples").waitFor();
    await page.goto(`/#token=${tokenOf(newUser())}`);
    await page.getByText("No chats yet.").waitFor();
    assert.equal(await rows(page).count(), 0);
});
