// Loads a module of web/ with what it imports, without a browser.

import { readFileSync } from "node:fs";

/**
 * A data: URL makes it a module whatever the Node version thinks of a .js file; a relative import does
 * not work from there, so each becomes such a URL too. The same file has the same URL and is loaded once.
 */
function urlOf(name) {
    const source = readFileSync(new URL(`../../web/${name}`, import.meta.url), "utf8");
    const whole = source.replaceAll(/(?<= from ")\.\/([^"]+)(?=";)/g, (_, other) => urlOf(other));
    return `data:text/javascript;base64,${Buffer.from(whole).toString("base64")}`;
}

export const loadWebModule = (name) => import(urlOf(name));
