import { Random } from '../random';
import { generateScene, HELD_OUT_SEEDS, layoutScene, makeQuestions, QUESTION_TYPES, type Question, type SceneLayout } from '../scenes';
import type { DataSet } from './data_set';

/** At most one question of each type that the scene can answer; which ones follows from the scene's seed. */
export function sceneQuestions(scene: SceneLayout): Question[] {
  const asked = new Map<string, Question>();
  for (const question of makeQuestions(scene, new Random(scene.seed, 1), QUESTION_TYPES.length)) {
    if (!asked.has(question.type)) asked.set(question.type, question);
  }
  return [...asked.values()];
}

/** Scenes that no training ever saw, for the model that comes with the package: as many as there are seeds. An answer is one word, one token. */
export function scenesData(): DataSet {
  const { first, end } = HELD_OUT_SEEDS;
  return {
    name: 'scenes',
    digest: `held-out scenes from seed ${first}`,
    metric: 'word',
    maxNewTokens: 1,
    images: end - first,
    questions: (image) =>
      sceneQuestions(layoutScene(first + image)).map(({ type, text, answer }) => ({ id: `${image} ${type}`, group: type, text, reference: answer })),
    image: (image) => {
      const { size, pixels } = generateScene(first + image);
      return Promise.resolve({ width: size, height: size, data: pixels });
    },
  };
}
