import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { type DataSet, type EvalQuestion, openDataSet } from '../../../lib/eval';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'vispruner-data-'));
});
afterEach(() => rm(folder, { recursive: true }));

type Files = Readonly<Record<string, unknown>>;

/** Writes files, JSON where they are no text, with a mapping beside them. */
async function write(mapping: unknown, files: Files): Promise<void> {
  for (const [name, content] of Object.entries({ 'vispruner-data.json': mapping, ...files })) {
    const file = path.join(folder, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content));
  }
}

async function open(mapping: unknown, files: Files): Promise<DataSet> {
  await write(mapping, files);
  return openDataSet(folder);
}

/** All questions with the name of the image's file, by id. */
async function questionsOf(data: DataSet): Promise<(EvalQuestion & { image: string })[]> {
  const all: (EvalQuestion & { image: string })[] = [];
  for (let image = 0; image < data.images; image++) {
    const where = await data.image(image);
    const name = typeof where === 'string' ? path.relative(folder, where) : `${(where as Uint8Array).length} bytes`;
    all.push(...data.questions(image).map((question) => ({ ...question, image: name })));
  }
  return all.sort((a, b) => (a.id < b.id ? -1 : 1));
}

const lines = (...rows: unknown[]): string => `${rows.map((row) => JSON.stringify(row)).join('\n')}\n`;

