/** Examples of what runs on the host: strings, sequences, control flow, and ai.onnx.ml. */
import type { Example } from './examples.ts';

const pair = 'seq: T 2x3, T 2x3';

const sequences: readonly Example[] = [
  { op: 'SequenceEmpty', inputs: [], attrs: { dtype: 1 } },
  { op: 'SequenceConstruct', inputs: ['T 2x3', 'T 2'] },
  { op: 'SequenceInsert', inputs: [pair, 'T 2', 'int64 ~ 1'], main: 'T' },
  { op: 'SequenceErase', inputs: [pair, 'int64 ~ 1'] },
  { op: 'SequenceAt', inputs: [pair, 'int64 ~ -1'] },
  { op: 'SequenceLength', inputs: [pair] },
  { op: 'SplitToSequence', inputs: ['T 4x3', 'int64 2 ~ 1 3'] },
  { op: 'ConcatFromSequence', inputs: [pair], attrs: { axis: 0 }, main: 'T' },
  {
    op: 'SequenceMap',
    inputs: ['seq: float32 2x3, float32 2x3'],
    attrs: {
      body: { inputs: ['a: float32 2x3'], outputs: ['b'], nodes: [{ op: 'Neg', inputs: ['a'], outputs: ['b'] }] },
    },
  },
  { op: 'Optional', inputs: ['T 2x3'] },
  { op: 'OptionalHasElement', inputs: ['opt: T 2x3'] },
  { op: 'OptionalGetElement', inputs: ['opt: T 2x3'] },
];

const control: readonly Example[] = [
  {
    op: 'If',
    inputs: ['bool ~ 1'],
    attrs: {
      then_branch: { inputs: [], outputs: ['t'], nodes: [{ op: 'Not', inputs: ['x0'], outputs: ['t'] }] },
      else_branch: { inputs: [], outputs: ['e'], nodes: [{ op: 'Identity', inputs: ['x0'], outputs: ['e'] }] },
    },
  },
  {
    op: 'Loop',
    inputs: ['int64 ~ 3', '', 'float32 2'],
    attrs: {
      body: {
        inputs: ['i: int64', 'go: bool', 'a: float32 2'],
        outputs: ['go', 'b', 'c: float32 2'],
        nodes: [
          { op: 'Add', inputs: ['a', 'a'], outputs: ['b'] },
          { op: 'Neg', inputs: ['a'], outputs: ['c'] },
        ],
      },
    },
    outputs: 2,
  },
  {
    op: 'Scan',
    inputs: ['float32 2', 'float32 4x2'],
    attrs: {
      num_scan_inputs: 1,
      body: {
        inputs: ['s: float32 2', 'x: float32 2'],
        outputs: ['t', 'y: float32 2'],
        nodes: [
          { op: 'Add', inputs: ['s', 'x'], outputs: ['t'] },
          { op: 'Neg', inputs: ['x'], outputs: ['y'] },
        ],
      },
    },
    outputs: 2,
  },
];

const strings: readonly Example[] = [
  { op: 'StringNormalizer', inputs: ['string 3'], attrs: { case_change_action: 'UPPER' } },
  { op: 'StringConcat', inputs: ['string 3', 'string 1'] },
  { op: 'StringSplit', inputs: ['string 3 ~ a,b c d,e,f'], attrs: { delimiter: ',' }, outputs: 2 },
  { op: 'RegexFullMatch', inputs: ['string 3'], attrs: { pattern: '[ab]+' } },
  {
    op: 'TfIdfVectorizer',
    inputs: ['T 6'],
    attrs: (d) => ({
      max_gram_length: 1,
      min_gram_length: 1,
      max_skip_count: 0,
      mode: 'TF',
      ngram_counts: [0],
      ngram_indexes: [0, 1],
      ...(d === 'string' ? { pool_strings: ['a', 'b'] } : { pool_int64s: [1, 2] }),
    }),
  },
];

