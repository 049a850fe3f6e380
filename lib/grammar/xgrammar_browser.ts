import type * as xgrammar from '@mlc-ai/web-xgrammar';
import type { LoadedXgrammar } from './xgrammar_node';

/** Starts XGrammar in a page or worker: bundlers give its exports; without one, its script puts them into a global. */
export async function loadXgrammar(): Promise<LoadedXgrammar> {
  const module: Partial<typeof xgrammar> = await import('@mlc-ai/web-xgrammar');
  const { xgrammar: found } = globalThis as { xgrammar?: typeof xgrammar };
  const loaded = module.GrammarCompiler ? (module as typeof xgrammar) : found;
  if (!loaded) throw new Error('@mlc-ai/web-xgrammar did not load.');
  return { xgrammar: loaded, lastError: () => undefined };
}
