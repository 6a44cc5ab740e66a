import { fail } from '../../src/core/errors.ts';
import { fromNumbers, integers, numbers } from '../../src/core/numbers.ts';
import type { Tensor } from '../../src/core/tensor.ts';
import { defineOp, floats, int, ints, type Op, required, string, strings, tensorAttr } from '../define.ts';
import { sized } from '../elements.ts';
import {
  bothScores,
  classified,
  eachRow,
  FEATURE,
  labelled,
  labelsOf,
  largest,
  regressed,
  rowsOf,
  transformed,
  transformOf,
} from './scores.ts';

const LEAF = 7;
const MODES = [
  'BRANCH_LEQ',
  'BRANCH_LT',
  'BRANCH_GTE',
  'BRANCH_GT',
  'BRANCH_EQ',
  'BRANCH_NEQ',
  'BRANCH_MEMBER',
  'LEAF',
];
const AGGREGATES = ['AVERAGE', 'SUM', 'MIN', 'MAX'];

/**
 * Decision trees as arrays over all their nodes. A leaf votes: `votes` from `firstVote[node]` up to `firstVote[node +
 * 1]`.
 */
interface Forest {
  readonly roots: readonly number[];
  readonly mode: Uint8Array;
  readonly feature: Int32Array;
  readonly split: Float64Array;
  readonly yes: Int32Array;
  readonly no: Int32Array;
  readonly missing: Uint8Array;
  readonly members: ReadonlyMap<number, ReadonlySet<number>>;
  readonly firstVote: Int32Array;
  readonly votes: { readonly target: Int32Array; readonly weight: Float64Array };
}

/** Every way through the trees must end in a leaf. @throws attribute_invalid when nodes go round in a circle */
function checkEnds(f: Forest): Forest {
  const state = new Uint8Array(f.mode.length); // 1: on the way here, 2: known to end
  const open = [...f.roots];
  for (let at = open.at(-1); at !== undefined; at = open.at(-1)) {
    const ahead = f.mode[at] === LEAF || state[at] === 2 ? [] : [f.yes[at]!, f.no[at]!].filter((k) => state[k] !== 2);
    if (state[at] === 1 || ahead.length === 0) {
      if (ahead.length > 0) fail('attribute_invalid', `the tree of node ${at} goes round in a circle`);
      state[at] = 2;
      open.pop();
    } else {
      state[at] = 1;
      open.push(...ahead);
    }
  }
  return f;
}

/** The leaf that a row of features reaches from `root`. */
function leafOf(f: Forest, root: number, row: Float64Array): number {
  let at = root;
  while (f.mode[at] !== LEAF) {
    const x = row[f.feature[at]!]!;
    const s = f.split[at]!;
    let yes: boolean;
    switch (f.mode[at]) {
      case 0:
        yes = x <= s;
        break;
      case 1:
        yes = x < s;
        break;
      case 2:
        yes = x >= s;
        break;
      case 3:
        yes = x > s;
        break;
      case 4:
        yes = x === s;
        break;
      case 5:
        yes = x !== s;
        break;
      default:
        yes = f.members.get(at)!.has(x);
    }
    if (x !== x && f.missing[at]) yes = true;
    at = yes ? f.yes[at]! : f.no[at]!;
  }
  return at;
}

/** Votes for each target over all trees; `voted` says which had any. */
function tally(f: Forest, row: Float64Array, targets: number, aggregate: string): { sums: number[]; voted: boolean[] } {
  const sums = new Array<number>(targets).fill(0);
  const voted = new Array<boolean>(targets).fill(false);
  for (const root of f.roots) {
    const leaf = leafOf(f, root, row);
    for (let v = f.firstVote[leaf]!; v < f.firstVote[leaf + 1]!; v++) {
      const target = f.votes.target[v]!;
      const weight = f.votes.weight[v]!;
      const before = sums[target]!;
      if (aggregate !== 'MIN' && aggregate !== 'MAX') sums[target] = before + weight;
      else
        sums[target] = !voted[target]
          ? weight
          : aggregate === 'MIN'
            ? Math.min(before, weight)
            : Math.max(before, weight);
      voted[target] = true;
    }
  }
  if (aggregate === 'AVERAGE') for (let t = 0; t < targets; t++) sums[t]! /= f.roots.length;
  return { sums, voted };
}

