import { HubError, VisPrunerError } from '../../layers/errors';
import { formatHubName, type HubName, isCommit } from '../../weights/hub_names';
import { type HubAccess, type HubResponse, request } from './http';
import { withRetries } from './retry';
import { errorOf, printable } from './status';

/** A file of a model, as the hub lists it. */
export interface HubFile {
  /** In the repository, with `/`. */
  readonly path: string;
  readonly size: number;
  /** What its contents hash to: 64 digits of SHA-256 for a large file, 40 of git's SHA-1 for a small one. The cache names the blob by it. */
  readonly hash: string;
}

/** One state of one model on a hub. */
export interface Hub {
  /** The commit that the revision is at. */
  commit(): Promise<string>;
  /** Every file of a commit. */
  files(commit: string): Promise<HubFile[]>;
  /** The bytes of a file from an offset on; one attempt. @throws Transient and what a request throws; a status of 416 is returned */
  open(path: string, commit: string, offset: number, signal: AbortSignal): Promise<HubResponse>;
}

/**
 * A model of a hub, by @huggingface/hub for what it does well, the two questions about a repository. Not by its downloads: they can't go on where
 * they were cut off, take a whole file for the range that they asked for, compare no checksum, and print to the console.
 *
 * The token is not given to that package, which would send it wherever a list's next page is said to be, but added by `request`.
 */
export function openHub(name: HubName, access: HubAccess, retries: number): Hub {
  const ask: typeof fetch = (input, init) => {
    const url = input instanceof Request ? input.url : String(input);
    return withRetries(() => whole(url, init ?? {}, name, access), { retries, signal: access.signal });
  };
  const options = { hubUrl: access.endpoint, fetch: ask };
  return {
    async commit(): Promise<string> {
      const { modelInfo } = await import('@huggingface/hub');
      const { sha } = await understood(name, access, () =>
        modelInfo({ ...options, name: name.repository, revision: name.revision, additionalFields: ['sha'] }),
      );
      if (typeof sha === 'string' && isCommit(sha)) return sha;
      throw badAnswer(name, `its commit is ${JSON.stringify(sha)}`);
    },
    async files(commit: string): Promise<HubFile[]> {
      const { listFiles } = await import('@huggingface/hub');
      return understood(name, access, async () => {
        const files: HubFile[] = [];
        for await (const entry of listFiles({ ...options, repo: { type: 'model', name: name.repository }, revision: commit, recursive: true })) {
          if (entry.type === 'file')
            files.push(checked(name, { path: entry.path, size: entry.lfs?.size ?? entry.size, hash: entry.lfs?.oid ?? entry.oid }));
        }
        return files;
      });
    },
    async open(path: string, commit: string, offset: number, signal: AbortSignal): Promise<HubResponse> {
      const url = `${access.endpoint}/${name.repository}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;
      // Of files in its newer store (xet) the hub gives plain bytes to who does not ask for that protocol.
      const answer = await request(url, { headers: offset > 0 ? { Range: `bytes=${offset}-` } : {} }, { ...access, signal });
      const error = answer.response.status === 416 ? undefined : errorOf(answer, name, access, path);
      if (error === undefined) return answer;
      await answer.cancel();
      throw error;
    },
  };
}

/** An answer with its whole body, so that a connection that breaks in it is tried again too. */
async function whole(url: string, init: RequestInit, name: HubName, access: HubAccess): Promise<Response> {
  const answer = await request(url, init, access);
  const error = errorOf(answer, name, access);
  if (error !== undefined) {
    await answer.cancel();
    throw error;
  }
  const decoder = new TextDecoder();
  let text = '';
  for await (const piece of answer.pieces()) text += decoder.decode(piece, { stream: true });
  const headers = new Headers();
  for (const header of ['Content-Type', 'Link']) {
    const value = answer.response.headers.get(header);
    if (value !== null) headers.set(header, value);
  }
  return new Response(text + decoder.decode(), { status: answer.response.status, headers });
}

/** What a package throws about an answer that it can't read becomes an error with a name. */
async function understood<T>(name: HubName, access: HubAccess, question: () => Promise<T>): Promise<T> {
  try {
    return await question();
  } catch (cause) {
    if (cause instanceof VisPrunerError || access.signal?.aborted) throw cause;
    throw badAnswer(name, cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function checked(name: HubName, file: { readonly path: unknown; readonly size: unknown; readonly hash: unknown }): HubFile {
  const { path, size, hash } = file;
  const valid = typeof path === 'string' && Number.isSafeInteger(size) && (size as number) >= 0;
  if (!valid || typeof hash !== 'string' || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash))
    throw badAnswer(name, `a file is listed as ${JSON.stringify(file)}`);
  return { path, size: size as number, hash };
}

function badAnswer(name: HubName, what: string, cause?: unknown): HubError {
  return new HubError('HUB_BAD_ANSWER', `${formatHubName(name)}: the answer is none of a hub: ${printable(what)}. Check HF_ENDPOINT.`, { cause });
}