describe('a data set in the files of its authors', () => {
  it('POPE: a file a split, one image for all splits together', async () => {
    const row = { question_id: 1, image: 'COCO_1.jpg', text: 'Is there a dog in the image?', label: 'yes' };
    const data = await open(
      { format: 'pope', images: 'val2014', questions: { random: 'coco_pope_random.json', popular: 'coco_pope_popular.json' } },
      {
        'coco_pope_random.json': lines(row, { ...row, question_id: 2, label: 'no' }),
        'coco_pope_popular.json': lines(row),
        'val2014/COCO_1.jpg': '',
      },
    );
    expect(data).toMatchObject({ name: 'pope', metric: 'pope', images: 1 });
    expect(await questionsOf(data)).toEqual([
      {
        id: 'popular 1',
        group: 'popular',
        reference: 'yes',
        image: 'val2014/COCO_1.jpg',
        text: expect.stringMatching(/^Is there a dog in the image\?\nAnswer/),
      },
      expect.objectContaining({ id: 'random 1', group: 'random' }),
      expect.objectContaining({ id: 'random 2', reference: 'no' }),
    ]);
  });

  it('VQAv2: questions and annotations, images by a padded number', async () => {
    const data = await open(
      { format: 'vqa', questions: 'q.json', annotations: 'a.json', images: 'val2014', suffix: '' },
      {
        'q.json': { questions: [{ question_id: 420, image_id: 42, question: 'What color?' }] },
        'a.json': {
          annotations: [
            {
              question_id: 420,
              answer_type: 'other',
              answers: [
                { answer: 'red', answer_id: 1 },
                { answer: 'dark red', answer_id: 2 },
              ],
            },
          ],
        },
        'val2014/COCO_val2014_000000000042.jpg': '',
      },
    );
    expect(await questionsOf(data)).toEqual([
      { id: '420', group: 'other', text: 'What color?', reference: ['red', 'dark red'], image: 'val2014/COCO_val2014_000000000042.jpg' },
    ]);
  });

  it('GQA: an object by id', async () => {
    const data = await open(
      { format: 'gqa', questions: 'testdev.json', images: 'images' },
      { 'testdev.json': { '07': { imageId: 'n1', question: 'Is it red?', answer: 'Yes', types: { structural: 'verify' } } }, 'images/n1.jpg': '' },
    );
    expect(await questionsOf(data)).toMatchObject([{ id: '07', group: 'verify', reference: 'yes', image: 'images/n1.jpg' }]);
  });

  it('TextVQA and VizWiz: ten answers', async () => {
    const answers = new Array<string>(10).fill('stop');
    const text = await open(
      { format: 'textvqa', questions: 't.json', images: 'train' },
      { 't.json': { data: [{ question_id: 3, image_id: 'ab', question: 'what sign?', answers }] }, 'train/ab.jpg': '' },
    );
    expect(await questionsOf(text)).toMatchObject([{ id: '3', reference: answers, image: 'train/ab.jpg' }]);
    const viz = await open(
      { format: 'vizwiz', questions: 'v.json', images: 'val' },
      { 'v.json': [{ image: 'v1.jpg', question: 'What?', answers: answers.map((answer) => ({ answer })) }], 'val/v1.jpg': '' },
    );
    expect(viz.metric).toBe('vqa');
    expect(await questionsOf(viz)).toMatchObject([{ id: 'v1.jpg', reference: answers, text: expect.stringContaining('Unanswerable') }]);
  });

  it('ScienceQA: the problems of a split that have an image, choices by letter', async () => {
    const problem = { question: 'Which?', choices: ['a cat', 'a dog'], answer: 1, hint: 'Look.', image: 'image.png', subject: 'natural science' };
    const data = await open(
      { format: 'scienceqa', problems: 'problems.json', splits: 'pid_splits.json', images: 'images/test' },
      {
        'problems.json': { '5': problem, '6': { ...problem, image: null }, '7': problem },
        'pid_splits.json': { test: ['5', '6'], train: ['7'] },
        'images/test/5/image.png': '',
      },
    );
    expect(await questionsOf(data)).toEqual([
      {
        id: '5',
        group: 'natural science',
        text: "Context: Look.\nWhich?\nA. a cat\nB. a dog\nAnswer with the option's letter from the given choices directly.",
        reference: 'B',
        choices: 2,
        image: 'images/test/5/image.png',
      },
    ]);
  });

  it.each([
    ['in one directory', { 'MME/count/1.jpg': '', 'MME/count/1.txt': 'Are there two?\tYes\nIs there one?\tNo\n' }, 'MME/count/1.jpg'],
    [
      'in two directories',
      { 'MME/count/images/1.jpg': '', 'MME/count/questions_answers_YN/1.txt': 'Are there two?\tYes\r\nIs there one?\tNo' },
      'MME/count/images/1.jpg',
    ],
  ])('MME: two questions an image, %s', async (_, files, image) => {
    const data = await open({ format: 'mme', root: 'MME' }, files);
    expect(await questionsOf(data)).toMatchObject([
      { id: 'count 1 0', group: 'count', reference: 'yes', bundle: 'count 1', image },
      { id: 'count 1 1', reference: 'no', bundle: 'count 1', image },
    ]);
  });

  it('MMBench: images in base64 or by index, quoted cells, rotated choices with one image', async () => {
    const image = Buffer.from('an image of nineteen').toString('base64');
    const table = [
      'index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage',
      `3\t"Which, ""exactly""\nis it?"\tnan\tcat\tdog\t\t\tB\tanimals\t${image}`,
      '1000003\tWhich?\tLook.\tdog\tcat\tnan\tnan\tA\tanimals\t3',
      `4\tWhat?\t\tx\ty\tz\tw\tD\tletters\t${Buffer.from('another image, longer').toString('base64')}`,
    ].join('\n');
    const data = await open({ format: 'mmbench', questions: 'dev.tsv', suffix: '' }, { 'dev.tsv': table });
    expect(data.images).toBe(2);
    expect(await questionsOf(data)).toEqual([
      { id: '1000003', group: 'animals', text: 'Look.\nWhich?\nA. dog\nB. cat', reference: 'A', choices: 2, bundle: '3', image: '20 bytes' },
      { id: '3', group: 'animals', text: 'Which, "exactly"\nis it?\nA. cat\nB. dog', reference: 'B', choices: 2, bundle: '3', image: '20 bytes' },
      { id: '4', group: 'letters', text: 'What?\nA. x\nB. y\nC. z\nD. w', reference: 'D', choices: 4, bundle: '4', image: '21 bytes' },
    ]);
  });

  it('rows of our own: one answer or several, by the metric', async () => {
    const row = { id: 1, image: 'a.png', question: 'What?', answer: 'x', answers: ['x', 'y'] };
    const files = { 'rows.jsonl': lines(row), 'images/a.png': '' };
    const mapping = { format: 'rows', questions: 'rows.jsonl', images: 'images', maxNewTokens: 1, name: 'mine' };
    const word = await open({ ...mapping, metric: 'word' }, files);
    expect(word).toMatchObject({ name: 'mine', metric: 'word', maxNewTokens: 1 });
    expect(await questionsOf(word)).toMatchObject([{ id: '1', group: 'all', reference: 'x' }]);
    expect(await questionsOf(await open({ ...mapping, metric: 'vqa' }, files))).toMatchObject([{ reference: ['x', 'y'] }]);
  });

  it('has its images in an order that is always the same and not that of the file', async () => {
    const rows = Array.from({ length: 30 }, (_, id) => ({ id: String(id).padStart(2, '0'), image: `${id}.png`, question: '?', answer: 'x' }));
    const files = { 'rows.jsonl': lines(...rows), ...Object.fromEntries(rows.map(({ image }) => [image, ''])) };
    const mapping = { format: 'rows', questions: 'rows.jsonl', images: '.', metric: 'word' };
    const order = (data: DataSet): string[] => Array.from({ length: 30 }, (_, i) => data.questions(i)[0]!.id);
    const first = order(await open(mapping, files));
    expect(order(await openDataSet(path.join(folder, 'vispruner-data.json')))).toEqual(first);
    expect(first).not.toEqual([...first].sort());
    expect([...first].sort()).toEqual(rows.map(({ id }) => id));
  });

  it('has another digest when its questions change', async () => {
    const row = { id: 1, image: 'a.png', question: 'What?', answer: 'x' };
    const mapping = { format: 'rows', questions: 'rows.jsonl', images: '.', metric: 'word' };
    const { digest } = await open(mapping, { 'rows.jsonl': lines(row), 'a.png': '' });
    expect((await open(mapping, { 'rows.jsonl': lines(row) })).digest).toBe(digest);
    expect((await open(mapping, { 'rows.jsonl': lines({ ...row, answer: 'y' }) })).digest).not.toBe(digest);
  });
});

