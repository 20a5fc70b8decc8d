/**
 * The list of chats in the side bar: open, rename, delete, load more.
 *
 * The gateway's list is the truth, with one exception: a chat that has just begun is shown at once,
 * although its rows may not have reached the database yet. Calls `on.open(id)`, `on.rename(id,
 * title)` and `on.remove(id)`, where renaming returns a promise, and `on.unauthorized()`. Uses `api`
 * for the list alone.
 */

import { element, icon, iconButton } from "./dom.js";

export class SessionList {
    #root;
    #api;
    #on;
    #sessions = []; // {id, title, created_at, updated_at}, newest activity first
    #begun = new Set(); // ids that the gateway has not listed yet
    #gone = new Set(); // ids that were deleted here: a list that was asked for before may still have them
    #busy = new Set(); // ids whose answer is arriving
    #current = "";
    #next = ""; // cursor of the rows after the last
    #failure = "";
    #editing = false; // a row is a form: drawing must wait

    constructor(root, api, on) {
        this.#root = root;
        this.#api = api;
        this.#on = on;
    }

    /** Loads the newest sessions again. Never rejects: a failure is shown in the list. */
    async refresh() {
        try {
            const { rows, next } = await this.#api.listSessions("");
            rows.forEach((row) => this.#begun.delete(row.id));
            const begun = this.#sessions.filter((session) => this.#begun.has(session.id));
            this.#sessions = [...begun, ...rows.filter((row) => !this.#gone.has(row.id))];
            this.#next = next;
            this.#failure = "";
        } catch (error) {
            this.#fail(error);
        }
        this.#draw();
    }

    #fail(error) {
        this.#failure = error.message;
        if (error.status === 401) {
            this.#on.unauthorized();
        }
    }

    async #loadMore() {
        try {
            const { rows, next } = await this.#api.listSessions(this.#next);
            this.#sessions.push(...rows.filter((row) => !this.#find(row.id) && !this.#gone.has(row.id)));
            this.#next = next;
        } catch (error) {
            this.#fail(error);
        }
        this.#draw();
    }

    /** A chat was begun here; `title` is shown until it has one of its own. */
    begin(id, title) {
        if (!this.#find(id)) {
            this.#begun.add(id);
            this.#sessions.unshift({ id, title });
        }
        this.#draw();
    }

    /** The stored title; "" when it has none; undefined when the gateway has not listed it, or no more. */
    titleOf(id) {
        return this.#begun.has(id) || this.#gone.has(id) ? undefined : this.#find(id)?.title ?? "";
    }

    /** What the chat is called on this page. */
    nameOf(id) {
        const session = this.#find(id);
        return session ? nameOf(session) : "New chat";
    }

    setTitle(id, title) {
        const session = this.#find(id);
        if (session) {
            session.title = title;
        }
        this.#draw();
    }

    setCurrent(id) {
        this.#current = id;
        this.#draw();
    }

    setBusy(id, busy) {
        if (busy) {
            this.#busy.add(id);
        } else {
            this.#busy.delete(id);
        }
        this.#draw();
    }

    forget(id) {
        this.#begun.delete(id);
        this.#gone.add(id);
        this.#sessions = this.#sessions.filter((session) => session.id !== id);
        this.#draw();
    }

    clear() {
        this.#sessions = [];
        this.#begun.clear();
        this.#next = "";
        this.#failure = "";
        this.#draw();
    }

    #find(id) {
        return this.#sessions.find((session) => session.id === id);
    }

    /* -------------------------------------------------------------- drawing */

    #draw() {
        if (this.#editing) {
            return; // the form draws when it closes
        }
        const focused = document.activeElement?.closest?.("[data-session]")?.dataset.session;
        const rows = this.#sessions.map((session) => this.#row(session));
        this.#root.replaceChildren(...rows, ...this.#tail());
        if (focused) {
            this.#root.querySelector(`[data-session="${CSS.escape(focused)}"] .open`)?.focus();
        }
    }

    #tail() {
        const tail = [];
        if (this.#failure) {
            const retry = () => this.refresh();
            tail.push(element("li", { class: "list-note" },
                element("p", { role: "status" }, `The list is not available. ${this.#failure}`),
                element("button", { type: "button", class: "quiet", onclick: retry }, "Try again")));
        } else if (this.#sessions.length === 0) {
            tail.push(element("li", { class: "list-note" }, element("p", {}, "No chats yet.")));
        } else if (this.#next) {
            const more = () => this.#loadMore();
            tail.push(element("li", {},
                element("button", { type: "button", class: "quiet more", onclick: more }, "Older chats")));
        }
        return tail;
    }

    #row(session) {
        const name = nameOf(session);
        const current = session.id === this.#current;
        const open = element("button", {
            type: "button",
            class: "open",
            title: name,
            "aria-current": current ? "page" : undefined,
            onclick: () => this.#on.open(session.id),
        }, name);
        if (this.#busy.has(session.id)) {
            const spoken = element("span", { class: "spoken" }, " (answering)");
            open.append(element("span", { class: "busy" }, spoken));
        }
        const row = element("li", { class: "session", "data-session": session.id });
        row.classList.toggle("current", current);
        row.append(open,
            iconButton("pen", `Rename “${name}”`, () => this.#edit(row, session)),
            iconButton("bin", `Delete “${name}”`, () => this.#on.remove(session.id)));
        return row;
    }

    /** Turns a row into a field: Enter or leaving it keeps the name, Escape does not. */
    #edit(row, session) {
        const field = element("input", { type: "text", maxlength: 85, "aria-label": "Name of the chat" });
        field.value = nameOf(session); // 85 UTF-16 units fit the gateway's 256 bytes in any script
        const close = (keep) => {
            if (!this.#editing) {
                return; // removing the field also takes its focus away
            }
            this.#editing = false;
            const title = field.value.trim();
            if (keep && title !== "" && title !== nameOf(session)) {
                const before = session.title;
                session.title = title;
                this.#on.rename(session.id, title).catch(() => this.setTitle(session.id, before));
            }
            this.#draw();
        };
        field.addEventListener("keydown", (event) => {
            if (event.key === "Enter" && !event.isComposing) {
                event.preventDefault();
                close(true);
            } else if (event.key === "Escape") {
                event.stopPropagation(); // on a phone Escape also closes the side bar
                close(false);
            }
        });
        field.addEventListener("blur", () => close(true));
        this.#editing = true;
        row.replaceChildren(field);
        field.select();
        field.focus();
    }
}

function nameOf({ title, created_at: createdAt }) {
    if (title) {
        return title;
    }
    const created = new Date(createdAt ?? Number.NaN);
    return Number.isNaN(created.getTime())
        ? "Untitled chat"
        : `Chat of ${created.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })}`;
}
