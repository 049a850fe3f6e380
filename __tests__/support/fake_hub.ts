import { createHash } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request that came. */
export interface Seen {
  /** Which of the two origins was asked: the hub, or the host of large files that it redirects to. */
  readonly at: 'hub' | 'files';
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
}

/** May answer in place of the server, and says whether it did. `body` is what the file holds, where one is asked for. */
export type Fault = (seen: Seen, response: ServerResponse, body: Buffer | undefined) => boolean;

export interface FakeFile {
  readonly content: Buffer;
  /** Kept by git itself, and so named by git's SHA-1; all others are large files. */
  readonly small: boolean;
  /** What the hub lists, where it is not the truth. */
  readonly listed?: { readonly path?: string; readonly size?: number; readonly hash?: string };
}

export interface FakeModel {
  readonly files: Readonly<Record<string, FakeFile>>;
  readonly commit: string;
  /** Branches and tags, all at that commit. */
  readonly references: readonly string[];
  /** Given only to this token. */
  readonly token?: string;
  readonly gated?: boolean;
}

interface Found {
  readonly name: string;
  readonly model: FakeModel;
  readonly revision: string;
  readonly path: string;
  readonly file: FakeFile | undefined;
}

/**
 * A Hugging Face hub in small, as its API answers (recorded by reading huggingface_hub 2.4 and @huggingface/hub 2.17): revision, tree in pages, files by
 * HEAD and GET with ETag, X-Linked-ETag, X-Linked-Size and X-Repo-Commit; small files behind a relative redirect, large ones on a second origin with ranges.
 */
export class FakeHub {
  readonly seen: Seen[] = [];
  readonly faults: Fault[] = [];
  readonly models: Map<string, FakeModel> = new Map();
  /** Entries of a list in one answer. */
  page = 4;

  private constructor(
    private readonly hub: Server,
    private readonly files: Server,
  ) {}

  static async start(): Promise<FakeHub> {
    const fake: FakeHub = new FakeHub(
      createServer((request, response) => fake.receive('hub', request, response)),
      createServer((request, response) => fake.receive('files', request, response)),
    );
    for (const server of [fake.hub, fake.files]) await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return fake;
  }

  get endpoint(): string {
    return origin(this.hub);
  }

  /** Requests for the contents of a file, wherever they went. */
  reads(path: string): Seen[] {
    return this.seen.filter((seen) => seen.method === 'GET' && decodeURIComponent(seen.path.split('?')[0] ?? '').endsWith(`/${path}`));
  }

