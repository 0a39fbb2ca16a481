// openapi.json as a page.

import { Unauthorized, askForToken, el, get, put, text } from './common.js';

const DEEP = 6;
let document_ = {};

/** What a `$ref` means; nothing but this document's own is followed. */
function resolve(schema) {
  const path = (schema && schema.$ref) || '';
  if (!path.startsWith('#/')) return schema || {};
  return path.slice(2).split('/').reduce((at, part) => (at || {})[part.replace(/~1/g, '/').replace(/~0/g, '~')], document_) || {};
}

function kind(schema, deep = 0) {
  const name = schema && schema.$ref ? schema.$ref.split('/').pop() : '';
  const known = resolve(schema);
  if (name && deep) return name;
  if (known.enum) return known.enum.map((value) => JSON.stringify(value)).join(' | ');
  const either = known.oneOf || known.anyOf || known.allOf;
  if (either) return either.map((one) => kind(one, 1)).join(' | ');
  if (known.type === 'array') return `${kind(known.items, 1)}[]`;
  const types = [known.type || 'any'].flat().join(' | ');
  return known.format ? `${types} (${known.format})` : types;
}

function fields(schema, deep = 0) {
  const known = resolve(schema);
  const inner = known.type === 'array' ? resolve(known.items) : known;
  const parts = [inner, ...(inner.allOf || inner.oneOf || inner.anyOf || []).map(resolve)];
  const rows = parts.flatMap((part) => Object.entries(part.properties || {}).map(([name, field]) => {
    const must = (part.required || []).includes(name);
    const within = deep < DEEP && Object.keys(resolve(resolve(field).items || field).properties || {}).length > 0;
    return el('tr', {}, el('td', {}, el('code', {}, name), must ? '' : el('span', { class: 'dim' }, ' ?')),
      el('td', {}, kind(field, 1), within ? el('div', {}, fields(field, deep + 1)) : null),
      el('td', { class: 'wide dim' }, field.description || resolve(field).description || ''));
  }));
  return rows.length ? el('table', {}, el('tbody', {}, rows)) : el('div', { class: 'dim' }, kind(schema));
}

function examples(holder) {
  const all = [holder.example, resolve(holder.schema).example, ...Object.values(holder.examples || {}).map((e) => e.value)];
  return all.filter((example) => example !== undefined)
    .map((example) => el('pre', {}, typeof example === 'string' ? example : JSON.stringify(example, null, 2)));
}

function content(holder) {
  return Object.entries(holder.content || {}).map(([type, media]) => el('div', {},
    el('div', { class: 'dim' }, type), fields(media.schema), examples(media)));
}

function operation(path, method, op) {
  const name = method.toUpperCase();
  const scope = op['x-scope'] || '?';
  const head = el('summary', {}, el('span', { class: `method ${name === 'GET' ? 'GET' : 'POST'}` }, name), el('code', {}, path),
    el('span', { class: 'dim' }, op.summary || ''), el('span', { class: 'badge dim' }, scope));
  const details = el('details', { class: 'operation' }, head);
  details.dataset.words = `${name} ${path} ${op.summary || ''} ${scope} ${(op.tags || []).join(' ')}`.toLowerCase();
  // Made when it is opened: the whole document at once is slow.
  details.addEventListener('toggle', () => {
    if (details.childElementCount > 1) return;
    if (op.description) details.append(el('p', {}, op.description));
    const parameters = (op.parameters || []).map((p) => el('tr', {}, el('td', {}, el('code', {}, p.name)),
      el('td', {}, `${p.in}${p.required ? ', required' : ''}: ${kind(p.schema)}`), el('td', { class: 'wide dim' }, p.description || '')));
    if (parameters.length) details.append(el('h2', {}, 'Parameters'), el('table', {}, el('tbody', {}, parameters)));
    if (op.requestBody) details.append(el('h2', {}, 'Body'), ...content(op.requestBody));
    for (const [code, answer] of Object.entries(op.responses || {})) {
      details.append(el('h2', {}, `${code} ${resolve(answer).description || ''}`), ...content(resolve(answer)));
    }
  });
  return details;
}

function show() {
  const { info, paths } = document_;
  text('version', info.version, 'dim');
  text('about', info.description || '');
  const tags = new Map();
  for (const [path, item] of Object.entries(paths)) {
    for (const [method, op] of Object.entries(item)) {
      if (!op || !op.responses) continue;
      const tag = (op.tags || ['other'])[0];
      if (!tags.has(tag)) tags.set(tag, []);
      tags.get(tag).push(operation(path, method, op));
    }
  }
  put('routes', [...tags.entries()].sort().map(([tag, all]) => el('section', { class: 'tag' }, el('h2', {}, tag), all)));
}

function filter() {
  const words = document.getElementById('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const one of document.querySelectorAll('.operation')) one.hidden = !words.every((word) => one.dataset.words.includes(word));
  for (const tag of document.querySelectorAll('.tag')) tag.hidden = !tag.querySelector('.operation:not([hidden])');
}

document.getElementById('filter').addEventListener('input', filter);
get('/openapi.json').then((found) => {
  document_ = found;
  show();
}).catch((why) => {
  if (why instanceof Unauthorized) askForToken();
  else text('about', String(why.message || why), 'bad');
});
