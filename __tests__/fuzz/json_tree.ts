/** A JSON text taken apart: objects with every member, right or wrong, in order; everything else as it is spelt. */
export type Tree =
  | { readonly kind: 'object'; readonly members: Member[] }
  | { readonly kind: 'array'; readonly items: Tree[] }
  | { readonly kind: 'leaf'; readonly text: string };

export interface Member {
  /** As it is spelt, quotes included. */
  readonly key: string;
  readonly value: Tree;
}

/** A place in a tree whose content can be taken away or replaced by any number of values. */
export interface Slot {
  readonly tree: Tree;
  /** The member's key; undefined for an item. */
  readonly key: string | undefined;
  replace(...values: readonly Tree[]): void;
}

export function leaf(text: string): Tree {
  return { kind: 'leaf', text };
}

export function array(items: readonly Tree[]): Tree {
  return { kind: 'array', items: [...items] };
}

export function object(members: readonly Member[]): Tree {
  return { kind: 'object', members: [...members] };
}

export function quote(text: string): string {
  return JSON.stringify(text);
}

/** Every place below a tree, from the outside in. */
export function slots(tree: Tree): Slot[] {
  const found: Slot[] = [];
  if (tree.kind === 'object') {
    for (const member of tree.members) {
      const replace = (...values: readonly Tree[]): void => {
        tree.members.splice(tree.members.indexOf(member), 1, ...values.map((value) => ({ key: member.key, value })));
      };
      found.push({ tree: member.value, key: member.key, replace }, ...slots(member.value));
    }
  } else if (tree.kind === 'array') {
    for (const item of tree.items) {
      const replace = (...values: readonly Tree[]): void => {
        tree.items.splice(tree.items.indexOf(item), 1, ...values);
      };
      found.push({ tree: item, key: undefined, replace }, ...slots(item));
    }
  }
  return found;
}

/** The text; between its tokens go the `spaces`, in turn. */
export function render(tree: Tree, spaces: readonly string[]): string {
  let turn = 0;
  const space = (): string => (spaces.length === 0 ? '' : (spaces[turn++ % spaces.length] as string));
  const list = <T>(open: string, parts: readonly T[], text: (part: T) => string, close: string): string =>
    `${open}${space()}${parts.map((part) => `${text(part)}${space()}`).join(`,${space()}`)}${close}`;
  const write = (node: Tree): string => {
    if (node.kind === 'leaf') return node.text;
    if (node.kind === 'array') return list('[', node.items, write, ']');
    return list('{', node.members, ({ key, value }) => `${key}${space()}:${space()}${write(value)}`, '}');
  };
  return `${space()}${write(tree)}${space()}`;
}

/** A tree of what `JSON.parse` gives. */
export function treeOf(value: unknown): Tree {
  if (Array.isArray(value)) return array(value.map(treeOf));
  if (typeof value !== 'object' || value === null) return leaf(JSON.stringify(value));
  return object(Object.entries(value).map(([key, member]) => ({ key: quote(key), value: treeOf(member) })));
}
