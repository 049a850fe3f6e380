import { PruneError } from '../../layers/errors';
import { type Budget, type TokenCount, tokenCount } from './budget';
import { wholeNumber } from './checks';
import type { Grid } from './grid';
import { evenWindows, squareWindows, type Window } from './windows';

/** A budget, or in its place the side of square windows. */
export type GridBudget<Side extends string> =
  | (Budget & { readonly [name in Side]?: undefined })
  | ({ readonly tokens?: undefined; readonly keepRatio?: undefined } & { readonly [name in Side]: number });

/** How methods that look at nothing but the grid divide it. */
export interface GridPlan {
  /** One for each token, in raster order. @throws PruneError `METHOD_OPTION_INVALID` where a side is longer than the grid's */
  windows(grid: Grid): Window[];
  readonly count: TokenCount;
  /** Undefined where only the grid tells: of sides, unless the patches are a square. */
  enteringTokens(patches: number, decoderBlocks: number): readonly number[] | undefined;
}

/**
 * @param side the side option's name
 * @throws PruneError `BUDGET_AMBIGUOUS`, `METHOD_OPTION_INVALID` and as `tokenCount`
 */
export function gridPlan<Side extends string>(options: GridBudget<Side>, side: Side): GridPlan {
  const { tokens, keepRatio } = options;
  const given: unknown = options[side];
  if (given === undefined) {
    const count = tokenCount({ tokens, keepRatio });
    return {
      windows: (grid) => evenWindows(grid, count(grid.rows * grid.columns)),
      count,
      enteringTokens: (patches, decoderBlocks) => new Array<number>(decoderBlocks).fill(count(patches)),
    };
  }
  if (tokens !== undefined || keepRatio !== undefined) {
    throw new PruneError('BUDGET_AMBIGUOUS', `"${side}" is given beside "tokens" or "keepRatio". Give one of them.`);
  }
  const length = wholeNumber(given, side, 'METHOD_OPTION_INVALID', 1);
  return {
    windows(grid) {
      const longest = Math.max(grid.rows, grid.columns);
      if (length > longest) {
        throw new PruneError(
          'METHOD_OPTION_INVALID',
          `Option "${side}" is ${length}, but a crop has ${grid.rows} x ${grid.columns} patches. Give 1 to ${longest}.`,
        );
      }
      return squareWindows(grid, length);
    },
    count: (patches) => patches,
    enteringTokens(patches, decoderBlocks) {
      const across = Math.sqrt(patches);
      return Number.isInteger(across) ? new Array<number>(decoderBlocks).fill(Math.ceil(across / length) ** 2) : undefined;
    },
  };
}
