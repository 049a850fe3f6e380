const NONE = new Uint8Array(0);

/**
 * Reads UTF-8 (RFC 3629) byte by byte: no overlong forms, no surrogates, nothing past U+10FFFF, and no control characters, which JSON writes as escapes.
 *
 * @param pending bytes of a character that has begun
 * @returns those of the character that has begun when all bytes are read; undefined where no text goes on so
 */
export function readUtf8(pending: Uint8Array, bytes: Uint8Array): Uint8Array | undefined {
  let character = Array.from(pending);
  for (const byte of bytes) {
    character.push(byte);
    const [lead = 0] = character;
    const length = lengthOf(lead);
    if (length === 0) return undefined;
    const [low, high] = character.length === 2 ? secondByte(lead) : [0x80, 0xbf];
    if (character.length > 1 && (byte < low || byte > high)) return undefined;
    if (character.length === length) character = [];
  }
  return character.length === 0 ? NONE : Uint8Array.from(character);
}

/** Bytes of a character by its first; 0 for a byte that begins none. */
function lengthOf(lead: number): number {
  if (lead < 0x20) return 0;
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}

function secondByte(lead: number): readonly [number, number] {
  return [SECOND_FROM.get(lead) ?? 0x80, SECOND_TO.get(lead) ?? 0xbf];
}

const SECOND_FROM: ReadonlyMap<number, number> = new Map([
  [0xe0, 0xa0],
  [0xf0, 0x90],
]);
const SECOND_TO: ReadonlyMap<number, number> = new Map([
  [0xed, 0x9f],
  [0xf4, 0x8f],
]);
