/**
 * Server-Sent Events, decoded as they arrive: bytes in, events out.
 *
 * Pure: no network, no clock, no page, so a test can split every input at every byte. The rules are
 * those of the HTML standard, section 9.2.6 "Interpreting an event stream": UTF-8 with one byte
 * order mark dropped, lines that end in LF, CR or CRLF, comments, an event at each blank line that
 * follows data, and nothing for a block that the end of the stream cut off.
 */

/** One event may not be larger than this; the standard sets no limit, so we do. */
export const EVENT_MAX_CHARS = 1024 * 1024;

export class SseDecoder {
    #utf8 = new TextDecoder(); // keeps the bytes of a split character, drops the byte order mark
    #line = ""; // the line that has not ended yet
    #afterCr = false; // the text so far ends in CR: an LF right behind it is the same line end
    #type = "";
    #data = [];
    #size = 0;
    #lastId = "";

    /**
     * Takes the next bytes (Uint8Array, any split) and returns the events they complete, each
     * `{type, data, id}`. Throws RangeError when an event is larger than EVENT_MAX_CHARS.
     */
    push(bytes) {
        const events = [];
        let text = this.#utf8.decode(bytes, { stream: true });
        if (text === "") {
            return events;
        }
        if (this.#afterCr && text[0] === "\n") {
            text = text.slice(1);
        }
        this.#afterCr = text === "" ? false : text.endsWith("\r");

        let start = 0;
        for (const end of text.matchAll(/\r\n|\n|\r/g)) {
            this.#take(this.#line + text.slice(start, end.index), events);
            this.#line = "";
            start = end.index + end[0].length;
        }
        this.#line += text.slice(start);
        this.#checkSize(this.#line.length);
        return events;
    }

    /** One whole line. A blank one ends an event, if there was data. */
    #take(line, events) {
        if (line === "") {
            if (this.#data.length > 0) {
                const type = this.#type || "message";
                events.push({ type, data: this.#data.join("\n"), id: this.#lastId });
            }
            this.#type = "";
            this.#data = [];
            this.#size = 0;
            return;
        }
        if (line[0] === ":") {
            return; // a comment, such as the heartbeat `: hb`
        }
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        let value = colon < 0 ? "" : line.slice(colon + 1);
        if (value[0] === " ") {
            value = value.slice(1);
        }
        this.#set(field, value);
    }

    #set(field, value) {
        if (field === "data") {
            this.#checkSize(value.length);
            this.#size += value.length + 1;
            this.#data.push(value);
        } else if (field === "event") {
            this.#type = value;
        } else if (field === "id" && !value.includes("\0")) {
            this.#lastId = value;
        }
        // `retry` steers a reconnecting EventSource, which this is not; unknown fields are ignored.
    }

    #checkSize(more) {
        if (this.#size + more > EVENT_MAX_CHARS) {
            throw new RangeError("an event of the stream is too large");
        }
    }
}
