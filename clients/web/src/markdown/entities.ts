/**
 * Stands in for the package `entities`, of which markdown-it needs one function: browsers know every
 * name of HTML's own accord, and the package's table would be a tenth of what the page loads.
 */
const holder = document.createElement('template');

/** The character of one reference, such as `&amp;`; unknown ones as they are. */
export function decodeHTMLStrict(reference: string): string {
  if (!/^&[a-z0-9#]+;$/i.test(reference)) return reference;
  holder.innerHTML = reference;
  return holder.content.textContent ?? reference;
}