describe('a data set that is not as it should be', () => {
  const row = { id: 1, image: 'a.png', question: 'What?', answer: 'x' };
  const rows = { format: 'rows', questions: 'rows.jsonl', images: '.', metric: 'word' };
  const whole: Files = { 'rows.jsonl': lines(row), 'a.png': '' };

  it.each<[string, unknown, Files, string, RegExp]>([
    ['an unknown format', { ...rows, format: 'cocoqa' }, whole, 'DATA_MAPPING', /"cocoqa".*pope/],
    ['a misspelt field', { ...rows, image: '.' }, whole, 'DATA_MAPPING', /image/],
    ['a missing field', { format: 'rows', questions: 'rows.jsonl', metric: 'word' }, whole, 'DATA_MAPPING', /"images"/],
    ['a suffix that is no text', { ...rows, suffix: 3 }, whole, 'DATA_MAPPING', /"suffix"/],
    ['a file that is not there', { ...rows, questions: 'other.jsonl' }, whole, 'DATA_FILE', /other\.jsonl.*not there/],
    [
      'an image that is not there',
      rows,
      { 'rows.jsonl': lines(row, { ...row, id: 2, image: 'b.png' }), 'a.png': '' },
      'DATA_IMAGE',
      /1 of 2.*b\.png.*"2"/,
    ],
    ['a line that is no JSON', rows, { ...whole, 'rows.jsonl': `${lines(row)}{"id": 2,\n` }, 'DATA_ROW', /rows\.jsonl, line 2.*JSON/],
    ['a row without its question', rows, { ...whole, 'rows.jsonl': lines({ ...row, question: undefined }) }, 'DATA_ROW', /line 1: "question"/],
    ['a row without the answer that the metric needs', { ...rows, metric: 'vqa' }, whole, 'DATA_ROW', /line 1.*"answers"/],
    ['an id that comes twice', rows, { ...whole, 'rows.jsonl': lines(row, row) }, 'DATA_ROW', /"1"/],
    ['no question', rows, { ...whole, 'rows.jsonl': '\n' }, 'DATA_EMPTY', /no question/],
    [
      'a question without an annotation',
      { format: 'vqa', questions: 'q.json', annotations: 'a.json', images: '.' },
      { 'q.json': { questions: [{ question_id: 9, image_id: 1, question: '?' }] }, 'a.json': { annotations: [] } },
      'DATA_ROW',
      /questions\[0\].*question 9 has no annotation/,
    ],
    [
      'POPE questions without labels',
      { format: 'pope', questions: 'p.jsonl', images: '.' },
      { 'p.jsonl': lines({ question_id: 1, image: 'a.png', text: '?' }) },
      'DATA_ROW',
      /line 1.*label/,
    ],
    [
      'an MME file with one question',
      { format: 'mme', root: 'm' },
      { 'm/count/1.png': '', 'm/count/1.txt': 'One?\tYes\n' },
      'DATA_ROW',
      /1\.txt.*1 lines/,
    ],
    [
      'an MME line without a tab',
      { format: 'mme', root: 'm' },
      { 'm/count/1.png': '', 'm/count/1.txt': 'One? Yes\nTwo?\tNo\n' },
      'DATA_ROW',
      /1\.txt, line 1/,
    ],
    ['MME without a task', { format: 'mme', root: 'm' }, { 'm/counting/1.png': '' }, 'DATA_ROW', /existence/],
    [
      'MMBench without answers',
      { format: 'mmbench', questions: 't.tsv' },
      { 't.tsv': `index\tquestion\tA\tB\timage\n1\tWhich?\tx\ty\t${'A'.repeat(40)}` },
      'DATA_ROW',
      /row 1 \(index 1\).*"answer"/,
    ],
    ['MMBench with a ragged row', { format: 'mmbench', questions: 't.tsv' }, { 't.tsv': 'index\tquestion\n1\tWhich?\tx' }, 'DATA_ROW', /t\.tsv/],
    [
      'a split that ScienceQA does not have',
      { format: 'scienceqa', problems: 'p.json', splits: 's.json', split: 'minitest', images: '.' },
      { 's.json': { test: [] }, 'p.json': {} },
      'DATA_ROW',
      /minitest.*test/,
    ],
  ])('is refused for %s, where it says what and where', async (_, mapping, files, code, message) => {
    await write(mapping, files);
    await expect(openDataSet(folder)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('is refused where there is none', async () => {
    await expect(openDataSet(path.join(folder, 'nothing.json'))).rejects.toMatchObject({ code: 'DATA_FILE' });
  });
});
