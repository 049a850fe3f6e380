import {
  COLOUR_VALUES,
  COLOURS,
  GRID_SIDE,
  generateScene,
  HELD_OUT_SEEDS,
  LETTERS,
  MIN_GAP,
  PATCH_SIZE,
  SCENE_SIZE,
  type Scene,
  SYMBOLS,
  TRAINING_SEEDS,
  VALIDATION_SEEDS,
} from '../../../lib/scenes';

/** Digests of the four pictures below, recorded on 2026-11-24. */
const RECORDED = ['efb9208d', 'dd70563e', 'd06c96dd', '5aeb043e'];

const scenes: Scene[] = Array.from({ length: 300 }, (_, i) => generateScene(VALIDATION_SEEDS.first + i));

/** FNV-1a, so that a change of any pixel shows. */
function digest(bytes: Uint8Array): string {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16);
}

describe('scenes', () => {
  it('give the same picture for a seed, whatever was drawn before: the shipped model and its figures depend on it', () => {
    const seeds = [TRAINING_SEEDS.first, 1, VALIDATION_SEEDS.first + 5, HELD_OUT_SEEDS.first + 9];
    const first = seeds.map((seed) => digest(generateScene(seed).pixels));
    const second = [...seeds].reverse().map((seed) => digest(generateScene(seed).pixels));
    expect(second.reverse()).toEqual(first);
    expect(first).toEqual(RECORDED);
  });

  it('keep training, validation and held-out seeds apart', () => {
    const ranges = [TRAINING_SEEDS, VALIDATION_SEEDS, HELD_OUT_SEEDS];
    for (const [i, range] of ranges.entries()) {
      expect(range.end - range.first).toBeGreaterThan(1e6);
      expect(range.end).toBeLessThanOrEqual(ranges[i + 1]?.first ?? 2 ** 32);
    }
  });

  it('hold 1 to 6 objects, at most one letter and no two of one kind and colour', () => {
    const counts = new Set<number>();
    for (const { objects } of scenes) {
      counts.add(objects.length);
      expect(objects.filter(({ kind }) => kind === 'letter').length).toBeLessThanOrEqual(1);
      expect(new Set(objects.map(({ kind, colour }) => `${kind} ${colour}`)).size).toBe(objects.length);
      for (const { kind, letter } of objects) expect(letter !== undefined && LETTERS.includes(letter)).toBe(kind === 'letter');
    }
    expect([...counts].sort()).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('keep objects inside the picture and apart from each other', () => {
    for (const { objects } of scenes) {
      for (const [i, a] of objects.entries()) {
        for (const centre of [a.cx, a.cy]) expect(centre - a.size / 2 >= 0 && centre + a.size / 2 <= SCENE_SIZE).toBe(true);
        for (const b of objects.slice(i + 1)) {
          const reach = (a.size + b.size) / 2 + MIN_GAP;
          expect(Math.max(Math.abs(a.cx - b.cx), Math.abs(a.cy - b.cy))).toBeGreaterThanOrEqual(reach);
        }
      }
    }
  });

  it('give each object 2 to 40 patches, small ones often', () => {
    const sizes = scenes.flatMap(({ objects }) => objects.map(({ patches }) => patches)).sort((a, b) => a - b);
    expect(sizes[0]).toBe(2);
    expect(sizes.at(-1)).toBeLessThanOrEqual(40);
    expect(sizes.at(-1)).toBeGreaterThan(30);
    expect(sizes[Math.floor(sizes.length / 4)]).toBeLessThanOrEqual(5);
  });

  it('label patches by the object in them: the symbol, colour and centre agree with the object list', () => {
    for (const { objects, patchLabels: labels } of scenes) {
      const owned = objects.map(() => 0);
      const centres = objects.map(() => 0);
      const wrong: number[] = [];
      for (const [patch, owner] of labels.object.entries()) {
        const row = [labels.symbol, labels.colour, labels.centreRow, labels.centreColumn].map((map) => map[patch]!);
        const object = objects[owner];
        if (!object) {
          if (row.some((value) => value !== 0) || labels.isCentre[patch] !== 0) wrong.push(patch);
          continue;
        }
        owned[owner]!++;
        centres[owner]! += labels.isCentre[patch]!;
        const told = [SYMBOLS[row[0]! - 1], COLOURS[row[1]! - 1], row[2], row[3]];
        const truth = [object.letter ?? object.kind, object.colour, Math.floor(object.cy / PATCH_SIZE), Math.floor(object.cx / PATCH_SIZE)];
        if (told.join() !== truth.join()) wrong.push(patch);
      }
      expect(wrong).toEqual([]);
      expect(owned).toEqual(objects.map(({ patches }) => patches));
      expect(centres).toEqual(objects.map(() => 1));
    }
  });

  it('label patches by what their pixels show: an object patch has pixels of its colour', () => {
    let patches = 0;
    let seen = 0;
    for (const { pixels, patchLabels } of scenes) {
      for (const [patch, colour] of patchLabels.colour.entries()) {
        if (colour === 0) continue;
        const wanted = COLOUR_VALUES[COLOURS[colour - 1]!];
        let near = 0;
        for (let i = 0; i < PATCH_SIZE * PATCH_SIZE; i++) {
          const y = Math.floor(patch / GRID_SIDE) * PATCH_SIZE + Math.floor(i / PATCH_SIZE);
          const x = (patch % GRID_SIDE) * PATCH_SIZE + (i % PATCH_SIZE);
          const at = (y * SCENE_SIZE + x) * 3;
          if (wanted.every((value, c) => Math.abs(value - pixels[at + c]!) <= 40)) near++;
        }
        patches++;
        if (near >= 0.08 * PATCH_SIZE * PATCH_SIZE) seen++;
      }
    }
    expect(seen / patches).toBeGreaterThan(0.97);
  });

  it('have grounds whose patches differ from each other, in tone and in texture', () => {
    const means: number[] = [];
    const deviations: number[] = [];
    for (const { pixels, patchLabels } of scenes.slice(0, 50)) {
      for (const [patch, owner] of patchLabels.object.entries()) {
        if (owner >= 0) continue;
        let sum = 0;
        let squares = 0;
        for (let i = 0; i < PATCH_SIZE * PATCH_SIZE; i++) {
          const y = Math.floor(patch / GRID_SIDE) * PATCH_SIZE + Math.floor(i / PATCH_SIZE);
          const x = (patch % GRID_SIDE) * PATCH_SIZE + (i % PATCH_SIZE);
          const green = pixels[(y * SCENE_SIZE + x) * 3 + 1]!;
          sum += green;
          squares += green * green;
        }
        const mean = sum / PATCH_SIZE ** 2;
        means.push(mean);
        deviations.push(Math.sqrt(Math.max(0, squares / PATCH_SIZE ** 2 - mean * mean)));
      }
    }
    const quantile = (values: number[], q: number) => values.sort((a, b) => a - b)[Math.floor(q * values.length)]!;
    expect(quantile(means, 0.9) - quantile(means, 0.1)).toBeGreaterThan(80);
    expect(quantile(deviations, 0.9) / quantile(deviations, 0.1)).toBeGreaterThan(5);
  });
});
