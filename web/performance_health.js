/**
 * Is it well? The samples of the last minute in words.
 *
 * Pure: no clock, no page. A finding says what is wrong without figures (`what`, which is read out when
 * it changes) and with them (`detail`).
 */

const MINUTE = 60_000;

const sum = (samples, of) => samples.reduce((total, sample) => total + of(sample), 0);
const plural = (count, word) => `${count.toLocaleString('en')} ${word}${count === 1 ? '' : 's'}`;

/** @returns {{level: 'good'|'look'|'bad', findings: {level: string, what: string, detail: string}[]}} the worst first */
export function judge(samples) {
    const now = samples.at(-1);
    const minute = samples.filter((sample) => sample.time_ms > now.time_ms - MINUTE);
    const findings = [];
    const find = (level, what, detail) => findings.push({ level, what, detail });

    judgeSaving(now, minute, samples, find);
    judgeUpstreams(now, minute, find);
    judgeTurns(minute, find);
    if (now.draining) {
        find('look', 'Shutting down', 'New turns are refused; running ones come to their end.');
    }
    if (now.redis_links_up < now.threads) {
        find('look', 'Redis is away', `${now.redis_links_up} of ${now.threads} connections are up: answers go on, slower.`);
    }
    if (now.database_links_up < now.threads) {
        find('look', 'PostgreSQL cannot be read', `${now.database_links_up} of ${now.threads} connections are up.`);
    }
    findings.sort((a, b) => (b.level === 'bad') - (a.level === 'bad'));
    return { level: findings[0]?.level ?? 'good', findings };
}

function judgeSaving(now, minute, samples, find) {
    const { journal, writer } = now;
    if (journal.state === 'failed') {
        find('bad', 'The journal’s disk refuses', 'No new turn is accepted until it works again.');
    } else if (journal.state === 'nearly_full') {
        find('bad', 'The journal’s disk is full', 'No new turn is accepted until there is room.');
    }
    const letters = sum(samples, (sample) => sample.writer.dead_letters);
    if (letters > 0) {
        find('bad', 'PostgreSQL refused records for good', `${plural(letters, 'record')}: see sluice dead-letter list.`);
    }
    if (!writer.connected) {
        find('look', 'PostgreSQL takes no messages', `${plural(journal.uncommitted_records, 'record')} wait in the journal; nothing is lost.`);
    } else if (journal.oldest_uncommitted_s > 5) {
        find('look', 'The writer lags', `The oldest message waits for ${journal.oldest_uncommitted_s.toFixed(0)} s.`);
    }
    const failures = sum(minute, (sample) => sample.writer.failures + sample.journal.write_errors);
    if (failures > 0) {
        find('look', 'Writes fail', `${plural(failures, 'failure')} in the last minute.`);
    }
}

function judgeUpstreams(now, minute, find) {
    const open = now.upstreams.filter((upstream) => upstream.breaker === 'open').map((upstream) => upstream.name);
    if (open.length > 0) {
        const all = open.length === now.upstreams.length;
        find(all ? 'bad' : 'look', all ? 'No model server answers' : 'A model server is left alone', `Too many failures: ${open.join(', ')}.`);
    }
    const failovers = sum(minute, (sample) => sample.upstream_failovers + sample.upstream_retries);
    if (failovers > 0) {
        find('look', 'Model requests were sent again', `${plural(failovers, 'time')} in the last minute.`);
    }
}

function judgeTurns(minute, find) {
    const failed = sum(minute, (sample) => sample.turns.failed);
    const refused = sum(minute, (sample) => sample.turns.refused);
    const all = failed + sum(minute, ({ turns }) => turns.complete + turns.stopped + turns.cancelled + turns.interrupted);
    if (failed > 0) {
        find(failed > all / 20 ? 'bad' : 'look', 'Turns fail', `${failed} of ${plural(all, 'turn')} in the last minute.`);
    }
    if (refused > 0) {
        find('look', 'Turns are refused', `${plural(refused, 'turn')} in the last minute.`);
    }
}
