import { Random } from '../random';
import { SCENE_SIZE } from './constants';

/*
 * A cluttered ground: textured regions of different tone, split by curves, with strokes and soft blobs on top. Its colours are muted, so that objects
 * stand out by colour and form, but its patches do not look like each other: a pruner that only spreads over distinct features is led astray, as in photos.
 */
const PIXELS = SCENE_SIZE * SCENE_SIZE;
const NOISE_SIDE = 256;
const NOISE_MASK = NOISE_SIDE - 1;
const SINE_LENGTH = 1024;
const MAX_REGIONS = 6;

/** Stored images, values about -127..127; scenes take random crops of them with wrap-around. */
interface Stored {
  readonly white: Int8Array;
  readonly fine: Int8Array;
  readonly coarse: Int8Array;
  readonly sine: Float32Array;
  /** Soft discs by radius. */
  readonly discs: readonly { readonly side: number; readonly alpha: Float32Array }[];
}

/** Box blur with wrap-around along rows and columns; three passes are near a Gaussian. */
function blur(image: Float32Array, radius: number): Float32Array {
  let from = image;
  for (let pass = 0; pass < 6; pass++) {
    const to = new Float32Array(from.length);
    const [step, line] = pass % 2 === 0 ? [1, NOISE_SIDE] : [NOISE_SIDE, 1];
    for (let l = 0; l < NOISE_SIDE; l++) {
      for (let i = 0; i < NOISE_SIDE; i++) {
        let sum = 0;
        for (let k = -radius; k <= radius; k++) sum += from[l * line + ((i + k) & NOISE_MASK) * step] as number;
        to[l * line + i * step] = sum / (2 * radius + 1);
      }
    }
    from = to;
  }
  return from;
}

function normalised(image: Float32Array, deviation: number): Int8Array {
  let squares = 0;
  for (const value of image) squares += value * value;
  const scale = deviation / Math.sqrt(squares / image.length);
  return Int8Array.from(image, (value) => Math.max(-127, Math.min(127, Math.round(value * scale))));
}

function buildStored(): Stored {
  const random = new Random(0x5ce7e5, 1);
  const normals = Float32Array.from({ length: NOISE_SIDE * NOISE_SIDE }, () => random.normal());
  const octave = blur(normals, 3);
  const coarse = blur(normals, 6).map((value, i) => value + 0.15 * (octave[i] as number));
  return {
    white: normalised(normals, 42),
    fine: normalised(blur(normals, 1), 60),
    coarse: normalised(coarse, 60),
    sine: Float32Array.from({ length: SINE_LENGTH }, (_, i) => Math.sin((2 * Math.PI * i) / SINE_LENGTH)),
    discs: [6, 9, 13, 18, 25].map((radius) => {
      const side = 2 * radius + 1;
      const alpha = new Float32Array(side * side);
      for (let i = 0; i < alpha.length; i++) {
        const distance = Math.hypot((i % side) - radius, Math.floor(i / side) - radius) / radius;
        alpha[i] = Math.max(0, Math.min(1, 1.8 * (1 - distance)));
      }
      return { side, alpha };
    }),
  };
}

let stored: Stored | undefined;
const regionOf = new Uint8Array(PIXELS);
const field = new Float32Array(PIXELS);

/** Splits the image by conics (lines, parabolas, ellipses, hyperbolas) into at most `cuts + 1` regions; returns how many numbers are in use. */
function splitRegions(random: Random, cuts: number): number {
  regionOf.fill(0);
  for (let cut = 1; cut <= cuts; cut++) {
    const angle = random.between(0, 2 * Math.PI);
    const a = Math.cos(angle);
    const b = Math.sin(angle);
    const bend = random.chance(0.3) ? 0 : 1.6;
    const xx = bend * random.between(-1, 1);
    const xy = bend * random.between(-1, 1);
    const yy = bend * random.between(-1, 1);
    const px = random.between(-0.35, 0.35); // the curve goes through this point, so that it is inside the image
    const py = random.between(-0.35, 0.35);
    const c = -(a * px + b * py + xx * px * px + xy * px * py + yy * py * py);
    const target = random.chance(0.5) ? 255 : random.below(cut); // cut the whole image, or one region
    for (let y = 0, i = 0; y < SCENE_SIZE; y++) {
      const v = y / SCENE_SIZE - 0.5;
      const row = c + b * v + yy * v * v;
      const slope = a + xy * v;
      for (let x = 0; x < SCENE_SIZE; x++, i++) {
        const u = x / SCENE_SIZE - 0.5;
        if (row + (slope + xx * u) * u > 0 && (target === 255 || regionOf[i] === target)) regionOf[i] = cut;
      }
    }
  }
  return cuts + 1;
}