type Lists = Readonly<Record<string, any>>;
/** Attribute `name`, or its double-precision twin. */
const listOf = (a: Lists, name: string): readonly number[] =>
  a[`${name}_as_tensor`] ? Array.from(numbers(a[`${name}_as_tensor`] as Tensor)) : (a[name] ?? []);

const MADE = new WeakMap<object, Forest>();
const once = (attrs: object, make: () => Forest): Forest => {
  let forest = MADE.get(attrs);
  if (forest === undefined) MADE.set(attrs, (forest = checkEnds(make())));
  return forest;
};

/** Votes in the order of the nodes they belong to. */
function votesAt(
  nodes: number,
  at: readonly number[],
  targets: readonly number[],
  weights: ArrayLike<number>,
  limit: number,
): Pick<Forest, 'firstVote' | 'votes'> {
  const order = at.map((_, i) => i).sort((a, b) => at[a]! - at[b]! || a - b);
  const firstVote = new Int32Array(nodes + 1);
  for (const node of at) firstVote[node + 1]!++;
  for (let i = 0; i < nodes; i++) firstVote[i + 1]! += firstVote[i]!;
  for (const t of targets)
    if (!(t >= 0 && t < limit)) fail('attribute_invalid', `a leaf votes for target ${t} of ${limit}`);
  return {
    firstVote,
    votes: { target: Int32Array.from(order, (i) => targets[i]!), weight: Float64Array.from(order, (i) => weights[i]!) },
  };
}

/**
 * The trees of TreeEnsembleClassifier and …Regressor, whose nodes are named by tree and number; `prefix` names the
 * votes.
 */
function forestOfNodes(a: Lists, prefix: 'class' | 'target', limit: number): Forest {
  const trees: readonly number[] = a.nodes_treeids ?? [];
  const n = trees.length;
  const list = (name: string, optional = false): readonly any[] => {
    const values = name === 'nodes_values' ? listOf(a, name) : (a[name] ?? []);
    if (values.length !== n && !(optional && values.length === 0))
      fail('attribute_invalid', `${name} has ${values.length} entries for ${n} nodes`);
    return values;
  };
  const ids = list('nodes_nodeids');
  const index = new Map<string, number>();
  ids.forEach((id, i) => {
    const key = `${trees[i]}:${id}`;
    if (index.has(key)) fail('attribute_invalid', `tree ${trees[i]} has two nodes ${id}`);
    index.set(key, i);
  });
  const mode = Uint8Array.from(list('nodes_modes'), (m: string) =>
    MODES.includes(m) && m !== 'BRANCH_MEMBER'
      ? MODES.indexOf(m)
      : fail('attribute_invalid', `nodes_modes has ${JSON.stringify(m)}`),
  );
  const child = (name: string): Int32Array => {
    const given = list(name);
    return Int32Array.from(given, (id, i) =>
      mode[i] === LEAF
        ? 0
        : (index.get(`${trees[i]}:${id}`) ??
          fail('attribute_invalid', `node ${ids[i]} of tree ${trees[i]} goes on to node ${id}, which is not there`)),
    );
  };
  const [yes, no] = [child('nodes_truenodeids'), child('nodes_falsenodeids')];
  const inner = new Set<number>();
  mode.forEach((m, i) => {
    if (m !== LEAF) inner.add(yes[i]!).add(no[i]!);
  });
  const roots = trees.flatMap((_, i) => (inner.has(i) ? [] : [i]));
  if (roots.length !== new Set(trees).size)
    fail('attribute_invalid', `${new Set(trees).size} trees have ${roots.length} roots`);
  const ofVotes = (name: string): readonly number[] => a[`${prefix}_${name}`] ?? [];
  const [voteTrees, voteNodes, voteTargets] = [ofVotes('treeids'), ofVotes('nodeids'), ofVotes('ids')];
  const weights = listOf(a, `${prefix}_weights`);
  if (
    voteNodes.length !== voteTrees.length ||
    voteTargets.length !== voteTrees.length ||
    weights.length !== voteTrees.length
  ) {
    fail('attribute_invalid', `${prefix}_* lists differ in length`);
  }
  const at = voteTrees.map(
    (tree, i) =>
      index.get(`${tree}:${voteNodes[i]}`) ??
      fail('attribute_invalid', `vote ${i} is of node ${voteNodes[i]} of tree ${tree}, which is not there`),
  );
  return {
    roots,
    mode,
    yes,
    no,
    members: new Map(),
    missing: fill(n, list('nodes_missing_value_tracks_true', true)),
    feature: Int32Array.from(list('nodes_featureids')),
    split: Float64Array.from(list('nodes_values')),
    ...votesAt(n, at, voteTargets, weights, limit),
  };
}
function fill(n: number, values: readonly number[]): Uint8Array {
  const out = new Uint8Array(n);
  out.set(values);
  return out;
}

