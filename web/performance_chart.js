/**
 * One card: a legend with the newest values, curves over 15 minutes, and the same as a table.
 *
 * A series is `{name, of(sample), rate}`: `of` gives a number or null (nothing to show). The scale ends at
 * `ceiling`, or above all values and `least`. Curves break where there is no value or no sample. The plot is one SVG path per series, drawn anew with every sample.
 */

export const SPAN = 15 * 60_000;

const WIDTH = 900;
const HEIGHT = 100;
const GAP = 2_500; /* ms without a sample: nobody knows what was */
const FRESH = 10_000; /* ms for which a value counts as the newest one */
const LOG_LOW = 0.1;

export function node(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
        made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
}

export function svg(name, attributes = {}, ...children) {
    const made = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) {
        made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
}

export function makeCard({ title, note, format, series, ceiling, log, least = 1 }) {
    const curves = series.map((_, i) => svg('path', { class: `curve curve${i}` }));
    const values = series.map(() => node('b'));
    const grid = svg('path', { class: 'grid' });
    const picture = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' }, grid, ...curves.toReversed());
    const top = node('span', { class: 'scale top', 'aria-hidden': 'true' });
    const low = node('span', { class: 'scale low', 'aria-hidden': 'true' }, log ? format(LOG_LOW) : '0');
    const ends = node('div', { class: 'ends', 'aria-hidden': 'true' }, node('span', {}, '15 min ago'), node('span', {}, 'now'));
    const plot = node('div', { class: 'plot' }, picture, top, low, ends);
    const rows = node('tbody');
    const table = node('table', { 'aria-label': title }, tableHead(series), rows);
    const scroll = node('div', { class: 'scroll', tabindex: '0' }, table);
    const legend = node('ul', { class: 'legend' }, ...series.map(({ name }, i) => node('li', {}, key(i), name, ' ', values[i])));
    const card = node('section', { class: 'card', 'aria-label': title }, node('h2', {}, title, node('span', {}, ` ${note ?? ''}`)), legend, plot, scroll);

    function draw(samples, now, asTable) {
        const newest = series.map(({ of }) => newestOf(samples, of, now));
        newest.forEach((value, i) => { values[i].textContent = value === null ? '–' : format(value); });
        picture.setAttribute('aria-label', `${title}, last 15 minutes. Now: `
            + series.map(({ name }, i) => `${name} ${newest[i] === null ? 'none' : format(newest[i])}`).join(', '));
        plot.hidden = asTable;
        scroll.hidden = !asTable;
        if (asTable) {
            rows.replaceChildren(...tableRows(samples, series, now, format));
            return;
        }
        const high = ceiling ?? niceCeiling(samples, series, log, least);
        const height = log
            ? (value) => HEIGHT * (1 - Math.max(0, Math.log10(value / LOG_LOW) / Math.log10(high / LOG_LOW)))
            : (value) => HEIGHT * (1 - value / high);
        series.forEach(({ of }, i) => curves[i].setAttribute('d', pathOf(samples, of, now, height)));
        grid.setAttribute('d', gridOf(high, log, height));
        top.textContent = format(high);
    }

    return { card, draw };
}

function key(i) {
    return svg('svg', { viewBox: '0 0 28 12', 'aria-hidden': 'true' }, svg('path', { class: `curve curve${i}`, d: 'M1 6h26' }));
}

/** Where a moment lies, from 0 (15 minutes ago) to `WIDTH` (now). */
export const across = (time, now) => (WIDTH * (time - now + SPAN) / SPAN).toFixed(1);

function pathOf(samples, of, now, height) {
    let path = '';
    let last = null;
    for (const sample of samples) {
        const value = of(sample);
        if (value === null || value === undefined) {
            last = null;
            continue;
        }
        const joined = last !== null && sample.time_ms - last < GAP;
        path += `${joined ? 'L' : 'M'}${across(sample.time_ms, now)} ${height(value).toFixed(1)}${joined ? '' : 'h0'}`;
        last = sample.time_ms;
    }
    return path;
}

function gridOf(high, log, height) {
    let path = '';
    for (let minute = 5; minute < 15; minute += 5) {
        path += `M${WIDTH * minute / 15} 0V${HEIGHT}`;
    }
    const lines = log ? [1, 10, 100, 1000, 10000].filter((value) => value < high) : [high / 2];
    return path + lines.map((value) => `M0 ${height(value).toFixed(1)}H${WIDTH}`).join('');
}

/* The next of 1, 2, 5, 10, 20, ... that nothing exceeds; with a logarithm, the next power of ten. */
function niceCeiling(samples, series, log, least) {
    let most = least;
    for (const sample of samples) {
        for (const { of } of series) {
            most = Math.max(most, of(sample) ?? 0);
        }
    }
    const power = 10 ** Math.floor(Math.log10(most));
    const step = (log ? [1, 10] : [1, 2, 5, 10]).find((factor) => factor * power >= most * 0.999);
    return step * power;
}

function newestOf(samples, of, now) {
    for (let i = samples.length - 1; i >= 0 && samples[i].time_ms > now - FRESH; i--) {
        const value = of(samples[i]);
        if (value !== null && value !== undefined) {
            return value;
        }
    }
    return null;
}

function tableHead(series) {
    return node('thead', {}, node('tr', {}, node('th', { scope: 'col' }, 'Minutes ago'), ...series.map(({ name }) => node('th', { scope: 'col' }, name))));
}

function tableRows(samples, series, now, format) {
    const rows = [];
    for (let ago = 0; ago < 15; ago++) {
        const minute = samples.filter(({ time_ms: time }) => time <= now - ago * 60_000 && time > now - (ago + 1) * 60_000);
        const cells = series.map(({ of, rate }) => {
            const values = minute.map(of).filter((value) => value !== null && value !== undefined);
            if (values.length === 0) {
                return '–';
            }
            return format(rate ? values.reduce((a, b) => a + b) / values.length : Math.max(...values));
        });
        rows.push(node('tr', {}, node('th', { scope: 'row' }, String(ago)), ...cells.map((cell) => node('td', {}, cell))));
    }
    return rows;
}
