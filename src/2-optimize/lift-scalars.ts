/**
 * Layers that differ in nothing but numbers become one shader, or one module: the numbers are read, not written into
 * the code.
 */
import { type Ex, input, parsed, written } from '../../kernels/expr.ts';
import { type Constant, constantOf, type Node, type ValueId } from '../core/graph.ts';
import { tensor } from '../core/tensor.ts';

type Attr = 'expr' | 'epilogue';
type Const = Extract<Ex, { f: 'const' }>;

/** Where a number may as well be a value: elsewhere code is made for what it is (an exponent, the bounds of a clip). */
const ANY_VALUE: ReadonlySet<string> = new Set(['add', 'sub', 'mul', 'div', 'lt', 'le', 'eq', 'select']);
const mayBeRead = (e: Ex, within: string): boolean =>
  e.f === 'const' && e.k === 'f32' && ANY_VALUE.has(within) && Number.isFinite(Number(e.v));

/**
 * The nodes with operands in place of the numbers in which expressions differ that are otherwise the same. `attrOf`
 * says where a node's expression is, if it has one.
 */
export function liftScalars(
  nodes: readonly Node[],
  attrOf: (node: Node) => Attr | null,
  addConstant: (name: string, c: Constant) => ValueId,
): readonly Node[] {
  const alike = new Map<string, { readonly node: Node; readonly attr: Attr; readonly text: string }[]>();
  for (const node of nodes) {
    const attr = attrOf(node);
    if (attr === null) continue;
    const text = node.attrs[attr] as string;
    const key = `${node.op} ${text.replace(/"v":[^},]*/g, '')}`;
    const others = alike.get(key);
    if (others) others.push({ node, attr, text });
    else alike.set(key, [{ node, attr, text }]);
  }
  const lifted = new Map<Node, Node>();
  const values = new Map<string, ValueId>();
  for (const group of alike.values()) {
    if (group.every(({ text }) => text === group[0]!.text)) continue;
    const given = group.map((g) => ({ ...g, ...numbersOf(parsed(g.text)) }));
    for (const code of new Set(given.map((g) => g.code))) {
      const some = given.filter((g) => g.code === code);
      // What is equal in all of them is one operand, or equal parts of an expression would be computed each by itself.
      const places = some[0]!.scalars.map((s, i) =>
        some.every(({ scalars }) => scalars[i] === s) ? '' : some.map(({ scalars }) => scalars[i]).join(' '),
      );
      if (places.some((of) => of !== ''))
        for (const { node, attr, text } of some) lifted.set(node, reading(node, attr, parsed(text), places));
    }
  }
  return lifted.size === 0 ? nodes : nodes.map((n) => lifted.get(n) ?? n);

  /** `places`: of each number a name, equal ones for one operand; '' where it stays. */
  function reading(node: Node, attr: Attr, expr: Ex, places: readonly string[]): Node {
    const inputs = [...node.inputs];
    const first = attr === 'expr' ? 0 : 1 - (node.attrs.operandsFrom as number);
    const operands = new Map<string, Ex>();
    let at = 0;
    const operand = (e: Const): Ex => {
      const place = places[at++]!;
      let read = place === '' ? e : operands.get(place);
      if (read === undefined)
        operands.set(place, (read = input(first + inputs.push(valueOf(String(e.v), node)) - 1, 'f32')));
      return read;
    };
    const replaced = (e: Ex): Ex =>
      'a' in e ? { ...e, a: e.a.map((part) => (mayBeRead(part, e.f) ? operand(part as Const) : replaced(part))) } : e;
    return { ...node, inputs, attrs: { ...node.attrs, [attr]: written(replaced(expr)) } };
  }
  function valueOf(v: string, { name }: Node): ValueId {
    let id = values.get(v);
    if (id === undefined)
      values.set(v, (id = addConstant(`${name}.${v}`, constantOf(tensor('float32', [1], [Number(v)])))));
    return id;
  }
}

/** The numbers that may be read, in the order in which they are written, and as text those that are code. */
function numbersOf(expr: Ex): { readonly scalars: readonly string[]; readonly code: string } {
  const scalars: string[] = [];
  let code = '';
  const visit = (e: Ex, within: string): void => {
    if (mayBeRead(e, within)) scalars.push(String((e as Const).v));
    else if (e.f === 'const') code += `${e.v} `;
    else if ('a' in e) {
      if (e.v !== undefined) code += `${e.v} `;
      for (const part of e.a) visit(part, e.f);
    }
  };
  visit(expr, '');
  return { scalars, code };
}