const scores = { coefficients: [0.5, -1, 0.25, 1, 0.5, -0.5], intercepts: [0.1, -0.2] };
/** One tree: feature 0 up to 0, else a leaf each. */
const nodes = {
  nodes_treeids: [0, 0, 0],
  nodes_nodeids: [0, 1, 2],
  nodes_featureids: [0, 0, 0],
  nodes_modes: ['BRANCH_LEQ', 'LEAF', 'LEAF'],
  nodes_values: [0, 0, 0],
  nodes_truenodeids: [1, 0, 0],
  nodes_falsenodeids: [2, 0, 0],
};
const votes = (prefix: string): Readonly<Record<string, readonly number[]>> => ({
  [`${prefix}_treeids`]: [0, 0],
  [`${prefix}_nodeids`]: [1, 2],
  [`${prefix}_ids`]: [0, 1],
  [`${prefix}_weights`]: [1, 2],
});
const ml: readonly Example[] = (
  [
    { op: 'ArrayFeatureExtractor', inputs: ['T 3x4', 'int64 2 ~ 0 2'] },
    { op: 'Binarizer', inputs: ['T 3x4'], attrs: { threshold: 0.5 } },
    { op: 'Scaler', inputs: ['T 3x4'], attrs: { offset: [1], scale: [2, 3, 4, 5] } },
    { op: 'Normalizer', inputs: ['T 3x4'], attrs: { norm: 'L2' } },
    {
      op: 'Imputer',
      inputs: ['T 3x4 ~ 0 1 2'],
      attrs: (d) =>
        d.startsWith('f')
          ? { imputed_value_floats: [7], replaced_value_float: 0 }
          : { imputed_value_int64s: [7], replaced_value_int64: 0 },
    },
    {
      op: 'OneHotEncoder',
      inputs: ['T 4'],
      attrs: (d) => (d === 'string' ? { cats_strings: ['a', 'b'] } : { cats_int64s: [1, 2] }),
    },
    {
      op: 'FeatureVectorizer',
      inputs: ['T 3x2', 'T 3x1'],
      attrs: { inputdimensions: [2, 1] },
      main: ['float32', 'float64', 'int32', 'int64'],
    },
    { op: 'DictVectorizer', inputs: ['map: float32 1x2'], attrs: { string_vocabulary: ['a', 'b'] } },
    { op: 'ZipMap', inputs: ['float32 3x2'], attrs: { classlabels_strings: ['a', 'b'] } },
    {
      op: 'LabelEncoder',
      inputs: ['T 4'],
      attrs: (d) =>
        d === 'string'
          ? { keys_strings: ['a', 'b'], values_int64s: [1, 2] }
          : d === 'int64'
            ? { keys_int64s: [1, 2], values_strings: ['a', 'b'] }
            : { keys_tensor: `${d} 2 = 1 2`, values_tensor: 'int64 2 = 1 2', default_tensor: 'int64 1 = -1' },
    },
    { op: 'CategoryMapper', inputs: ['T 4'], attrs: { cats_int64s: [1, 2], cats_strings: ['a', 'b'] } },
    { op: 'LinearClassifier', inputs: ['T 4x3'], attrs: { ...scores, classlabels_ints: [0, 1] }, outputs: 2 },
    { op: 'LinearRegressor', inputs: ['T 4x3'], attrs: { ...scores, targets: 2 } },
    {
      op: 'SVMClassifier',
      inputs: ['T 4x3'],
      attrs: { coefficients: [0.5, -1, 0.25, 1, 0.5, -0.5], rho: [0.1], classlabels_ints: [0, 1] },
      outputs: 2,
    },
    { op: 'SVMRegressor', inputs: ['T 4x3'], attrs: { coefficients: [0.5, -1, 0.25], rho: [0.1] } },
    {
      op: 'TreeEnsembleClassifier',
      inputs: ['T 4x2'],
      attrs: { ...nodes, ...votes('class'), classlabels_int64s: [0, 1] },
      outputs: 2,
    },
    { op: 'TreeEnsembleRegressor', inputs: ['T 4x2'], attrs: { ...nodes, ...votes('target'), n_targets: 2 } },
    {
      op: 'TreeEnsemble',
      inputs: ['T 4x2'],
      attrs: (d) => ({
        tree_roots: [0],
        nodes_featureids: [0],
        nodes_modes: 'uint8 1 = 0',
        nodes_splits: `${d} 1 = 0`,
        nodes_truenodeids: [0],
        nodes_falsenodeids: [1],
        nodes_trueleafs: [1],
        nodes_falseleafs: [1],
        leaf_targetids: [0, 0],
        leaf_weights: `${d} 2 = 1 2`,
      }),
    },
  ] satisfies readonly Example[]
).map((e): Example => ({ ...e, op: `ai.onnx.ml.${e.op}` }));

export const hostExamples: readonly Example[] = [...sequences, ...control, ...strings, ...ml];
