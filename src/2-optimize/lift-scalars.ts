/** Layers that differ in nothing but numbers become one shader, or one module: the numbers are read, not written into the code. */
import { type Ex, input, parsed, written } from '../../kernels/expr.ts';
import { type Constant, constantOf, type Node, type ValueId } from '../core/graph.ts';
import { tensor } from '../core/tensor.ts';

/** Where a number may as well be a value: elsewhere code is made for what it is (a power, the bounds of a clip). */
const ANY_VALUE: ReadonlySet<string> = new Set(['add', 'sub', 'mul', 'div']);

/** The nodes with operands in place of the numbers in which expressions differ that are otherwise the same. `attr` says where a node's expression is, if it has one. */
export function liftScalars(nodes: readonly Node[], attrOf: (node: Node) => 'expr' | 'epilogue' | null, addConstant: (name: string, c: Constant) => ValueId): readonly Node[] {
  const alike = new Map<string, { readonly node: Node; readonly scalars: readonly number[] }[]>();
  for (const node of nodes) {
    const attr = attrOf(node);
    if (attr === null) continue;
    const scalars: number[] = [];
    const rest = JSON.stringify(replaced(parsed(node.attrs[attr] as string), (e) => { scalars.push(Number(e.v)); return { ...e, v: 0 }; }));
    const key = `${node.op} ${rest}`, others = alike.get(key);
    if (scalars.length > 0) if (others) others.push({ node, scalars }); else alike.set(key, [{ node, scalars }]);
  }
  const lifted = new Map<Node, Node>(), values = new Map<number, ValueId>();
  for (const group of alike.values()) {
    const differs = group[0]!.scalars.map((s, i) => group.some(({ scalars }) => !Object.is(scalars[i], s)));
    if (differs.includes(true)) for (const { node } of group) lifted.set(node, reading(node, attrOf(node)!, differs));
  }
  return lifted.size === 0 ? nodes : nodes.map((n) => lifted.get(n) ?? n);

  function reading(node: Node, attr: 'expr' | 'epilogue', which: readonly boolean[]): Node {
    const inputs = [...node.inputs], first = attr === 'expr' ? 0 : 1 - (node.attrs.operandsFrom as number);
    let at = 0;
    const expr = replaced(parsed(node.attrs[attr] as string), (e) => {
      if (!which[at++]) return e;
      const v = Number(e.v);
      let id = values.get(v);
      if (id === undefined) values.set(v, (id = addConstant(`${node.name}.${v}`, constantOf(tensor('float32', [1], [v])))));
      return input(first + inputs.push(id) - 1, 'f32');
    });
    return { ...node, inputs, attrs: { ...node.attrs, [attr]: written(expr) } };
  }
}

type Const = Extract<Ex, { f: 'const' }>;
/** The expression with other things in place of the numbers that may be any, in the order in which they are written. */
const replaced = (e: Ex, by: (e: Const) => Ex): Ex =>
  ('a' in e ? { ...e, a: e.a.map((part) => (part.f === 'const' && part.k === 'f32' && ANY_VALUE.has(e.f) && Number.isFinite(Number(part.v)) ? by(part) : replaced(part, by))) } : e);
