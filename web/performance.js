/**
 * The performance page: asks for what is new once a second and shows the last 15 minutes.
 *
 * In order: poll (what the gateway says, or that it does not answer), show (status, model servers, cards).
 * A gateway that was started again (`started_ms`) counts from 1 anew; what was seen of the one before stays
 * on the curves. Moments are the gateway's, so the clocks need not agree.
 */

import { SPAN, across, makeCard, node, svg } from './performance_chart.js';
import { judge } from './performance_health.js';

const PERIOD = 1_000; /* ms */
const PATIENCE = 5_000; /* ms for an answer */

const find = (id) => document.getElementById(id);
const per = (count) => (sample) => count(sample) / sample.seconds;

const number = (value) => value.toLocaleString('en', { maximumSignificantDigits: value < 1000 ? 3 : 4 });
const duration = (ms) => (ms < 1000 ? `${number(ms)} ms` : `${number(ms / 1000)} s`);
const seconds = (s) => duration(1000 * s);
const bytes = (count) => (count < 1e6 ? `${number(count / 1e3)} kB` : `${number(count / 1e6)} MB`);
const percent = (share) => `${number(100 * share)} %`;

const rate = (name, count) => ({ name, of: per(count), rate: true });
const quantile = (name) => ({ name, of: (sample) => sample.ttft_ms[name] });
const stage = (name, key) => ({ name, of: (sample) => sample.stages_p95_ms[key] });

const cards = [
    { title: 'Time to first token', note: 'per second', format: duration, series: ['p50', 'p95', 'p99'].map(quantile) },
    {
        title: 'Turns per second', note: 'by result', format: number,
        series: ['complete', 'stopped', 'failed', 'cancelled', 'interrupted', 'refused'].map((name) => rate(name, (sample) => sample.turns[name])),
    },
    { title: 'Active turns', format: number, series: [{ name: 'running', of: (sample) => sample.turns.active }] },
    {
        title: 'Stages of a turn', note: 'p95, logarithmic', format: duration, log: true, least: 10,
        series: [
            stage('context', 'context'), stage('connect', 'connect'), stage('first token', 'upstream_first_token'),
            stage('first byte', 'upstream_first_byte'), stage('added by us', 'added'), stage('save', 'save'),
        ],
    },
    { title: 'Tokens per second', note: 'as turns end', format: number, series: [rate('tokens', (sample) => sample.tokens)] },
    { title: 'Cache hits', note: 'profiles and histories', format: percent, ceiling: 1, series: [{ name: 'of all reads', of: (sample) => sample.cache_hit_rate, rate: true }] },
    {
        title: 'Not in PostgreSQL yet', note: 'records', format: number,
        series: [
            { name: 'in the journal', of: (sample) => sample.journal.uncommitted_records },
            { name: 'waiting in memory', of: (sample) => sample.writer.records_waiting },
        ],
    },
    { title: 'Writer lag', note: 'oldest record not in PostgreSQL', format: seconds, series: [{ name: 'age', of: (sample) => sample.journal.oldest_uncommitted_s }] },
    { title: 'Rows per second', note: 'into PostgreSQL', format: number, series: [rate('rows', (sample) => sample.writer.rows)] },
    {
        title: 'Write failures', note: 'per second', format: number,
        series: [
            rate('writer', (sample) => sample.writer.failures), rate('journal', (sample) => sample.journal.write_errors),
            rate('dead letters', (sample) => sample.writer.dead_letters),
        ],
    },
    {
        title: 'Asked again', note: 'per second', format: number,
        series: [rate('retries', (sample) => sample.upstream_retries), rate('failovers', (sample) => sample.upstream_failovers)],
    },
    { title: 'Turn logs', note: 'memory', format: bytes, least: 1e6, series: [{ name: 'size', of: (sample) => sample.log_bytes }] },
].map(makeCard);

let samples = [];
let started = null;
let since = 0;
let answeredAt = null; /* performance.now() of the last answer */
let said = null; /* the headline as it was last read out */

/* ------------------------------------------------------------------ polling */

async function poll() {
    try {
        let page = await ask();
        if (page.started_ms !== started && since > 0) {
            since = 0; /* another process: all that it has */
            page = await ask();
        }
        take(page);
        answeredAt = performance.now();
        show(true);
    } catch {
        show(false);
    }
    setTimeout(poll, PERIOD);
}

async function ask() {
    const response = await fetch(`/api/v1/performance?since=${since}`, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) {
        throw new Error(String(response.status));
    }
    return response.json();
}

function take(page) {
    started = page.started_ms;
    since = page.newest;
    samples.push(...page.samples);
    samples = samples.filter((sample) => sample.time_ms > samples.at(-1).time_ms - SPAN);
}

