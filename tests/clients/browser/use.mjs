// Who uses the page, and with what: light and dark, a phone, a keyboard alone, a screen reader.

import assert from "node:assert/strict";

import { ask, awaitEnd, awaitText, bodyOf, counted, field, lastAnswer, until, walk } from "./support.mjs";

const PHONE = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
const WIDE = `${"unbroken".repeat(60)}\n\n\`\`\`\n${"code ".repeat(80)}\n\`\`\`\n\n- ${"item".repeat(90)}`;

/* ------------------------------------------------------------------ light and dark */

/** How light the page's background is: 0 to 255. */
const lightness = (page) => page.evaluate(() => {
    const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
    return (red + green + blue) / 3;
});

const isDark = async (page) => await lightness(page) < 60;

walk("dark follows the system, and the button's choice is remembered", { colorScheme: "dark" }, async (page) => {
    const button = page.getByRole("button", { name: "Dark colours" });
    assert.ok(await isDark(page));
    await page.emulateMedia({ colorScheme: "light" });
    assert.ok(!await isDark(page));
    assert.equal(await button.getAttribute("aria-pressed"), "false");

    await button.click();
    assert.ok(await isDark(page));
    assert.equal(await button.getAttribute("aria-pressed"), "true");
    await page.reload();
    assert.ok(await isDark(page), "after a reload");

    await button.click(); // as the system: follows it again
    assert.ok(!await isDark(page));
    await page.emulateMedia({ colorScheme: "dark" });
    assert.ok(await isDark(page));
});

