/** Tokens as vocabularies spell them, as people read them. */

// GPT-2's vocabulary and its many heirs spell bytes as letters: those that print as themselves, the
// others from U+0100 on, in order.
const BYTES = new Map<string, number>();
for (let byte = 0, next = 0x100; byte < 0x100; byte++) {
  const prints =
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  BYTES.set(String.fromCodePoint(prints ? byte : next++), byte);
}
const SHOWN: Record<string, string> = { ' ': '·', '▁': '·', '\n': '⏎', '\t': '⇥', '\r': '␍' };
const decoder = new TextDecoder('utf-8', { fatal: true });

/** Pieces with spaces and line ends that are seen; bytes that are half a character as numbers. */
export function readable(pieces: string[]): string[] {
  const spelled = pieces.some((piece) => /[ĠĊ]/.test(piece));
  return pieces.map((piece) => shown(spelled ? decoded(piece) : piece));
}

function decoded(piece: string): string {
  const bytes = [...piece].map((letter) => BYTES.get(letter));
  if (bytes.includes(undefined)) return piece;
  try {
    return decoder.decode(Uint8Array.from(bytes as number[]));
  } catch {
    return bytes.map((byte) => `\\x${byte?.toString(16)}`).join('');
  }
}

function shown(text: string): string {
  return text.replace(/[ ▁\n\t\r]/g, (letter) => SHOWN[letter] ?? letter);
}
