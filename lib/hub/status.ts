import { HubError } from '../../layers/errors';
import { formatHubName, type HubName } from '../../weights/hub_names';
import type { HubAccess, HubResponse } from './http';
import { Transient } from './retry';

/** The error that an answer stands for, or undefined where it is none. The hub names the kind in `X-Error-Code`. */
export function errorOf(answer: HubResponse, name: HubName, access: HubAccess, file?: string): HubError | Transient | undefined {
  const { response, own } = answer;
  const { status } = response;
  if (response.ok) return undefined;
  const what = file === undefined ? formatHubName(name) : `${file} of ${formatHubName(name)}`;
  const message = printable(response.headers.get('X-Error-Message') ?? '');
  const failed = new HubError(
    'HUB_FAILED',
    `${what}: ${own ? access.endpoint : 'the host of its files'} answered ${status}${message && `, "${message}"`}. Try again later.`,
  );
  // Links to files on other hosts are signed for a while only: the hub gives a new one.
  if (!own || status === 408 || status === 429 || status >= 500) return new Transient(failed, retryAfter(response));
  const page = `${access.endpoint}/${name.repository}`;
  const code = response.headers.get('X-Error-Code');
  if (code === 'GatedRepo') {
    const then =
      access.token === undefined ? 'give its token with HF_TOKEN or --token' : "use that account's token, which must be allowed to read it";
    return new HubError('HUB_GATED', `${name.repository}: is gated. Accept its licence at ${page} with your account, then ${then}.`);
  }
  if (code === 'RevisionNotFound') {
    return new HubError('HUB_REVISION_NOT_FOUND', `${page}: has no revision "${name.revision}". Its branches and tags are listed on its page.`);
  }
  if (code === 'EntryNotFound' || (status === 404 && file !== undefined && code === null)) {
    return new HubError('HUB_FILE_NOT_FOUND', `${page}: has no file "${file ?? ''}" at revision ${name.revision}. Pull again: it may have changed.`);
  }
  if (status === 401 && access.token !== undefined && code !== 'RepoNotFound') {
    return new HubError(
      'HUB_UNAUTHORIZED',
      `${page}: the token was refused (401${message && `, "${message}"`}). Make a new one in your settings there.`,
    );
  }
  if (status === 401 || status === 404) {
    const token =
      access.token === undefined
        ? 'If it is private, give a token with HF_TOKEN or --token.'
        : 'If it is private, the token must be allowed to read it.';
    return new HubError('HUB_REPOSITORY_NOT_FOUND', `${page}: there is no such model (${status}). Check the name. ${token}`);
  }
  if (status === 403) {
    return new HubError('HUB_FORBIDDEN', `${page}: access is forbidden${message && `: "${message}"`}. Check what the token is allowed to read.`);
  }
  return failed;
}

/** Milliseconds that the server asks to wait: seconds, or a date. */
function retryAfter(response: Response): number | undefined {
  const value = response.headers.get('Retry-After');
  if (value === null) return undefined;
  const seconds = /^\d+$/.test(value.trim()) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds * 1000);
}

/** A text of a server's on one line of a terminal, without what could move its cursor. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?').slice(0, 300);
}