/* ------------------------------------------------------------------ showing */

function show(connected) {
    const silent = answeredAt === null ? 0 : performance.now() - answeredAt;
    const newest = samples.at(-1);

    showStatus(connected, silent);
    if (newest === undefined) {
        return;
    }
    const now = newest.time_ms + silent;
    const asTable = find('tables').getAttribute('aria-pressed') === 'true';
    find('uptime').textContent = `up ${uptime(Math.max(0, newest.time_ms - started))}`;
    showUpstreams(newest, now);
    for (const { draw } of cards) {
        draw(samples, now, asTable);
    }
}

function showStatus(connected, silent) {
    if (!connected) {
        const detail = answeredAt === null ? 'The gateway has not answered yet.' : `The gateway has not answered for ${Math.round(silent / 1000)} s.`;
        say('bad', 'No connection', [], `${detail} Trying again every second.`);
    } else if (samples.length > 0) {
        const { level, findings } = judge(samples);
        const word = { good: 'Healthy', look: 'Look here', bad: 'Trouble' }[level];
        say(level, findings.length > 0 ? `${word}: ${lowerFirst(findings[0].what)}` : word, findings, summary());
    }
}

function say(level, headline, findings, text) {
    if (headline !== said) {
        find('headline').textContent = headline; /* only when it changes: it is read out */
        document.title = `${headline} · Sluice`;
        said = headline;
    }
    find('status').dataset.level = level;
    find('findings').replaceChildren(...findings.map(({ what, detail }) => node('li', {}, node('strong', {}, `${what}:`), ` ${detail}`)));
    find('summary').textContent = text;
}

const lowerFirst = (text) => (/^[A-Z][a-z]* /.test(text) && !/^(Redis|Postgre)/.test(text) ? text[0].toLowerCase() + text.slice(1) : text);

function summary() {
    const newest = samples.at(-1);
    const minute = samples.filter((sample) => sample.time_ms > newest.time_ms - 60_000);
    const ended = minute.reduce((total, { turns }) => total + turns.complete + turns.stopped + turns.cancelled + turns.interrupted + turns.failed, 0);
    const times = minute.map((sample) => sample.ttft_ms.p95).filter((ms) => ms !== null).sort((a, b) => a - b);
    const typical = times.length > 0 ? `, time to first token p95 about ${duration(times[times.length >> 1])}` : '';
    return `In the last minute ${ended.toLocaleString('en')} turns ended${typical}; ${newest.turns.active.toLocaleString('en')} run now.`;
}

function uptime(ms) {
    const minutes = Math.floor(ms / 60_000);
    return minutes < 60 ? `${minutes} min` : minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 1440)} days`;
}

/* One lane per model server: its breaker over time, and where requests failed. */
function showUpstreams(newest, now) {
    const words = { closed: 'in use', open: 'left alone', half_open: 'on trial' };
    find('lanes').replaceChildren(...newest.upstreams.map(({ name, breaker }) => {
        const minute = samples.filter((sample) => sample.time_ms > newest.time_ms - 60_000).map((sample) => upstreamOf(sample, name));
        const count = (key) => minute.reduce((total, upstream) => total + (upstream?.[key] ?? 0), 0).toLocaleString('en');
        const state = `${words[breaker]}: ${count('requests')} requests, ${count('failures')} failed in a minute`;
        return node('li', { 'data-breaker': breaker }, node('b', {}, name), node('span', {}, state), lane(name, now));
    }));
}

function lane(name, now) {
    const paths = { closed: '', failing: '', open: '' };
    for (const sample of samples) {
        const upstream = upstreamOf(sample, name);
        if (upstream !== undefined) {
            const kind = upstream.breaker !== 'closed' ? 'open' : upstream.failures > 0 ? 'failing' : 'closed';
            paths[kind] += `M${across(sample.time_ms - 1000 * sample.seconds, now)} ${{ closed: 17, failing: 13, open: 7 }[kind]}H${across(sample.time_ms, now)}`;
        }
    }
    return svg('svg', { viewBox: '0 0 900 20', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
        ...Object.entries(paths).map(([kind, d]) => svg('path', { class: kind, d })));
}

const upstreamOf = (sample, name) => sample.upstreams.find((upstream) => upstream.name === name);

/* ------------------------------------------------------------------ start */

find('cards').append(...cards.map(({ card }) => card));
find('tables').addEventListener('click', ({ target }) => {
    target.setAttribute('aria-pressed', String(target.getAttribute('aria-pressed') !== 'true'));
    show(said !== 'No connection');
});
poll();