function clip(value: number, limit: number): number {
  if (value > limit) return limit;
  if (value < -limit) return -limit;
  return value;
}

/** A scalar texture in about -1..1 over the pixels of one region. */
function fillTexture(random: Random, region: number, images: Stored): void {
  const kind = random.below(6);
  const angle = random.between(0, 2 * Math.PI);
  const ox = random.below(NOISE_SIDE);
  const oy = random.below(NOISE_SIDE);
  const { sine } = images;
  if (kind === 0) {
    const a = (2 * Math.cos(angle)) / SCENE_SIZE;
    const b = (2 * Math.sin(angle)) / SCENE_SIZE;
    for (let y = 0, i = 0; y < SCENE_SIZE; y++) {
      for (let x = 0; x < SCENE_SIZE; x++, i++) if (regionOf[i] === region) field[i] = a * (x - 64) + b * (y - 64);
    }
  } else if (kind === 1 || kind === 2) {
    // a grating with a period of 4 to 24 pixels, or the product of two: a soft checker
    const frequency = SINE_LENGTH / random.between(4, 24);
    const a = frequency * Math.cos(angle);
    const b = frequency * Math.sin(angle);
    const hard = random.chance(0.5);
    for (let y = 0, i = 0; y < SCENE_SIZE; y++) {
      for (let x = 0; x < SCENE_SIZE; x++, i++) {
        if (regionOf[i] !== region) continue;
        let value = sine[(a * x + b * y + ox) & (SINE_LENGTH - 1)] as number;
        if (kind === 2) value *= sine[(a * y - b * x + oy) & (SINE_LENGTH - 1)] as number;
        field[i] = hard ? clip(6 * value, 0.8) : value;
      }
    }
  } else {
    // grain, cloth-like noise, or blotches with an edge
    const image = kind === 3 ? images.fine : images.coarse;
    const edge = kind === 5 ? 5 : 1;
    const sx = kind === 4 ? 1 + random.below(3) : 1; // stretched: streaks
    for (let y = 0, i = 0; y < SCENE_SIZE; y++) {
      const row = ((y + oy) & NOISE_MASK) * NOISE_SIDE;
      for (let x = 0; x < SCENE_SIZE; x++, i++) {
        if (regionOf[i] !== region) continue;
        field[i] = clip(((image[row + ((x * sx + ox) & NOISE_MASK)] as number) * edge) / 70, 1);
      }
    }
  }
}

/** Grey of a level in 0..255 with a weak tint. */
function mutedColour(random: Random, level: number, tint: number): [number, number, number] {
  return [level + random.between(-tint, tint), level + random.between(-tint, tint), level + random.between(-tint, tint)];
}

function drawStroke(random: Random, canvas: Float32Array): void {
  const [r, g, b] = mutedColour(random, random.between(15, 200), 22);
  const alpha = random.between(0.5, 1);
  const width = 1 + random.below(3);
  const x0 = random.between(0, SCENE_SIZE);
  const y0 = random.between(0, SCENE_SIZE);
  const x1 = random.between(0, SCENE_SIZE);
  const y1 = random.between(0, SCENE_SIZE);
  const mx = (x0 + x1) / 2 + random.between(-40, 40);
  const my = (y0 + y1) / 2 + random.between(-40, 40);
  const steps = Math.ceil(Math.hypot(mx - x0, my - y0) + Math.hypot(x1 - mx, y1 - my));
  for (let s = 0; s <= steps; s++) {
    const t = s / steps;
    const x = Math.floor((1 - t) * (1 - t) * x0 + 2 * t * (1 - t) * mx + t * t * x1);
    const y = Math.floor((1 - t) * (1 - t) * y0 + 2 * t * (1 - t) * my + t * t * y1);
    for (let dy = 0; dy < width; dy++) {
      for (let dx = 0; dx < width; dx++) {
        if (x + dx < 0 || x + dx >= SCENE_SIZE || y + dy < 0 || y + dy >= SCENE_SIZE) continue;
        blend(canvas, ((y + dy) * SCENE_SIZE + x + dx) * 3, r, g, b, alpha);
      }
    }
  }
}

