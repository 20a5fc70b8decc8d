/**
 * Light or dark: as the system says, until the button says otherwise, which this browser remembers.
 *
 * Back to what the system says is not a choice of its own: the page then follows the system again.
 * A plain script in the head, because a module runs only after the first picture is shown.
 */

"use strict";

{
    const KEY = "sluice.theme"; // "light" or "dark"; absent: as the system says
    const root = document.documentElement;
    const systemDark = matchMedia("(prefers-color-scheme: dark)");

    const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

    const apply = (theme) => {
        if (theme === "light" || theme === "dark") {
            root.dataset.theme = theme;
        } else {
            delete root.dataset.theme;
        }
        for (const meta of document.querySelectorAll("meta[name=theme-color]")) {
            const [, own] = /(light|dark)/.exec(meta.dataset.media ??= meta.media);
            meta.media = root.dataset.theme ? (root.dataset.theme === own ? "all" : "not all") : meta.dataset.media;
        }
    };

    apply(localStorage.getItem(KEY));

    document.addEventListener("DOMContentLoaded", () => {
        const button = document.getElementById("theme"); // a page need not have one
        const show = () => button?.setAttribute("aria-pressed", isDark());
        show();
        systemDark.addEventListener("change", show);
        button?.addEventListener("click", () => {
            const dark = !isDark();
            if (dark === systemDark.matches) {
                localStorage.removeItem(KEY);
            } else {
                localStorage.setItem(KEY, dark ? "dark" : "light");
            }
            apply(localStorage.getItem(KEY));
            show();
        });
        addEventListener("storage", ({ key }) => { // another tab has chosen
            if (key === KEY) {
                apply(localStorage.getItem(KEY));
                show();
            }
        });
    });
}
