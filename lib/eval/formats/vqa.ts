import { z } from 'zod';
import { anyId, type Format, join, parseJson, parseRow, type RawQuestion, rowError, SHORT_ANSWER } from './format';

const answers = z.array(z.object({ answer: z.string() })).min(1);

interface VqaFields {
  readonly questions: string;
  readonly annotations: string;
  readonly images: string;
  /** Name of an image's file by its id, with zeros in front up to so many digits. */
  readonly imageName: string;
}

const vqaFields = z.strictObject({
  questions: z.string(),
  annotations: z.string(),
  images: z.string(),
  imageName: z.string().default('COCO_val2014_{image_id:12}.jpg'),
});

const vqaQuestions = z.object({ questions: z.array(z.object({ question_id: anyId, image_id: anyId, question: z.string().min(1) })) });
const vqaAnnotations = z.object({ annotations: z.array(z.object({ question_id: anyId, answer_type: z.string().default('all'), answers })) });

/** VQAv2 (Goyal et al. 2017): a JSON file of questions and one of annotations, ten answers each. */
export const vqaFormat: Format<VqaFields> = {
  fields: vqaFields,
  metric: 'vqa',
  suffix: SHORT_ANSWER,
  maxNewTokens: 16,
  async read({ questions: questionFile, annotations: annotationFile, images, imageName }, files) {
    const { questions } = parseRow(vqaQuestions, parseJson(await files.text(questionFile), questionFile), questionFile);
    const { annotations } = parseRow(vqaAnnotations, parseJson(await files.text(annotationFile), annotationFile), annotationFile);
    const known = new Map(annotations.map((one) => [one.question_id, one]));
    return questions.map(({ question_id: id, image_id: imageId, question }, i): RawQuestion => {
      const annotation = known.get(id);
      if (!annotation) throw rowError(`${questionFile}, questions[${i}]`, `question ${id} has no annotation in ${annotationFile}`);
      const reference = annotation.answers.map(({ answer }) => answer);
      return { id, group: annotation.answer_type, text: question, reference, image: { path: join(images, nameOf(imageName, imageId)) } };
    });
  },
};

function nameOf(pattern: string, id: string): string {
  return pattern.replace(/\{image_id(?::(\d+))?\}/, (_, digits: string | undefined) => id.padStart(Number(digits ?? 0), '0'));
}

interface TextVqaFields {
  readonly questions: string;
  readonly images: string;
  readonly imageName: string;
}

const textVqaFields = z.strictObject({ questions: z.string(), images: z.string(), imageName: z.string().default('{image_id}.jpg') });
const textVqaFile = z.object({
  data: z.array(z.object({ question_id: anyId, image_id: anyId, question: z.string().min(1), answers: z.array(z.string()).min(1) })),
});

/** TextVQA (Singh et al. 2019): one JSON file, `data` with ten answers a question. Text found in the image by others (OCR tokens) is not given to the model. */
export const textVqaFormat: Format<TextVqaFields> = {
  fields: textVqaFields,
  metric: 'textvqa',
  suffix: SHORT_ANSWER,
  maxNewTokens: 16,
  async read({ questions, images, imageName }, files) {
    const { data } = parseRow(textVqaFile, parseJson(await files.text(questions), questions), questions);
    return data.map(({ question_id: id, image_id: imageId, question, answers: reference }) => ({
      id,
      group: 'all',
      text: question,
      reference,
      image: { path: join(images, nameOf(imageName, imageId)) },
    }));
  },
};

interface VizWizFields {
  readonly questions: string;
  readonly images: string;
}

const vizWizFields = z.strictObject({ questions: z.string(), images: z.string() });
const vizWizFile = z.array(z.object({ image: z.string().min(1), question: z.string().min(1), answer_type: z.string().default('all'), answers }));

/** VizWiz (Gurari et al. 2018): one JSON file, a list with an image, a question and ten answers each; scored as VQAv2. */
export const vizWizFormat: Format<VizWizFields> = {
  fields: vizWizFields,
  metric: 'vqa',
  suffix: `\nWhen the provided information is insufficient, respond with 'Unanswerable'.${SHORT_ANSWER}`,
  maxNewTokens: 16,
  async read({ questions, images }, files) {
    const rows = parseRow(vizWizFile, parseJson(await files.text(questions), questions), questions);
    return rows.map(({ image, question, answer_type: group, answers: people }) => ({
      id: image,
      group,
      text: question,
      reference: people.map(({ answer }) => answer),
      image: { path: join(images, image) },
    }));
  },
};
