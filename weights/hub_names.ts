import { HubError } from '../layers/errors';

/** A model of a Hugging Face hub, and which state of it. */
export interface HubName {
  /** `org/name` */
  readonly repository: string;
  /** A branch, a tag, a commit's 40 digits, or `refs/pr/1`. */
  readonly revision: string;
}

export const DEFAULT_REVISION = 'main';

/** What the hub allows in each half of a name; huggingface_hub's cache writes `--` for the slash, so that a name may not hold it. */
const PART = /^[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$/;
/** Git allows none of these in a reference, and some of them mean something to a file system. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must be found.
const NOT_IN_REVISIONS = /[\x00-\x20\x7f~^:?*[\\]|@\{|\.\./;

/**
 * `org/name` or `org/name@revision` in its parts (no name of a repository holds an `@`); `main` unless a revision is given.
 * @throws HubError `BAD_MODEL_NAME`, `BAD_REVISION`: neither can leave the folder of the cache that it is looked for in
 */
export function parseHubName(text: string): HubName {
  const at = text.indexOf('@');
  const repository = at < 0 ? text : text.slice(0, at);
  if (!isRepository(repository)) {
    throw new HubError(
      'BAD_MODEL_NAME',
      `"${text}" is no name of a model. Write org/name or org/name@revision, of letters, digits, "-", "_" and ".", as it stands on the model's page.`,
    );
  }
  return { repository, revision: checkRevision(at < 0 ? DEFAULT_REVISION : text.slice(at + 1)) };
}

/** @throws HubError `BAD_REVISION` */
export function checkRevision(revision: string): string {
  const parts = revision.split('/');
  if (NOT_IN_REVISIONS.test(revision) || parts.some((part) => part === '' || part.startsWith('.') || part.endsWith('.') || part.endsWith('.lock'))) {
    throw new HubError(
      'BAD_REVISION',
      `"${revision}" is no revision. Give a branch, a tag, the 40 digits of a commit, or a pull request as refs/pr/1.`,
    );
  }
  return revision;
}

function isRepository(text: string): boolean {
  const parts = text.split('/');
  return parts.length === 2 && parts.every((part) => PART.test(part) && !part.includes('--') && !part.includes('..')) && !text.endsWith('.git');
}

/** Whether a text may mean a model on a hub, at whatever revision. Many relative paths do too: where there is such a folder, that is meant. */
export function mayBeHubName(text: string): boolean {
  return isRepository(text.split('@', 1)[0] ?? '');
}

/** Whether a revision is a commit's full hash, which never moves. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** How a name is written to be read again by `parseHubName`. */
export function formatHubName({ repository, revision }: HubName): string {
  return revision === DEFAULT_REVISION ? repository : `${repository}@${revision}`;
}