for (const colorScheme of ["light", "dark"]) {
    walk(`text can be read on its background (${colorScheme})`, { colorScheme }, async (page) => {
        await ask(page, "[[stub fin_after=2 tokens=9]]");
        await awaitEnd(page);
        // WCAG 2.2, 1.4.3: 4.5 to 1, of everything that shows text of its own
        const poor = await page.evaluate(() => {
            const parse = (text) => text.match(/[\d.]+/g).map(Number);
            const over = (top, bottom) => top.slice(0, 3).map((c, i) => c * (top[3] ?? 1) + bottom[i] * (1 - (top[3] ?? 1)));
            const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
            const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
            const backOf = (node) => node
                ? over(parse(getComputedStyle(node).backgroundColor), backOf(node.parentElement))
                : [255, 255, 255];
            return [...document.querySelectorAll("body *")].filter((node) =>
                node.checkVisibility() && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
                .map((node) => {
                    const back = backOf(node);
                    const pair = [luminance(over(parse(getComputedStyle(node).color), back)), luminance(back)].sort((a, b) => a - b);
                    return [node.textContent, (pair[1] + 0.05) / (pair[0] + 0.05)];
                }).filter(([, ratio]) => ratio < 4.5);
        });
        assert.deepEqual(poor, []);
    });
}

/* ------------------------------------------------------------------ phone */

walk("a phone: nothing is wider than the screen, the chats are a drawer", PHONE, async (page) => {
    const overflow = () => page.evaluate(() => {
        const scroller = document.getElementById("scroller");
        return document.documentElement.scrollWidth > innerWidth || scroller.scrollWidth > scroller.clientWidth;
    });
    assert.ok(!await overflow(), "the welcome fits");
    await ask(page, `${"question".repeat(60)} [[stub text=${WIDE}]]`);
    await awaitEnd(page);
    assert.ok(!await overflow(), "the answer fits");
    const composer = await page.locator("#composer").boundingBox();
    assert.ok(composer.y + composer.height <= PHONE.viewport.height, "the field is on the screen");

    const side = page.getByRole("complementary", { name: "Chats" });
    const menu = page.getByRole("button", { name: "Chats" });
    await side.waitFor({ state: "hidden" });
    await menu.tap();
    await side.waitFor();
    assert.equal(await page.locator("#menu").getAttribute("aria-expanded"), "true");
    assert.ok(await page.locator("main").evaluate((main) => main.inert), "the rest is out of the keyboard's way");
    await page.keyboard.press("Escape");
    await side.waitFor({ state: "hidden" });
    assert.equal(await page.evaluate(() => document.activeElement.id), "menu");

    await menu.tap();
    await page.touchscreen.tap(345, 400); // beside it
    await side.waitFor({ state: "hidden" });
    await menu.tap();
    await side.getByRole("button", { name: "New chat" }).tap();
    await side.waitFor({ state: "hidden" });
    await page.getByText("What would you like to know?").waitFor();
});

/* ------------------------------------------------------------------ keyboard alone */

/** The name of what has the focus, and whether one can see that it has. */
const focused = (page) => page.evaluate(() => {
    const node = document.activeElement;
    const shown = node.id === "message" ? node.closest(".box") : node;
    const style = getComputedStyle(shown);
    return {
        name: node.getAttribute("aria-label") || node.labels?.[0]?.textContent || node.textContent.trim(),
        seen: style.outlineStyle !== "none" || node.id === "message", // its box changes colour
    };
});

walk("everything can be done with the keyboard", {}, async (page) => {
    const press = (key) => page.keyboard.press(key);
    await page.locator(".skip").focus(); // the first thing on the page
    const skip = await page.locator(".skip").boundingBox();
    assert.ok(skip.y >= 0, "the link shows itself");
    await press("Enter");
    assert.equal((await focused(page)).name, "Message");

    await page.keyboard.type("one");
    await press("Shift+Enter");
    await page.keyboard.type("two [[stub tokens=500 gap=30]]");
    assert.ok((await field(page).inputValue()).startsWith("one\ntwo"));
    await press("Enter");
    await awaitText(page, "tok2");
    assert.equal((await focused(page)).name, "Message", "the field keeps the focus");
    await press("Escape");
    await lastAnswer(page).getByText("Stopped.").waitFor();

    const order = [];
    await page.locator(".skip").focus();
    while (await page.evaluate(() => document.activeElement !== document.body)) {
        order.push(await focused(page));
        await press("Tab");
    }
    assert.deepEqual(order.filter(({ seen }) => !seen), []);
    const names = order.map(({ name }) => name.replace(/“.*”/s, "“…”"));
    assert.deepEqual(names, [
        "Skip to the message field", "New chat", "one", "Rename “…”", "Delete “…”", "Sign out", "Dark colours",
        "Conversation", names.at(-3), "Message", "Documents",
    ]);
    assert.match(names.at(-3), /^First token/); // unfolds the stages

    await page.getByRole("button", { name: /^Rename/ }).focus();
    await press("Enter");
    await page.keyboard.type("By keyboard");
    await press("Enter");
    await page.getByRole("button", { name: "By keyboard", exact: true }).waitFor();
    await page.getByRole("button", { name: "Delete “By keyboard”" }).focus();
    await press("Enter");
    await page.getByRole("dialog", { name: "Delete this chat?" }).waitFor();
    await press("Tab");
    assert.equal((await focused(page)).name, "Delete");
    await press("Enter");
    await page.getByText("No chats yet.").waitFor();
    assert.notEqual(await page.evaluate(() => document.activeElement.localName), "body");
});

/* ------------------------------------------------------------------ screen reader */

walk("a screen reader is told of an answer once, not of every token", {}, async (page) => {
    await page.evaluate(() => {
        window.told = [];
        const live = "[aria-live]:not([aria-live=off]), [role=status], [role=alert]";
        new MutationObserver((changes) => {
            for (const { target } of changes) {
                const region = (target.closest ? target : target.parentElement)?.closest(live);
                if (region?.textContent) {
                    window.told.push(region.textContent);
                }
            }
        }).observe(document.body, { subtree: true, childList: true, characterData: true });
    });
    await ask(page, "[[stub tokens=40 gap=10]]");
    await awaitText(page, "tok5");
    assert.equal(await lastAnswer(page).getAttribute("aria-busy"), "true");
    await awaitEnd(page);
    await until("the whole answer is told", () => page.evaluate(() => window.told.length > 1));
    assert.deepEqual(await page.evaluate(() => window.told), ["The answer is arriving.", counted(40)]);
    assert.equal(await bodyOf(lastAnswer(page)), counted(40));
});

walk("everything has a name and a place", {}, async (page) => {
    await ask(page, "hello [[stub text=Some\n\n```c\nint x;\n```\n\ncode]]");
    await awaitEnd(page);
    const tree = await page.locator("body").ariaSnapshot();
    for (const part of [
        "complementary \"Chats\"", "navigation \"Earlier chats\"", "main", "heading \"Sluice\" [level=1]",
        "region \"Conversation\"", "article \"You\"", "article \"Answer\"", "region \"Code\"",
        "textbox \"Message\"", "button \"Send\"", "switch \"Documents\"",
    ]) {
        assert.ok(tree.includes(part), `${part} is missing in\n${tree}`);
    }
    assert.doesNotMatch(tree, /(button|textbox|switch|link|dialog)( \[[a-z=]+\])*:?$/m, "one has no name");
});
