/** KaTeX, fetched when the first formula is shown. */

type Katex = typeof import('katex');

let katex: Promise<Katex['default']> | null = null;
// While an answer is written, its last block is rendered many times with the same formulas.
const made = new Map<string, Node>();
const MOST_MADE = 200;

async function load(): Promise<Katex['default']> {
  const [module] = await Promise.all([import('katex'), import('katex/dist/katex.min.css')]);
  return module.default;
}

/** Set the formulas below an element. One that is no TeX stays as it was written. */
export async function typeset(root: Element): Promise<void> {
  const open = [...root.querySelectorAll<HTMLElement>('.math:not(.set)')];
  if (open.length === 0) return;
  katex ??= load();
  const engine = await katex;
  for (const element of open) {
    const tex = element.textContent ?? '';
    const display = element.classList.contains('display');
    element.classList.add('set');
    const node = made.get(`${display}${tex}`) ?? make(engine, tex, display);
    if (node) element.replaceChildren(node.cloneNode(true));
  }
}

function make(engine: Katex['default'], tex: string, display: boolean): Node | null {
  const holder = document.createElement('span');
  try {
    // As nodes, not as HTML: their styles would be attributes, which the page's policy forbids.
    engine.render(tex, holder, {
      displayMode: display,
      throwOnError: true,
      strict: 'ignore',
      trust: false,
      maxExpand: 200,
      maxSize: 20,
    });
  } catch {
    return null;
  }
  const node = holder.firstChild;
  if (node && made.size < MOST_MADE) made.set(`${display}${tex}`, node);
  return node;
}
