import { CheckpointError } from '../layers/errors';
import type { Checkpoint } from './checkpoint';
import type { Declaration } from './declarations';
import { type Dtype, isFloat } from './dtype';
import { isDroppable, type Layout, mapNames } from './layouts';

/** One tensor to read: what it is for, its name in the file, and how it is stored. */
export interface Step {
  readonly declaration: Declaration;
  readonly stored: string;
  readonly dtype: Dtype;
  readonly byteLength: number;
}

export interface Plan {
  /** In the order of the files. */
  readonly steps: readonly Step[];
  readonly totalBytes: number;
}

/** Names that one error lists of each sort. */
const LISTED = 12;

/**
 * Compares declarations with a checkpoint's headers.
 * @returns what to read, in the order of the files
 * @throws CheckpointError, see `ParameterSource.check`
 */
export function checkDeclarations(declarations: readonly Declaration[], checkpoint: Checkpoint, layouts?: readonly Layout[]): Plan {
  const { layout, stored, unknown } = mapNames(checkpoint.names, layouts);
  const names = declarations.map(({ name }) => name);
  const declared = new Set(names);
  const problems = {
    MISSING_KEYS: names.filter((name) => !stored.has(name)),
    UNEXPECTED_KEYS: [...unknown, ...[...stored].filter(([name]) => !declared.has(name) && !isDroppable(name, names)).map(([, key]) => key)],
    SHAPE_MISMATCH: [] as string[],
    UNSUPPORTED_DTYPE: [] as string[],
  };
  const order = new Map(checkpoint.names.map((name, i) => [name, i]));
  const steps: Step[] = [];
  for (const declaration of declarations) {
    const key = stored.get(declaration.name);
    if (key === undefined) continue;
    const info = checkpoint.info(key);
    if (!fits(declaration, info.shape)) problems.SHAPE_MISMATCH.push(describeShapes(key, declaration, info.shape));
    if (isFloat(info.dtype)) steps.push({ declaration, stored: key, dtype: info.dtype, byteLength: info.byteLength });
    else problems.UNSUPPORTED_DTYPE.push(`${key} (${info.dtype})`);
  }
  throwIfAny(problems, `${checkpoint.name} (names as ${layout.writtenBy} writes them)`);
  steps.sort((a, b) => (order.get(a.stored) as number) - (order.get(b.stored) as number));
  return { steps, totalBytes: steps.reduce((sum, step) => sum + step.byteLength, 0) };
}

/** A convolution's [out, channels, height, width] is, byte for byte, the matrix [out, channels * height * width]. */
function fits({ kind, shape }: Declaration, stored: readonly number[]): boolean {
  if (kind !== 'matrix') return stored.join() === shape.join();
  return stored.length >= 2 && stored[0] === shape[0] && stored.slice(1).reduce((product, size) => product * size, 1) === shape[1];
}

function describeShapes(key: string, { kind, shape }: Declaration, stored: readonly number[]): string {
  return `${key} is [${stored.join(', ')}], the model needs [${shape.join(', ')}]${hint(kind, shape, stored)}`;
}

function hint(kind: Declaration['kind'], shape: readonly number[], stored: readonly number[]): string {
  const transposed = stored.length === 2 && stored[0] === shape[1] && stored[1] === shape[0];
  if (transposed && kind !== 'tensor') return ' (transposed: torch keeps [out, in])';
  return kind === 'embedding' ? ' (compare vocab_size in config.json)' : '';
}

const MEANING = {
  MISSING_KEYS: 'missing',
  UNEXPECTED_KEYS: 'unexpected',
  SHAPE_MISMATCH: 'of another shape',
  UNSUPPORTED_DTYPE: 'not stored as F32, F16, BF16 or F64',
} as const;

function throwIfAny(problems: Readonly<Record<keyof typeof MEANING, readonly string[]>>, where: string): void {
  const kinds = (Object.keys(MEANING) as (keyof typeof MEANING)[]).filter((kind) => problems[kind].length > 0);
  const [first] = kinds;
  if (!first) return;
  const lists = kinds.map((kind) => {
    const all = problems[kind];
    const more = all.length > LISTED ? `, and ${all.length - LISTED} more` : '';
    return `${all.length} ${MEANING[kind]}: ${all.slice(0, LISTED).join('; ')}${more}`;
  });
  throw new CheckpointError(
    kinds.length === 1 ? first : 'KEYS_DO_NOT_FIT',
    `${where}: its tensors do not fit the model of config.json. ${lists.join('. ')}. Use the config.json that belongs to these weights.`,
  );
}
