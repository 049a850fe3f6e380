/**
 * Draws the sample pictures of this folder and writes questions.json beside them: `npx ts-node examples/images/render.ts`.
 * They are held-out scenes, far from those that `vispruner eval` asks about; no training saw them.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import sharp from 'sharp';
import { generateScene, HELD_OUT_SEEDS, sceneQuestions } from '../../lib/index';

const FIRST_SAMPLE = HELD_OUT_SEEDS.first + 1_000_000_000;
const SAMPLES = { stars: 5, crosses: 20, letter_a: 29, letter_e: 35 } as const;

async function main(): Promise<void> {
  const index: { image: string; seed: number; questions: { question: string; answer: string }[] }[] = [];
  for (const [name, number] of Object.entries(SAMPLES)) {
    const scene = generateScene(FIRST_SAMPLE + number);
    const file = `${name}.png`;
    await sharp(scene.pixels, { raw: { width: scene.size, height: scene.size, channels: 3 } })
      .png({ compressionLevel: 9 })
      .toFile(path.join(__dirname, file));
    const questions = sceneQuestions(scene).map(({ text, answer }) => ({ question: text, answer }));
    index.push({ image: file, seed: scene.seed, questions });
    console.log(file, scene.objects.map(({ colour, kind, letter }) => `${colour} ${letter ?? kind}`).join(', '));
  }
  fs.writeFileSync(path.join(__dirname, 'questions.json'), `${JSON.stringify(index, null, 2)}\n`);
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
