// The fleet as it is: asked every two seconds, and at once when something happens.

import { Unauthorized, askForToken, el, get, listen, put, svg, text } from './common.js';

const LOOK_MS = 2000;
const SOON_MS = 250;
const MINUTES = 60;
const POINTS = 150;
const EVENTS = 40;

const TONES = {
  ready: 'good', busy: 'good', succeeded: 'good', ok: 'good', info: 'dim',
  starting: 'warn', draining: 'warn', stopping: 'warn', backoff: 'warn', degraded: 'warn', warning: 'warn', queued: 'dim', scheduled: 'dim',
  quarantined: 'bad', dead: 'bad', critical: 'bad', ERROR: 'bad', expired: 'bad', cancelled: 'dim', stopped: 'dim',
};
const toned = (word) => el('span', { class: TONES[word] || '' }, word);
const clock = (time) => (time ? new Date(time).toLocaleTimeString() : '');
const whole = (number) => (number === null || number === undefined ? '-' : number.toLocaleString('en'));
const cell = (...children) => el('td', {}, ...children);
const row = (...cells) => el('tr', {}, ...cells.map((c) => (c instanceof Element && c.localName === 'td' ? c : cell(c))));

function lasted(seconds) {
  if (seconds === null || seconds === undefined) return '';
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

function megabytes(bytes) {
  return bytes === null || bytes === undefined ? '' : `${(bytes / 1048576).toFixed(0)} MB`;
}

function showHead(health, status) {
  text('health', health.status, TONES[health.status] || 'warn');
  text('daemon', `${status.version} on ${status.home}, up ${lasted(status.uptime_seconds)}`, 'dim');
  const trouble = document.getElementById('trouble');
  trouble.hidden = health.reasons.length === 0;
  trouble.textContent = health.reasons.join('; ');
  document.title = `deia: ${health.status}`;
}

function showTiles(status, queue, scaling) {
  text('waiting', whole(queue.queue_depth));
  text('oldest', queue.oldest_age_seconds === null ? '' : `oldest ${lasted(queue.oldest_age_seconds)}`, 'dim');
  text('running', whole(queue.running));
  const up = status.bots.filter((bot) => bot.actual === 'ready' || bot.actual === 'busy');
  text('slots', `of ${up.reduce((sum, bot) => sum + bot.max_concurrent, 0)} slots`, 'dim');
  text('rate', queue.throughput_tasks_per_minute.toFixed(1));
  text('ready', `${up.length}/${status.bots.length}`);
  text('limits', `${scaling.min_bots} to ${scaling.max_bots}${scaling.draining ? ', draining' : ''}`, 'dim');
  text('succeeded', whole(status.queue.succeeded));
  text('dead', `${whole(status.queue.dead)} dead`, status.queue.dead ? 'bad' : 'dim');
}

function showBots(bots) {
  put('bots', bots.map((bot) => row(
    bot.id, bot.pool, toned(bot.actual), `${bot.tasks.length}/${bot.max_concurrent}`, whole(bot.restarts),
    bot.cpu_percent === null ? '' : `${Math.round(bot.cpu_percent * 100)} %`, megabytes(bot.memory_bytes),
    el('td', { class: 'wide dim' }, bot.explanation),
  )));
}

function showTasks(page) {
  put('tasks', page.tasks.map((task) => {
    const last = task.attempts[task.attempts.length - 1];
    const name = el('a', { href: `#${encodeURIComponent(task.task_id)}` }, task.task_id);
    return row(name, toned(task.status), task.task_type, task.priority, last ? last.bot_id : '', clock(task.submitted_at),
      el('td', { class: 'wide dim' }, task.error || ''));
  }));
}

async function showTask() {
  const id = decodeURIComponent(location.hash.slice(1));
  const section = document.getElementById('task');
  section.hidden = !id;
  if (!id) return;
  const task = await get(`/api/tasks/${encodeURIComponent(id)}`);
  const said = task.result ? task.result.output : (await get(`/api/tasks/${encodeURIComponent(id)}/output`)).output;
  text('task-id', id);
  text('task-line', `${task.status}, ${task.attempts.length} attempt(s)${task.error ? `: ${task.error}` : ''}`, 'dim');
  text('task-text', said);
}

function showFailures(stats, risk) {
  text('risk', risk.risk_level === 'low' ? '' : `cascade risk ${risk.risk_level}`, risk.risk_level === 'high' ? 'bad' : 'warn');
  if (!stats.total_failures_24h) return put('failures', 'none');
  const patterns = stats.failure_patterns.map((p) => el('div', {}, `${p.failure_count} in the last hour: ${p.task_type || p.bot_id}`));
  const bots = Object.entries(stats.by_bot).map(([bot, group]) => row(bot, whole(group.count)));
  const head = el('p', {}, `${whole(stats.total_failures_24h)} in a day (${whole(stats.reported_by_clients)} reported by clients)`);
  return put('failures', head, el('table', {}, el('tbody', {}, bots)), patterns, risk.recommendations.map((r) => el('div', { class: 'warn' }, r)));
}

function showAlerts(answer) {
  if (!answer) {
    text('alert-count', '-');
    return put('alerts', 'not known');
  }
  text('alert-count', whole(answer.count), answer.count ? 'bad' : 'good');
  if (!answer.count) return put('alerts', 'none');
  return put('alerts', el('table', {}, el('tbody', {}, answer.alerts.map((alert) => row(
    toned(alert.level), alert.title, el('td', { class: 'wide' }, alert.message), clock(alert.timestamp),
  )))));
}

/** Bars for what succeeded, with what failed on top. */
function drawThroughput(history) {
  const now = Date.now();
  const bars = Array.from({ length: MINUTES }, () => ({ done: 0, failed: 0 }));
  for (const minute of history.data) {
    const at = MINUTES - 1 - Math.floor((now - Date.parse(minute.timestamp)) / 60000);
    if (bars[at]) bars[at] = { done: minute.throughput, failed: minute.failed };
  }
  const top = Math.max(1, ...bars.map((bar) => bar.done + bar.failed));
  const drawn = bars.flatMap(({ done, failed }, n) => [
    svg('rect', { class: 'bar', x: n * 10 + 1, width: 8, y: 100 - (done / top) * 96, height: (done / top) * 96 }),
    svg('rect', { class: 'failed', x: n * 10 + 1, width: 8, y: 100 - ((done + failed) / top) * 96, height: (failed / top) * 96 }),
  ]);
  put('throughput', svg('svg', { viewBox: '0 0 600 100', preserveAspectRatio: 'none', role: 'img' },
    svg('line', { class: 'axis', x1: 0, x2: 600, y1: 100, y2: 100 }), drawn),
  el('div', { class: 'legend' }, el('span', {}, 'an hour ago'), el('span', {}, `most: ${whole(top)} a minute`), el('span', {}, 'now')));
}

const points = [];

/** Waiting and running, since the page was opened. */
function drawDepth(queue) {
  points.push([queue.queue_depth, queue.running]);
  if (points.length > POINTS) points.shift();
  const top = Math.max(1, ...points.flat());
  const curve = (which, tone) => svg('polyline', {
    class: `curve ${tone}`,
    points: points.map((p, n) => `${(n * 600) / (POINTS - 1)},${98 - (p[which] / top) * 94}`).join(' '),
  });
  put('depth', svg('svg', { viewBox: '0 0 600 100', preserveAspectRatio: 'none', role: 'img' },
    svg('line', { class: 'axis', x1: 0, x2: 600, y1: 100, y2: 100 }), curve(0, ''), curve(1, 'second')),
  el('div', { class: 'legend' }, el('span', {}, 'waiting (blue), running (green)'), el('span', {}, `most: ${whole(top)}`)));
}

const heard = [];

function showEvent(name, data) {
  heard.unshift(row(clock(data.timestamp), toned(data.level || 'info'), name, data.bot_id || '', data.task_id || '',
    el('td', { class: 'wide dim' }, data.message || '')));
  if (heard.length > EVENTS) heard.pop();
  put('events', heard);
}

let looking = false;
let again = false;

async function look() {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  try {
    const [health, status, queue, scaling, tasks, history, stats, risk] = await Promise.all([
      '/health', '/status', '/api/monitoring/queue/status', '/api/scaling/status', '/api/tasks?limit=20',
      `/api/monitoring/observability/history/queue?hours=1&limit=${MINUTES}`, '/api/monitoring/failures/stats',
      '/api/monitoring/failures/cascade-risk',
    ].map(get));
    showHead(health, status);
    showTiles(status, queue, scaling);
    showBots(status.bots);
    showTasks(tasks);
    showFailures(stats, risk);
    drawThroughput(history);
    drawDepth(queue);
    showAlerts(await get('/api/dashboard/alerts').catch(() => null));
    await showTask();
  } catch (why) {
    if (why instanceof Unauthorized) {
      askForToken();
      return;
    }
    text('health', 'no answer', 'bad');
    text('live', String(why.message || why), 'bad');
  } finally {
    looking = false;
  }
  if (again) {
    again = false;
    soon();
  }
}

let timer = 0;

/** Things come together: one look for all of them. */
function soon() {
  if (!timer) {
    timer = setTimeout(() => {
      timer = 0;
      look();
    }, SOON_MS);
  }
}

window.addEventListener('hashchange', look);
setInterval(() => { if (!document.hidden) look(); }, LOOK_MS);
look();
listen('/events', (name, data) => {
  if (name === 'hello' || name === 'gap' || name === 'dropped') return;
  showEvent(name, data);
  soon();
}, (live) => text('live', live ? 'live' : 'reconnecting', live ? 'good' : 'warn'));
