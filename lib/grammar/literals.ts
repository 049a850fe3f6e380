/**
 * EBNF rules for a choice among values, written as JSON.stringify does; the first rule, of this name, is the whole.
 *
 * The values are a tree in which no two ways out of a place begin alike: XGrammar merges alternatives of which one begins as another (0.1.27), and then takes
 * `"a.b.b"` for one of `"a.b"` and `"a"`.
 */
export function literalRules(name: string, values: readonly unknown[]): string {
  const rules: string[] = [];
  const texts = [...new Set(values.map((value) => JSON.stringify(value)))].map((text) => Array.from(text));
  addRule(name, texts, rules);
  return rules.join('\n');
}

/** A rule for the rest of some different texts, by characters; it comes before the rules that it refers to. */
function addRule(name: string, texts: readonly (readonly string[])[], rules: string[]): void {
  const place = rules.push('') - 1;
  const byFirst = new Map<string, (readonly string[])[]>();
  for (const text of texts) {
    const first = text[0] ?? '';
    byFirst.set(first, [...(byFirst.get(first) ?? []), text]);
  }
  const alternatives = [...byFirst.values()].map((group) => {
    const [one = []] = group;
    let shared = 0;
    while (shared < one.length && group.every((text) => text[shared] === one[shared])) shared++;
    const literal = JSON.stringify(one.slice(0, shared).join(''));
    if (group.length === 1) return literal;
    const next = `${name}_${rules.length}`;
    addRule(
      next,
      group.map((text) => text.slice(shared)),
      rules,
    );
    return `${literal} ${next}`;
  });
  rules[place] = `${name} ::= ${alternatives.join(' | ')}`;
}