/** The trees of TreeEnsemble: its leaves follow its nodes. */
function forestOfEnsemble(a: Lists, limit: number): Forest {
  const modes = integers(a.nodes_modes);
  const n = modes.length;
  const list = (name: string, optional = false): readonly number[] => {
    const values = a[name] ?? [];
    if (values.length !== n && !(optional && values.length === 0))
      fail('attribute_invalid', `${name} has ${values.length} entries for ${n} nodes`);
    return values;
  };
  const weights = numbers(a.leaf_weights);
  const targets: readonly number[] = a.leaf_targetids;
  const leaves = weights.length;
  if (targets.length !== leaves)
    fail('attribute_invalid', `${targets.length} leaf_targetids for ${leaves} leaf_weights`);
  const splits = numbers(a.nodes_splits);
  if (splits.length !== n) fail('attribute_invalid', `nodes_splits has ${splits.length} entries for ${n} nodes`);
  const child = (ids: readonly number[], isLeaf: readonly number[]): number[] =>
    ids.map((id, i) => {
      if (!(id >= 0 && id < (isLeaf[i] ? leaves : n)))
        fail('attribute_invalid', `node ${i} goes on to ${isLeaf[i] ? 'leaf' : 'node'} ${id}, which is not there`);
      return isLeaf[i] ? n + id : id;
    });
  const sets: Set<number>[] = [];
  if (a.membership_values) {
    sets.push(new Set());
    for (const v of Array.from(numbers(a.membership_values as Tensor)))
      if (v !== v) sets.push(new Set());
      else sets.at(-1)!.add(v);
  }
  const members = new Map<number, Set<number>>();
  modes.forEach((m, i) => {
    if (!(m >= 0 && m < LEAF)) fail('attribute_invalid', `nodes_modes has ${m}`);
    if (m === 6)
      members.set(i, sets[members.size] ?? fail('attribute_invalid', `membership_values has no set for node ${i}`));
  });
  const roots: readonly number[] = a.tree_roots;
  for (const r of roots) if (!(r >= 0 && r < n)) fail('attribute_invalid', `root ${r} is no node`);
  const wide = <T extends Int32Array | Uint8Array | Float64Array>(into: T, values: ArrayLike<number>): T => {
    into.set(values);
    return into;
  };
  return {
    roots,
    members,
    mode: wide(new Uint8Array(n + leaves).fill(LEAF), modes),
    feature: Int32Array.from(list('nodes_featureids')),
    split: wide(new Float64Array(n), splits),
    yes: Int32Array.from(child(list('nodes_truenodeids'), list('nodes_trueleafs'))),
    no: Int32Array.from(child(list('nodes_falsenodeids'), list('nodes_falseleafs'))),
    missing: fill(n, list('nodes_missing_value_tracks_true', true)),
    ...votesAt(
      n + leaves,
      targets.map((_, i) => n + i),
      targets,
      weights,
      limit,
    ),
  };
}

