import type { Letter, SceneSymbol } from './constants';

/** 5 x 7 bitmaps, one string of 5 cells per row. */
const FONT: Readonly<Record<Letter, readonly string[]>> = {
  A: ['.###.', '#...#', '#...#', '#####', '#...#', '#...#', '#...#'],
  C: ['.####', '#....', '#....', '#....', '#....', '#....', '.####'],
  E: ['#####', '#....', '#....', '####.', '#....', '#....', '#####'],
  H: ['#...#', '#...#', '#...#', '#####', '#...#', '#...#', '#...#'],
  K: ['#...#', '#..#.', '#.#..', '##...', '#.#..', '#..#.', '#...#'],
  T: ['#####', '..#..', '..#..', '..#..', '..#..', '..#..', '..#..'],
  X: ['#...#', '#...#', '.#.#.', '..#..', '.#.#.', '#...#', '#...#'],
  Z: ['#####', '....#', '...#.', '..#..', '.#...', '#....', '#####'],
};

const STAR_TURN = Math.PI / 5;
const STAR_INNER = 0.45;
const STAR_NOTCH_X = STAR_INNER * Math.cos(STAR_TURN);
const STAR_NOTCH_Y = STAR_INNER * Math.sin(STAR_TURN);

/** A five-pointed star, one point up: the angle is folded into one tenth of the turn, which a single edge bounds. */
function insideStar(u: number, v: number): boolean {
  const y = v - 0.1;
  const radius = Math.hypot(u, y);
  const angle = Math.abs(Math.atan2(u, -y)) % (2 * STAR_TURN);
  const folded = angle > STAR_TURN ? 2 * STAR_TURN - angle : angle;
  const along = radius * Math.cos(folded);
  const across = radius * Math.sin(folded);
  return along * STAR_NOTCH_Y + across * (1 - STAR_NOTCH_X) <= STAR_NOTCH_Y;
}

/** Is (u, v) inside the symbol? Both in [-1, 1] over its box, v downwards. */
function inside(symbol: SceneSymbol, u: number, v: number): boolean {
  switch (symbol) {
    case 'circle':
      return u * u + v * v <= 1;
    case 'square':
      return Math.abs(u) <= 0.88 && Math.abs(v) <= 0.88;
    case 'triangle':
      return v >= -0.95 && v <= 0.85 && Math.abs(u) <= (v + 0.95) / 1.8;
    case 'diamond':
      return Math.abs(u) + Math.abs(v) <= 1;
    case 'cross':
      return Math.abs(u) <= 0.32 || Math.abs(v) <= 0.32;
    case 'ring':
      return u * u + v * v <= 1 && u * u + v * v >= 0.3;
    case 'star':
      return insideStar(u, v);
    default: {
      const column = Math.floor((u + 5 / 7) / (2 / 7));
      const row = Math.floor((v + 1) / (2 / 7));
      return FONT[symbol][row]?.[column] === '#';
    }
  }
}

const masks = new Map<string, Uint8Array>();
const SAMPLES = 4;

/** Coverage of every pixel of a symbol's box, [side, side] in 0..255 (4 x 4 samples a pixel). Computed once and shared: do not write to it. */
export function symbolMask(symbol: SceneSymbol, side: number): Uint8Array {
  const key = `${symbol}${side}`;
  const known = masks.get(key);
  if (known) return known;
  const mask = new Uint8Array(side * side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      let hits = 0;
      for (let sy = 0; sy < SAMPLES; sy++) {
        const v = ((y + (sy + 0.5) / SAMPLES) * 2) / side - 1;
        for (let sx = 0; sx < SAMPLES; sx++) {
          if (inside(symbol, ((x + (sx + 0.5) / SAMPLES) * 2) / side - 1, v)) hits++;
        }
      }
      mask[y * side + x] = Math.round((hits * 255) / (SAMPLES * SAMPLES));
    }
  }
  masks.set(key, mask);
  return mask;
}
