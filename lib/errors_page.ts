import { type CodeEntry, ERROR_CODES } from '../layers/error_codes';

/** `docs/errors.md`, from the catalogue of codes. */
export function errorsPage(): string {
  const classes = Object.entries(ERROR_CODES);
  return `${INTRODUCTION}
${classes.map(([name]) => `- [\`${name}\`](#${name.toLowerCase()}): ${MEANINGS[name]}`).join('\n')}

${classes.map(([name, codes]) => `## ${name}\n\n${MEANINGS[name]}\n\n${table(codes)}`).join('\n\n')}
`;
}

const INTRODUCTION = `<!-- Written by "npm run docs:errors" from layers/error_codes.ts; edit the codes there. -->
# Errors

Whatever this package refuses, it refuses with one of the classes below. Each error has a \`code\`, which stays the same from release to release, and a message that
names the file or the option, the values that disagree, and what to do: show the message, decide by \`code\`.

\`\`\`ts
try {
  await model.ask('photo.jpg', 'What is on the table?', { prune: { method: 'vispruner', tokens: 32 } });
} catch (error) {
  if (error instanceof VisPrunerError && error.code === 'IMAGE_NOT_FOUND') console.error(error.message);
  else throw error;
}
\`\`\`

The command line prints \`error [CODE]: message\`. It exits with 2 where what was typed is wrong (_use_ below, and whatever its parser refuses) and with 1 where
what it names is: a file, a model, a backend. An error that is none of these is a fault of the package; an aborted call rejects with the reason of its signal.
`;

/** What the docstring of each class says. */
const MEANINGS: Readonly<Record<string, string>> = {
  CheckpointError: "A checkpoint's files or tensors are wrong.",
  HubError: 'A hub of models can not be reached, refuses, or sends what it should not.',
  ConfigError: 'A configuration, a tokenizer or the options of a call are wrong or not supported.',
  ImageError: 'An image can not be decoded or has the wrong form.',
  PromptError: 'A prompt, or an option of generation, is wrong.',
  PruneError: 'A pruning option, or what a method works on, is wrong.',
  BackendError: 'A backend is absent, failed or is used wrongly.',
  StateError: 'Something is used after it was disposed, or before it was filled.',
  DataError: 'A data set, or a file with the results of an evaluation, is wrong.',
  OutputError: 'A result can not be written where it was asked for.',
  UseError: 'The command line is wrong in a way that only the command line knows.',
  ServerError: 'The server can not be started as it was asked for.',
  RequestError: 'The server refuses a request; clients get the code in the reply.',
};

/** A row a code, each with an anchor of its name. */
function table(codes: Readonly<Record<string, CodeEntry>>): string {
  const sorted = Object.entries(codes).sort(([a], [b]) => (a < b ? -1 : 1));
  const rows = sorted.map(
    ([code, { cause, remedy, use }]) => `| <a id="${code.toLowerCase()}"></a>\`${code}\`${use ? ' _use_' : ''} | ${cause} | ${remedy} |`,
  );
  return ['| code | what it means | what to do |', '|---|---|---|', ...rows].join('\n');
}
