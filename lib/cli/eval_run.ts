import { createHash } from 'node:crypto';
import { findModel } from '../../weights/hub_cache_node';
import { type Condition, type Conditions, conditionsOf } from '../eval/conditions';
import { type DataSet, imagesFor } from '../eval/data_set';
import { evaluate } from '../eval/evaluate';
import { evaluatedModel } from '../eval/evaluated_model';
import { openDataSet } from '../eval/file_data_node';
import type { RecordedCondition, Results, ResultsHeader } from '../eval/results';
import { machineName, ResultsFile, weightsDigest } from '../eval/results_node';
import { scenesData } from '../eval/scenes_data';
import type { VisionLanguageModel } from '../model';
import { type EvalFlags, SCENE_QUESTIONS } from './eval_options';
import { withModel } from './model';
import { pruneOptions } from './options';
import { progressBar } from './progress';

/** Asks what the results file does not have yet. */
export async function runEval(flags: EvalFlags, signal: AbortSignal): Promise<Results> {
  const scenes = flags.data === 'scenes';
  const data = scenes ? scenesData() : await openDataSet(flags.data, signal);
  const wanted = imagesFor(data, flags.questions ?? (scenes ? SCENE_QUESTIONS : Number.POSITIVE_INFINITY));
  const weights = await weightsDigest(await findModel(flags.model), signal);
  return withModel(flags, signal, async (model) => {
    const evaluated = evaluatedModel(model);
    const conditions = await conditionsFor(model, flags);
    const header = headerOf(model, data, { weights, conditions, flags });
    const file = await ResultsFile.open(flags.results, header, flags.fresh ?? false);
    const done = new Set(file.records.map(({ image }) => image));
    const { index, count } = flags.shard ?? { index: 1, count: 1 };
    const mine = Array.from({ length: wanted.images }, (_, image) => image).filter((image) => image % count === index - 1);
    const images = mine.filter((image) => !done.has(image));
    if (done.size > 0) console.error(`Going on from ${flags.results}: ${done.size} images are there, ${images.length} are left.`);
    const records = file.records.filter(({ image }) => image < wanted.images);
    const total = images.reduce((sum, image) => sum + data.questions(image).length, 0);
    const bar = progressBar('Asking', String);
    const begun = performance.now();
    let questions = 0;
    try {
      for await (const record of evaluate(evaluated, data, { conditions: conditions.asked, images, timed: flags.timed, signal })) {
        await file.append(record);
        records.push(record);
        questions += record.questions.length;
        bar.update(questions, total, (performance.now() - begun) / 1000);
      }
    } finally {
      bar.stop();
    }
    return { header, records };
  });
}

async function conditionsFor(
  { config, layers }: VisionLanguageModel,
  { methods, pruneOptions: files = [], budgets, seeds, blind }: EvalFlags,
): Promise<Conditions> {
  const patches = config.model_type === 'llava' ? (config.vision_config.image_size / config.vision_config.patch_size) ** 2 : 0;
  const tuned = await Promise.all(files.map((file) => pruneOptions({ pruneOptions: file })));
  const depths = { decoderBlocks: layers.language.blocks.length, encoderBlocks: layers.encoder.featureBlock + 1 };
  return conditionsOf({ methods, tuned, budgets, seeds, blind, patches, ...depths });
}

interface HeaderParts {
  readonly weights: string;
  readonly conditions: Conditions;
  readonly flags: EvalFlags;
}

function headerOf(model: VisionLanguageModel, data: DataSet, { weights, conditions, flags }: HeaderParts): ResultsHeader {
  const { name, digest, metric, maxNewTokens } = data;
  return {
    format: 'vispruner-eval 1',
    weights,
    dtype: model.dtype,
    backend: model.backend,
    machine: machineName(),
    data: { name, digest, metric, maxNewTokens },
    conditions: conditions.asked.map(recorded),
    unreachable: conditions.unreachable,
    timed: flags.timed,
    ...(flags.shard ? { shard: `${flags.shard.index}/${flags.shard.count}` } : {}),
  };
}

/** Options that are longer, as those with a codebook, are in a header by their digest. */
const LONGEST_OPTIONS = 2000;

function recorded({ prune, ...condition }: Condition): RecordedCondition {
  if (!prune) return condition;
  const options = prune(0);
  const text = JSON.stringify(options);
  if (text.length <= LONGEST_OPTIONS) return { ...condition, options };
  return { ...condition, options: { method: options.method, sha256: createHash('sha256').update(text).digest('hex') } };
}
