import { RequestError } from './errors';
import type { FetchImage } from './fetch_public';

/** One character class and no more: an expression that can go back would take quadratic time on what a client sends. */
const NOT_BASE64 = /[^A-Za-z0-9+/=\s]/;

/**
 * Bytes of the images of a request: data URIs, and http(s) addresses where there is something to fetch them with. What the bytes are, the decoder finds out.
 * @throws RequestError `IMAGE_URL_REFUSED`, `DATA_URI_INVALID`; the signal's reason
 */
export async function imageBytes(addresses: readonly string[], fetchImage: FetchImage | undefined, signal: AbortSignal): Promise<Uint8Array[]> {
  const images: Uint8Array[] = [];
  for (const address of addresses) images.push(/^data:/i.test(address) ? dataUriBytes(address) : await fetched(address, fetchImage, signal));
  return images;
}

async function fetched(address: string, fetchImage: FetchImage | undefined, signal: AbortSignal): Promise<Uint8Array> {
  if (fetchImage) return fetchImage(address, signal);
  throw new RequestError(
    'IMAGE_URL_REFUSED',
    `This server takes images as data URIs ("data:image/png;base64,…") only, and ${JSON.stringify(address.slice(0, 40))} is none. To let it fetch http(s) addresses, start it with --allow-url.`,
    { param: 'messages' },
  );
}

function dataUriBytes(uri: string): Uint8Array {
  const comma = uri.indexOf(',');
  const data = uri.slice(comma + 1);
  if (comma < 0 || !/;base64$/i.test(uri.slice(0, comma)) || NOT_BASE64.test(data)) {
    const why = comma < 0 ? 'has no comma' : 'is not in base64';
    throw new RequestError('DATA_URI_INVALID', `An image's data URI ${why}. Write "data:image/png;base64," and the bytes in base64.`, {
      param: 'messages',
    });
  }
  return Buffer.from(data, 'base64');
}