/** Every feature that the trees look at must be there. */
function checkFeatures(f: Forest, features: number): void {
  f.feature.forEach((k, i) => {
    if (f.mode[i] !== LEAF && !(k >= 0 && k < features))
      fail('shape_mismatch', `node ${i} looks at feature ${k} of ${features}`);
  });
}
function baseOf(a: Lists, targets: number): readonly number[] {
  const base = listOf(a, 'base_values');
  if (base.length !== 0 && base.length !== targets && !(targets === 2 && base.length === 1))
    fail('attribute_invalid', `${base.length} base_values for ${targets} targets`);
  return base;
}

/** Two classes, with votes for but one of them. */
const binaryOf = (f: Forest, classes: number): boolean => classes === 2 && new Set(f.votes.target).size <= 1;
const classForest = (a: Lists): Forest => once(a, () => forestOfNodes(a, 'class', labelsOf(a).length));
const targetForest = (a: Lists): Forest => once(a, () => forestOfNodes(a, 'target', targetsOf(a)));
const ensembleForest = (a: Lists): Forest => once(a, () => forestOfEnsemble(a, targetsOf(a)));
const targetsOf = (a: Lists): number => {
  const n = a.n_targets ?? 1;
  return n >= 1 && n <= 2 ** 24 ? n : fail('attribute_invalid', `n_targets is ${n}`);
};

function classify(a: Lists, t: Tensor): Tensor[] {
  const labels = labelsOf(a);
  const f = classForest(a);
  const base = baseOf(a, labels.length);
  const transform = transformOf(a.post_transform);
  const binary = binaryOf(f, labels.length);
  const positive = f.votes.weight.every((w) => w >= 0);
  const chosen: (string | number)[] = [];
  const out: number[] = [];
  eachRow(t, (row) => {
    const { sums, voted } = tally(f, row, labels.length, 'SUM');
    if (binary) {
      const score = sums[0]! + sums[1]! + (base.at(-1) ?? 0);
      chosen.push(labels[score > (positive ? 0.5 : 0) ? 1 : 0]!);
      out.push(...bothScores(score, transform, positive));
      return;
    }
    const scores = sums.map((v, i) => v + (base[i] ?? 0));
    chosen.push(labels[largest(scores.map((v, i) => (voted[i] || base.length > 0 ? v : -Infinity)))]!);
    out.push(...transformed(scores, transform));
  });
  return [
    labelled(chosen, labels),
    { dtype: 'float32', shape: [chosen.length, labels.length], data: Float32Array.from(out) },
  ];
}

/** `aggregate` and `transform` by name. */
function regress(a: Lists, f: Forest, t: Tensor, aggregate: string, dtype: Tensor['dtype']): Tensor[] {
  const targets = targetsOf(a);
  const base = baseOf(a, targets);
  const transform = transformOf(a.post_transform);
  const out = new Float64Array(rowsOf(t)[0] * targets);
  eachRow(t, (row, r) =>
    out.set(
      transformed(
        tally(f, row, targets, aggregate).sums.map((v, i) => v + (base[i] ?? 0)),
        transform,
      ),
      r * targets,
    ),
  );
  return [fromNumbers(dtype, [rowsOf(t)[0], targets], out)];
}

const nodes = {
  base_values: floats(),
  base_values_as_tensor: tensorAttr(),
  nodes_falsenodeids: ints(),
  nodes_featureids: ints(),
  nodes_hitrates: floats(),
  nodes_hitrates_as_tensor: tensorAttr(),
  nodes_missing_value_tracks_true: ints(),
  nodes_modes: strings(),
  nodes_nodeids: ints(),
  nodes_treeids: ints(),
  nodes_truenodeids: ints(),
  nodes_values: floats(),
  nodes_values_as_tensor: tensorAttr(),
  post_transform: string('NONE'),
};
function aggregateOf(name: string | number): string {
  const found = typeof name === 'number' ? AGGREGATES[name] : AGGREGATES.find((n) => n === name);
  return (
    found ??
    fail('attribute_invalid', `aggregate_function ${JSON.stringify(name)} must be one of ${AGGREGATES.join(', ')}`)
  );
}

