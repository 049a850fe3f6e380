import {
  ANSWERS,
  generateScene,
  makeQuestions,
  QUESTION_TYPES,
  type Question,
  Random,
  SCENE_SIZE,
  type Scene,
  VALIDATION_SEEDS,
} from '../../../lib/scenes';

interface Asked extends Question {
  readonly scene: Scene;
}

const asked: Asked[] = Array.from({ length: 1500 }, (_, i) => generateScene(VALIDATION_SEEDS.first + i)).flatMap((scene) =>
  makeQuestions(scene, new Random(scene.seed, 1), 8).map((question) => ({ ...question, scene })),
);
const ofType = (type: string) => asked.filter((question) => question.type === type);

/** Objects that a phrase such as 'red circles' or 'letter' fits, read word by word. */
function read(scene: Scene, phrase: string): Scene['objects'] {
  const words = phrase.split(' ');
  const noun = words.pop()!.replace(/(?<=cross)es$|(?<!cros)s$/, '');
  return scene.objects.filter((object) => (noun === 'object' || object.kind === noun) && words.every((word) => object.colour === word));
}

function only(scene: Scene, phrase: string): Scene['objects'][number] {
  const found = read(scene, phrase);
  if (found.length !== 1) throw new Error(`"${phrase}" fits ${found.length} objects`);
  return found[0]!;
}

/** Answers a question by reading it, without knowing how it was made. */
function answer(text: string, scene: Scene): string {
  const parts = (pattern: RegExp) => pattern.exec(text)?.slice(1);
  let found = parts(/^is there an? (.+)\?$/);
  if (found) return read(scene, found[0]!).length > 0 ? 'yes' : 'no';
  found = parts(/^what color is the (.+)\?$/);
  if (found) return only(scene, found[0]!).colour;
  found = parts(/^what shape is the (.+)\?$/);
  if (found) return only(scene, found[0]!).kind;
  found = parts(/^how many (.+) are there\?$/);
  if (found) return String(read(scene, found[0]!).length);
  found = parts(/^where is the (.+)\?$/);
  if (found) {
    const { cx, cy } = only(scene, found[0]!);
    return `${cy < SCENE_SIZE / 2 ? 'top' : 'bottom'}-${cx < SCENE_SIZE / 2 ? 'left' : 'right'}`;
  }
  found = parts(/^is the (.+) (left or right of|above or below) the (.+)\?$/);
  if (found) {
    const [a, b] = [only(scene, found[0]!), only(scene, found[2]!)];
    if (found[1] === 'above or below') return a.cy < b.cy ? 'above' : 'below';
    return a.cx < b.cx ? 'left' : 'right';
  }
  if (text === 'which letter is there?') return only(scene, 'letter').letter!;
  throw new Error(`not understood: ${text}`);
}

function shares(questions: readonly Question[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const question of questions) counts[question.answer] = (counts[question.answer] ?? 0) + 1 / questions.length;
  return counts;
}

describe('questions', () => {
  it('have the answer that reading the object list gives', () => {
    const wrong = asked.filter(({ text, answer: given, scene }) => given !== answer(text, scene));
    expect(wrong.map(({ text, scene }) => [scene.seed, text])).toEqual([]);
  });

  it('name an object unmistakably, and in the shortest words that do', () => {
    for (const { text, scene } of [...ofType('relation'), ...ofType('where')]) {
      for (const [, phrase] of text.matchAll(/the ((?:[a-z]+ )?[a-z]+?)(?= left| right| above| below|\?)/g)) {
        const object = only(scene, phrase!);
        const [first, second] = phrase!.split(' ');
        if (second === undefined) continue;
        expect(read(scene, object.kind).length).toBeGreaterThan(1);
        if (second !== 'object') expect(read(scene, `${first} object`).length).toBeGreaterThan(1);
      }
    }
  });

  it('are all of known types, answered by one known word', () => {
    for (const type of QUESTION_TYPES) {
      const questions = ofType(type);
      expect(questions.length).toBeGreaterThan(400);
      expect(Object.keys(shares(questions)).sort()).toEqual([...ANSWERS[type]].sort()); // each word is really used
    }
  });

  it('can not be guessed: no answer of a type is much more frequent than the others', () => {
    const limits = { exists: 0.54, colour: 0.16, shape: 0.18, count: 0.3, relation: 0.29, where: 0.29, letter: 0.16 };
    for (const type of QUESTION_TYPES) expect(Math.max(...Object.values(shares(ofType(type))))).toBeLessThan(limits[type]);
    for (const pattern of [/ left or right /, / above or below /]) {
      const [one, other] = Object.values(shares(ofType('relation').filter(({ text }) => pattern.test(text))));
      expect(Math.abs(one! - other!)).toBeLessThan(0.08);
    }
    for (const single of [true, false]) {
      const questions = ofType('exists').filter(({ text }) => (text.split(' ').length === 4 || text.includes(' object?')) === single);
      expect(Math.abs(shares(questions)['yes']! - 0.5)).toBeLessThan(0.05);
      expect(Math.abs(questions.length / ofType('exists').length - (single ? 0.4 : 0.6))).toBeLessThan(0.05);
    }
  });

  it('ask of near misses: most denied pairs share the kind or the colour with an object', () => {
    const denied = ofType('exists').filter(({ text, answer: given }) => given === 'no' && text.split(' ').length === 5 && !text.includes(' object?'));
    const near = denied.filter(({ text, scene }) => {
      const [colour, kind] = text.replace('?', '').split(' ').slice(-2);
      return scene.objects.some((object) => object.kind === kind || object.colour === colour);
    });
    expect(Math.abs(near.length / denied.length - 0.6)).toBeLessThan(0.06);
  });

  it('take the types in turn: a type comes again only when the others had their chance', () => {
    for (let i = 0; i < 50; i++) {
      const types = makeQuestions(generateScene(i), new Random(i), 4).map(({ type }) => type);
      expect(new Set(types).size).toBe(4);
    }
  });

  it('depend on the seed of the questions only', () => {
    const scene = generateScene(3);
    expect(makeQuestions(scene, new Random(8), 12)).toEqual(makeQuestions(scene, new Random(8), 12));
    expect(makeQuestions(scene, new Random(8), 12)).not.toEqual(makeQuestions(scene, new Random(9), 12));
  });
});
