import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HubError } from '../../layers/errors';
import { hubHome } from '../../weights/hub_cache_node';

type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_ENDPOINT = 'https://huggingface.co';

/** Whether a variable says yes, as huggingface_hub reads it. */
export function isOn(value: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(value ?? '');
}

/** Whether the user wants no network: `HF_HUB_OFFLINE`, or `TRANSFORMERS_OFFLINE`. */
export function isOffline(environment: Environment = process.env): boolean {
  return isOn(environment.HF_HUB_OFFLINE || environment.TRANSFORMERS_OFFLINE);
}

/**
 * The hub's address: as given, `HF_ENDPOINT`, or Hugging Face's own.
 * @throws HubError `BAD_ENDPOINT`
 */
export function hubEndpoint(given: string | undefined, environment: Environment = process.env): string {
  const text = given ?? (environment.HF_ENDPOINT || DEFAULT_ENDPOINT);
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) {
    throw new HubError('BAD_ENDPOINT', `"${text}" is no address of a hub. Give one like ${DEFAULT_ENDPOINT} (HF_ENDPOINT).`);
  }
  return text.replace(/\/+$/, '');
}

/**
 * The token as given, else `HF_TOKEN`, else what `hf auth login` left in a file (`HF_TOKEN_PATH`, `token` in `HF_HOME`) unless
 * `HF_HUB_DISABLE_IMPLICIT_TOKEN` is on; undefined where there is none.
 * @throws HubError `BAD_TOKEN` when it can't be a token; the message does not hold it
 */
export async function hubToken(given: string | undefined, environment: Environment = process.env): Promise<string | undefined> {
  if (given !== undefined) return cleanToken(given, 'the token that was given');
  if (isOn(environment.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  const named = cleanToken(environment.HF_TOKEN || environment.HUGGING_FACE_HUB_TOKEN, 'HF_TOKEN');
  if (named !== undefined) return named;
  const file = environment.HF_TOKEN_PATH || join(hubHome(environment), 'token');
  return cleanToken(await readFile(file, 'utf8').catch(() => undefined), file);
}

function cleanToken(text: string | undefined, where: string): string | undefined {
  const token = text?.trim();
  if (!token) return undefined;
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new HubError('BAD_TOKEN', `${where}: a token is one word of plain letters, digits and signs.`);
}
