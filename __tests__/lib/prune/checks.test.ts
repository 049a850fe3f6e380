import { checkKept } from '../../../lib/prune/checks';

describe('checkKept, which the model asks of every selection', () => {
  it.each([[[]], [[0]], [[0, 1, 2, 3]], [[1, 3]]])('accepts %p of 4', (kept) => {
    expect(() => checkKept('own', Int32Array.from(kept), 4)).not.toThrow();
  });

  it.each([[[1, 1]], [[2, 1]], [[-1]], [[4]], [[0, 1, 2, 3, 4]]])('refuses %p of 4: repeated, unsorted or outside', (kept) => {
    expect(() => checkKept('own', Int32Array.from(kept), 4)).toThrow(/Method "own" kept index .* of 4 visual tokens/);
  });
});