function drawBlob(random: Random, canvas: Float32Array, images: Stored): void {
  const { side, alpha } = random.pick(images.discs);
  const [r, g, b] = mutedColour(random, random.between(20, 185), 24);
  const opacity = random.between(0.35, 0.95);
  const x0 = random.below(SCENE_SIZE + side) - side;
  const y0 = random.below(SCENE_SIZE + side) - side;
  for (let dy = Math.max(0, -y0); dy < side && y0 + dy < SCENE_SIZE; dy++) {
    for (let dx = Math.max(0, -x0); dx < side && x0 + dx < SCENE_SIZE; dx++) {
      blend(canvas, ((y0 + dy) * SCENE_SIZE + x0 + dx) * 3, r, g, b, opacity * (alpha[dy * side + dx] as number));
    }
  }
}

function blend(canvas: Float32Array, at: number, r: number, g: number, b: number, alpha: number): void {
  const rest = 1 - alpha;
  canvas[at] = rest * (canvas[at] as number) + alpha * r;
  canvas[at + 1] = rest * (canvas[at + 1] as number) + alpha * g;
  canvas[at + 2] = rest * (canvas[at + 2] as number) + alpha * b;
}

/** Paints a ground over `canvas` [size, size, 3], values in 0..255 (not clipped). */
export function paintBackground(random: Random, canvas: Float32Array): void {
  stored ??= buildStored();
  const regions = splitRegions(random, 2 + random.below(MAX_REGIONS - 2));
  const base = new Float32Array(regions * 6); // colour, and what the texture adds to it
  for (let region = 0; region < regions; region++) {
    fillTexture(random, region, stored);
    base.set(mutedColour(random, random.between(30, 185), 22), region * 6);
    base.set(mutedColour(random, random.between(6, 34) * (random.chance(0.5) ? 1 : -1), 6), region * 6 + 3);
  }
  const angle = random.between(0, 2 * Math.PI);
  const light = random.between(0, 0.45) / SCENE_SIZE; // brightness changes by up to +-22 % across the image
  const lx = light * Math.cos(angle);
  const ly = light * Math.sin(angle);
  for (let y = 0, i = 0; y < SCENE_SIZE; y++) {
    for (let x = 0; x < SCENE_SIZE; x++, i++) {
      const at = (regionOf[i] as number) * 6;
      const value = field[i] as number;
      const brightness = 1 + lx * (x - SCENE_SIZE / 2) + ly * (y - SCENE_SIZE / 2);
      canvas[i * 3] = ((base[at] as number) + value * (base[at + 3] as number)) * brightness;
      canvas[i * 3 + 1] = ((base[at + 1] as number) + value * (base[at + 4] as number)) * brightness;
      canvas[i * 3 + 2] = ((base[at + 2] as number) + value * (base[at + 5] as number)) * brightness;
    }
  }
  const blobs = random.below(7);
  for (let k = 0; k < blobs; k++) drawBlob(random, canvas, stored);
  const strokes = random.below(10);
  for (let k = 0; k < strokes; k++) drawStroke(random, canvas);
}

/** Adds sensor noise to the finished picture and rounds it to 8 bits. */
export function developNoise(random: Random, canvas: Float32Array, pixels: Uint8Array): void {
  stored ??= buildStored();
  const { white } = stored;
  const scale = random.between(1, 7) / 42;
  const offset = random.below(NOISE_SIDE * NOISE_SIDE);
  for (let i = 0; i < canvas.length; i++) {
    const value = (canvas[i] as number) + scale * (white[(i + offset) & (NOISE_SIDE * NOISE_SIDE - 1)] as number);
    pixels[i] = clip(value - 127.5, 127.5) + 128; // rounded by the cut to whole bytes, halves up
  }
}
