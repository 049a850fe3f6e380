import * as fs from 'node:fs';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { readSafetensors, writeSafetensors } from '../../weights/safetensors_node';
import type { AdamW } from './adamw';
import type { Position } from './loop';
import type { NamedArrays, VariableSource } from './variables';

const MOMENTS = 'optimizer.moments';
const SQUARES = 'optimizer.squares';

/** Everything that a stage needs to go on, as one safetensors file: variables by their checkpoint names, the optimiser's memory, the position. */
export async function saveState(file: string, source: VariableSource, optimizer: AdamW, position: Position, cursor: number): Promise<void> {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const tensors = new Map<string, tf.Tensor>();
  for (const [name, { shape, data }] of await source.export()) tensors.set(name, tf.tensor(data, [...shape]));
  const own = [...tensors.values()];
  tensors.set(MOMENTS, optimizer.state.moments);
  tensors.set(SQUARES, optimizer.state.squares);
  const metadata = {
    seconds: String(position.seconds),
    steps: String(position.steps),
    optimizer_steps: String(optimizer.steps),
    cursor: String(cursor),
  };
  try {
    await writeSafetensors(file, tensors, metadata);
  } finally {
    tf.dispose(own);
  }
}

/** Model values of a state or of a shipped checkpoint. */
export async function readArrays(file: string): Promise<NamedArrays> {
  const opened = await readSafetensors(file);
  try {
    const arrays: NamedArrays = new Map();
    for (const name of opened.names) {
      const tensor = await opened.tensor(name);
      arrays.set(name, { shape: tensor.shape, data: (await tensor.data()) as Float32Array });
      tensor.dispose();
    }
    return arrays;
  } finally {
    await opened.close();
  }
}

/** Restores what `saveState` wrote. @returns where the stage was, or undefined without such a file. */
export async function restoreState(
  file: string,
  source: VariableSource,
  optimizer: AdamW,
): Promise<{ position: Position; cursor: number } | undefined> {
  if (!fs.existsSync(file)) return undefined;
  source.import(await readArrays(file));
  const opened = await readSafetensors(file);
  try {
    const number = (key: string) => Number(opened.metadata.get(key));
    const moments = await opened.tensor(MOMENTS);
    const squares = await opened.tensor(SQUARES);
    optimizer.restore(moments, squares, number('optimizer_steps'));
    tf.dispose([moments, squares]);
    return { position: { seconds: number('seconds'), steps: number('steps') }, cursor: number('cursor') };
  } finally {
    await opened.close();
  }
}