  async close(): Promise<void> {
    for (const server of [this.hub, this.files]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  private receive(at: 'hub' | 'files', request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://host');
    const seen: Seen = { at, method: request.method ?? '', path: url.pathname + url.search, headers: request.headers };
    this.seen.push(seen);
    const found = this.find(url.pathname);
    if (this.faults.some((fault) => fault(seen, response, found?.file?.content))) return;
    if (at === 'hub') this.answer(url, seen, response);
    else if (found?.file) send(seen, response, found.file.content, {});
    else refuse(response, 404);
  }

  private answer(url: URL, seen: Seen, response: ServerResponse): void {
    const found = this.find(url.pathname);
    const token = seen.headers.authorization?.replace('Bearer ', '');
    const refused = (status: number, code: string) => refuse(response, status, code);
    if (!found) {
      refused(token === undefined ? 401 : 404, 'RepoNotFound');
      return;
    }
    const { model, name, revision, file } = found;
    const contents = url.pathname.includes('/resolve');
    if (model.token !== undefined && token !== model.token && (contents || !model.gated)) {
      if (model.gated)
        refused(token === undefined ? 401 : 403, 'GatedRepo'); // a gated model is listed to all
      else refused(token === undefined ? 401 : 404, 'RepoNotFound');
    } else if (revision !== model.commit && !model.references.includes(revision)) refused(404, 'RevisionNotFound');
    else if (contents && file) this.contents(url, seen, response, { ...found, file });
    else if (contents) refused(404, 'EntryNotFound');
    else if (url.pathname.includes('/tree/')) this.list(url, model, response);
    else {
      const siblings = Object.keys(model.files).map((rfilename) => ({ rfilename }));
      json(response, {
        _id: '1',
        id: name,
        modelId: name,
        sha: model.commit,
        private: false,
        gated: false,
        tags: [],
        downloads: 0,
        likes: 0,
        siblings,
      });
    }
  }

  private contents(url: URL, seen: Seen, response: ServerResponse, { model, name, path, file }: Found & { readonly file: FakeFile }): void {
    const headers = { 'X-Repo-Commit': model.commit, 'Accept-Ranges': 'bytes', ETag: `"${hashOf(file)}"` };
    if (url.pathname.startsWith('/api/resolve-cache/')) {
      send(seen, response, file.content, headers);
      return;
    }
    const linked = { ...headers, 'X-Linked-ETag': `"${hashOf(file)}"`, 'X-Linked-Size': String(file.content.length) };
    const cache = `/api/resolve-cache/models/${name}/${model.commit}/${encodeURI(path)}`;
    const target = file.small ? cache : `${origin(this.files)}/signed/${name}/resolve/${model.commit}/${encodeURI(path)}?Signature=secret`;
    response.writeHead(file.small ? 307 : 302, { ...linked, Location: target }).end();
  }

  /** The tree, a page at a time. */
  private list(url: URL, model: FakeModel, response: ServerResponse): void {
    const folders = new Set(Object.keys(model.files).flatMap((path) => (path.includes('/') ? [path.slice(0, path.lastIndexOf('/'))] : [])));
    const entries: unknown[] = [...folders].map((path) => ({ type: 'directory', path, oid: '0'.repeat(40), size: 0 }));
    for (const [path, file] of Object.entries(model.files)) {
      const size = file.listed?.size ?? file.content.length;
      const hash = file.listed?.hash ?? hashOf(file);
      const entry = { type: 'file', path: file.listed?.path ?? path, size };
      entries.push(
        file.small ? { ...entry, oid: hash } : { ...entry, oid: 'f'.repeat(40), lfs: { oid: hash, size, pointerSize: 130 }, xetHash: 'e'.repeat(64) },
      );
    }
    const from = Number(url.searchParams.get('cursor') ?? 0);
    const next = from + this.page;
    url.searchParams.set('cursor', String(next));
    const link: Record<string, string> = next < entries.length ? { Link: `<${this.endpoint}${url.pathname}${url.search}>; rel="next"` } : {};
    json(response, entries.slice(from, next), link);
  }

  private find(pathname: string): Found | undefined {
    const path = decodeURIComponent(pathname);
    for (const [name, model] of this.models) {
      const [, revision, rest] =
        new RegExp(`^/api/models/${name}/(?:revision|tree)/(.+?)()$`).exec(path) ??
        new RegExp(`^/api/resolve-cache/models/${name}/([0-9a-f]{40})/(.+)$`).exec(path) ??
        new RegExp(`^(?:/signed)?/${name}/resolve/(refs/pr/\\d+|[^/]+)/(.+)$`).exec(path) ??
        [];
      if (revision !== undefined) return { name, model, revision, path: rest ?? '', file: model.files[rest ?? ''] };
    }
    return undefined;
  }
}

/** A file with what the hub would say of it. */
export function largeFile(content: Buffer | string): FakeFile {
  return { content: Buffer.from(content), small: false };
}

export function smallFile(content: Buffer | string): FakeFile {
  return { content: Buffer.from(content), small: true };
}

/** SHA-256, or what `git hash-object` prints. */
export function hashOf({ content, small }: FakeFile): string {
  return small
    ? createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex')
    : createHash('sha256').update(content).digest('hex');
}

/** Bytes of a file, or the part that was asked for. */
export function send(seen: Seen, response: ServerResponse, content: Buffer, headers: Record<string, string>): void {
  const [, from] = /^bytes=(\d+)-$/.exec(seen.headers.range ?? '') ?? [];
  const start = Number(from ?? 0);
  if (start >= content.length && start > 0) {
    response.writeHead(416, { 'Content-Range': `bytes */${content.length}` }).end();
    return;
  }
  const range = from === undefined ? {} : { 'Content-Range': `bytes ${start}-${content.length - 1}/${content.length}` };
  response.writeHead(from === undefined ? 200 : 206, { ...headers, ...range, 'Content-Length': String(content.length - start) });
  if (seen.method === 'HEAD') response.end();
  else response.end(content.subarray(start));
}

export function refuse(response: ServerResponse, status: number, code?: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { ...(code === undefined ? {} : { 'X-Error-Code': code }), ...headers }).end();
}

function json(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(200, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(value));
}

function origin(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
