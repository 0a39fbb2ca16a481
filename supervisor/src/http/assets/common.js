// What both pages need: asking the daemon, reading its event stream, and making elements. Whatever comes from the
// daemon becomes a text node, never markup; attributes get only names and values that stand here.

const KEEP = 'deia';

export const token = () => sessionStorage.getItem(KEEP) || '';

const headers = () => (token() ? { authorization: `Bearer ${token()}` } : {});

/** The daemon wants to know who asks. */
export class Unauthorized extends Error {}

/** The answer to a GET, as JSON. */
export async function get(path) {
  const answer = await fetch(path, { headers: headers(), cache: 'no-store' });
  if (answer.status === 401) throw new Unauthorized(path);
  const body = await answer.json();
  if (!answer.ok && answer.status !== 503) throw new Error(body.error || `${path}: ${answer.status}`);
  return body;
}

/** An element with children; texts are text. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same within a drawing. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  for (const child of children.flat()) {
    if (child === null || child === undefined) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** These children instead of those there are. */
export function put(id, ...children) {
  document.getElementById(id).replaceChildren(...children.flat());
}

export function text(id, value, tone = '') {
  const element = document.getElementById(id);
  element.textContent = value;
  element.classList.remove('good', 'warn', 'bad', 'dim');
  if (tone) element.classList.add(tone);
}

/** Asks for a token where the daemon wants one; then the page begins anew. */
export function askForToken() {
  const form = document.getElementById('who');
  form.hidden = false;
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEEP, document.getElementById('token').value.trim());
    location.reload();
  });
}

/** The event stream, opened again whenever it ends. `heard(name, data)`, `state(live)`. */
export async function listen(path, heard, state) {
  let last = '';
  for (;;) {
    try {
      const resume = last ? { 'last-event-id': last } : {};
      const answer = await fetch(path, { headers: { ...headers(), ...resume }, cache: 'no-store' });
      if (answer.ok) {
        state(true);
        last = await follow(answer.body.pipeThrough(new TextDecoderStream()).getReader(), last, heard);
      }
    } catch {
      // It is opened again below.
    }
    state(false);
    await new Promise((done) => { setTimeout(done, 1000); });
  }
}

async function follow(reader, last, heard) {
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return last;
    rest += value;
    const blocks = rest.split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      let name = 'message';
      let data = '';
      for (const line of block.split('\n')) {
        const at = line.indexOf(':');
        const field = at < 0 ? line : line.slice(0, at);
        const said = at < 0 ? '' : line.slice(at + 1).replace(/^ /, '');
        if (field === 'event') name = said;
        if (field === 'data') data += said;
        if (field === 'id') last = said;
      }
      if (data) heard(name, JSON.parse(data));
    }
  }
}
