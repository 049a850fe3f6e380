import { Random } from '../random';
import { generateScene, layoutScene, makeQuestions, VALIDATION_SEEDS } from '../scenes';
import type { TuneSample } from './tune_set';

/** Scenes for choices, one question about each; those that figures are reported on are never among them. */
export function sceneSamples(count: number): TuneSample[] {
  return Array.from({ length: count }, (_, i) => {
    const seed = VALIDATION_SEEDS.first + i;
    const [question] = makeQuestions(layoutScene(seed), new Random(seed, 1), 1);
    return {
      question: question?.text ?? '',
      image: () => {
        const { size, pixels } = generateScene(seed);
        return Promise.resolve({ width: size, height: size, data: pixels });
      },
    };
  });
}
