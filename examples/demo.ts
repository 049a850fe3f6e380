/**
 * The first thing to run: a trained model answers about a picture, with all of its visual tokens and then with the few that VisPruner keeps.
 *
 *   npm run demo
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { drawKept, loadModel, type PruneOptions, type VisionLanguageModel } from '../lib/index';

interface Scene {
  readonly image: string;
  readonly questions: readonly { readonly question: string; readonly answer: string }[];
}

const RUNS: readonly { readonly name: string; readonly prune: PruneOptions }[] = [
  { name: 'all visual tokens', prune: { method: 'none' } },
  { name: 'VisPruner keeps 28', prune: { method: 'vispruner', tokens: 28 } },
];
const ROUNDS = 9;

const images = path.join(__dirname, 'images');
const scenes = JSON.parse(readFileSync(path.join(images, 'questions.json'), 'utf8')) as Scene[];
const shown = (file: string) => path.relative(process.cwd(), file);

function row(...cells: readonly string[]): void {
  const widths = [20, 8, 13, 14];
  console.log(`  ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')}`.trimEnd());
}

/** One question, both ways: the table, and the picture of what was kept. */
async function oneQuestion(model: VisionLanguageModel, image: string, question: string, truth: string): Promise<void> {
  console.log(`Picture   ${shown(image)}\nQuestion  ${question}\n`);
  const times = RUNS.map((): number[] => []);
  for (const { prune } of RUNS) await model.ask(image, question, { prune }); // the backend prepares itself at first use
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, { prune }] of RUNS.entries()) times[i]?.push((await model.ask(image, question, { prune })).timing.firstToken);
  }
  row('', 'tokens', 'first token', 'answer');
  for (const [i, { name, prune }] of RUNS.entries()) {
    const { text, usage } = await model.ask(image, question, { prune });
    const fastest = Math.min(...(times[i] ?? [])); // whatever else the machine does can only add to it
    row(name, String(usage.visualTokens), `${fastest.toFixed(0)} ms`, text.trim(), text.trim() === truth ? 'right' : `wrong: ${truth}`);
  }
}

/** All questions about all pictures: how often each way is right. */
async function allQuestions(model: VisionLanguageModel): Promise<void> {
  const asked = scenes.reduce((sum, { questions }) => sum + questions.length, 0);
  console.log(`\nThe ${asked} questions about the ${scenes.length} pictures in ${shown(images)}:\n`);
  for (const { name, prune } of RUNS) {
    let right = 0;
    for (const { image, questions } of scenes) {
      for (const { question, answer } of questions)
        right += (await model.ask(path.join(images, image), question, { prune })).text.trim() === answer ? 1 : 0;
    }
    row(name, `${right} of ${asked} right`);
  }
}

async function main(): Promise<void> {
  const begun = performance.now();
  const model = await loadModel(path.join(__dirname, '../weights/vispruner-tiny'));
  console.log(
    `A small LLaVA that this project trained, loaded in ${((performance.now() - begun) / 1000).toFixed(1)} s, on the backend "${model.backend}".\n`,
  );

  const { image, questions } = scenes[0] as Scene;
  const { question, answer } = questions[0] as Scene['questions'][number];
  const file = path.join(images, image);
  await oneQuestion(model, file, question, answer);

  const { visual } = await model.ask(file, question, { prune: { method: 'vispruner', tokens: 28 } });
  const [prepared] = await model.prepareImages([file]);
  const out = path.join(__dirname, '../runs', `kept-${image}`);
  mkdirSync(path.dirname(out), { recursive: true });
  if (prepared && visual[0]) writeFileSync(out, await drawKept(file, prepared, visual[0]));
  prepared?.pixelValues.dispose();
  console.log(`\nWhat VisPruner kept is drawn over the picture in ${shown(out)}`);

  await allQuestions(model);
  model.dispose();
  console.log(`\nYour turn: npm run --silent vispruner -- ask ${shown(file)} "${questions[1]?.question}" --tokens 28`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