/** https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html, TreeEnsembleClassifier, TreeEnsembleRegressor */
export const trees: readonly Op[] = [
  defineOp({
    op: 'ai.onnx.ml.TreeEnsembleClassifier',
    since: [1, 3, 5],
    inputs: ['X: T'],
    outputs: ['Y: L', 'Z: float32'],
    types: { T: FEATURE, L: ['string', 'int64'] },
    attrs: {
      ...nodes,
      class_ids: ints(),
      class_nodeids: ints(),
      class_treeids: ints(),
      class_weights: floats(),
      class_weights_as_tensor: tensorAttr(),
      classlabels_int64s: ints(),
      classlabels_strings: strings(),
    },
    infer: ({ attrs, fact }) => {
      const labels = labelsOf(attrs);
      checkFeatures(classForest(attrs), rowsOf(fact(0))[1]);
      baseOf(attrs, labels.length);
      transformOf(attrs.post_transform);
      return classified(fact(0), labels, labels.length);
    },
    reference: (call) => {
      checkFeatures(classForest(call.attrs), rowsOf(call.tensor(0))[1]);
      return classify(call.attrs, call.tensor(0));
    },
  }),
  defineOp({
    op: 'ai.onnx.ml.TreeEnsembleRegressor',
    since: [1, 3, 5],
    inputs: ['X: T'],
    outputs: ['Y: float32'],
    types: { T: FEATURE },
    attrs: {
      ...nodes,
      aggregate_function: string('SUM'),
      n_targets: int(),
      target_ids: ints(),
      target_nodeids: ints(),
      target_treeids: ints(),
      target_weights: floats(),
      target_weights_as_tensor: tensorAttr(),
    },
    infer: (call) => {
      checkFeatures(targetForest(call.attrs), rowsOf(call.fact(0))[1]);
      baseOf(call.attrs, targetsOf(call.attrs));
      transformOf(call.attrs.post_transform);
      aggregateOf(call.attrs.aggregate_function);
      return regressed(targetsOf(call.attrs))(call);
    },
    reference: (call) => {
      const f = targetForest(call.attrs);
      checkFeatures(f, rowsOf(call.tensor(0))[1]);
      return regress(call.attrs, f, call.tensor(0), aggregateOf(call.attrs.aggregate_function), 'float32');
    },
  }),
  defineOp({
    op: 'ai.onnx.ml.TreeEnsemble',
    since: [5],
    inputs: ['X: T'],
    outputs: ['Y: T'],
    types: { T: ['float32', 'float64', 'float16'] },
    attrs: {
      aggregate_function: int(1),
      leaf_targetids: required(ints()),
      leaf_weights: required(tensorAttr()),
      membership_values: tensorAttr(),
      n_targets: int(),
      nodes_falseleafs: required(ints()),
      nodes_falsenodeids: required(ints()),
      nodes_featureids: required(ints()),
      nodes_hitrates: tensorAttr(),
      nodes_missing_value_tracks_true: ints(),
      nodes_modes: required(tensorAttr()),
      nodes_splits: required(tensorAttr()),
      nodes_trueleafs: required(ints()),
      nodes_truenodeids: required(ints()),
      post_transform: int(0),
      tree_roots: required(ints()),
    },
    infer: ({ attrs, fact }) => {
      checkFeatures(ensembleForest(attrs), rowsOf(fact(0))[1]);
      transformOf(attrs.post_transform);
      aggregateOf(attrs.aggregate_function);
      return [sized(fact(0).dtype, [rowsOf(fact(0))[0], targetsOf(attrs)])];
    },
    reference: (call) => {
      const f = ensembleForest(call.attrs);
      checkFeatures(f, rowsOf(call.tensor(0))[1]);
      return regress(call.attrs, f, call.tensor(0), aggregateOf(call.attrs.aggregate_function), call.tensor(0).dtype);
    },
  }),
];
