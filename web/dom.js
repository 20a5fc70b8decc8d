/**
 * Builds nodes. Text goes in as text nodes only; nothing on this page is ever parsed as HTML.
 */

/** element("p", {class: "x", onclick: f, hidden: true}, child, "text", [more, children], ...) */
export function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (name.startsWith("on")) {
            node.addEventListener(name.slice(2), value);
        } else if (value === true) {
            node.setAttribute(name, "");
        } else if (value !== false && value !== undefined) {
            node.setAttribute(name, value);
        }
    }
    for (const child of children.flat()) { // an answer may have more than fit in one call
        node.append(child);
    }
    return node;
}

/** One of the symbols at the top of index.html. */
export function icon(name) {
    const svgNamespace = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(svgNamespace, "svg");
    const use = document.createElementNS(svgNamespace, "use");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    use.setAttribute("href", `#icon-${name}`);
    svg.append(use);
    return svg;
}

/** A button that shows only an icon; `label` is its name and its tooltip. */
export function iconButton(name, label, onclick) {
    const attributes = { type: "button", class: "icon-button", title: label, onclick };
    return element("button", { ...attributes, "aria-label": label }, icon(name));
}
